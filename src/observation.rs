//! What is known of one DLQ: the facts that a decision uses, and the questions it may ask.

use crate::fall::{Fall, FallTime};
use crate::metrics::{Metrics, Readings};
use crate::queue::{Depth, MoveTask};
use std::time::Duration;

/// The facts about one DLQ that a decision needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How many messages the DLQ holds.
    pub depth: Depth,
    /// How long the DLQ keeps a message; `None` if SQS did not return it, or if the DLQ is empty.
    pub retention: Option<Duration>,
    /// The DLQ's move tasks, newest first, at most ten. Empty if the DLQ is empty, because nobody
    /// asks then.
    pub tasks: Vec<MoveTask>,
    /// How failing messages come back; `None` until someone asks [`Question::FallTime`].
    pub fall_time: Option<FallTime>,
    /// What CloudWatch knows; `None` until someone asks [`Question::Metrics`].
    pub metrics: Option<Metrics>,
    /// The age of the DLQ's oldest message; `None` until someone asks [`Question::OldestMessage`],
    /// `Some(None)` if it cannot be read.
    pub oldest_age: Option<Option<Duration>>,
    /// The states of the policy's brake alarms; `None` until someone asks [`Question::Brakes`].
    pub brakes: Option<Vec<Brake>>,
}

/// A brake alarm and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The alarm's name, as `DescribeAlarms` takes it.
    pub alarm: String,
    /// Its state, as far as the function knows.
    pub state: BrakeState,
}

/// The state of a brake alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrakeState {
    /// ALARM: nothing may start.
    On,
    /// OK or INSUFFICIENT_DATA.
    Off,
    /// The alarm does not exist, or its state could not be read; the reason. In doubt nothing may
    /// start.
    Unknown(String),
}

/// A fact that a decision may still need. Only DLQs that pass all earlier gates need it. The order
/// is that of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Fill in [`Observation::fall_time`].
    FallTime,
    /// Fill in [`Observation::metrics`].
    Metrics,
    /// Fill in [`Observation::oldest_age`].
    OldestMessage,
    /// Fill in [`Observation::brakes`].
    Brakes,
}

/// An oldest message that expires this soon is reported.
pub const EXPIRES_SOON: Duration = Duration::from_secs(24 * 3600);

impl Observation {
    /// What CloudWatch returned; `None` if it was not asked, or did not answer.
    pub fn readings(&self) -> Option<&Readings> {
        match &self.metrics {
            Some(Metrics::Read(readings)) => Some(readings),
            _ => None,
        }
    }

    /// The longest time until SQS deletes the oldest message, which has this age in the DLQ; `None`
    /// if the retention is unknown.
    ///
    /// CloudWatch counts the age from the arrival in the DLQ, but SQS counts the retention of a
    /// standard queue from the first send. So a fall time is subtracted, if it is known; before it
    /// failed, the message may have waited longer.
    pub fn expires_in(&self, age: Duration) -> Option<Duration> {
        let before = match &self.fall_time {
            Some(FallTime::Known(Fall { time, .. }) | FallTime::Long(time)) => *time,
            _ => Duration::ZERO,
        };
        Some(self.retention?.saturating_sub(age).saturating_sub(before))
    }

    /// Whether SQS deletes the oldest messages before a failing one could be back. A lower depth
    /// then proves nothing.
    pub fn is_expiring(&self) -> bool {
        let Some(FallTime::Known(fall)) = &self.fall_time else {
            return false;
        };
        let Some((retention, age)) = self.retention.zip(self.oldest_age.flatten()) else {
            return false;
        };
        retention.saturating_sub(age) < fall.time + Duration::from_secs(10 * 60)
    }
}
