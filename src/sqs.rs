//! The port to SQS, in our own types. AWS's error codes are told apart here and nowhere else.

use crate::policy::Start;
use crate::queue::{Depth, MoveTask, QueueArn, TaskStatus};
use crate::text::{causes, excerpt, one_line};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{ListMessageMoveTasksResultEntry, QueueAttributeName};
use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;

/// The calls to SQS that redriving takes.
pub trait Sqs {
    /// How many messages the queue holds.
    fn depth(&self, queue: &QueueArn) -> impl Future<Output = Result<Depth, SqsError>>;

    /// The queue's message move tasks, newest first, ten at most: SQS lists no more.
    fn list_tasks(&self, dlq: &QueueArn) -> impl Future<Output = Result<Vec<MoveTask>, SqsError>>;

    /// Starts a redrive. `Ok` is the handle of its task.
    fn start(
        &self,
        dlq: &QueueArn,
        start: &Start,
    ) -> impl Future<Output = Result<String, StartError>>;

    /// Cancels the task of this handle. What it has moved stays moved.
    fn cancel(&self, dlq: &QueueArn, handle: &str)
    -> impl Future<Output = Result<(), CancelError>>;
}

/// Why a call to SQS did not do what it was to do. The text is SQS's own where it gave one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqsError {
    /// A permission is missing; SQS names the action, which may be one it takes on our behalf.
    #[error("access denied: {0}")]
    AccessDenied(String),
    /// No queue has this queue for its DLQ.
    #[error("not a dead-letter queue: {0}")]
    NotADeadLetterQueue(String),
    /// The DLQ does not exist.
    #[error("queue not found: {0}")]
    QueueNotFound(String),
    /// The destination does not exist.
    #[error("destination not found: {0}")]
    DestinationNotFound(String),
    /// Still throttled after every retry.
    #[error("throttled: {0}")]
    Throttled(String),
    /// Anything else: an error of the service, of the network, or an answer that makes no sense.
    #[error("{0}")]
    Service(String),
}

/// Why a redrive did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A task is active on this queue: another invocation was faster, or a start whose answer was
    /// lost did take effect.
    #[error("a message move task is already active")]
    TaskActive,
    /// The start failed.
    #[error(transparent)]
    Sqs(#[from] SqsError),
}

/// Why a task was not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is nothing to cancel: the task has come to its end, or was never there.
    #[error("nothing to cancel: {0}")]
    NothingToCancel(String),
    /// The cancelling failed.
    #[error(transparent)]
    Sqs(#[from] SqsError),
}

/// SQS itself, with a client for each region that an enrolled queue may be in.
pub struct SqsClients {
    by_region: HashMap<String, Client>,
}

impl SqsClients {
    /// Makes a client for each of these regions.
    pub fn new(config: &aws_config::SdkConfig, regions: impl IntoIterator<Item = String>) -> Self {
        let client = |region: &String| {
            let region = aws_sdk_sqs::config::Region::new(region.clone());
            Client::from_conf(
                aws_sdk_sqs::config::Builder::from(config)
                    .region(region)
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

    /// Opens a connection to SQS in a region ahead of the first call, as far as that takes but a moment.
    /// The request names no operation, so that there is none to need a permission for, or to record:
    /// whatever SQS answers, the connection is there.
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
            SqsError::Service(format!("there is no client for the region of `{queue}`"))
        })
    }
}

impl Sqs for SqsClients {
    async fn depth(&self, queue: &QueueArn) -> Result<Depth, SqsError> {
        let visible = QueueAttributeName::ApproximateNumberOfMessages;
        let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let answer = self
            .client(queue)?
            .get_queue_attributes()
            .queue_url(url(queue))
            .attribute_names(visible.clone())
            .attribute_names(in_flight.clone())
            .send()
            .await
            .map_err(fault)?;
        let count = |name: QueueAttributeName| {
            answer
                .attributes()
                .and_then(|attributes| attributes.get(&name)?.parse().ok())
                .ok_or_else(|| SqsError::Service(format!("SQS gave no `{name}` for `{queue}`")))
        };
        Ok(Depth {
            visible: count(visible)?,
            in_flight: count(in_flight)?,
        })
    }

    async fn list_tasks(&self, dlq: &QueueArn) -> Result<Vec<MoveTask>, SqsError> {
        let answer = self
            .client(dlq)?
            .list_message_move_tasks()
            .source_arn(dlq.as_str())
            .max_results(10)
            .send()
            .await
            .map_err(fault)?;
        Ok(answer.results().iter().map(move_task).collect())
    }

    async fn start(&self, dlq: &QueueArn, start: &Start) -> Result<String, StartError> {
        let rate = start
            .max_messages_per_second
            .map(|rate| i32::from(rate.get()));
        let answer = self
            .client(dlq)?
            .start_message_move_task()
            .source_arn(dlq.as_str())
            .set_destination_arn(start.destination.as_ref().map(QueueArn::to_string))
            .set_max_number_of_messages_per_second(rate)
            .send()
            .await;
        match answer {
            Ok(started) => Ok(started.task_handle.unwrap_or_default()),
            Err(error) => Err(start_fault(error)),
        }
    }

    async fn cancel(&self, dlq: &QueueArn, handle: &str) -> Result<(), CancelError> {
        self.client(dlq)?
            .cancel_message_move_task()
            .task_handle(handle)
            .send()
            .await
            .map(|_| ())
            .map_err(cancel_fault)
    }
}

/// What SQS answers when a task is no longer RUNNING is not documented, so that every answer that is
/// not about permissions, throttling or the service itself counts as "nothing to cancel".
fn cancel_fault<E>(error: SdkError<E>) -> CancelError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    let is_refused = matches!(status, Some(400 | 404 | 409));
    match fault(error) {
        fault @ (SqsError::AccessDenied(_) | SqsError::Throttled(_)) => fault.into(),
        fault if is_refused => CancelError::NothingToCancel(fault.to_string()),
        fault => fault.into(),
    }
}

/// Far longer than a connection within a region takes; where there is none, the start waits no longer.
const CONNECT_AHEAD_TIMEOUT: Duration = Duration::from_millis(200);

/// So many characters of what AWS says go into reports and logs.
pub(crate) const MAX_MESSAGE_CHARS: usize = 500;

/// The queue's URL in path style. SQS takes the queue from its path.
fn url(queue: &QueueArn) -> String {
    let domain = match queue.partition() {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    };
    format!(
        "https://sqs.{}.{domain}/{}/{}",
        queue.region(),
        queue.account(),
        queue.name()
    )
}

fn move_task(entry: &ListMessageMoveTasksResultEntry) -> MoveTask {
    // The SDK gives 0 for what SQS left out.
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
        failure_reason: entry
            .failure_reason()
            .map(|reason| one_line(reason, MAX_MESSAGE_CHARS)),
    }
}

/// SQS's refusal of a second task has the same code as other refusals; only the message tells.
/// AWS says "There is already a task running. Only one active task is allowed …", emulators much the same.
fn start_fault<E>(error: SdkError<E>) -> StartError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let message = error.message().unwrap_or_default().to_lowercase();
    let is_task_active = message.contains("already") && message.contains("running");
    match fault(error) {
        fault @ (SqsError::AccessDenied(_) | SqsError::Throttled(_)) => fault.into(),
        _ if is_task_active => StartError::TaskActive,
        fault => fault.into(),
    }
}

/// Tells apart what went wrong, by code and message.
///
/// Codes come as `X`, `XException` and `AWS.SimpleQueueService.X`; most of those that matter here
/// are not modelled in the SDK.
fn fault<E>(error: SdkError<E>) -> SqsError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(code) = error.code() else {
        return SqsError::Service(without_code("SQS", &error));
    };
    let kind = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    let kind = kind.strip_suffix("Exception").unwrap_or(kind);
    let code = &one_line(code, MAX_MESSAGE_CHARS);
    let message = error.message().unwrap_or("SQS gave no reason");
    let message = one_line(message, MAX_MESSAGE_CHARS);
    match kind {
        "AccessDenied" | "KMS.AccessDenied" | "KmsAccessDenied" => SqsError::AccessDenied(message),
        "RequestThrottled" | "Throttling" | "KMS.Throttling" | "KmsThrottled"
        | "TooManyRequests" => SqsError::Throttled(message),
        // Credentials that are missing, expired or wrong.
        "ExpiredToken"
        | "InvalidClientTokenId"
        | "InvalidSecurity"
        | "InvalidSignature"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClient" => SqsError::AccessDenied(format!("{code}: {message}")),
        "ResourceNotFound" if message.contains("DestinationArn") => {
            SqsError::DestinationNotFound(message)
        }
        "NonExistentQueue" | "QueueDoesNotExist" | "ResourceNotFound" => {
            SqsError::QueueNotFound(message)
        }
        _ if message
            .to_lowercase()
            .contains("configured as a dead letter queue") =>
        {
            SqsError::NotADeadLetterQueue(message)
        }
        _ => SqsError::Service(format!("{code}: {message}")),
    }
}

/// What is to be said of an error of `service` that has no code: it was not understood, or it never
/// got an answer.
pub(crate) fn without_code<E>(service: &str, error: &SdkError<E>) -> String
where
    E: Error + 'static,
{
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    match (error, status) {
        (SdkError::ServiceError(_) | SdkError::ResponseError(_), Some(status)) => {
            format!("{service} answered with HTTP status {status} and no error code")
        }
        _ => one_line(&causes(error), MAX_MESSAGE_CHARS),
    }
}

#[cfg(test)]
mod tests;
