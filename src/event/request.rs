//! Requests: our own JSON. Accepted only as the bare payload of an invocation. Inside an SNS or SQS
//! message, anyone who can publish could send one.

use crate::policy::{ACCEPTED_SAMPLES, Rate, sample_time};
use crate::queue::{QueueArn, QueueRef, queue_arn};
use crate::text::{excerpt, one_line};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Number, Value};
use std::time::Duration;

/// What a person or another system asks for (`events/request-redrive-force.json`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a request")]
pub struct Request {
    /// What to do with the DLQs.
    pub action: Action,
    /// Which DLQs; every enrolled one if the request leaves it out.
    #[serde(default)]
    pub queues: Selection,
    /// Decide and report, but start and cancel nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Skip the gates that save effort or wait for a better time.
    #[serde(default)]
    pub force: bool,
    /// Messages per second, instead of the policy's; `None` keeps the policy's.
    #[serde(default, deserialize_with = "rate")]
    pub max_messages_per_second: Option<Rate>,
    /// How long a sample runs, instead of the policy's time; zero turns samples off, `None` keeps
    /// the policy's.
    #[serde(default, deserialize_with = "sample")]
    pub sample: Option<Duration>,
    /// Where the messages go, instead of the policy's destination; `None` keeps the policy's.
    #[serde(default, rename = "destinationArn", deserialize_with = "destination")]
    pub destination: Option<QueueArn>,
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// Start a redrive wherever every gate agrees.
    Redrive,
    /// Cancel the RUNNING tasks.
    Cancel,
}

/// Which DLQs an event concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Selection {
    /// Every enrolled DLQ.
    #[default]
    All,
    /// These queues, if they are enrolled. May be empty.
    Named(Vec<QueueRef>),
}

/// Reads a request. `Err` names the field and what is wrong with it.
///
/// It parses the payload's text, because a [`Value`] would keep only the last value of a repeated
/// field.
pub(super) fn parse(payload: &str) -> Result<Request, String> {
    let json = &mut serde_json::Deserializer::from_str(payload);
    let request: Request = serde_path_to_error::deserialize(json).map_err(|error| {
        let field = error.path().to_string();
        let why = one_line(&error.inner().to_string(), 200);
        match field.as_str() {
            "." => format!("the request is not valid: {why}"),
            field => format!("the request is not valid: `{}`: {why}", excerpt(field)),
        }
    })?;
    if request.action == Action::Cancel && request.sample.is_some() {
        let why = "`sample` is accepted only with the action `redrive`";
        return Err(format!("the request is not valid: {why}"));
    }
    Ok(request)
}

impl TryFrom<String> for Action {
    type Error = String;

    fn try_from(action: String) -> Result<Self, Self::Error> {
        match action.as_str() {
            "redrive" => Ok(Self::Redrive),
            "cancel" => Ok(Self::Cancel),
            other => Err(format!(
                "`{}` is not an action; use `redrive` or `cancel`",
                excerpt(other)
            )),
        }
    }
}

/// The most queues a request may list.
const MAX_NAMED_QUEUES: usize = 1000;

impl TryFrom<Value> for Selection {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::String(all) if all == "all" => Ok(Self::All),
            Value::Array(queues) if queues.len() > MAX_NAMED_QUEUES => Err(format!(
                "`queues` lists {} queues; list at most {MAX_NAMED_QUEUES}, or use `\"all\"`",
                queues.len()
            )),
            Value::Array(queues) if !queues.is_empty() => {
                let queues = queues.iter().map(|queue| match queue.as_str() {
                    Some(queue) => queue.parse(),
                    None => Err("`queues` has an entry that is not text".to_owned()),
                });
                queues.collect::<Result<_, _>>().map(Self::Named)
            }
            _ => Err("`queues` must be `\"all\"` or a list of at least one ARN or name".to_owned()),
        }
    }
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let rate = number.as_u64().and_then(Rate::new).ok_or_else(|| {
        de::Error::custom(format!(
            "`maxMessagesPerSecond` is `{number}`; it must be a whole number from 1 to 500"
        ))
    })?;
    Ok(Some(rate))
}

fn sample<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let sample = number.as_u64().and_then(sample_time).ok_or_else(|| {
        de::Error::custom(format!(
            "`sample` is `{number}`; it must be {ACCEPTED_SAMPLES}"
        ))
    })?;
    Ok(Some(sample))
}

fn destination<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<QueueArn>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let arn = queue_arn(&text)
        .map_err(|error| de::Error::custom(format!("`destinationArn`: {error}")))?;
    Ok(Some(arn))
}

#[cfg(test)]
mod tests;
