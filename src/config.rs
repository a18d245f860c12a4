//! The environment's variables → [`Config`], all faults at once.

use crate::policy::{Policy, PolicyError, Rate};
use crate::queue::{QueueArn, QueueArnError};
use crate::text::excerpt;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// All that the function was told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `REDRIVE_QUEUES`: the DLQs that are enrolled by list, each once.
    pub queues: Vec<QueueArn>,
    /// `REDRIVE_ENROLL_TAG`: the tag that enrols a queue that bears it.
    pub enroll_tag: Option<EnrollTag>,
    /// The policy of every DLQ that says nothing else.
    pub policy: Policy,
    /// `REDRIVE_MAX_STARTS`, 20: most starts in one invocation.
    pub max_starts: usize,
    /// `REDRIVE_CONCURRENCY`, 64: DLQs looked at at once.
    pub concurrency: usize,
}

/// The tag that enrols a queue: a key, and a value if only that value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollTag {
    /// The tag's key.
    pub key: String,
    /// The value it must have; `None` means any.
    pub value: Option<String>,
}

/// Everything that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {}", .0.iter().map(VariableError::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<VariableError>);

/// One thing that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// The variable.
    pub variable: String,
    /// What it holds, or the part of it that is at fault; `None` if it is not set.
    pub value: Option<String>,
    /// What is accepted, or what is wrong.
    pub expected: String,
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = excerpt(&self.variable);
        match &self.value {
            Some(value) => write!(
                f,
                "`{variable}` holds `{}`: {}",
                excerpt(value),
                self.expected
            ),
            None => write!(f, "`{variable}` is not set: {}", self.expected),
        }
    }
}

const PREFIX: &str = "REDRIVE_";

/// SQS keeps messages for 14 days at most; no longer duration has a meaning here.
const LONGEST: Duration = days(14);

/// Takes one setting into a policy. `Err` says what is accepted.
type Setting = fn(&mut Policy, &str) -> Result<(), String>;

/// The settings of a policy: the name of each, as it stands in a queue's tags, and how to take it.
/// The variable that sets it is `REDRIVE_` and the name in capitals.
const SETTINGS: [(&str, Setting); 12] = [
    ("max-messages-per-second", |policy, text| {
        policy.max_messages_per_second = match text.to_lowercase().as_str() {
            "auto" => None,
            text => {
                let rate = text.parse().ok().and_then(Rate::new);
                Some(rate.ok_or("a whole number from 1 to 500, or `auto`")?)
            }
        };
        Ok(())
    }),
    ("min-messages", |policy, text| {
        policy.min_messages = whole_number(text, 1..=1_000_000_000)?;
        Ok(())
    }),
    ("cooldown", |policy, text| {
        policy.cooldown = duration(text, minutes(1)..=LONGEST)?;
        Ok(())
    }),
    ("quiet-period", |policy, text| {
        policy.quiet_period = duration(text, Duration::ZERO..=minutes(180))?;
        Ok(())
    }),
    ("patience", |policy, text| {
        policy.patience = duration(text, minutes(1)..=LONGEST)?;
        Ok(())
    }),
    ("max-attempts", |policy, text| {
        policy.max_attempts = whole_number(text, 1..=9)?;
        Ok(())
    }),
    ("attempt-window", |policy, text| {
        policy.attempt_window = duration(text, minutes(1)..=LONGEST)?;
        Ok(())
    }),
    ("destination-arn", |policy, text| {
        policy.destination = Some(queue_arn(text)?);
        Ok(())
    }),
    ("parking-arn", |policy, text| {
        policy.parking = Some(queue_arn(text)?);
        Ok(())
    }),
    ("brake-alarms", |policy, text| {
        policy.brake_alarms = alarm_names(text)?;
        Ok(())
    }),
    ("paused", |policy, text| {
        policy.paused = boolean(text)?;
        Ok(())
    }),
    ("dry-run", |policy, text| {
        policy.dry_run = boolean(text)?;
        Ok(())
    }),
];

/// Takes one setting, by the name it has in a queue's tags, into a policy. `Err` says what is accepted.
pub fn set(policy: &mut Policy, name: &str, text: &str) -> Result<(), String> {
    match SETTINGS.iter().find(|(setting, _)| *setting == name) {
        Some((_, setting)) => setting(policy, text),
        None => Err("there is no such setting; is it mistyped?".to_owned()),
    }
}

impl Config {
    /// Reads the variables that begin with `REDRIVE_`; all others are none of ours. A variable that
    /// is empty counts as not set, since templates cannot leave one out.
    ///
    /// `Err` lists every fault there is: values out of range, variables that do not exist (a
    /// mistyped `REDRIVE_PAUSED` must not go unnoticed), and settings that contradict each other.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut vars: BTreeMap<String, String> = vars
            .into_iter()
            .filter(|(variable, value)| is_meant_for_us(variable) && !value.trim().is_empty())
            .collect();
        let mut faults = Faults::default();
        let mut take = |name: &str| vars.remove(name).map(|value| value.trim().to_owned());

        let mut policy = Policy::default();
        for (name, setting) in SETTINGS {
            let variable = format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"));
            if let Some(value) = take(&variable)
                && let Err(expected) = setting(&mut policy, &value)
            {
                faults.add(&variable, Some(value), expected);
            }
        }
        let mut number = |variable, default, range| match take(variable) {
            Some(value) => whole_number(&value, range).unwrap_or_else(|expected| {
                faults.add(variable, Some(value), expected);
                default
            }),
            None => default,
        };
        // SQS allows 100 active move tasks per account.
        let max_starts = number("REDRIVE_MAX_STARTS", 20, 1..=100);
        let concurrency = number("REDRIVE_CONCURRENCY", 64, 1..=1000);

        let listed = take("REDRIVE_QUEUES");
        let tag = take("REDRIVE_ENROLL_TAG");
        let names_none = words(listed.as_deref().unwrap_or_default())
            .next()
            .is_none();
        if names_none && tag.is_none() {
            faults.add(
                "REDRIVE_QUEUES",
                listed.clone(),
                "list the ARNs of the DLQs to redrive, or set `REDRIVE_ENROLL_TAG`".into(),
            );
        }
        let mut queues = Vec::new();
        for text in words(listed.as_deref().unwrap_or_default()) {
            match queue_arn(text) {
                Ok(queue) if queues.contains(&queue) => {}
                Ok(queue) => queues.push(queue),
                Err(expected) => faults.add("REDRIVE_QUEUES", Some(text.to_owned()), expected),
            }
        }
        let enroll_tag = tag.and_then(|text| match EnrollTag::parse(&text) {
            Ok(tag) => Some(tag),
            Err(expected) => {
                faults.add("REDRIVE_ENROLL_TAG", Some(text), expected);
                None
            }
        });

        for (variable, value) in vars {
            faults.add(
                &variable,
                Some(value),
                "there is no such variable; is it mistyped?".into(),
            );
        }
        faults.contradictions(&policy, &queues);
        faults.or(Self {
            queues,
            enroll_tag,
            policy,
            max_starts,
            concurrency,
        })
    }
}

/// Whether a variable is ours, or a mistyped one of ours.
fn is_meant_for_us(variable: &str) -> bool {
    variable
        .to_uppercase()
        .starts_with(PREFIX.trim_end_matches('_'))
}

impl EnrollTag {
    /// `key` or `key=value`, in the lengths AWS allows. A queue's own policy stands in tags named
    /// key + `:` + setting, so the key itself may have no colon.
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (text, None),
        };
        let key_fits = (1..=128).contains(&key.chars().count()) && !key.contains(':');
        if !key_fits || value.is_some_and(|value| value.chars().count() > 256) {
            return Err(
                "a tag as `key` or `key=value`, the key up to 128 characters without a colon, the value up to 256 characters"
                    .into(),
            );
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        })
    }
}

#[derive(Default)]
struct Faults(Vec<VariableError>);

impl Faults {
    fn add(&mut self, variable: &str, value: Option<String>, expected: String) {
        self.0.push(VariableError {
            variable: variable.to_owned(),
            value,
            expected,
        });
    }

    /// Settings that are each right and cannot be together.
    fn contradictions(&mut self, policy: &Policy, queues: &[QueueArn]) {
        for (variable, destination) in [
            ("REDRIVE_DESTINATION_ARN", &policy.destination),
            ("REDRIVE_PARKING_ARN", &policy.parking),
        ] {
            let Some(destination) = destination else {
                continue;
            };
            let value = || Some(destination.to_string());
            if queues.contains(destination) {
                let expected =
                    "it is itself enrolled in `REDRIVE_QUEUES`; its messages would go round".into();
                self.add(variable, value(), expected);
                continue;
            }
            for dlq in queues {
                if let Err(invalid) = crate::policy::check_destination(dlq, destination) {
                    self.add(variable, value(), invalid.to_string());
                }
            }
        }
        let is_faulty = |name: &str| self.0.iter().any(|fault| fault.variable == name);
        let is_backoff_faulty = is_faulty("REDRIVE_COOLDOWN")
            || is_faulty("REDRIVE_ATTEMPT_WINDOW")
            || is_faulty("REDRIVE_MAX_ATTEMPTS");
        for contradiction in policy.contradictions() {
            let expected = contradiction.to_string();
            match contradiction {
                PolicyError::ParkingIsDestination => {
                    let value = policy.parking.as_ref().map(QueueArn::to_string);
                    self.add("REDRIVE_PARKING_ARN", value, expected);
                }
                // A default that stands in for a faulty value contradicts nothing.
                PolicyError::WindowTooShort { .. } if is_backoff_faulty => {}
                PolicyError::WindowTooShort { window, .. } => {
                    let value = Some(humantime::format_duration(window).to_string());
                    self.add("REDRIVE_ATTEMPT_WINDOW", value, expected);
                }
            }
        }
    }

    fn or(self, config: Config) -> Result<Config, ConfigError> {
        if self.0.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(self.0))
        }
    }
}

/// The parts of a list that commas or white space separate.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

fn queue_arn(text: &str) -> Result<QueueArn, String> {
    text.parse()
        .map_err(|invalid: QueueArnError| format!("it {invalid}"))
}

/// Alarm names may contain spaces, so only commas separate them. CloudWatch allows 1 to 255 characters.
fn alarm_names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() || names.iter().any(|name| name.chars().count() > 255) {
        return Err("names of alarms, separated by commas, each up to 255 characters".into());
    }
    Ok(names)
}

/// `Err` is what is accepted.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("`true` or `false`".into()),
    }
}

fn whole_number<N>(text: &str, range: RangeInclusive<N>) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| {
            format!(
                "a duration from {} to {}, such as `90s`, `15m`, `1h 30m` or `2d`",
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end())
            )
        })
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

const fn days(n: u64) -> Duration {
    minutes(n * 24 * 60)
}

#[cfg(test)]
mod tests;
