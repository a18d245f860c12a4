//! JSON → [`Trigger`]s. Only this file and the files in `src/event/` know the shapes of AWS's events.
//!
//! An event is parsed in two steps. First its envelopes are unwrapped: SQS, SNS and Pipes wrap what
//! they deliver, and wrap each other. Then its fields show which kind of trigger is inside. The
//! parser only states facts; [`crate::plan`] decides what they call for. The function ignores any
//! depth in an event, and an event never enrolls a queue. `events/` has a sample of every shape.

pub mod alarm;
mod envelope;
pub mod request;

pub use alarm::Alarm;
pub use request::{Request, Selection};

use crate::text::{excerpt, first_three, one_line};
use alarm::Origin;
use envelope::{EventBridgeEvent, MAX_ENVELOPES, Unwrapped, record_name, unwrap_envelope};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

/// An event, parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// One for each notification, in their order; at least one.
    pub triggers: Vec<Trigger>,
    /// The records that could not be read. After handling the other records the invocation must
    /// fail, or SQS would delete these unread.
    pub unreadable: Vec<RecordError>,
    /// The ARNs of the queues the records came from. Lambda deletes the records from them if the
    /// invocation succeeds.
    pub event_source_arns: Vec<String>,
}

/// What woke the function. A `source` is the ARN of the schedule, rule or alarm; `None` if the event
/// does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A schedule of EventBridge Scheduler or of an EventBridge rule.
    Schedule {
        /// The ARN of the schedule or rule.
        source: Option<String>,
    },
    /// An alarm entered a state.
    Alarm(Alarm),
    /// A person or another system sent our own JSON.
    Request(Request),
    /// Someone created, changed or deleted an alarm; its state is the same.
    ConfigurationChange {
        /// The ARN of the alarm.
        source: Option<String>,
    },
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The message id, or else the place in the batch; `None` if the event is not a batch.
    pub record: Option<String>,
    /// What is wrong with it: an English clause.
    pub why: String,
}

impl std::error::Error for RecordError {}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.record {
            Some(record) => write!(f, "record `{record}`: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// The event is not supported. Nothing was touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event rejected: {0}; expected a schedule, a CloudWatch alarm notification (by EventBridge, Lambda action, SNS, SQS or Pipes) or a request such as {{\"action\": \"redrive\", \"queues\": \"all\"}}"
)]
pub struct EventError(String);

impl EventError {
    /// The event holds messages of this DLQ: an event source mapping reads the DLQ by mistake.
    pub fn dead_letters(queue: &str) -> Self {
        Self(format!(
            "it holds messages of the dead-letter queue `{}`, which are deleted if this invocation succeeds; remove the event source mapping from that queue",
            excerpt(queue)
        ))
    }
}

/// Parses an event.
///
/// `Err` if nothing in it can be read, or if it holds dead letters: if the invocation succeeded,
/// Lambda would delete them from the DLQ.
pub fn parse(payload: &str) -> Result<Event, EventError> {
    let value: Value = serde_json::from_str(payload)
        .map_err(|error| EventError(format!("it cannot be read as JSON: {error}")))?;
    let mut event = Event::default();
    if value.get("action").is_some() {
        let request = request::parse(payload).map_err(EventError)?;
        event.triggers.push(Trigger::Request(request));
        return Ok(event);
    }
    event.read(value, None, 0)?;
    if event.triggers.is_empty() {
        let errors = event.unreadable.iter().map(RecordError::to_string);
        let errors: Vec<String> = errors.collect();
        return Err(EventError(first_three(&errors, "; ")));
    }
    Ok(event)
}

impl Event {
    /// Unwraps a value and reads what is inside. `record` names the outermost record around it, the
    /// one Lambda would delete; `envelopes` is how many were unwrapped. `Err` only for dead letters.
    fn read(
        &mut self,
        value: Value,
        record: Option<&str>,
        envelopes: usize,
    ) -> Result<(), EventError> {
        let unwrapped = match envelopes {
            0..=MAX_ENVELOPES => unwrap_envelope(value),
            _ => Err("it is wrapped more than four deep".to_owned()),
        };
        let trigger = match unwrapped {
            Ok(Unwrapped::Batch { records, depth }) => {
                for (n, value) in records.into_iter().enumerate() {
                    let name = record.map_or_else(|| record_name(&value, n), str::to_owned);
                    self.read(value, Some(&name), envelopes + depth)?;
                }
                return Ok(());
            }
            Ok(Unwrapped::Message { queue_arn, text }) => {
                self.event_source_arns.extend(queue_arn);
                match serde_json::from_str(&text) {
                    Ok(value) => return self.read(value, record, envelopes + 1),
                    Err(error) => Err(format!("its message cannot be read as JSON: {error}")),
                }
            }
            Ok(Unwrapped::DeadLetter { dlq_arn }) => {
                return Err(EventError::dead_letters(&dlq_arn));
            }
            Ok(Unwrapped::Bare(value)) => read_trigger(value),
            Err(why) => Err(why),
        };
        match trigger {
            Ok(trigger) => self.triggers.push(trigger),
            Err(why) => {
                let record = record.map(str::to_owned);
                self.unreadable.push(RecordError { record, why });
            }
        }
        Ok(())
    }
}

/// Reads a value without an envelope. `Err` says what it looks like, if it is not supported.
fn read_trigger(value: Value) -> Result<Trigger, String> {
    let has = |field| value.get(field).is_some();
    let alarm = if has("detail-type") {
        return read_eventbridge_event(value);
    } else if has("alarmData") {
        Alarm::from_lambda_action(value)
    } else if has("AlarmName") && has("NewStateValue") {
        Alarm::from_sns(value)
    } else if has("alarmName") && has("operation") {
        return Ok(Trigger::ConfigurationChange { source: None });
    } else if has("alarmName") && has("state") {
        Alarm::from_state_change(value, Origin::default())
    } else if has("action") {
        Err("a request is accepted only as the bare payload of an invocation".to_owned())
    } else {
        Err(format!("it is {}", describe(&value)))
    };
    alarm.map(Trigger::Alarm)
}

fn read_eventbridge_event(value: Value) -> Result<Trigger, String> {
    let event: EventBridgeEvent = read_as("EventBridge event", value)?;
    let arn = event.resources.unwrap_or_default().into_iter().next();
    let source = arn.as_deref().map(short_arn);
    match (
        event.source.unwrap_or_default().as_str(),
        event.detail_type.as_str(),
    ) {
        ("aws.events" | "aws.scheduler", "Scheduled Event") => Ok(Trigger::Schedule { source }),
        ("aws.cloudwatch", "CloudWatch Alarm Configuration Change") => {
            Ok(Trigger::ConfigurationChange { source })
        }
        (
            "aws.cloudwatch",
            "CloudWatch Alarm State Change" | "CloudWatch Alarm Contributor State Change",
        ) => {
            let (account, region) = (event.account, event.region);
            let origin = Origin {
                arn,
                account,
                region,
            };
            Alarm::from_state_change(event.detail.unwrap_or_default(), origin).map(Trigger::Alarm)
        }
        (source, detail_type) => Err(format!(
            "it is an EventBridge event `{}` from `{}`",
            excerpt(detail_type),
            excerpt(source)
        )),
    }
}

/// Reads a value as `kind`. The error is cut short: `serde_json` may quote the whole value.
fn read_as<T: DeserializeOwned>(kind: &str, value: Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| {
        format!(
            "it is not a valid {kind}: {}",
            one_line(&error.to_string(), 200)
        )
    })
}

/// The most characters of a source's ARN in reports and logs.
const MAX_ARN_CHARS: usize = 500;

fn short_arn(arn: &str) -> String {
    one_line(arn, MAX_ARN_CHARS)
}

/// What an unsupported value looks like: an English phrase.
fn describe(value: &Value) -> String {
    let fields = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => return "a boolean".to_owned(),
        Value::Number(_) => return "a number".to_owned(),
        Value::String(_) => return "text".to_owned(),
        Value::Array(_) => return "an array".to_owned(),
        Value::Object(fields) if fields.is_empty() => return "an empty object".to_owned(),
        Value::Object(fields) => fields,
    };
    let names = fields.keys().take(5);
    let names: Vec<String> = names.map(|name| format!("`{}`", excerpt(name))).collect();
    let more = if fields.len() > 5 { ", …" } else { "" };
    format!("an object with the fields {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests;
