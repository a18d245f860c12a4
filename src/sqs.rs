//! The port to SQS, in our own types.

use crate::aws_error::{AwsError, Kind, MAX_MESSAGE_CHARS};
use crate::decision::Start;
use crate::fall::{MAX_SOURCES, QueueFacts, RedrivePolicy};
use crate::queue::{Depth, MoveTask, QueueArn, TaskStatus};
use crate::sender::Sender;
use crate::text::{excerpt, one_line};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{ListMessageMoveTasksResultEntry, QueueAttributeName};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;

/// The calls to SQS that redriving needs.
pub trait Sqs {
    /// How many messages the queue holds, by SQS's approximate counts, and how long it keeps a
    /// message; `None` if SQS did not return that.
    fn depth(
        &self,
        queue: &QueueArn,
    ) -> impl Future<Output = Result<(Depth, Option<Duration>), SqsError>>;

    /// The queue's message move tasks, newest first. SQS lists at most ten.
    fn list_tasks(&self, dlq: &QueueArn) -> impl Future<Output = Result<Vec<MoveTask>, SqsError>>;

    /// The queues that use this queue as their DLQ, at most one more than [`MAX_SOURCES`].
    fn source_queues(
        &self,
        dlq: &QueueArn,
    ) -> impl Future<Output = Result<Vec<QueueArn>, SqsError>>;

    /// The facts about a queue that fall time depends on.
    fn facts(&self, queue: &QueueArn) -> impl Future<Output = Result<QueueFacts, SqsError>>;

    /// Starts a redrive. `Ok` is the task's handle; `None` if SQS returned none.
    fn start(
        &self,
        dlq: &QueueArn,
        start: &Start,
    ) -> impl Future<Output = Result<Option<String>, StartError>>;

    /// Cancels the task with this handle. Messages it already moved stay moved. `Ok` is about how
    /// many messages that is; the count lags.
    fn cancel(
        &self,
        dlq: &QueueArn,
        handle: &str,
    ) -> impl Future<Output = Result<u64, CancelError>>;
}

/// Why a call to SQS failed, in SQS's own words if it sent any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqsError {
    /// A permission is missing. SQS's message contains the action, which may be one that SQS
    /// performs for the function.
    #[error("access denied: {0}")]
    AccessDenied(String),
    /// No queue uses this queue as its DLQ.
    #[error("not a dead-letter queue: {0}")]
    NotADeadLetterQueue(String),
    /// The DLQ does not exist.
    #[error("queue not found: {0}")]
    QueueNotFound(String),
    /// The destination does not exist.
    #[error("destination not found: {0}")]
    DestinationNotFound(String),
    /// SQS still throttles after every retry.
    #[error("throttled: {0}")]
    Throttled(String),
    /// SQS failed, refused the call for another reason, or its answer cannot be read.
    #[error("{0}")]
    Service(String),
    /// SQS could not be reached, or did not answer in time.
    #[error("{0}; check the function's network, and in a VPC the endpoint for SQS (`sqs`)")]
    Unreachable(String),
    /// What SQS answered makes no sense, although it can be read.
    #[error("{0}")]
    BadAnswer(String),
}

/// Why a redrive did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A task is already active on this queue.
    #[error("a message move task is already active")]
    TaskActive {
        /// Whether the call was repeated, so that the task may be its own: the first answer may have
        /// been lost.
        is_repeated: bool,
    },
    /// The account has as many active tasks as SQS allows.
    #[error("the account has too many active move tasks: {0}")]
    AccountLimit(String),
    /// The call failed.
    #[error(transparent)]
    Sqs(#[from] SqsError),
}

/// Why a task was not canceled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is nothing to cancel: the task ended, or never existed.
    #[error("nothing to cancel: {0}")]
    NothingToCancel(String),
    /// The call failed.
    #[error(transparent)]
    Sqs(#[from] SqsError),
}

/// SQS itself, with one client per region that may have an enrolled queue.
pub struct SqsClients {
    by_region: HashMap<String, Client>,
}

impl SqsClients {
    /// Creates a client for each of these regions.
    pub fn new(config: &aws_config::SdkConfig, regions: impl IntoIterator<Item = String>) -> Self {
        let client = |region: &String| {
            let region = aws_sdk_sqs::config::Region::new(region.clone());
            Client::from_conf(
                aws_sdk_sqs::config::Builder::from(config)
                    .region(region)
                    .interceptor(Sender)
                    .build(),
            )
        };
        Self {
            by_region: regions
                .into_iter()
                .map(|region| (region.clone(), client(&region)))
                .collect(),
        }
    }

    /// Opens a connection to SQS in this region before the first call needs it, and gives up after
    /// 200 ms. The request has no `X-Amz-Target`: there is no operation to authorize or to record,
    /// and the connection stays open unless SQS closes it.
    pub async fn connect(&self, region: &str) {
        let Some(client) = self.by_region.get(region) else {
            return;
        };
        let once = aws_sdk_sqs::Config::builder().retry_config(RetryConfig::disabled());
        let nothing = client
            .get_queue_attributes()
            .customize()
            .config_override(once)
            .mutate_request(|request| {
                request.headers_mut().remove("x-amz-target");
            });
        let _ = timeout(CONNECT_AHEAD_TIMEOUT, nothing.send()).await;
    }

    fn client(&self, queue: &QueueArn) -> Result<&Client, SqsError> {
        self.by_region.get(queue.region()).ok_or_else(|| {
            SqsError::Service(format!(
                "there is no SQS client for the region of `{queue}`"
            ))
        })
    }
}

impl Sqs for SqsClients {
    async fn depth(&self, queue: &QueueArn) -> Result<(Depth, Option<Duration>), SqsError> {
        let visible = QueueAttributeName::ApproximateNumberOfMessages;
        let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let retention = QueueAttributeName::MessageRetentionPeriod;
        let answer = self
            .client(queue)?
            .get_queue_attributes()
            .queue_url(url(queue))
            .attribute_names(visible.clone())
            .attribute_names(in_flight.clone())
            .attribute_names(retention.clone())
            .send()
            .await
            .map_err(aws_error)?;
        let number = |name: &QueueAttributeName| {
            let attributes = answer.attributes();
            attributes.and_then(|attributes| attributes.get(name)?.parse().ok())
        };
        let count = |name: QueueAttributeName| {
            number(&name).ok_or_else(|| {
                SqsError::BadAnswer(format!("SQS returned no `{name}` for `{queue}`"))
            })
        };
        let depth = Depth {
            visible: count(visible)?,
            in_flight: count(in_flight)?,
        };
        Ok((depth, number(&retention).map(Duration::from_secs)))
    }

    async fn list_tasks(&self, dlq: &QueueArn) -> Result<Vec<MoveTask>, SqsError> {
        let answer = self
            .client(dlq)?
            .list_message_move_tasks()
            .source_arn(dlq.as_str())
            .max_results(10)
            .send()
            .await
            .map_err(aws_error)?;
        Ok(answer.results().iter().map(move_task).collect())
    }

    async fn source_queues(&self, dlq: &QueueArn) -> Result<Vec<QueueArn>, SqsError> {
        let most = i32::try_from(MAX_SOURCES + 1).unwrap_or(i32::MAX);
        let answer = self
            .client(dlq)?
            .list_dead_letter_source_queues()
            .queue_url(url(dlq))
            .max_results(most)
            .send()
            .await
            .map_err(aws_error)?;
        let urls = answer.queue_urls().iter();
        urls.map(|url| queue_of_url(url, dlq)).collect()
    }

    async fn facts(&self, queue: &QueueArn) -> Result<QueueFacts, SqsError> {
        use QueueAttributeName as Name;
        let answer = self
            .client(queue)?
            .get_queue_attributes()
            .queue_url(url(queue))
            .attribute_names(Name::VisibilityTimeout)
            .attribute_names(Name::DelaySeconds)
            .attribute_names(Name::RedrivePolicy)
            .send()
            .await
            .map_err(aws_error)?;
        let attribute = |name| {
            answer
                .attributes()
                .and_then(|attributes| attributes.get(&name))
        };
        let seconds = |name| Some(Duration::from_secs(attribute(name)?.parse().ok()?));
        let missing =
            |name: Name| SqsError::BadAnswer(format!("SQS returned no `{name}` for `{queue}`"));
        let redrive_policy = attribute(Name::RedrivePolicy).map(|text| redrive_policy(text, queue));
        Ok(QueueFacts {
            visibility_timeout: seconds(Name::VisibilityTimeout)
                .ok_or_else(|| missing(Name::VisibilityTimeout))?,
            delay: seconds(Name::DelaySeconds).unwrap_or_default(),
            redrive_policy: redrive_policy.transpose()?,
        })
    }

    async fn start(&self, dlq: &QueueArn, start: &Start) -> Result<Option<String>, StartError> {
        let rate = start
            .max_messages_per_second
            .map(|rate| i32::from(rate.get()));
        let attempts = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&attempts);
        let answer = self
            .client(dlq)?
            .start_message_move_task()
            .source_arn(dlq.as_str())
            .set_destination_arn(start.destination.as_ref().map(QueueArn::to_string))
            .set_max_number_of_messages_per_second(rate)
            .customize()
            // Called for each attempt.
            .mutate_request(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .send()
            .await;
        match answer {
            Ok(started) => Ok(started.task_handle.filter(|handle| !handle.is_empty())),
            Err(error) => {
                let attempts = attempts.load(Ordering::Relaxed);
                Err(start_error(aws_error(error), attempts))
            }
        }
    }

    async fn cancel(&self, dlq: &QueueArn, handle: &str) -> Result<u64, CancelError> {
        let answer = self
            .client(dlq)?
            .cancel_message_move_task()
            .task_handle(handle)
            .send()
            .await
            .map_err(aws_error)?;
        Ok(u64::try_from(answer.approximate_number_of_messages_moved()).unwrap_or_default())
    }
}

/// Far more than a connection within a region needs. If there is no route to SQS, the start-up
/// waits no longer than this.
const CONNECT_AHEAD_TIMEOUT: Duration = Duration::from_millis(200);

/// The queue's URL in path style. SQS reads the queue from the path alone.
fn url(queue: &QueueArn) -> String {
    let domain = match queue.partition() {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    };
    let (region, account) = (queue.region(), queue.account());
    [
        "https://sqs.",
        region,
        ".",
        domain,
        "/",
        account,
        "/",
        queue.name(),
    ]
    .concat()
}

/// The queue of a URL that SQS returned, `https://…/<account>/<name>`. It is in the DLQ's region.
fn queue_of_url(url: &str, dlq: &QueueArn) -> Result<QueueArn, SqsError> {
    let mut parts = url.rsplit('/');
    let (name, account) = (parts.next(), parts.next());
    let arn = format!(
        "arn:{}:sqs:{}:{}:{}",
        dlq.partition(),
        dlq.region(),
        account.unwrap_or_default(),
        name.unwrap_or_default()
    );
    let unreadable = |_| SqsError::BadAnswer(format!("SQS returned the URL `{}`", excerpt(url)));
    arn.parse().map_err(unreadable)
}

/// A queue's redrive policy. SQS accepts `maxReceiveCount` as a number or as text, and returns it
/// in the same form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicyJson {
    dead_letter_target_arn: String,
    max_receive_count: Value,
}

fn redrive_policy(text: &str, queue: &QueueArn) -> Result<RedrivePolicy, SqsError> {
    let unreadable = || {
        let text = excerpt(text);
        SqsError::BadAnswer(format!(
            "the redrive policy of `{queue}` cannot be read: `{text}`"
        ))
    };
    let policy: RedrivePolicyJson = serde_json::from_str(text).map_err(|_| unreadable())?;
    let count = match &policy.max_receive_count {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64().and_then(|count| u32::try_from(count).ok()),
    };
    Ok(RedrivePolicy {
        dlq_arn: policy.dead_letter_target_arn,
        max_receive_count: count.ok_or_else(unreadable)?,
    })
}

fn move_task(entry: &ListMessageMoveTasksResultEntry) -> MoveTask {
    // The SDK returns 0 where SQS sent nothing.
    let started_at = u64::try_from(entry.started_timestamp())
        .ok()
        .filter(|&millis| millis > 0)
        .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
    MoveTask {
        status: TaskStatus::from_sqs(entry.status().map(excerpt).as_deref()),
        handle: entry.task_handle().map(str::to_owned),
        started_at,
        moved: u64::try_from(entry.approximate_number_of_messages_moved()).unwrap_or_default(),
        to_move: entry
            .approximate_number_of_messages_to_move()
            .and_then(|count| u64::try_from(count).ok()),
        destination_arn: entry.destination_arn().map(str::to_owned),
        max_messages_per_second: entry
            .max_number_of_messages_per_second()
            .and_then(|pace| u32::try_from(pace).ok()),
        failure_reason: entry
            .failure_reason()
            .map(|reason| one_line(reason, MAX_MESSAGE_CHARS)),
    }
}

impl SqsError {
    /// Whether SQS throttled the call, so that it may succeed later.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Throttled(_))
    }

    /// Whether SQS failed or could not be reached, so that the same call may succeed later.
    pub fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Throttled(_) | Self::Service(_) | Self::Unreachable(_)
        )
    }
}

impl StartError {
    /// See [`SqsError::is_throttled`].
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Sqs(error) if error.is_throttled())
    }

    /// Whether the start may have taken effect anyway, because SQS's answer was lost or makes no
    /// sense.
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::TaskActive { is_repeated } => *is_repeated,
            Self::AccountLimit(_) => false,
            Self::Sqs(error) => matches!(
                error,
                SqsError::Service(_) | SqsError::Unreachable(_) | SqsError::BadAnswer(_)
            ),
        }
    }
}

impl CancelError {
    /// See [`SqsError::is_throttled`].
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Sqs(error) if error.is_throttled())
    }
}

fn aws_error<E>(error: SdkError<E>) -> AwsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    AwsError::new("SQS", &error)
}

impl From<AwsError> for SqsError {
    fn from(error: AwsError) -> Self {
        match error.kind {
            Kind::AccessDenied => Self::AccessDenied(error.message),
            Kind::BadCredentials => Self::AccessDenied(error.to_string()),
            Kind::Throttled => Self::Throttled(error.message),
            Kind::DestinationNotFound => Self::DestinationNotFound(error.message),
            Kind::QueueNotFound => Self::QueueNotFound(error.message),
            Kind::NotADeadLetterQueue => Self::NotADeadLetterQueue(error.message),
            // A proxy may have answered instead of SQS, so another call may succeed.
            Kind::TaskActive | Kind::TaskLimit | Kind::Failed | Kind::BadAnswer => {
                Self::Service(error.to_string())
            }
            Kind::Unreachable => Self::Unreachable(error.to_string()),
        }
    }
}

/// Why a start failed that was sent this many times.
fn start_error(error: AwsError, attempts: usize) -> StartError {
    match error.kind {
        Kind::TaskActive => StartError::TaskActive {
            is_repeated: attempts > 1,
        },
        Kind::TaskLimit => StartError::AccountLimit(error.to_string()),
        _ => StartError::Sqs(error.into()),
    }
}

impl From<AwsError> for CancelError {
    /// AWS does not document what SQS answers when a task is no longer RUNNING. So every refusal
    /// counts as "nothing to cancel", except those about permissions, credentials and throttling.
    fn from(error: AwsError) -> Self {
        match error.is_refusal() {
            true => Self::NothingToCancel(error.to_string()),
            false => Self::Sqs(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
