//! The report of an invocation: what it lists and what it only counts, as JSON, log and metrics.

use crate::decision::Purpose;
use crate::event::request::Selection;
use crate::fall::FallTime;
use crate::outcome::{
    Deferred, Details, Finding, Findings, Outcome, OutcomeCode, Reason, SampleEnd, Skipped,
};
use crate::plan::{Cause, Kind, Plan};
use crate::queue::{MoveTask, QueueArn, TaskStatus};
use crate::text::sentence;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Level;

/// Above this many DLQs, a report counts empty and unchecked DLQs instead of listing them. It is
/// also the most names, and the most queues that are not enrolled, that a report lists.
pub const MAX_LISTED: usize = 100;

/// The result of an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The event that woke the function.
    pub trigger: TriggerReport,
    /// Whether this was a dry run, so that nothing could start.
    pub dry_run: bool,
    /// The number of queues by outcome, including those in `unlisted`.
    pub counts: OutcomeCounts,
    /// The queues, in the order of their ARNs.
    pub queues: Vec<QueueReport>,
    /// The queues that are counted but not listed; absent if all are listed.
    #[serde(skip_serializing_if = "Unlisted::is_nothing")]
    pub unlisted: Unlisted,
}

/// The event that woke the function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerReport {
    /// What kind of event it was.
    pub kind: Kind,
    /// The ARN of the schedule, rule or alarm; `null` if the event had none.
    pub source: Option<String>,
    /// The names of the queues that it named, sorted; at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<String>,
    /// Why it called for nothing; absent if it called for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The number of queues by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCounts {
    /// [`OutcomeCode::Started`].
    pub started: u64,
    /// [`OutcomeCode::WouldStart`].
    pub would_start: u64,
    /// [`OutcomeCode::Skipped`].
    pub skipped: u64,
    /// [`OutcomeCode::Held`].
    pub held: u64,
    /// [`OutcomeCode::Cancelled`].
    pub cancelled: u64,
    /// [`OutcomeCode::WouldCancel`].
    pub would_cancel: u64,
    /// [`OutcomeCode::Deferred`].
    pub deferred: u64,
    /// [`OutcomeCode::Failed`].
    pub failed: u64,
}

/// What happened to one queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// The queue's ARN.
    pub queue_arn: String,
    /// What happened.
    pub outcome: OutcomeCode,
    /// The code of the reason.
    pub reason: Reason,
    /// What happened and what to do, for an operator: an English clause, a sentence in JSON.
    #[serde(serialize_with = "as_sentence")]
    pub detail: String,
    /// Visible messages; absent if nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<u64>,
    /// Messages in flight; absent if nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// The number of fruitless redrives in a row; absent if SQS listed no task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streak: Option<u32>,
    /// The task that was started or canceled; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskReport>,
    /// The newest task that SQS listed before; absent if it listed none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_task: Option<LastTaskReport>,
    /// About how long a failing message takes to come back; absent if it is unknown, or did not
    /// matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall_time_seconds: Option<u64>,
    /// Whether CloudWatch's metrics were needed and could not be read.
    #[serde(skip)]
    depth_history_unreadable: bool,
    /// Whether the DLQ is held and SQS deletes its oldest message within a day.
    #[serde(skip)]
    expires_soon: bool,
    /// Whether at least three of the redrives that SQS listed were canceled.
    #[serde(skip)]
    often_cancelled: bool,
    /// How many messages this invocation redrove. For a sample, the number that SQS reported as
    /// moved.
    #[serde(skip)]
    redriven: u64,
}

/// A task that was started or canceled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// What `CancelMessageMoveTask` takes; absent if SQS returned none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Where the messages go; absent means back to their source queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_arn: Option<String>,
    /// The maximum number of messages per second; absent means SQS's own pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages_per_second: Option<u16>,
    /// Whether the task is a sample; absent if it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

/// The newest task of a DLQ, as SQS listed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTaskReport {
    /// `RUNNING`, `COMPLETED`, `CANCELLING`, `CANCELLED` or `FAILED`.
    pub status: String,
    /// When it started, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Messages moved. The count lags, and may be 0 for a task that moved everything.
    pub moved: u64,
    /// Messages to move when it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_move: Option<u64>,
    /// Where the messages went; absent means back to their source queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_arn: Option<String>,
    /// Why it FAILED, in SQS's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// What became of its messages, `stayedAway` or `cameBack`; absent while that is not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// About how many of its messages came back; absent while that is not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub came_back: Option<u64>,
}

/// Queues that a report counts but does not list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unlisted {
    /// DLQs that are empty.
    pub empty: u64,
    /// Queues that the event named but that are not enrolled.
    pub not_enrolled: u64,
    /// DLQs that nobody looked at before the time was up, or about which SQS did not answer.
    pub out_of_time: u64,
    /// DLQs without a RUNNING task to cancel.
    pub nothing_to_cancel: u64,
}

impl Report {
    /// The report of these findings. It decides what is listed and what is only counted.
    pub fn new(plan: &Plan, dry_run: bool, findings: Findings) -> Self {
        let Findings { empty, others } = findings;
        let is_enrolled = |finding: &&Finding| finding.outcome.reason() != Reason::NotEnrolled;
        let enrolled = empty.len() + others.iter().filter(is_enrolled).count();
        let is_large = enrolled > MAX_LISTED;
        let mut counts = OutcomeCounts::default();
        let mut unlisted = Unlisted::default();
        let mut queues = Vec::new();
        counts.skipped = empty.len() as u64;
        match is_large {
            true => unlisted.empty = empty.len() as u64,
            false => queues.extend(empty.into_iter().map(Finding::empty).map(QueueReport::from)),
        }
        let mut not_enrolled = 0;
        for finding in others {
            *counts.of(finding.outcome.code()) += 1;
            let reason = finding.outcome.reason();
            not_enrolled += usize::from(reason == Reason::NotEnrolled);
            match unlisted.count_of(&finding.outcome, is_large, not_enrolled > MAX_LISTED) {
                Some(count) => *count += 1,
                None => queues.push(QueueReport::from(finding)),
            }
        }
        queues.sort_by(|a, b| a.queue_arn.cmp(&b.queue_arn));
        Self {
            trigger: TriggerReport::from(plan),
            dry_run,
            counts,
            queues,
            unlisted,
        }
    }

    /// The queues that failed, each with its reason.
    pub fn failed(&self) -> Vec<String> {
        let failed = self
            .queues
            .iter()
            .filter(|queue| queue.outcome == OutcomeCode::Failed);
        let failed = failed.map(|queue| format!("{} ({})", queue.queue_arn, queue.reason.code()));
        failed.collect()
    }

    /// The number of queues that wait for another invocation, because of a limit or because CloudWatch or
    /// SQS did not answer.
    pub fn undone(&self) -> u64 {
        let in_doubt = |queue: &&QueueReport| queue.reason == Reason::MetricsUnreadable;
        self.counts.deferred + self.queues.iter().filter(in_doubt).count() as u64
    }

    /// Writes one log line for each listed queue that is not empty, and one for the invocation.
    pub fn log(&self, elapsed: Duration) {
        for queue in self.queues.iter().filter(|q| q.reason != Reason::Empty) {
            queue.log();
        }
        let OutcomeCounts {
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
            trigger.kind = self.trigger.kind.code(),
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
            unlisted.empty = self.unlisted.empty,
            unlisted.not_enrolled = self.unlisted.not_enrolled,
            unlisted.out_of_time = self.unlisted.out_of_time,
            unlisted.nothing_to_cancel = self.unlisted.nothing_to_cancel,
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "invocation finished",
        );
    }

    /// The invocation's metrics: one line in CloudWatch's embedded metric format
    /// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
    /// CloudWatch reads the metrics from the function's log.
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

    fn metric_values(&self) -> [(&'static str, u64); 12] {
        let observed = || self.queues.iter().filter(|queue| queue.visible.is_some());
        let count = |is: fn(&&QueueReport) -> bool| self.queues.iter().filter(is).count() as u64;
        let messages = |is: fn(&&QueueReport) -> bool| {
            let visible = observed().filter(is).filter_map(|queue| queue.visible);
            visible.fold(0, u64::saturating_add)
        };
        [
            (
                "QueuesLookedAt",
                self.unlisted.empty + observed().count() as u64,
            ),
            ("Started", self.counts.started),
            (
                "MessagesRedriven",
                observed()
                    .map(|queue| queue.redriven)
                    .fold(0, u64::saturating_add),
            ),
            ("Held", self.counts.held),
            ("Failed", self.counts.failed),
            ("Deferred", self.counts.deferred),
            ("Cancelled", self.counts.cancelled),
            ("MessagesVisible", messages(|_| true)),
            (
                "MoveTasksFailed",
                count(|queue| queue.visible.is_some() && queue.last_task_failed()),
            ),
            (
                "DepthHistoryUnreadable",
                count(|queue| queue.depth_history_unreadable),
            ),
            ("ExpiringSoon", count(|queue| queue.expires_soon)),
            ("OftenCancelled", count(|queue| queue.often_cancelled)),
        ]
    }
}

impl OutcomeCounts {
    fn of(&mut self, outcome: OutcomeCode) -> &mut u64 {
        match outcome {
            OutcomeCode::Started => &mut self.started,
            OutcomeCode::WouldStart => &mut self.would_start,
            OutcomeCode::Skipped => &mut self.skipped,
            OutcomeCode::Held => &mut self.held,
            OutcomeCode::Cancelled => &mut self.cancelled,
            OutcomeCode::WouldCancel => &mut self.would_cancel,
            OutcomeCode::Deferred => &mut self.deferred,
            OutcomeCode::Failed => &mut self.failed,
        }
    }
}

impl Unlisted {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The counter for a queue that the report does not list; `None` if it lists the queue.
    /// `is_large` says whether more than [`MAX_LISTED`] DLQs are enrolled, `is_full` whether more
    /// queues than that are not.
    fn count_of(&mut self, outcome: &Outcome, is_large: bool, is_full: bool) -> Option<&mut u64> {
        match outcome {
            Outcome::Skipped(Skipped::NotEnrolled) if is_full => Some(&mut self.not_enrolled),
            Outcome::Skipped(Skipped::NothingToCancel { .. } | Skipped::EndedBeforeCancel)
                if is_large =>
            {
                Some(&mut self.nothing_to_cancel)
            }
            Outcome::Deferred(Deferred::NotLookedAt | Deferred::NoAnswer) if is_large => {
                Some(&mut self.out_of_time)
            }
            _ => None,
        }
    }
}

impl From<&Plan> for TriggerReport {
    fn from(plan: &Plan) -> Self {
        let names: BTreeSet<&String> = match &plan.selection {
            Selection::All => BTreeSet::new(),
            Selection::Named(queues) => queues.iter().map(|queue| &queue.name).collect(),
        };
        Self {
            kind: plan.kind,
            source: plan.source.clone(),
            queues: names.into_iter().take(MAX_LISTED).cloned().collect(),
            why: plan.why.clone(),
        }
    }
}

impl From<Finding<'_>> for QueueReport {
    fn from(finding: Finding) -> Self {
        let nothing = Details::default();
        let details = finding.details.as_deref().unwrap_or(&nothing);
        let is_listed = !details.tasks.is_empty();
        let is_observed = finding.depth.is_some();
        Self {
            queue_arn: finding.queue_arn.to_owned(),
            outcome: finding.outcome.code(),
            reason: finding.outcome.reason(),
            detail: finding.to_string(),
            visible: finding.depth.map(|depth| depth.visible),
            in_flight: finding.depth.map(|depth| depth.in_flight),
            streak: (is_observed && is_listed).then_some(details.streak),
            task: TaskReport::new(&finding.outcome, &details.tasks),
            last_task: LastTaskReport::new(details),
            fall_time_seconds: match &details.fall_time {
                Some(FallTime::Known(fall)) => Some(fall.time.as_secs()),
                _ => None,
            },
            depth_history_unreadable: details.metrics_error.is_some(),
            expires_soon: details.expires_in.is_some(),
            often_cancelled: details.is_often_cancelled(),
            redriven: match &finding.outcome {
                Outcome::Started {
                    sample: Some(SampleEnd::Stopped { moved } | SampleEnd::EndedItself { moved }),
                    ..
                } => *moved,
                Outcome::Started { visible, .. } => *visible,
                _ => 0,
            },
        }
    }
}

impl TaskReport {
    /// `None` if no task was started or canceled. `tasks` is SQS's list from before the function acted.
    fn new(outcome: &Outcome, tasks: &[MoveTask]) -> Option<Self> {
        match outcome {
            Outcome::Started { start, handle, .. } => Some(Self {
                handle: handle.clone(),
                destination_arn: start.destination.as_ref().map(QueueArn::to_string),
                max_messages_per_second: start.max_messages_per_second.map(|rate| rate.get()),
                sample: start.purpose == Purpose::Sample,
            }),
            Outcome::Cancelled { handle, .. } | Outcome::WouldCancel { handle, .. } => {
                let is_it = |task: &&MoveTask| task.handle.as_ref() == Some(handle);
                let task = tasks.iter().find(is_it);
                Some(Self {
                    handle: Some(handle.clone()),
                    destination_arn: task.and_then(|task| task.destination_arn.clone()),
                    max_messages_per_second: None,
                    sample: matches!(
                        outcome,
                        Outcome::Cancelled {
                            cause: Cause::SampleOver,
                            ..
                        } | Outcome::WouldCancel {
                            cause: Cause::SampleOver,
                            ..
                        }
                    ),
                })
            }
            _ => None,
        }
    }
}

impl LastTaskReport {
    /// `None` if SQS listed no task.
    fn new(details: &Details) -> Option<Self> {
        let task = details.tasks.first()?;
        let verdict = details.last_verdict;
        Some(Self {
            status: task.status.as_str().to_owned(),
            started_at: task.started_at.and_then(rfc3339),
            moved: task.moved,
            to_move: task.to_move,
            destination_arn: task.destination_arn.clone(),
            failure_reason: task.failure_reason.clone(),
            verdict: verdict.map(|it| {
                if it.stayed_away {
                    "stayedAway"
                } else {
                    "cameBack"
                }
            }),
            came_back: verdict.map(|it| it.came_back),
        })
    }
}

impl QueueReport {
    fn last_task_failed(&self) -> bool {
        let failed = TaskStatus::Failed.as_str();
        self.last_task
            .as_ref()
            .is_some_and(|task| task.status == failed)
    }

    fn log(&self) {
        let name = self.queue_arn.rsplit(':').next().unwrap_or_default();
        // The macro needs its level at compile time.
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
                    task.handle = self.task.as_ref().and_then(|task| task.handle.as_deref()),
                    last_task.status = self.last_task.as_ref().map(|task| task.status.as_str()),
                    last_task.failure_reason = self
                        .last_task
                        .as_ref()
                        .and_then(|task| task.failure_reason.as_deref()),
                    "`{name}`: {}.",
                    self.detail.trim_end_matches('.')
                )
            };
        }
        match self.outcome {
            OutcomeCode::Failed => line!(Level::ERROR),
            OutcomeCode::Held => line!(Level::WARN),
            _ => line!(Level::INFO),
        }
    }
}

fn as_sentence<S: Serializer>(clause: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&sentence(clause))
}

/// `None` for years that do not fit RFC 3339's four digits.
fn rfc3339(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(text)
}
