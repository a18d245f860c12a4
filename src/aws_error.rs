//! What AWS's errors mean. Only this file knows their codes and wordings, for all three ports.

use crate::text::{causes, one_line};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::fmt;

/// The most characters of AWS's text in reports and logs. A denial names the missing action near
/// its end.
pub(crate) const MAX_MESSAGE_CHARS: usize = 500;

/// A call to AWS that failed.
#[derive(Debug)]
pub(crate) struct AwsError {
    /// What the error means to the caller.
    pub kind: Kind,
    /// What AWS said, or how the call failed, on one line.
    pub message: String,
    service: &'static str,
    code: Option<String>,
    status: Option<u16>,
}

/// What an error means to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A permission is missing. SQS's message contains the action, which may be one that SQS
    /// performs for the caller.
    AccessDenied,
    /// The credentials are missing, expired or wrong.
    BadCredentials,
    /// The service still throttles after every retry.
    Throttled,
    /// A move task is already active on the queue.
    TaskActive,
    /// The account has as many active move tasks as SQS allows.
    TaskLimit,
    /// The destination of a move task does not exist.
    DestinationNotFound,
    /// The queue does not exist.
    QueueNotFound,
    /// No queue uses this queue as its DLQ.
    NotADeadLetterQueue,
    /// The service failed, or refused the call for another reason.
    Failed,
    /// The service could not be reached, or did not answer in time.
    Unreachable,
    /// The answer is not one of the service's API.
    BadAnswer,
}

impl AwsError {
    /// Reads the error of a call to `service`, which is its name for people.
    pub(crate) fn new<E>(service: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        let (kind, message) = match (error.code(), status, error) {
            (Some(code), _, _) => {
                let no_reason = || format!("{service} gave no reason");
                let message = error.message().map_or_else(no_reason, str::to_owned);
                (kind(code, &message), message)
            }
            (None, Some(status), SdkError::ServiceError(_) | SdkError::ResponseError(_)) => {
                let message = format!("HTTP status {status} without an error code");
                let is_failure = status >= 500;
                (
                    if is_failure {
                        Kind::Failed
                    } else {
                        Kind::BadAnswer
                    },
                    message,
                )
            }
            (None, _, SdkError::ConstructionFailure(_)) => (Kind::Failed, causes(error)),
            _ if is_about_credentials(error) => (Kind::Failed, causes(error)),
            _ => (Kind::Unreachable, causes(error)),
        };
        Self {
            kind,
            message: one_line(&message, MAX_MESSAGE_CHARS),
            service,
            code: error.code().map(|code| one_line(code, MAX_MESSAGE_CHARS)),
            status,
        }
    }

    /// Whether the service read the call and refused it, so that a retry would not help.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.status, Some(400 | 404 | 409))
            && !matches!(
                self.kind,
                Kind::AccessDenied | Kind::BadCredentials | Kind::Throttled
            )
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service, message, ..
        } = self;
        match (self.kind, &self.code) {
            (_, Some(code)) => write!(f, "{code}: {message}"),
            (Kind::Unreachable, None) => write!(f, "{service} could not be reached: {message}"),
            (Kind::BadAnswer, None) => write!(f, "{service}'s answer makes no sense: {message}"),
            (_, None) => write!(f, "{service} failed: {message}"),
        }
    }
}

/// Whether the call was never sent, because there were no credentials to sign it with.
fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// SQS sends codes as `X`, `XException` and `AWS.SimpleQueueService.X`. The SDK does not model most
/// of the codes that matter here.
fn kind(code: &str, message: &str) -> Kind {
    let code = code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code);
    let code = code.strip_suffix("Exception").unwrap_or(code);
    let message = message.to_lowercase();
    match code {
        "AccessDenied" | "KMS.AccessDenied" | "KmsAccessDenied" | "UnauthorizedOperation" => {
            Kind::AccessDenied
        }
        "RequestThrottled" | "Throttling" | "KMS.Throttling" | "KmsThrottled"
        | "TooManyRequests" => Kind::Throttled,
        "ExpiredToken"
        | "InvalidClientTokenId"
        | "InvalidSecurity"
        | "InvalidSignature"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClient" => Kind::BadCredentials,
        _ if is_about_task_limit(code, &message) => Kind::TaskLimit,
        _ if is_about_active_task(&message) => Kind::TaskActive,
        "ResourceNotFound" if message.contains("destinationarn") => Kind::DestinationNotFound,
        "NonExistentQueue" | "QueueDoesNotExist" | "ResourceNotFound" => Kind::QueueNotFound,
        _ if message.contains("configured as a dead letter queue") => Kind::NotADeadLetterQueue,
        _ => Kind::Failed,
    }
}

/// SQS refuses a second move task with the same code as other refusals, so only the message
/// distinguishes it: "There is already a task running. Only one active task is allowed …".
/// Emulators word it differently, for example "There is already an active message movement task for
/// this queue".
fn is_about_active_task(message: &str) -> bool {
    let is_active = [" running", " active", " in progress"]
        .iter()
        .any(|words| message.contains(words));
    message.contains("already") && is_active
}

/// SQS allows 100 active move tasks per account. Nobody has recorded how it refuses another one, so any
/// words about a limit on tasks count, also in the code
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>).
/// The limit of one task per queue is in other words: see [`is_about_active_task`].
fn is_about_task_limit(code: &str, message: &str) -> bool {
    let words = [
        "limit", "maximum", "quota", "too many", "toomany", "exceed", " 100 ",
    ];
    let text = format!("{} {message}", code.to_lowercase());
    let is_limit = words.iter().any(|words| text.contains(words));
    let tasks = ["task", "redrive", "message move"];
    let is_about_tasks = tasks.iter().any(|words| message.contains(words));
    let is_about_pace = message.contains("persecond") || message.contains("per second");
    is_limit && is_about_tasks && !is_about_pace
}

/// What to do about a move task that FAILED with this reason from SQS; `None` if no remedy is
/// known.
pub(crate) fn failed_task_advice(reason: &str) -> Option<&'static str> {
    let reason = reason.to_lowercase();
    let advice = [
        (
            "couldnotdeterminemessagesource",
            "SQS did not move these messages here from a source queue (SNS, Lambda or a person sent them), so set a destination",
        ),
        (
            "kms",
            "grant `kms:Decrypt` on the keys of the DLQ and the source queues, and `kms:GenerateDataKey` and `kms:Decrypt` on the keys of the destinations",
        ),
        (
            "accessdenied",
            "grant `sqs:ReceiveMessage`, `sqs:DeleteMessage` and `sqs:GetQueueAttributes` on the DLQ and `sqs:SendMessage` on the destinations (all source queues if there is none), and look for queue policies that deny them",
        ),
        (
            "nonexistentqueue",
            "a source or destination queue was deleted; create it again or set a destination",
        ),
    ];
    let known = advice.iter().find(|(word, _)| reason.contains(word));
    known.map(|(_, advice)| *advice)
}
