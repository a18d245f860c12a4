//! What happened to each queue: outcomes as data, their codes, and every sentence about them.

use crate::aws_error::{MAX_MESSAGE_CHARS, failed_task_advice};
use crate::codes::codes;
use crate::decision::{Hold, Purpose, Skip, Start};
use crate::fall::FallTime;
use crate::plan::Cause;
use crate::queue::{Depth, MoveTask, TaskStatus};
use crate::sqs::SqsError;
use crate::tagging::TaggingError;
use crate::text::{counted, excerpt, one_line};
use crate::verdict::{LastVerdict, SAMPLE_PACE, SLACK};
use std::fmt;
use std::time::Duration;

/// What an invocation found out about its queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings<'a> {
    /// The ARNs of the DLQs that were skipped because they are empty. In a large sweep almost all are.
    pub empty: Vec<&'a str>,
    /// One for each other queue.
    pub others: Vec<Finding<'a>>,
}

/// What the function found out about one queue, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// The queue's ARN. It may be invalid if an event named a queue without its account.
    pub queue_arn: &'a str,
    /// What happened.
    pub outcome: Outcome,
    /// How many messages the DLQ held; `None` if nobody looked.
    pub depth: Option<Depth>,
    /// What else is known of it; `None` if there is nothing else.
    pub details: Option<Box<Details>>,
}

/// What is known of a DLQ apart from its depth. After a cancel, only the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The move tasks that SQS listed before the function acted, newest first.
    pub tasks: Vec<MoveTask>,
    /// The number of fruitless redrives in a row.
    pub streak: u32,
    /// What became of the newest task's messages; `None` while that is not settled.
    pub last_verdict: Option<LastVerdict>,
    /// How failing messages come back, if the decision depended on it.
    pub fall_time: Option<FallTime>,
    /// Why CloudWatch's metrics could not be read, if the decision depended on them.
    pub metrics_error: Option<String>,
    /// Of a held DLQ: how soon SQS deletes its oldest message, if that is within a day.
    pub expires_in: Option<Duration>,
}

/// What happened to one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A redrive started.
    Started {
        /// What it does.
        start: Start,
        /// The messages that were visible before.
        visible: u64,
        /// The handle of its task; `None` if SQS returned none, or its answer was lost.
        handle: Option<String>,
        /// How a sample ended; `None` for any other redrive.
        sample: Option<SampleEnd>,
    },
    /// A redrive would have started without the dry run.
    WouldStart {
        /// What it would do.
        start: Start,
        /// The messages that are visible.
        visible: u64,
    },
    /// There is nothing to do, or not yet. This is normal.
    Skipped(Skipped),
    /// There is something to do, and it waits for a person.
    Held(Hold),
    /// SQS was asked to cancel a RUNNING task.
    Cancelled {
        /// Why.
        cause: Cause,
        /// The handle of the task.
        handle: String,
    },
    /// Without the dry run, SQS would have been asked to cancel a RUNNING task.
    WouldCancel {
        /// Why.
        cause: Cause,
        /// The handle of the task.
        handle: String,
    },
    /// The next invocation will deal with it.
    Deferred(Deferred),
    /// Something went wrong. The invocation fails once it has tried every DLQ.
    Failed(Failed),
}

/// How a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleEnd {
    /// The function stopped it. SQS had counted about this many moved messages; the count lags.
    Stopped {
        /// Messages moved.
        moved: u64,
    },
    /// The task ended before the function could stop it.
    EndedItself {
        /// Messages moved, by SQS's list.
        moved: u64,
    },
}

/// Why there was nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// A gate stopped the DLQ.
    Gate(Skip),
    /// The event named a queue that is not enrolled.
    NotEnrolled,
    /// SQS does not find a queue that has the enroll tag; its words. The tagging API lists a deleted
    /// queue for some time. SQS also answers so if the function has no access to the queue.
    TaggedNotFound(String),
    /// No task is RUNNING.
    NothingToCancel {
        /// Whether an invocation that is under way may still start one.
        may_start: bool,
    },
    /// The task ended before SQS could cancel it.
    EndedBeforeCancel,
    /// Another invocation, or a person, started a task after this one had looked.
    Overtaken,
}

/// Why the next invocation will deal with a DLQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// The invocation started the most redrives it may; this is the number.
    StartLimit(usize),
    /// The time was up before the look was made, or soon after.
    NotLookedAt,
    /// SQS did not answer the look, although there was time.
    NoAnswer,
    /// The time was up before the start was sent.
    StartNotSent,
    /// SQS throttled the start until the time was up.
    StartThrottled,
    /// SQS did not answer the start in time, and does not list its task. It may still take effect.
    StartUnconfirmed,
    /// The account has as many active tasks as SQS allows; its words.
    AccountLimit(String),
    /// The time left was too short for a sample.
    NoTimeForSample,
}

/// What went wrong with a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// A call to SQS failed.
    Sqs(SqsError),
    /// The tags could not be read, so it is unknown whether the queue is enrolled.
    Tags(TaggingError),
    /// The policy cannot be followed for this DLQ; what is wrong with it.
    InvalidPolicy(String),
    /// The time was up before SQS confirmed the cancel. No later look would cancel the task, so the
    /// DLQ is not deferred: a failure makes Lambda try again.
    CancelUnconfirmed,
    /// As [`CancelUnconfirmed`](Self::CancelUnconfirmed), before SQS was asked.
    CancelNotSent,
    /// SQS refused to cancel a task that is still RUNNING; its words.
    StillRunning(String),
    /// A task is RUNNING, and SQS returned no handle to cancel it.
    NoHandle,
    /// A sample could not be stopped; why. It goes on at one message per second.
    SampleNotStopped(String),
}

codes! {
    /// The code of an [`Outcome`].
    pub enum OutcomeCode {
        /// [`Outcome::Started`].
        Started = "started",
        /// [`Outcome::WouldStart`].
        WouldStart = "wouldStart",
        /// [`Outcome::Skipped`].
        Skipped = "skipped",
        /// [`Outcome::Held`].
        Held = "held",
        /// [`Outcome::Cancelled`].
        Cancelled = "cancelled",
        /// [`Outcome::WouldCancel`].
        WouldCancel = "wouldCancel",
        /// [`Outcome::Deferred`].
        Deferred = "deferred",
        /// [`Outcome::Failed`].
        Failed = "failed",
    }
}

codes! {
    /// Why an outcome is what it is. `docs/operating.md` explains each to an operator.
    pub enum Reason {
        /// Every gate let the DLQ pass.
        Ready = "ready",
        /// A few messages go first, to see whether they stay away.
        Sample = "sample",
        /// The attempts are exhausted, so the messages go to the parking queue.
        Parking = "parking",
        /// No message is visible or in flight.
        Empty = "empty",
        /// A move task is active, or its status is unknown.
        TaskActive = "task-active",
        /// Someone is reading the DLQ.
        InFlightOnly = "in-flight-only",
        /// Fewer messages are visible than the minimum.
        BelowMinimum = "below-minimum",
        /// The kill switch is on.
        Paused = "paused",
        /// The tags of a listed DLQ, which may pause it, cannot be read.
        TagsUnreadable = "tags-unreadable",
        /// The newest task is too recent to be judged, or it came back and the next try waits.
        CoolingDown = "cooling-down",
        /// The consumer has handled nothing since the last redrive started.
        NotConsumed = "not-consumed",
        /// CloudWatch or SQS fails, and more than a few messages wait.
        MetricsUnreadable = "metrics-unreadable",
        /// Too many redrives in a row came back or FAILED, and the messages cannot be parked.
        AttemptsExhausted = "attempts-exhausted",
        /// The DLQ still grows: its consumer still fails. Or too many new messages arrive to judge the last
        /// redrive.
        StillFilling = "still-filling",
        /// A brake alarm is in ALARM.
        Braked = "braked",
        /// A brake alarm does not exist, or cannot be read.
        BrakeUnknown = "brake-unknown",
        /// A request asked for it.
        Requested = "requested",
        /// A sample's time is over.
        SampleOver = "sample-over",
        /// The messages of a RUNNING redrive come back, or nobody handles them.
        Bouncing = "bouncing",
        /// No task is RUNNING.
        NothingToCancel = "nothing-to-cancel",
        /// The queue was named but is not enrolled.
        NotEnrolled = "not-enrolled",
        /// The invocation started as many redrives as it may, or the account has as many active tasks as SQS
        /// allows.
        StartLimit = "start-limit",
        /// The invocation's time was up, or SQS did not answer in time.
        OutOfTime = "out-of-time",
        /// A permission is missing.
        AccessDenied = "access-denied",
        /// No queue uses this queue as its DLQ.
        NotADeadLetterQueue = "not-a-dead-letter-queue",
        /// The DLQ does not exist.
        QueueNotFound = "queue-not-found",
        /// The destination does not exist.
        DestinationNotFound = "destination-not-found",
        /// AWS still throttles after every retry.
        Throttled = "throttled",
        /// The policy cannot be followed for this DLQ.
        InvalidPolicy = "invalid-policy",
        /// Any other error.
        ServiceError = "service-error",
    }
}

impl Outcome {
    /// The code of the outcome.
    pub fn code(&self) -> OutcomeCode {
        match self {
            Self::Started { .. } => OutcomeCode::Started,
            Self::WouldStart { .. } => OutcomeCode::WouldStart,
            Self::Skipped(_) => OutcomeCode::Skipped,
            Self::Held(_) => OutcomeCode::Held,
            Self::Cancelled { .. } => OutcomeCode::Cancelled,
            Self::WouldCancel { .. } => OutcomeCode::WouldCancel,
            Self::Deferred(_) => OutcomeCode::Deferred,
            Self::Failed(_) => OutcomeCode::Failed,
        }
    }

    /// The reason inside the outcome.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Started { start, .. } | Self::WouldStart { start, .. } => match start.purpose {
                Purpose::Sample => Reason::Sample,
                Purpose::Rest | Purpose::All => Reason::Ready,
                Purpose::Parking => Reason::Parking,
            },
            Self::Skipped(skipped) => skipped.reason(),
            Self::Held(hold) => hold.reason(),
            Self::Cancelled { cause, .. } | Self::WouldCancel { cause, .. } => match cause {
                Cause::Requested => Reason::Requested,
                Cause::Braked(_) => Reason::Braked,
                Cause::SampleOver => Reason::SampleOver,
                Cause::Bouncing => Reason::Bouncing,
            },
            Self::Deferred(Deferred::StartLimit(_) | Deferred::AccountLimit(_)) => {
                Reason::StartLimit
            }
            Self::Deferred(_) => Reason::OutOfTime,
            Self::Failed(failed) => failed.reason(),
        }
    }
}

impl Skipped {
    fn reason(&self) -> Reason {
        match self {
            Self::Gate(Skip::Empty) => Reason::Empty,
            Self::Gate(Skip::InFlightOnly) => Reason::InFlightOnly,
            Self::Gate(Skip::BelowMinimum { .. }) => Reason::BelowMinimum,
            Self::Gate(Skip::TaskActive) | Self::Overtaken => Reason::TaskActive,
            Self::Gate(Skip::CoolingDown { .. }) => Reason::CoolingDown,
            Self::Gate(Skip::StillFilling { .. } | Skip::CannotBeTold) => Reason::StillFilling,
            Self::Gate(Skip::NotConsumed) => Reason::NotConsumed,
            Self::Gate(Skip::MetricsUnreadable { .. }) => Reason::MetricsUnreadable,
            Self::NotEnrolled => Reason::NotEnrolled,
            Self::TaggedNotFound(_) => Reason::QueueNotFound,
            Self::NothingToCancel { .. } | Self::EndedBeforeCancel => Reason::NothingToCancel,
        }
    }
}

impl Hold {
    fn reason(&self) -> Reason {
        match self {
            Self::TaskStuck { .. } => Reason::TaskActive,
            Self::Paused => Reason::Paused,
            Self::TagsUnreadable { .. } => Reason::TagsUnreadable,
            Self::NotConsumed => Reason::NotConsumed,
            Self::MetricsUnreadable { .. } => Reason::MetricsUnreadable,
            Self::TasksFailed { .. } | Self::ParkingFailed { .. } => Reason::AttemptsExhausted,
            Self::AttemptsExhausted { .. } => Reason::AttemptsExhausted,
            Self::StillFilling { .. } => Reason::StillFilling,
            Self::Braked { .. } => Reason::Braked,
            Self::BrakeUnknown { .. } => Reason::BrakeUnknown,
        }
    }
}

impl Failed {
    fn reason(&self) -> Reason {
        match self {
            Self::Sqs(SqsError::AccessDenied(_)) | Self::Tags(TaggingError::AccessDenied(_)) => {
                Reason::AccessDenied
            }
            Self::Sqs(SqsError::NotADeadLetterQueue(_)) => Reason::NotADeadLetterQueue,
            Self::Sqs(SqsError::QueueNotFound(_)) => Reason::QueueNotFound,
            Self::Sqs(SqsError::DestinationNotFound(_)) => Reason::DestinationNotFound,
            Self::Sqs(SqsError::Throttled(_)) => Reason::Throttled,
            Self::Sqs(SqsError::Service(_) | SqsError::Unreachable(_) | SqsError::BadAnswer(_))
            | Self::Tags(
                TaggingError::Service(_)
                | TaggingError::Unreachable(_)
                | TaggingError::BadAnswer(_)
                | TaggingError::Endless,
            )
            | Self::StillRunning(_)
            | Self::NoHandle
            | Self::SampleNotStopped(_) => Reason::ServiceError,
            Self::InvalidPolicy(_) => Reason::InvalidPolicy,
            Self::CancelUnconfirmed | Self::CancelNotSent => Reason::OutOfTime,
        }
    }
}

impl<'a> Finding<'a> {
    /// A finding about a queue that nobody observed.
    pub fn unseen(queue_arn: &'a str, outcome: Outcome) -> Self {
        Self {
            queue_arn,
            outcome,
            depth: None,
            details: None,
        }
    }

    /// A finding about a DLQ without messages.
    pub fn empty(queue_arn: &'a str) -> Self {
        Self {
            depth: Some(Depth::default()),
            ..Self::unseen(queue_arn, Outcome::Skipped(Skipped::Gate(Skip::Empty)))
        }
    }
}

impl Details {
    /// Whether redrives of this DLQ are started and canceled again and again. Samples do not count:
    /// the function always cancels them.
    pub fn is_often_cancelled(&self) -> bool {
        let is_cancelled_redrive = |task: &&MoveTask| {
            task.status == TaskStatus::Cancelled
                && task.max_messages_per_second != Some(SAMPLE_PACE)
        };
        self.tasks.iter().filter(is_cancelled_redrive).count() >= OFTEN
    }
}

/// CloudWatch counts the age of a message from its arrival in the DLQ, so SQS may delete it earlier.
fn expires_in(left: Duration) -> String {
    let minutes = Duration::from_secs(left.as_secs() / 60 * 60);
    if minutes.is_zero() {
        return "SQS deletes its oldest messages now; move them, or lengthen its retention period"
            .to_owned();
    }
    let left = humantime::format_duration(minutes);
    format!(
        "SQS deletes its oldest message within {left}, perhaps earlier, because the retention of a standard queue counts from the first send; move the messages, or lengthen the DLQ's retention period"
    )
}

/// Of the ten tasks that SQS lists, this many canceled redrives are too many.
const OFTEN: usize = 3;

impl fmt::Display for Finding<'_> {
    /// A clause: what happened, then what else an operator should know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.outcome)?;
        let Some(details) = &self.details else {
            return Ok(());
        };
        if let (Some(FallTime::Known(fall)), Reason::Sample) =
            (&details.fall_time, self.outcome.reason())
        {
            let back = Duration::from_secs((fall.time + SLACK).as_secs());
            let back = humantime::format_duration(back);
            write!(f, "; a failing message is back within about {back}")?;
        }
        if let Some(FallTime::Unknown(why)) = &details.fall_time {
            let why = one_line(why, MAX_MESSAGE_CHARS);
            write!(f, "; no sample: the fall time is unknown: {why}")?;
        }
        if let Some(FallTime::Long(time)) = &details.fall_time {
            let time = humantime::format_duration(*time);
            write!(
                f,
                "; no sample: a failing message takes about {time} to come back"
            )?;
        }
        let is_told = self.outcome.reason() == Reason::MetricsUnreadable;
        if let Some(why) = details.metrics_error.as_ref().filter(|_| !is_told) {
            let why = one_line(why, MAX_MESSAGE_CHARS);
            write!(f, "; the DLQ's metrics could not be read: {why}")?;
        }
        if let Some(left) = details.expires_in {
            write!(f, "; {}", expires_in(left))?;
        }
        if details.is_often_cancelled() {
            write!(
                f,
                "; at least {OFTEN} of the DLQ's last redrives were canceled: its brake alarm changes its state often, or its consumer fails now and then; let the brake alarm wait for more datapoints, or lengthen the cooldown"
            )?;
        }
        self.describe_failure(details, f)
    }
}

impl Finding<'_> {
    /// Why the last move task FAILED, unless the outcome says that already, and what to do.
    fn describe_failure(&self, details: &Details, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest = details.tasks.first();
        let failed = newest.filter(|task| task.status == TaskStatus::Failed);
        let Some(reason) = failed.and_then(|task| task.failure_reason.as_ref()) else {
            return Ok(());
        };
        let is_reported = match &self.outcome {
            Outcome::Held(
                Hold::TasksFailed { reason: it, .. } | Hold::ParkingFailed { reason: it },
            ) => it == reason,
            _ => false,
        };
        if !is_reported {
            write!(f, "; the last move task failed: `{}`", excerpt(reason))?;
        }
        match failed_task_advice(reason) {
            Some(advice) if is_reported => write!(f, "; {advice}"),
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    /// A clause, without capital and full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started {
                start,
                visible,
                sample,
                handle,
            } => {
                describe_start(start, *visible, f)?;
                match sample {
                    None => {}
                    Some(SampleEnd::Stopped { moved }) => {
                        write!(
                            f,
                            "; when it was stopped, SQS reported {} as moved",
                            counted(*moved, "message")
                        )?;
                    }
                    Some(SampleEnd::EndedItself { moved }) => {
                        write!(
                            f,
                            "; it ended by itself, and moved {}",
                            counted(*moved, "message")
                        )?;
                    }
                }
                match handle {
                    Some(_) => Ok(()),
                    None => f.write_str("; the task's handle is unknown"),
                }
            }
            Self::WouldStart { start, visible } => {
                f.write_str("without the dry run: ")?;
                describe_start(start, *visible, f)
            }
            Self::Skipped(skipped) => skipped.fmt(f),
            Self::Held(hold) => hold.fmt(f),
            Self::Cancelled { cause, .. } => write!(
                f,
                "{cause}SQS was asked to cancel the RUNNING move task; messages it already moved stay moved"
            ),
            Self::WouldCancel { cause, .. } => write!(
                f,
                "{cause}without the dry run, the RUNNING move task would be canceled"
            ),
            Self::Deferred(deferred) => deferred.fmt(f),
            Self::Failed(failed) => failed.fmt(f),
        }
    }
}

fn describe_start(start: &Start, visible: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let messages = counted(visible, "visible message");
    match start.purpose {
        Purpose::Sample => write!(
            f,
            "a sample goes first: a few of {messages} go {start}, to see whether they stay away"
        ),
        Purpose::Rest => write!(
            f,
            "the sample stayed away, so the rest follows: {messages} to move {start}"
        ),
        Purpose::All | Purpose::Parking => write!(f, "{messages} to move {start}"),
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Some(destination) => write!(f, "to {destination}, ")?,
            None => write!(f, "back to the source queues, ")?,
        }
        match self.max_messages_per_second {
            Some(rate) => write!(f, "at most {} a second", rate.get()),
            None => write!(f, "at SQS's own rate"),
        }
    }
}

impl fmt::Display for Cause {
    /// The start of a sentence; empty if there is nothing to explain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => Ok(()),
            Self::Braked(alarm) => {
                write!(f, "the brake alarm `{}` is in ALARM: ", excerpt(alarm))
            }
            Self::SampleOver => f.write_str("the sample's time is over: "),
            Self::Bouncing => f.write_str(
                "the messages of the RUNNING redrive come back, or the consumer handles nothing: ",
            ),
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gate(skip) => return skip.fmt(f),
            Self::NotEnrolled => "the queue is not enrolled; add it to `REDRIVE_QUEUES` or tag it",
            Self::TaggedNotFound(why) => {
                return write!(
                    f,
                    "the queue has the enroll tag, but SQS does not find it: it was deleted recently, or the function has no access to it (check the role, the queue's policy and the region): {why}"
                );
            }
            Self::NothingToCancel { may_start: false } => "no move task is RUNNING",
            Self::NothingToCancel { may_start: true } => {
                "no move task is RUNNING; another invocation may be about to start one, so pause the function before you cancel"
            }
            Self::EndedBeforeCancel => "the move task ended before it could be canceled",
            Self::Overtaken => {
                "another task started on this DLQ after this invocation had looked at it"
            }
        })
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the DLQ is empty"),
            Self::InFlightOnly => {
                f.write_str("every message is in flight: someone is reading the DLQ")
            }
            Self::BelowMinimum { minimum } => {
                write!(f, "fewer than {minimum} messages are visible")
            }
            Self::TaskActive => f.write_str("a message move task is active on this DLQ"),
            Self::CoolingDown { remaining } => {
                let seconds = remaining.as_secs_f64().ceil() as u64;
                let remaining = humantime::format_duration(Duration::from_secs(seconds));
                write!(
                    f,
                    "too little time has passed since the last move task; the wait ends in {remaining}"
                )
            }
            Self::StillFilling { fewest } => still_filling(*fewest, f),
            Self::CannotBeTold => f.write_str(
                "it is unclear whether the last redrive came back, because too many new messages arrive",
            ),
            Self::NotConsumed => not_consumed(f),
            Self::MetricsUnreadable { why } => metrics_unreadable(why, f),
        }
    }
}

fn not_consumed(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(
        "the consumer has handled nothing since the last redrive started; check that it runs",
    )
}

fn metrics_unreadable(why: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let why = one_line(why, MAX_MESSAGE_CHARS);
    write!(
        f,
        "it is unknown whether the consumer works: {why}; if it does, and the DLQ cannot wait, send a request with `force`"
    )
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TaskStuck { status } if status == TaskStatus::Running.as_str() => f.write_str(
                "a move task is RUNNING for longer than SQS allows; cancel it, or ask AWS Support",
            ),
            Self::TaskStuck { status } if status == TaskStatus::Cancelling.as_str() => f.write_str(
                "a move task is CANCELLING, and it started longer ago than SQS lets a task run; ask AWS Support",
            ),
            Self::TaskStuck { status } => write!(
                f,
                "a move task has the status `{}`, which this function does not know; cancel it, or ask AWS Support",
                excerpt(status)
            ),
            Self::Paused => f.write_str("the kill switch is on"),
            Self::TagsUnreadable { why } => f.write_str(&one_line(why, MAX_MESSAGE_CHARS)),
            Self::NotConsumed => not_consumed(f),
            Self::MetricsUnreadable { why } => metrics_unreadable(why, f),
            Self::TasksFailed { streak, reason } => write!(
                f,
                "the last {streak} move tasks failed, so nothing reached the consumer: `{}`; correct the cause, then send a request with `force`",
                excerpt(reason)
            ),
            Self::ParkingFailed { reason } => write!(
                f,
                "the last two move tasks to the parking queue failed: `{}`; correct the cause, then send a request with `force`",
                excerpt(reason)
            ),
            Self::AttemptsExhausted { streak } => write!(
                f,
                "the last {streak} redrives came back; fix the consumer or remove the poison messages, then send a request with `force`"
            ),
            Self::StillFilling { fewest } => {
                still_filling(*fewest, f)?;
                f.write_str(", and the last redrive started over an hour ago")
            }
            Self::Braked { alarm } => {
                write!(f, "the brake alarm `{}` is in ALARM", excerpt(alarm))
            }
            Self::BrakeUnknown { alarm, why } => write!(
                f,
                "the state of the brake alarm `{}` is unknown: {}",
                excerpt(alarm),
                one_line(why, MAX_MESSAGE_CHARS)
            ),
        }
    }
}

fn still_filling(fewest: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "the DLQ has grown within the quiet period, from {}: its consumer still fails",
        counted(fewest, "visible message")
    )
}

impl fmt::Display for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartLimit(limit) => write!(
                f,
                "this invocation started {limit} redrives, the most it may (`REDRIVE_MAX_STARTS`)"
            ),
            Self::NotLookedAt => {
                f.write_str("the invocation ran out of time before it had looked at this DLQ")
            }
            Self::NoAnswer => f.write_str("SQS did not answer in time when asked about this DLQ"),
            Self::StartNotSent => {
                f.write_str("the invocation ran out of time before it asked SQS for a start")
            }
            Self::StartThrottled => {
                f.write_str("SQS throttled the start until the invocation ran out of time")
            }
            Self::StartUnconfirmed => f.write_str(
                "SQS did not answer the start in time; the next look shows whether it took effect",
            ),
            Self::AccountLimit(why) => write!(
                f,
                "the account has as many active move tasks as SQS allows: {why}"
            ),
            Self::NoTimeForSample => f.write_str(
                "the invocation has too little time left for a sample; raise the function's timeout",
            ),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqs(error) => error.fmt(f),
            Self::Tags(error) => write!(
                f,
                "the queue's tags could not be read, so it is unknown whether the queue is enrolled: {error}"
            ),
            Self::InvalidPolicy(why) => f.write_str(why),
            Self::CancelUnconfirmed => f.write_str(
                "the invocation ran out of time before SQS confirmed that the move task is canceled",
            ),
            Self::CancelNotSent => f.write_str(
                "the invocation ran out of time before it asked SQS to cancel the move task",
            ),
            Self::StillRunning(why) => write!(
                f,
                "SQS refused to cancel the move task, which is still RUNNING: {why}"
            ),
            Self::NoHandle => f.write_str(
                "the move task is still RUNNING: SQS returned no handle to cancel it, so cancel again later",
            ),
            Self::SampleNotStopped(why) => write!(
                f,
                "the sample could not be stopped, so it goes on at 1 message a second: {why}"
            ),
        }
    }
}
