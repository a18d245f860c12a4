//! The environment's variables → [`Config`], or everything that is wrong with them.

use crate::policy::{ACCEPTED_SAMPLES, Policy, PolicyError, Rate, SAMPLE_PACE, sample_time};
use crate::queue::{QueueArn, QueueArnError};
use crate::text::excerpt;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the environment sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `REDRIVE_QUEUES`: the DLQs enrolled by list, each once.
    pub queues: Vec<QueueArn>,
    /// `REDRIVE_ENROLL_TAG`: the tag that enrolls a queue; `None` if only the list does.
    pub enroll_tag: Option<EnrollTag>,
    /// The policy of every DLQ without tags of its own.
    pub policy: Policy,
    /// How much one invocation does.
    pub limits: Limits,
}

/// How much one invocation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `REDRIVE_MAX_STARTS`, 20: the most redrives that one invocation starts.
    pub max_starts: usize,
    /// `REDRIVE_CONCURRENCY`, 64: how many DLQs the function checks concurrently.
    pub concurrency: usize,
}

/// The tag that enrolls a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollTag {
    /// The tag's key, without a colon.
    pub key: String,
    /// The value the tag must have; `None` accepts any.
    pub value: Option<String>,
}

/// Everything that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {}", .0.iter().map(VariableError::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(pub Vec<VariableError>);

/// One thing that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableError {
    /// The variable's name.
    pub variable: String,
    /// Its value, or the wrong part of it; `None` if the variable is not set.
    pub value: Option<String>,
    /// What is accepted, or what is wrong with the value.
    pub expected: String,
}

impl From<Faults> for ConfigError {
    fn from(faults: Faults) -> Self {
        Self(faults.0)
    }
}

impl From<VariableError> for ConfigError {
    fn from(error: VariableError) -> Self {
        Self(vec![error])
    }
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

/// SQS keeps messages for at most 14 days, so no longer duration makes sense.
const LONGEST: Duration = days(14);

/// Stores one setting in a policy. `Err` says what is accepted.
type Setting = fn(&mut Policy, &str) -> Result<(), String>;

/// The settings of a policy, by their names in a queue's tags. The variable is `REDRIVE_` and the
/// name in capitals.
const SETTINGS: &[(&str, Setting)] = &[
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
    ("sample", |policy, text| {
        let sample = text.parse().ok().and_then(sample_time);
        policy.sample = sample.ok_or(ACCEPTED_SAMPLES)?;
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

/// Stores one setting in a policy, by its name in a queue's tags. `Err` says what is accepted.
pub fn set(policy: &mut Policy, name: &str, text: &str) -> Result<(), String> {
    match SETTINGS.iter().find(|(setting, _)| *setting == name) {
        Some((_, setting)) => setting(policy, text),
        None => Err("there is no such setting; check the spelling".to_owned()),
    }
}

impl Config {
    /// Reads the variables that begin with `REDRIVE_` and ignores all others. An empty variable
    /// counts as not set, because a template cannot leave one out.
    ///
    /// `Err` lists everything that is wrong: values out of range, variables that do not exist (a
    /// mistyped `REDRIVE_PAUSED` must not go unnoticed), and settings that contradict each other.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let set = vars
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        let mut vars = Variables(set.filter(|(name, _)| is_ours(name)).collect());
        let mut faults = Faults::default();
        let is_sample_set = vars.0.contains_key("REDRIVE_SAMPLE");
        let mut policy = policy(&mut vars, &mut faults);
        policy.schedule = vars.take("REDRIVE_SCHEDULE").as_deref().and_then(rate);
        let limits = Limits {
            // SQS allows 100 active move tasks per account.
            max_starts: vars.number("REDRIVE_MAX_STARTS", 20, 1..=100, &mut faults),
            concurrency: vars.number("REDRIVE_CONCURRENCY", 64, 1..=1000, &mut faults),
        };
        let tag = vars.take("REDRIVE_ENROLL_TAG");
        let queues = queues(&mut vars, tag.is_some(), &mut faults);
        let enroll_tag = tag.and_then(|text| match EnrollTag::parse(&text) {
            Ok(tag) => Some(tag),
            Err(expected) => {
                faults.add("REDRIVE_ENROLL_TAG", Some(text), expected);
                None
            }
        });
        for (variable, value) in vars.0 {
            let expected = "there is no such variable; check the spelling".to_owned();
            faults.add(&variable, Some(value), expected);
        }
        faults.destinations(&policy, &queues);
        faults.contradictions(&policy, is_sample_set);
        faults.or(Self {
            queues,
            enroll_tag,
            policy,
            limits,
        })
    }
}

/// The variables that nobody has read yet.
struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The trimmed value; `None` if the variable is not set.
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|value| value.trim().to_owned())
    }

    fn number(
        &mut self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
        faults: &mut Faults,
    ) -> usize {
        let Some(value) = self.take(name) else {
            return default;
        };
        whole_number(&value, range).unwrap_or_else(|expected| {
            faults.add(name, Some(value), expected);
            default
        })
    }
}

fn policy(vars: &mut Variables, faults: &mut Faults) -> Policy {
    let mut policy = Policy::default();
    for (name, setting) in SETTINGS {
        let variable = format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"));
        if let Some(value) = vars.take(&variable)
            && let Err(expected) = setting(&mut policy, &value)
        {
            faults.add(&variable, Some(value), expected);
        }
    }
    policy
}

fn queues(vars: &mut Variables, has_tag: bool, faults: &mut Faults) -> Vec<QueueArn> {
    const NAME: &str = "REDRIVE_QUEUES";
    let listed = vars.take(NAME);
    let text = listed.as_deref().unwrap_or_default();
    if words(text).next().is_none() && !has_tag {
        let expected = "list the ARNs of the DLQs to redrive, or set `REDRIVE_ENROLL_TAG`";
        faults.add(NAME, listed.clone(), expected.to_owned());
    }
    let mut queues = Vec::new();
    for text in words(text) {
        match queue_arn(text) {
            Ok(queue) if queues.contains(&queue) => {}
            Ok(queue) => queues.push(queue),
            Err(expected) => faults.add(NAME, Some(text.to_owned()), expected),
        }
    }
    queues
}

/// Whether a variable is one of ours, perhaps mistyped.
fn is_ours(variable: &str) -> bool {
    variable
        .to_uppercase()
        .starts_with(PREFIX.trim_end_matches('_'))
}

impl EnrollTag {
    /// Reads `key` or `key=value`, with the lengths that AWS allows. The tags with a queue's own
    /// settings are named key + `:` + setting, so the key itself cannot contain a colon.
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

/// What is wrong so far.
#[derive(Default)]
pub(crate) struct Faults(Vec<VariableError>);

impl Faults {
    fn add(&mut self, variable: &str, value: Option<String>, expected: String) {
        self.0.push(VariableError {
            variable: variable.to_owned(),
            value,
            expected,
        });
    }

    /// The value, or `None` after noting what is wrong with it.
    pub(crate) fn keep<A, E: Into<ConfigError>>(&mut self, result: Result<A, E>) -> Option<A> {
        let note = |error: E| {
            for fault in error.into().0 {
                // One variable may be wrong for several services.
                if !self.0.contains(&fault) {
                    self.0.push(fault);
                }
            }
        };
        result.map_err(note).ok()
    }

    /// Destinations to which SQS cannot move a listed DLQ's messages, and destinations from which
    /// the messages would loop.
    fn destinations(&mut self, policy: &Policy, queues: &[QueueArn]) {
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
                    "it is itself enrolled in `REDRIVE_QUEUES`, so its messages would loop".into();
                self.add(variable, value(), expected);
                continue;
            }
            for dlq in queues {
                if let Err(invalid) = crate::policy::check_destination(dlq, destination) {
                    self.add(variable, value(), invalid.to_string());
                }
            }
        }
    }

    /// Settings that are valid one by one but contradict each other.
    fn contradictions(&mut self, policy: &Policy, is_sample_set: bool) {
        let is_faulty = |name: &str| self.0.iter().any(|fault| fault.variable == name);
        let is_backoff_faulty = is_faulty("REDRIVE_COOLDOWN")
            || is_faulty("REDRIVE_ATTEMPT_WINDOW")
            || is_faulty("REDRIVE_MAX_ATTEMPTS");
        let is_sample_faulty = is_faulty("REDRIVE_SAMPLE");
        // A function without `REDRIVE_SAMPLE` must keep running after an upgrade. The log warns
        // once instead.
        let is_sampling = is_sample_set && !policy.sample.is_zero();
        let too_many = policy.too_many_attempts().filter(|_| is_sampling);
        for contradiction in policy.contradictions().into_iter().chain(too_many) {
            let expected = contradiction.to_string();
            match contradiction {
                PolicyError::ParkingIsDestination => {
                    let value = policy.parking.as_ref().map(QueueArn::to_string);
                    self.add("REDRIVE_PARKING_ARN", value, expected);
                }
                // The default in place of a wrong value contradicts nothing.
                PolicyError::WindowTooShort { .. } | PolicyError::ScheduleTooSlow { .. }
                    if is_backoff_faulty => {}
                PolicyError::ScheduleTooSlow { schedule, .. } => {
                    let value = Some(humantime::format_duration(schedule).to_string());
                    self.add("REDRIVE_SCHEDULE", value, expected);
                }
                PolicyError::WindowTooShort { window, .. } => {
                    let value = Some(humantime::format_duration(window).to_string());
                    self.add("REDRIVE_ATTEMPT_WINDOW", value, expected);
                }
                PolicyError::PaceOfSample | PolicyError::TooManyAttempts { .. }
                    if is_sample_faulty => {}
                PolicyError::PaceOfSample => {
                    let value = Some(SAMPLE_PACE.to_string());
                    self.add("REDRIVE_MAX_MESSAGES_PER_SECOND", value, expected);
                }
                PolicyError::TooManyAttempts { attempts, .. } => {
                    let value = Some(attempts.to_string());
                    self.add("REDRIVE_MAX_ATTEMPTS", value, expected);
                }
            }
        }
    }

    /// The configuration, unless something is wrong.
    fn or(self, config: Config) -> Result<Config, ConfigError> {
        match self.0.is_empty() {
            true => Ok(config),
            false => Err(self.into()),
        }
    }
}

/// The parts of a list separated by commas or white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

fn queue_arn(text: &str) -> Result<QueueArn, String> {
    text.parse()
        .map_err(|invalid: QueueArnError| format!("it {invalid}"))
}

/// Alarm names may contain spaces, so only commas separate them. CloudWatch allows 1 to 255
/// characters.
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

/// `Err` says what is accepted.
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

/// The interval of a schedule, `rate(5 minutes)`. `None` for a `cron` or `at` expression, whose interval
/// varies
/// (<https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>).
fn rate(expression: &str) -> Option<Duration> {
    let rate = expression.strip_prefix("rate(")?.strip_suffix(')')?;
    let (number, unit) = rate.trim().split_once(' ')?;
    let unit = match unit.trim() {
        "minute" | "minutes" => minutes(1),
        "hour" | "hours" => minutes(60),
        "day" | "days" => days(1),
        _ => return None,
    };
    Some(unit.saturating_mul(number.parse().ok()?))
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

const fn days(n: u64) -> Duration {
    minutes(n * 24 * 60)
}

#[cfg(test)]
mod tests;
