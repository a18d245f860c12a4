//! Outcomes → JSON, log lines and metrics; the reason codes.

use crate::codes::codes;
use crate::policy::{DepthHistory, Hold, Observation, Skip, Start};
use crate::queue::{MoveTask, TaskStatus};
use crate::sqs::SqsError;
use crate::text::{excerpt, one_line, sentence};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Level;

codes! {
    /// What came of one DLQ.
    pub enum Outcome {
        /// A redrive was started.
        Started = "started",
        /// It would have been, but for the dry run.
        WouldStart = "wouldStart",
        /// Nothing to do, or not yet: normal.
        Skipped = "skipped",
        /// Something is to do, and only a person can clear the way.
        Held = "held",
        /// A running task was told to stop.
        Cancelled = "cancelled",
        /// It would have been, but for the dry run.
        WouldCancel = "wouldCancel",
        /// Left for the next invocation.
        Deferred = "deferred",
        /// An error; the invocation fails for it once every DLQ was tried.
        Failed = "failed",
    }
}

codes! {
    /// Why it came so. The README explains each to an operator; a test holds the two equal.
    pub enum Reason {
        /// Every gate agreed.
        Ready = "ready",
        /// Fruitless attempts are exhausted, so the messages go to the parking queue.
        Parking = "parking",
        /// No visible and no in-flight messages.
        Empty = "empty",
        /// Someone is reading the DLQ.
        InFlightOnly = "in-flight-only",
        /// Fewer visible messages than the policy's minimum.
        BelowMinimum = "below-minimum",
        /// A message move task is active, or may be.
        TaskActive = "task-active",
        /// The kill switch is on.
        Paused = "paused",
        /// The newest task started too recently.
        CoolingDown = "cooling-down",
        /// So many redrives in a row came back, and there is no parking queue.
        AttemptsExhausted = "attempts-exhausted",
        /// The DLQ still grows: its consumer is still failing.
        StillFilling = "still-filling",
        /// A brake alarm is in ALARM.
        Braked = "braked",
        /// A brake alarm does not exist, or could not be read.
        BrakeUnknown = "brake-unknown",
        /// A request asked for it.
        Requested = "requested",
        /// No task is running that could be cancelled.
        NothingToCancel = "nothing-to-cancel",
        /// The queue was named, but is not enrolled.
        NotEnrolled = "not-enrolled",
        /// This invocation had started as many redrives as it may.
        StartLimit = "start-limit",
        /// The invocation's time was up.
        OutOfTime = "out-of-time",
        /// A permission is missing.
        AccessDenied = "access-denied",
        /// No queue has this queue for its DLQ.
        NotADeadLetterQueue = "not-a-dead-letter-queue",
        /// The DLQ does not exist.
        QueueNotFound = "queue-not-found",
        /// The destination does not exist.
        DestinationNotFound = "destination-not-found",
        /// Still throttled after every retry.
        Throttled = "throttled",
        /// The policy cannot be followed for this DLQ.
        InvalidPolicy = "invalid-policy",
        /// Any other error.
        ServiceError = "service-error",
    }
}

/// The result of an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What woke us.
    pub trigger: TriggerReport,
    /// Whether nothing could be started because this was a dry run.
    pub dry_run: bool,
    /// How many DLQs had which outcome.
    pub counts: Counts,
    /// What came of each DLQ.
    pub queues: Vec<QueueReport>,
    /// What is counted and not listed; absent if all is listed.
    #[serde(skip_serializing_if = "Unlisted::is_nothing")]
    pub unlisted: Unlisted,
}

/// What woke us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerReport {
    /// `schedule`, `alarm`, `brake`, `request` or `ignored`.
    pub kind: &'static str,
    /// The ARN of the schedule, rule or alarm.
    pub source: Option<String>,
    /// The names of the queues it named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Why it called for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How many DLQs had which outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// [`Outcome::Started`].
    pub started: u64,
    /// [`Outcome::WouldStart`].
    pub would_start: u64,
    /// [`Outcome::Skipped`].
    pub skipped: u64,
    /// [`Outcome::Held`].
    pub held: u64,
    /// [`Outcome::Cancelled`].
    pub cancelled: u64,
    /// [`Outcome::WouldCancel`].
    pub would_cancel: u64,
    /// [`Outcome::Deferred`].
    pub deferred: u64,
    /// [`Outcome::Failed`].
    pub failed: u64,
}

/// What came of one DLQ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// The DLQ.
    pub queue_arn: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// One English sentence.
    #[serde(serialize_with = "as_sentence")]
    pub detail: String,
    /// Visible messages; absent if the DLQ was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<u64>,
    /// Messages in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// Fruitless redrives in a row; absent where no task is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streak: Option<u32>,
    /// The task that was started or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The newest task that SQS listed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_task: Option<LastTask>,
    /// Whether CloudWatch refused the depth history that the policy asked for.
    #[serde(skip)]
    depth_unreadable: bool,
}

/// A task that was started or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Names the task in `CancelMessageMoveTask`.
    pub handle: String,
    /// Where the messages go; absent means each to its own source queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_arn: Option<String>,
    /// How fast; absent means SQS's own pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages_per_second: Option<u16>,
}

/// The newest task of a DLQ, as SQS listed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTask {
    /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
    pub status: String,
    /// When it was started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Messages moved, which lags and may read 0 on a task that moved everything.
    pub moved: u64,
    /// Messages there were to move when it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_move: Option<u64>,
    /// Where the messages went; absent means each to its own source queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_arn: Option<String>,
    /// Why it failed, in SQS's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// A report lists the empty and the unseen DLQs too if it is about no more DLQs than this, and lists no
/// more names and queues that are not enrolled than this.
pub const MAX_LISTED: usize = 100;

/// Queues that a report counts and does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unlisted {
    /// DLQs that were looked at and are empty.
    pub empty: u64,
    /// Queues that were named and are not enrolled.
    pub not_enrolled: u64,
    /// DLQs that there was no time to look at.
    pub out_of_time: u64,
    /// DLQs on which no task was RUNNING that could be cancelled.
    pub nothing_to_cancel: u64,
}

impl Unlisted {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Report {
    /// Counts the outcomes, and those of what is not listed.
    pub fn new(
        trigger: TriggerReport,
        dry_run: bool,
        mut queues: Vec<QueueReport>,
        unlisted: Unlisted,
    ) -> Self {
        let mut counts = Counts {
            skipped: unlisted.empty + unlisted.not_enrolled + unlisted.nothing_to_cancel,
            deferred: unlisted.out_of_time,
            ..Counts::default()
        };
        for queue in &queues {
            *counts.of(queue.outcome) += 1;
        }
        queues.sort_by(|a, b| a.queue_arn.cmp(&b.queue_arn));
        Self {
            trigger,
            dry_run,
            counts,
            queues,
            unlisted,
        }
    }

    /// The DLQs that failed, each with its reason.
    pub fn failed(&self) -> Vec<String> {
        self.queues
            .iter()
            .filter(|queue| queue.outcome == Outcome::Failed)
            .map(|queue| format!("{} ({})", queue.queue_arn, queue.reason.code()))
            .collect()
    }

    /// One line for each DLQ that is not empty, and one for the whole.
    pub fn log(&self, elapsed: Duration) {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        for queue in self.queues.iter().filter(|q| q.reason != Reason::Empty) {
            queue.log();
        }
        let Counts {
            started,
            would_start,
            skipped,
            held,
            cancelled,
            would_cancel,
            deferred,
            failed,
        } = self.counts;
        tracing::info!(
            trigger.kind = self.trigger.kind,
            trigger.source = self.trigger.source,
            trigger.why = self.trigger.why,
            dry_run = self.dry_run,
            started,
            would_start,
            skipped,
            held,
            cancelled,
            would_cancel,
            deferred,
            failed,
            elapsed_ms,
            "invocation finished",
        );
    }

    /// The invocation's metrics: one line in CloudWatch's embedded metric format
    /// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>),
    /// which CloudWatch makes metrics of when it finds it in the function's log.
    pub fn metrics(&self, function_name: &str, now: SystemTime) -> String {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let values = self.metric_values();
        let directive = json!({
            "Timestamp": u64::try_from(since_epoch.as_millis()).unwrap_or_default(),
            "CloudWatchMetrics": [{
                "Namespace": "SqsAutoRedrive",
                "Dimensions": [["FunctionName"]],
                "Metrics": values.map(|(name, _)| json!({"Name": name, "Unit": "Count"})),
            }],
        });
        let mut line = Map::new();
        line.insert("_aws".to_owned(), directive);
        line.insert("FunctionName".to_owned(), function_name.into());
        line.extend(values.map(|(name, value)| (name.to_owned(), value.into())));
        Value::Object(line).to_string()
    }

    fn metric_values(&self) -> [(&'static str, u64); 10] {
        let observed = self.queues.iter().filter(|queue| queue.visible.is_some());
        let unreadable = self.queues.iter().filter(|queue| queue.depth_unreadable);
        let failed_tasks = observed.clone().filter(|queue| {
            let status = queue.last_task.as_ref().map(|task| task.status.as_str());
            status == Some("FAILED")
        });
        [
            (
                "QueuesLookedAt",
                self.unlisted.empty + observed.clone().count() as u64,
            ),
            ("Started", self.counts.started),
            (
                "MessagesRedriven",
                observed
                    .clone()
                    .filter(|queue| queue.outcome == Outcome::Started)
                    .filter_map(|queue| queue.visible)
                    .fold(0, u64::saturating_add),
            ),
            ("Held", self.counts.held),
            ("Failed", self.counts.failed),
            ("Deferred", self.counts.deferred),
            ("Cancelled", self.counts.cancelled),
            (
                "MessagesVisible",
                observed
                    .filter_map(|queue| queue.visible)
                    .fold(0, u64::saturating_add),
            ),
            ("MoveTasksFailed", failed_tasks.count() as u64),
            ("DepthHistoryUnreadable", unreadable.count() as u64),
        ]
    }
}

impl Counts {
    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Started => &mut self.started,
            Outcome::WouldStart => &mut self.would_start,
            Outcome::Skipped => &mut self.skipped,
            Outcome::Held => &mut self.held,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::WouldCancel => &mut self.would_cancel,
            Outcome::Deferred => &mut self.deferred,
            Outcome::Failed => &mut self.failed,
        }
    }
}

impl QueueReport {
    /// The report of a DLQ that was not looked at, or not with success.
    pub fn new(queue_arn: String, outcome: Outcome, reason: Reason, detail: String) -> Self {
        Self {
            queue_arn,
            outcome,
            reason,
            detail,
            visible: None,
            in_flight: None,
            streak: None,
            task: None,
            last_task: None,
            depth_unreadable: false,
        }
    }

    /// The report of a DLQ whose call to SQS failed.
    pub fn failed(queue_arn: String, fault: &SqsError) -> Self {
        let reason = match fault {
            SqsError::AccessDenied(_) => Reason::AccessDenied,
            SqsError::NotADeadLetterQueue(_) => Reason::NotADeadLetterQueue,
            SqsError::QueueNotFound(_) => Reason::QueueNotFound,
            SqsError::DestinationNotFound(_) => Reason::DestinationNotFound,
            SqsError::Throttled(_) => Reason::Throttled,
            SqsError::Service(_) => Reason::ServiceError,
        };
        Self::new(queue_arn, Outcome::Failed, reason, fault.to_string())
    }

    /// The report of a DLQ that needs nothing now.
    pub fn skipped(queue_arn: String, skip: &Skip) -> Self {
        let (reason, detail) = match skip {
            Skip::Empty => (Reason::Empty, "the DLQ is empty".to_owned()),
            Skip::InFlightOnly => (
                Reason::InFlightOnly,
                "every message is in flight: someone is reading the DLQ".to_owned(),
            ),
            Skip::BelowMinimum { minimum } => (
                Reason::BelowMinimum,
                format!("fewer than {minimum} messages are visible"),
            ),
            Skip::TaskActive => (
                Reason::TaskActive,
                "a message move task is active on this DLQ".to_owned(),
            ),
            Skip::CoolingDown { remaining } => (
                Reason::CoolingDown,
                format!(
                    "the newest task started too recently; the cooldown is over in {}",
                    humantime::format_duration(Duration::from_secs(
                        remaining.as_secs_f64().ceil() as u64
                    ))
                ),
            ),
            Skip::StillFilling { fewest } => (Reason::StillFilling, still_filling(*fewest)),
        };
        Self::new(queue_arn, Outcome::Skipped, reason, detail)
    }

    /// The report of a DLQ that waits for a person.
    pub fn held(queue_arn: String, hold: &Hold) -> Self {
        let (reason, detail) = match hold {
            Hold::Paused => (Reason::Paused, "the kill switch is on".to_owned()),
            Hold::AttemptsExhausted { streak } => (
                Reason::AttemptsExhausted,
                format!(
                    "the last {streak} redrives came back; repair the consumer or take the poison messages out, then send a request with `force`"
                ),
            ),
            Hold::StillFilling { fewest } => (
                Reason::StillFilling,
                format!(
                    "{}, and the last redrive is over an hour ago",
                    still_filling(*fewest)
                ),
            ),
            Hold::Braked { alarm } => (
                Reason::Braked,
                format!("the brake alarm `{}` is in ALARM", excerpt(alarm)),
            ),
            Hold::BrakeUnknown { alarm, why } => (
                Reason::BrakeUnknown,
                format!(
                    "the state of the brake alarm `{}` is unknown: {}",
                    excerpt(alarm),
                    one_line(why, MAX_MESSAGE_CHARS)
                ),
            ),
        };
        Self::new(queue_arn, Outcome::Held, reason, detail)
    }

    /// The same report, with the task that was started or cancelled.
    #[must_use]
    pub fn with_task(self, task: Task) -> Self {
        Self {
            task: Some(task),
            ..self
        }
    }

    /// The same report, with what was seen of the DLQ: `streak` is the row of fruitless redrives.
    #[must_use]
    pub fn with(mut self, seen: &Observation, streak: u32) -> Self {
        if let Some(DepthHistory::Unreadable(why)) = &seen.depth_history {
            self.detail = format!(
                "{}; its depth history could not be read: {}",
                self.detail,
                one_line(why, MAX_MESSAGE_CHARS)
            );
            self.depth_unreadable = true;
        }
        Self {
            visible: Some(seen.depth.visible),
            in_flight: Some(seen.depth.in_flight),
            streak: (!seen.tasks.is_empty()).then_some(streak),
            ..self.with_tasks(&seen.tasks)
        }
    }

    /// The same report, with the newest of these tasks, and what to do about it if it failed.
    #[must_use]
    pub fn with_tasks(self, tasks: &[MoveTask]) -> Self {
        let Some(newest) = tasks.first() else {
            return self;
        };
        let detail = match (&newest.status, &newest.failure_reason) {
            (TaskStatus::Failed, Some(reason)) => {
                format!(
                    "{}; the last move task failed: {}",
                    self.detail,
                    advice(reason)
                )
            }
            _ => self.detail,
        };
        Self {
            detail,
            last_task: Some(LastTask::from(newest)),
            ..self
        }
    }

    fn log(&self) {
        // The macro wants its level known when it is compiled.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    queue.arn = self.queue_arn,
                    outcome = self.outcome.code(),
                    reason = self.reason.code(),
                    visible = self.visible,
                    in_flight = self.in_flight,
                    streak = self.streak,
                    task.handle = self.task.as_ref().map(|task| task.handle.as_str()),
                    last_task.status = self.last_task.as_ref().map(|task| task.status.as_str()),
                    last_task.failure_reason = self
                        .last_task
                        .as_ref()
                        .and_then(|task| task.failure_reason.as_deref()),
                    "{}",
                    sentence(&self.detail)
                )
            };
        }
        match self.outcome {
            Outcome::Failed => line!(Level::ERROR),
            Outcome::Held => line!(Level::WARN),
            _ => line!(Level::INFO),
        }
    }
}

/// So many characters of what AWS said: a denial names the action towards its end.
const MAX_MESSAGE_CHARS: usize = 500;

fn still_filling(fewest: u64) -> String {
    format!(
        "the DLQ has grown within the quiet period, from {fewest} visible messages: its consumer is still failing"
    )
}

/// Why a task failed, in SQS's words, and what to do about it where that is known.
fn advice(reason: &str) -> String {
    let knows = |word: &str| reason.to_lowercase().contains(word);
    let advice = if knows("couldnotdeterminemessagesource") {
        "the messages were not moved here by SQS from a source queue (SNS, Lambda or a person sent them); set a destination"
    } else if knows("kms") {
        "grant `kms:Decrypt` on the keys of the DLQ and the source queues, and `kms:GenerateDataKey` and `kms:Decrypt` on those of the destinations"
    } else if knows("accessdenied") {
        "grant `sqs:ReceiveMessage`, `sqs:DeleteMessage` and `sqs:GetQueueAttributes` on the DLQ and `sqs:SendMessage` on the destinations (all source queues if there is none), and look for queue policies that deny them"
    } else if knows("nonexistentqueue") {
        "a source or destination queue was deleted; make it anew or set a destination"
    } else {
        return format!("`{}`", excerpt(reason));
    };
    format!("`{}`: {advice}", excerpt(reason))
}

/// What a start does, or would do: an English clause.
pub fn describe_start(visible: u64, start: &Start) -> String {
    let to = match &start.destination {
        Some(destination) => format!("to {destination}"),
        None => "back to their source queues".to_owned(),
    };
    let pace = match start.max_messages_per_second {
        Some(rate) => format!("{} a second at most", rate.get()),
        None => "at SQS's own pace".to_owned(),
    };
    format!("{visible} visible messages go {to}, {pace}")
}

impl From<&MoveTask> for LastTask {
    fn from(task: &MoveTask) -> Self {
        Self {
            status: task.status.as_str().to_owned(),
            started_at: task.started_at.and_then(rfc3339),
            moved: task.moved,
            to_move: task.to_move,
            destination_arn: task.destination_arn.clone(),
            failure_reason: task.failure_reason.clone(),
        }
    }
}

fn as_sentence<S: Serializer>(clause: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&sentence(clause))
}

/// `None` for years that RFC 3339 has no four digits for.
fn rfc3339(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(text)
}
