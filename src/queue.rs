//! Queues, their depth and their message move tasks: the nouns of every other module.

use crate::text::excerpt;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The ARN of an SQS queue, `arn:<partition>:sqs:<region>:<account>:<name>`, checked on creation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueArn(Arc<str>);

/// Why a text is not the ARN of an SQS queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueArnError {
    /// It does not have the six parts of an ARN.
    #[error("is not a queue ARN (`arn:aws:sqs:<region>:<account>:<name>`)")]
    NotAnArn,
    /// It is an ARN of another service.
    #[error("is an ARN of service `{}`, not of SQS", excerpt(.0))]
    OtherService(String),
    /// The region is empty, or has characters that no region has.
    #[error("has the region `{}`; a region looks like `eu-west-1`", excerpt(.0))]
    Region(String),
    /// The account is not twelve digits.
    #[error("has the account `{}`; an account ID is 12 digits", excerpt(.0))]
    Account(String),
    /// The queue name breaks SQS's rules.
    #[error(
        "has the queue name `{}`; a name is up to 80 letters, digits, hyphens and underscores, with `.fifo` at the end for a FIFO queue",
        excerpt(.0)
    )]
    Name(String),
}

impl QueueArn {
    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `aws`, `aws-cn`, `aws-us-gov`, ….
    pub fn partition(&self) -> &str {
        self.part(1)
    }

    /// The region the queue is in.
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The account that owns the queue: 12 digits.
    pub fn account(&self) -> &str {
        self.part(4)
    }

    /// The queue's name, with `.fifo` if it is a FIFO queue.
    pub fn name(&self) -> &str {
        self.part(5)
    }

    /// Whether this is a FIFO queue: SQS requires their names to end in `.fifo`.
    pub fn is_fifo(&self) -> bool {
        self.name().ends_with(".fifo")
    }

    /// Whether both queues are in the same partition, account and region.
    pub fn is_beside(&self, other: &Self) -> bool {
        let place = |queue: &Self| queue.0.len() - queue.name().len();
        self.0.get(..place(self)) == other.0.get(..place(other))
    }

    fn part(&self, n: usize) -> &str {
        self.0.split(':').nth(n).unwrap_or_default()
    }
}

impl FromStr for QueueArn {
    type Err = QueueArnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, service, region, account, name] = parts[..] else {
            // Resources of other services may contain colons. The error names the service anyway.
            return Err(match parts[..] {
                ["arn", _, service, ..] if service != "sqs" && is_arn_component(service) => {
                    QueueArnError::OtherService(service.to_owned())
                }
                _ => QueueArnError::NotAnArn,
            });
        };
        if !is_arn_component(partition) {
            return Err(QueueArnError::NotAnArn);
        }
        if service != "sqs" {
            return Err(QueueArnError::OtherService(service.to_owned()));
        }
        if !is_region(region) {
            return Err(QueueArnError::Region(region.to_owned()));
        }
        if !is_account_id(account) {
            return Err(QueueArnError::Account(account.to_owned()));
        }
        if !is_queue_name(name) {
            return Err(QueueArnError::Name(name.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for QueueArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is twelve digits, like every account ID.
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether SQS accepts `name` for a queue (`CreateQueue`: up to 80 letters, digits, hyphens and
/// underscores, `.fifo` at the end for FIFO queues).
pub fn is_queue_name(name: &str) -> bool {
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    name.len() <= 80
        && !stem.is_empty()
        && stem
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Whether `text` could be a region: lowercase letters, digits and hyphens.
pub fn is_region(text: &str) -> bool {
    is_arn_component(text)
}

fn is_arn_component(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A queue as an event names it. If the event leaves out the account or region, the function's own
/// applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueRef {
    /// The queue's name.
    pub name: String,
    /// The account that owns the queue.
    pub account: Option<String>,
    /// The region of the queue.
    pub region: Option<String>,
}

impl FromStr for QueueRef {
    type Err = String;

    /// Reads a queue's ARN or its name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_queue_name(text) {
            return Ok(Self {
                name: text.to_owned(),
                account: None,
                region: None,
            });
        }
        Ok(Self::from(&queue_arn(text)?))
    }
}

impl From<&QueueArn> for QueueRef {
    fn from(arn: &QueueArn) -> Self {
        Self {
            name: arn.name().to_owned(),
            account: Some(arn.account().to_owned()),
            region: Some(arn.region().to_owned()),
        }
    }
}

/// Reads an ARN that someone wrote. `Err` quotes it and says what is wrong with it.
pub fn queue_arn(text: &str) -> Result<QueueArn, String> {
    text.parse()
        .map_err(|invalid: QueueArnError| format!("`{}` {invalid}", excerpt(text)))
}

/// Where the function runs: the defaults for everything that an event leaves out about a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `aws`, `aws-cn`, `aws-us-gov`, ….
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account; `None` under an emulator that does not report it. Then any account matches.
    pub account: Option<String>,
}

/// DLQs by name and region. Several accounts may have a queue of the same name.
pub type QueuesByName<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a QueueArn>>;

impl Location {
    /// Reads the function's ARN, `arn:<partition>:lambda:<region>:<account>:function:…`. Some
    /// emulators send another text; then only `region` is known.
    pub fn new(function_arn: &str, region: &str) -> Self {
        match function_arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, "lambda", region, account, "function", ..] => Self {
                partition: partition.to_owned(),
                region: region.to_owned(),
                account: Some(account.to_owned()),
            },
            _ => Self {
                partition: "aws".to_owned(),
                region: region.to_owned(),
                account: None,
            },
        }
    }

    /// The ARN of a queue that an event names. It may be invalid if the account is unknown.
    pub fn queue_arn(&self, queue: &QueueRef) -> String {
        let region = queue.region.as_ref().unwrap_or(&self.region);
        let account = queue.account.as_ref().or(self.account.as_ref());
        let account = account.map_or("", String::as_str);
        format!(
            "arn:{}:sqs:{region}:{account}:{}",
            self.partition, queue.name
        )
    }

    /// The DLQ that an event means by `queue`; `None` if it is not among these.
    pub fn resolve<'a>(&self, queue: &QueueRef, dlqs: &QueuesByName<'a>) -> Option<&'a QueueArn> {
        let region = queue.region.as_ref().unwrap_or(&self.region);
        let account = queue.account.as_ref().or(self.account.as_ref());
        let namesakes = dlqs.get(&(queue.name.as_str(), region.as_str()))?;
        let is_own = |dlq: &&&QueueArn| account.is_none_or(|account| dlq.account() == account);
        namesakes.iter().find(is_own).copied()
    }

    /// The ARNs of the named queues whose tags can be read. The tagging API knows only its own
    /// account and region.
    pub fn taggable_here<'a>(
        &self,
        queues: impl IntoIterator<Item = &'a QueueRef>,
    ) -> Vec<QueueArn> {
        let arns = queues
            .into_iter()
            .filter_map(|queue| self.queue_arn(queue).parse().ok());
        let own = arns.filter(|arn| self.is_taggable_here(arn));
        own.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether the tagging API knows this queue: it is in the function's account and region.
    pub fn is_taggable_here(&self, queue: &QueueArn) -> bool {
        let is_own = |account: &String| queue.account() == account;
        queue.region() == self.region && self.account.as_ref().is_none_or(is_own)
    }
}

/// A queue with the enroll tag, or with tags that hold settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedQueue {
    /// The queue.
    pub dlq: QueueArn,
    /// Whether it has the enroll tag. Settings alone enroll no queue, but a listed DLQ follows them.
    pub enrolled: bool,
    /// Its own settings, as name and text, from the tags named key + `:` + setting.
    pub settings: Vec<(String, String)>,
}

impl TaggedQueue {
    /// The queues that its tags name as destination or parking queue.
    pub fn destinations(&self) -> impl Iterator<Item = QueueRef> {
        let is_destination = |name: &str| matches!(name, "destination-arn" | "parking-arn");
        let settings = self.settings.iter();
        settings
            .filter(move |(name, _)| is_destination(name))
            .filter_map(|(_, value)| value.trim().parse().ok())
    }
}

/// How many messages a queue holds, by SQS's approximate counts. They may take a minute to settle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// `ApproximateNumberOfMessages`: a consumer could receive them, and a move task could move
    /// them.
    pub visible: u64,
    /// `ApproximateNumberOfMessagesNotVisible`: someone received them and has not deleted them yet.
    pub in_flight: u64,
}

impl Depth {
    /// All messages of the queue, visible or in flight.
    pub fn total(&self) -> u64 {
        self.visible.saturating_add(self.in_flight)
    }

    /// Whether no message is visible or in flight.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One message move task, as `ListMessageMoveTasks` returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTask {
    /// The status of the task.
    pub status: TaskStatus,
    /// What `CancelMessageMoveTask` takes. SQS returns it only while the task is RUNNING.
    pub handle: Option<String>,
    /// When the task started; `None` if SQS returned no time, or zero.
    pub started_at: Option<SystemTime>,
    /// Messages moved so far. The count lags, and may be 0 for a task that moved everything.
    pub moved: u64,
    /// Messages to move when the task started, including those in flight; `None` if SQS returned
    /// none.
    pub to_move: Option<u64>,
    /// Where the messages go; `None` means that each goes back to its own source queue.
    pub destination_arn: Option<String>,
    /// The maximum number of messages per second; `None` if SQS chose its own pace.
    pub max_messages_per_second: Option<u32>,
    /// Why the task FAILED, in SQS's words.
    pub failure_reason: Option<String>,
}

impl MoveTask {
    /// The handle that cancels the task; `None` if it is not RUNNING, or SQS returned no handle.
    pub fn cancellable(&self) -> Option<&str> {
        match self.status {
            TaskStatus::Running => self.handle.as_deref(),
            _ => None,
        }
    }

    /// How many messages the task concerned: the larger of `moved` and `to_move`, because `moved`
    /// lags.
    pub fn size(&self) -> u64 {
        self.moved.max(self.to_move.unwrap_or_default())
    }

    /// About how many messages it moved. For a CANCELLED task, the number that SQS reports, at
    /// least 1; for any other task, [`size`](Self::size).
    pub fn moved_about(&self) -> u64 {
        match self.status {
            TaskStatus::Cancelled => self.moved.max(1),
            _ => self.size(),
        }
    }

    /// How long ago the task started. A start time that is missing or in the future counts as now.
    /// This is the cautious reading: the task looks recent.
    pub fn age(&self, now: SystemTime) -> Duration {
        self.started_at
            .and_then(|started| now.duration_since(started).ok())
            .unwrap_or_default()
    }
}

/// The status of a message move task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// Moving messages.
    Running,
    /// Cancel was requested; the task may still move messages.
    Cancelling,
    /// Stopped before it moved everything. Messages it moved stay moved.
    Cancelled,
    /// Moved everything it could.
    Completed,
    /// Stopped by an error; see [`MoveTask::failure_reason`].
    Failed,
    /// A status that this version does not know, in SQS's words.
    Unknown(String),
}

impl TaskStatus {
    /// Reads the status as SQS writes it. A missing one is unknown.
    pub fn from_sqs(status: Option<&str>) -> Self {
        match status {
            Some("RUNNING") => Self::Running,
            Some("CANCELLING") => Self::Cancelling,
            Some("CANCELLED") => Self::Cancelled,
            Some("COMPLETED") => Self::Completed,
            Some("FAILED") => Self::Failed,
            other => Self::Unknown(other.unwrap_or_default().to_owned()),
        }
    }

    /// The status as SQS writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "RUNNING",
            Self::Cancelling => "CANCELLING",
            Self::Cancelled => "CANCELLED",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Unknown(status) => status,
        }
    }

    /// Whether SQS would refuse another task now. SQS counts CANCELLING as active; an unknown
    /// status counts as active too, because the safe answer is not to start.
    pub fn is_active(&self) -> bool {
        match self {
            Self::Running | Self::Cancelling | Self::Unknown(_) => true,
            Self::Cancelled | Self::Completed | Self::Failed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn queue_arn_gives_its_parts() {
        let arn: QueueArn = "arn:aws-cn:sqs:cn-north-1:123456789012:orders-dlq.fifo"
            .parse()
            .unwrap();
        assert_eq!(arn.partition(), "aws-cn");
        assert_eq!(arn.region(), "cn-north-1");
        assert_eq!(arn.account(), "123456789012");
        assert_eq!(arn.name(), "orders-dlq.fifo");
        assert!(arn.is_fifo());
        assert_eq!(
            arn.to_string(),
            "arn:aws-cn:sqs:cn-north-1:123456789012:orders-dlq.fifo"
        );
    }

    #[test]
    fn every_fault_of_an_arn_names_the_culprit() {
        let faults = [
            ("", QueueArnError::NotAnArn),
            ("orders-dlq", QueueArnError::NotAnArn),
            (
                "arn:aws:sqs:us-east-1:123456789012",
                QueueArnError::NotAnArn,
            ),
            (
                "arn:aws:sqs:us-east-1:123456789012:a:b",
                QueueArnError::NotAnArn,
            ),
            (
                "arn::sqs:us-east-1:123456789012:orders",
                QueueArnError::NotAnArn,
            ),
            (
                "arn:aws:sns:us-east-1:123456789012:orders",
                QueueArnError::OtherService("sns".into()),
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:orders",
                QueueArnError::OtherService("lambda".into()),
            ),
            (
                "arn:aws:sqs::123456789012:orders",
                QueueArnError::Region("".into()),
            ),
            (
                "arn:aws:sqs:us east:123456789012:orders",
                QueueArnError::Region("us east".into()),
            ),
            (
                "arn:aws:sqs:us-east-1:1234:orders",
                QueueArnError::Account("1234".into()),
            ),
            (
                "arn:aws:sqs:us-east-1:12345678901a:orders",
                QueueArnError::Account("12345678901a".into()),
            ),
            (
                "arn:aws:sqs:us-east-1:123456789012:",
                QueueArnError::Name("".into()),
            ),
            (
                "arn:aws:sqs:us-east-1:123456789012:.fifo",
                QueueArnError::Name(".fifo".into()),
            ),
            (
                "arn:aws:sqs:us-east-1:123456789012:or ders",
                QueueArnError::Name("or ders".into()),
            ),
        ];
        for (text, fault) in faults {
            assert_eq!(text.parse::<QueueArn>(), Err(fault), "{text}");
        }
    }

    #[test]
    fn queue_names_end_at_80_characters() {
        assert!(is_queue_name(&"q".repeat(80)));
        assert!(!is_queue_name(&"q".repeat(81)));
        assert!(is_queue_name(&format!("{}.fifo", "q".repeat(75))));
        assert!(!is_queue_name(&format!("{}.fifo", "q".repeat(76))));
    }

    #[test]
    fn every_status_reads_back_as_sqs_writes_it() {
        for (text, active) in [
            ("RUNNING", true),
            ("CANCELLING", true),
            ("CANCELLED", false),
            ("COMPLETED", false),
            ("FAILED", false),
            ("PONDERING", true),
        ] {
            let status = TaskStatus::from_sqs(Some(text));
            assert_eq!(status.as_str(), text);
            assert_eq!(status.is_active(), active, "{text}");
        }
    }

    #[test]
    fn missing_status_counts_as_active() {
        assert!(TaskStatus::from_sqs(None).is_active());
    }

    #[test]
    fn start_that_is_missing_or_in_the_future_counts_as_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let task = |started_at| MoveTask {
            status: TaskStatus::Completed,
            handle: None,
            started_at,
            moved: 0,
            to_move: None,
            destination_arn: None,
            max_messages_per_second: None,
            failure_reason: None,
        };
        let secs = |s| Some(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(task(None).age(now), Duration::ZERO);
        assert_eq!(task(secs(1001)).age(now), Duration::ZERO);
        assert_eq!(task(secs(400)).age(now), Duration::from_secs(600));
    }
}
