//! JSON → [`Trigger`]s. Only this file and those in `src/event/` know the shapes of AWS's events.
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
use envelope::{
    EventBridgeEvent, MAX_ENVELOPES, MAX_MESSAGE_BYTES, Unwrapped, record_name, unwrap_envelope,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An event, parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// One for each notification, in their order; at least one.
    pub triggers: Vec<Trigger>,
    /// The records that could not be read. After the other records are handled, the invocation must
    /// fail, or Lambda would delete these unread.
    pub unreadable: Vec<RecordError>,
    /// The ARNs of the queues from which Lambda read the records, and from which it deletes them if
    /// the invocation succeeds.
    pub event_source_arns: Vec<String>,
}

/// What woke the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A schedule of EventBridge Scheduler or of an EventBridge rule.
    Schedule {
        /// The ARN of the schedule or rule; `None` if the event does not have it.
        source: Option<String>,
    },
    /// An alarm entered a state.
    Alarm(Alarm),
    /// A person or another system sent our own JSON.
    Request(Request),
    /// Someone created, changed or deleted an alarm; its state is the same.
    ConfigurationChange {
        /// The ARN of the alarm; `None` if the event does not have it.
        source: Option<String>,
    },
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", record.as_ref().map(|record| format!("record `{record}`: ")).unwrap_or_default())]
pub struct RecordError {
    /// The message ID, or else the position in the batch; `None` if the event is not a batch.
    pub record: Option<String>,
    /// What is wrong with it: an English clause.
    pub why: String,
}

/// The event is not supported. Nothing was touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event rejected: {0}; expected a schedule, a CloudWatch alarm notification (by EventBridge, Lambda action, SNS, SQS or Pipes) or a request such as {{\"action\": \"redrive\", \"queues\": \"all\"}}"
)]
pub struct EventError(String);

impl EventError {
    /// The event holds messages of this DLQ: it has an event source mapping by mistake.
    pub fn dead_letters(queue: &str) -> Self {
        Self(format!(
            "it holds messages of the dead-letter queue `{}`, which are deleted if this invocation succeeds; remove the event source mapping from that queue",
            excerpt(queue)
        ))
    }
}

/// Parses an event.
///
/// `Err` if nothing in it can be read, or if it holds dead letters, which Lambda would delete if
/// the invocation succeeded.
pub fn parse(payload: &str) -> Result<Event, EventError> {
    let value: Value = serde_json::from_str(payload)
        .map_err(|error| EventError(format!("it cannot be read as JSON: {error}")))?;
    let mut event = Event::default();
    if value.get("action").is_some() {
        let request = request::parse(payload).map_err(EventError)?;
        event.triggers.push(Trigger::Request(request));
        return Ok(event);
    }
    event.read(value, Place::default())?;
    if event.triggers.is_empty() {
        let errors = event.unreadable.iter().map(RecordError::to_string);
        let errors: Vec<String> = errors.collect();
        return Err(EventError(first_three(&errors, "; ")));
    }
    Ok(event)
}

/// Where in an event a value is.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    /// The name of the outermost record around it, which Lambda would delete.
    record: Option<&'a str>,
    /// The number of triggers before that record.
    triggers: usize,
    /// The number of envelopes around it.
    envelopes: usize,
    /// Whether a sender wrote it into a message. Then nothing in it shows from which queue Lambda read it.
    is_in_message: bool,
}

/// The most notifications in one record. AWS puts one into each.
const MAX_NOTIFICATIONS: usize = 10;

impl Event {
    /// Unwraps a value and reads what is inside. `Err` only for dead letters.
    fn read(&mut self, value: Value, place: Place) -> Result<(), EventError> {
        let unwrapped = match place.envelopes {
            0..=MAX_ENVELOPES => unwrap_envelope(value),
            _ => Err("it is wrapped more than four deep".to_owned()),
        };
        let trigger = match unwrapped {
            Ok(Unwrapped::Batch { records, depth }) => {
                let envelopes = place.envelopes + depth;
                return self.read_batch(records, Place { envelopes, ..place });
            }
            Ok(Unwrapped::Message { queue_arn, text }) => {
                let queue_arn = queue_arn.filter(|_| !place.is_in_message);
                if let Some(arn) = queue_arn.filter(|arn| !self.event_source_arns.contains(arn)) {
                    self.event_source_arns.push(arn);
                }
                let place = Place {
                    envelopes: place.envelopes + 1,
                    is_in_message: true,
                    ..place
                };
                match read_message(&text) {
                    Ok(value) => return self.read(value, place),
                    Err(why) => Err(why),
                }
            }
            Ok(Unwrapped::DeadLetter { .. }) if place.is_in_message => {
                Err("its message is a message of a dead-letter queue".to_owned())
            }
            Ok(Unwrapped::DeadLetter { dlq_arn }) => {
                return Err(EventError::dead_letters(&dlq_arn));
            }
            Ok(Unwrapped::Bare(_)) if self.triggers.len() >= place.triggers + MAX_NOTIFICATIONS => {
                let most = MAX_NOTIFICATIONS;
                Err(format!("it holds more than {most} notifications"))
            }
            Ok(Unwrapped::Bare(value)) => read_trigger(value),
            Err(why) => Err(why),
        };
        match trigger {
            Ok(trigger) => self.triggers.push(trigger),
            Err(why) => self.note(place.record, why),
        }
        Ok(())
    }

    fn read_batch(&mut self, records: Vec<Value>, place: Place) -> Result<(), EventError> {
        for (n, value) in records.into_iter().enumerate() {
            if place.record.is_some() {
                self.read(value, place)?;
                continue;
            }
            let name = record_name(&value, n);
            let place = Place {
                record: Some(&name),
                triggers: self.triggers.len(),
                ..place
            };
            self.read(value, place)?;
        }
        Ok(())
    }

    /// Notes that a record cannot be read, once, however much in it is wrong.
    fn note(&mut self, record: Option<&str>, why: String) {
        let last = self.unreadable.last();
        let last = last.and_then(|last| last.record.as_deref());
        if last.is_none() || last != record {
            let record = record.map(str::to_owned);
            self.unreadable.push(RecordError { record, why });
        }
    }
}

fn read_message(text: &str) -> Result<Value, String> {
    if text.len() > MAX_MESSAGE_BYTES {
        let n = text.len();
        return Err(format!(
            "its message has {n} bytes, more than {MAX_MESSAGE_BYTES}"
        ));
    }
    serde_json::from_str(text)
        .map_err(|error| format!("its message cannot be read as JSON: {error}"))
}

/// Reads a value without an envelope. If the value is not supported, `Err` describes it.
fn read_trigger(value: Value) -> Result<Trigger, String> {
    let has = |field| value.get(field).is_some();
    let alarm = if has("detail-type") {
        return read_as("EventBridge event", value).and_then(EventBridgeEvent::trigger);
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
