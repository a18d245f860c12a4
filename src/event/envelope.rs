//! Envelopes: what SQS, SNS, Pipes and EventBridge wrap around a notification.

use super::alarm::{Alarm, Origin};
use super::{MAX_ARN_CHARS, Trigger, read_as};
use crate::text::{excerpt, one_line};
use aws_lambda_events::sqs::SqsMessage;
use serde::Deserialize;
use serde_json::Value;

/// The most envelopes to unwrap; a value inside more of them is unreadable. The deepest nesting AWS
/// creates by itself is four: Pipes over SQS over SNS over EventBridge.
pub(super) const MAX_ENVELOPES: usize = 4;

/// The most records that Lambda or Pipes delivers in a batch
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html>).
pub(super) const MAX_RECORDS: usize = 10_000;

/// The longest message to read. SNS and CloudWatch send at most 256 KiB.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// A value without its outermost envelope.
pub(super) enum Unwrapped {
    /// The records of a batch; 1 to [`MAX_RECORDS`]. `depth` is how many envelopes the batch counts for: 0
    /// with the `Records` of Lambda, since each record is an envelope, and 1 with the bare array of
    /// Pipes (`events/alarm-pipes.json`).
    Batch { records: Vec<Value>, depth: usize },
    /// The text of a message, and the ARN of the queue that delivered it; `None` if SNS delivered
    /// it.
    Message {
        queue_arn: Option<String>,
        text: String,
    },
    /// A message that SQS has moved to this DLQ.
    DeadLetter { dlq_arn: String },
    /// The value is a notification, or is not supported. An EventBridge event counts as one: its
    /// fields show the kind of trigger.
    Bare(Value),
}

/// Unwraps the outermost envelope. `Err` says what is wrong with it.
pub(super) fn unwrap_envelope(mut value: Value) -> Result<Unwrapped, String> {
    if let Value::Array(records) = value {
        return batch(records, 1);
    }
    if let Some(Value::Array(records)) = value.get_mut("Records").map(Value::take) {
        return batch(records, 0);
    }
    let has = |field| value.get(field).is_some();
    // Other events have a body too, for example those of function URLs.
    if has("body") && value.get("eventSource").and_then(Value::as_str) == Some("aws:sqs") {
        read_as("SQS message", value).map(sqs_message)
    } else if has("Sns") {
        read_as("SNS message", value).and_then(|record: SnsRecord| sns_message(record.sns))
    } else if has("Message") && has("Type") {
        read_as("SNS message", value).and_then(sns_message)
    } else {
        Ok(Unwrapped::Bare(value))
    }
}

/// The message ID of a record, or else its position in the batch, counted from 1.
pub(super) fn record_name(record: &Value, n: usize) -> String {
    record
        .get("messageId")
        .or_else(|| record.get("Sns")?.get("MessageId"))
        .and_then(Value::as_str)
        .map_or_else(|| format!("number {}", n + 1), excerpt)
}

/// An EventBridge event (`events/schedule-eventbridge-rule.json`, `events/alarm-eventbridge.json`).
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "an EventBridge event")]
pub(super) struct EventBridgeEvent {
    detail_type: String,
    source: Option<String>,
    account: Option<String>,
    region: Option<String>,
    resources: Option<Vec<String>>,
    // Some samples AWS has published have the state change in `alarmData`, as in a Lambda action.
    #[serde(alias = "alarmData")]
    detail: Option<Value>,
}

impl EventBridgeEvent {
    /// Reads the detail. `Err` if the event's source and type are not supported.
    pub(super) fn trigger(self) -> Result<Trigger, String> {
        let arn = self.resources.unwrap_or_default().into_iter().next();
        let source = arn.as_ref().map(|arn| one_line(arn, MAX_ARN_CHARS));
        let service = self.source.unwrap_or_default();
        match (service.as_str(), self.detail_type.as_str()) {
            ("aws.events" | "aws.scheduler", "Scheduled Event") => Ok(Trigger::Schedule { source }),
            ("aws.cloudwatch", "CloudWatch Alarm Configuration Change") => {
                Ok(Trigger::ConfigurationChange { source })
            }
            (
                "aws.cloudwatch",
                "CloudWatch Alarm State Change" | "CloudWatch Alarm Contributor State Change",
            ) => {
                let (account, region) = (self.account, self.region);
                let detail = self.detail.unwrap_or_default();
                let origin = Origin {
                    arn,
                    account,
                    region,
                };
                Alarm::from_state_change(detail, origin).map(Trigger::Alarm)
            }
            (service, detail_type) => Err(format!(
                "it is an EventBridge event `{}` from `{}`",
                excerpt(detail_type),
                excerpt(service)
            )),
        }
    }
}

/// A record of SNS to Lambda (`events/alarm-sns.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "a record of SNS")]
struct SnsRecord {
    sns: SnsMessage,
}

/// An SNS message: in a record of SNS to Lambda, or as the body of an SQS message
/// (`events/alarm-sns-sqs.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an SNS message")]
struct SnsMessage {
    r#type: Option<String>,
    message: String,
}

/// SQS sets this attribute when it moves a message to a DLQ, and removes it when it redrives the
/// message.
const DEAD_LETTER_ATTRIBUTE: &str = "DeadLetterQueueSourceArn";

fn batch(records: Vec<Value>, depth: usize) -> Result<Unwrapped, String> {
    match records.len() {
        0 => Err("it is an empty batch".to_owned()),
        1..=MAX_RECORDS => Ok(Unwrapped::Batch { records, depth }),
        n => Err(format!(
            "it is a batch of {n} records, more than {MAX_RECORDS}"
        )),
    }
}

fn sqs_message(message: SqsMessage) -> Unwrapped {
    let queue_arn = message.event_source_arn;
    if message.attributes.contains_key(DEAD_LETTER_ATTRIBUTE) {
        let dlq_arn = queue_arn.unwrap_or_default();
        return Unwrapped::DeadLetter { dlq_arn };
    }
    let text = message.body.unwrap_or_default();
    Unwrapped::Message { queue_arn, text }
}

fn sns_message(SnsMessage { r#type, message }: SnsMessage) -> Result<Unwrapped, String> {
    match r#type.as_deref() {
        None | Some("Notification") => Ok(Unwrapped::Message {
            queue_arn: None,
            text: message,
        }),
        Some(other) => Err(format!(
            "it is an SNS `{}`, not a Notification",
            excerpt(other)
        )),
    }
}

#[cfg(test)]
mod tests;
