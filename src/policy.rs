//! When to redrive a dead-letter queue, and when not to.
//!
//! [`decide`] is the whole of it: gates in order, the first that matches wins, and where none matches
//! the redrive starts. It touches nothing: what was seen of the queue and the time are arguments.
//! Wherever a gate is in doubt, the answer is not to start.

use crate::queue::{MoveTask, QueueArn};
use std::time::{Duration, SystemTime};

/// One DLQ's rules. Each field names the variable that sets it and its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `REDRIVE_MAX_MESSAGES_PER_SECOND`, 50: how fast SQS moves messages; `None` (`auto`) is SQS's own pace.
    pub max_messages_per_second: Option<Rate>,
    /// `REDRIVE_MIN_MESSAGES`, 1: the DLQ is left alone while fewer messages are visible.
    pub min_messages: u64,
    /// `REDRIVE_COOLDOWN`, 15 minutes: least time between two starts on one DLQ.
    pub cooldown: Duration,
    /// `REDRIVE_QUIET_PERIOD`, 10 minutes: after a first redrive, how long the DLQ must not have grown; zero turns this off.
    pub quiet_period: Duration,
    /// `REDRIVE_PATIENCE`, 12 hours: a DLQ that never stops growing is redriven all the same this long after the last start.
    pub patience: Duration,
    /// `REDRIVE_MAX_ATTEMPTS`, 5: fruitless redrives in a row before giving up.
    pub max_attempts: u32,
    /// `REDRIVE_ATTEMPT_WINDOW`, 24 hours: older tasks are forgotten.
    pub attempt_window: Duration,
    /// `REDRIVE_DESTINATION_ARN`, none: where messages go; `None` is each to its own source queue.
    pub destination: Option<QueueArn>,
    /// `REDRIVE_PARKING_ARN`, none: where a DLQ whose attempts are exhausted is moved.
    pub parking: Option<QueueArn>,
    /// `REDRIVE_BRAKE_ALARMS`, none: while one of these alarms is in ALARM nothing starts.
    pub brake_alarms: Vec<String>,
    /// `REDRIVE_PAUSED`, false: the kill switch; look and report, start nothing.
    pub paused: bool,
    /// `REDRIVE_DRY_RUN`, false: decide and report, start and cancel nothing.
    pub dry_run: bool,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Self {
            max_messages_per_second: Rate::new(50),
            min_messages: 1,
            cooldown: Duration::from_secs(15 * MINUTE),
            quiet_period: Duration::from_secs(10 * MINUTE),
            patience: Duration::from_secs(12 * HOUR),
            max_attempts: 5,
            attempt_window: Duration::from_secs(24 * HOUR),
            destination: None,
            parking: None,
            brake_alarms: Vec::new(),
            paused: false,
            dry_run: false,
        }
    }
}

impl Policy {
    /// `Err` if this policy cannot be followed for this DLQ, because of where it would move messages.
    pub fn check(&self, dlq: &QueueArn) -> Result<(), InvalidDestination> {
        [&self.destination, &self.parking]
            .into_iter()
            .flatten()
            .try_for_each(|destination| check_destination(dlq, destination))
    }

    /// The policy of a request that says `force`: a person has looked and wants it done, so the gates
    /// that spare effort or wait for better times stand open. The safety gates stay as they are.
    #[must_use]
    pub fn forced(self) -> Self {
        Self {
            min_messages: 1,
            cooldown: Duration::ZERO,
            ..self
        }
    }
}

/// Why messages of a DLQ cannot be moved to a queue. Each is checked here, before any call, since
/// what SQS answers to them is not documented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    /// The messages would stay where they are.
    #[error("the destination `{0}` is the DLQ itself")]
    Itself(QueueArn),
    /// SQS moves from FIFO to FIFO and from standard to standard only.
    #[error(
        "the destination `{destination}` and the DLQ `{dlq}` are not of one type: one is FIFO, one is standard"
    )]
    OtherType {
        /// The DLQ.
        dlq: QueueArn,
        /// Where its messages were to go.
        destination: QueueArn,
    },
    /// SQS documents move tasks within one account and region only.
    #[error("the destination `{destination}` is in another account or region than the DLQ `{dlq}`")]
    Elsewhere {
        /// The DLQ.
        dlq: QueueArn,
        /// Where its messages were to go.
        destination: QueueArn,
    },
}

/// `Err` if SQS would not, or might not, move messages of `dlq` to `destination`.
pub fn check_destination(dlq: &QueueArn, destination: &QueueArn) -> Result<(), InvalidDestination> {
    let (dlq, destination) = (dlq.clone(), destination.clone());
    if dlq == destination {
        Err(InvalidDestination::Itself(destination))
    } else if (dlq.account(), dlq.region()) != (destination.account(), destination.region()) {
        Err(InvalidDestination::Elsewhere { dlq, destination })
    } else if dlq.is_fifo() != destination.is_fifo() {
        Err(InvalidDestination::OtherType { dlq, destination })
    } else {
        Ok(())
    }
}

/// How many messages a second a move task may move: 1 to 500, as `StartMessageMoveTask` demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u16);

impl Rate {
    /// `None` outside 1 to 500.
    pub fn new(messages_per_second: u64) -> Option<Self> {
        match u16::try_from(messages_per_second) {
            Ok(rate @ 1..=500) => Some(Self(rate)),
            _ => None,
        }
    }

    /// Messages a second.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// What was seen of one DLQ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Messages that could be moved now.
    pub visible: u64,
    /// Messages someone has received and not yet deleted.
    pub in_flight: u64,
    /// The DLQ's message move tasks, newest first, ten at most. Not asked for, and so empty, where the DLQ is empty.
    pub tasks: Vec<MoveTask>,
}

/// Whether to redrive. Only [`Decision::Start`] ever moves a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every gate agrees.
    Start(Start),
    /// Nothing to do, or not yet: normal.
    Skip(Skip),
    /// Something is to do, and only a person can clear the way.
    Hold(Hold),
}

/// The redrive to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where the messages go; `None` is each to its own source queue.
    pub destination: Option<QueueArn>,
    /// How fast; `None` is SQS's own pace.
    pub max_messages_per_second: Option<Rate>,
}

/// Why nothing needs to start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// No message is visible or in flight.
    Empty,
    /// Nothing is visible: someone is reading the DLQ, and a task would hang on the messages they hold.
    InFlightOnly,
    /// Fewer messages are visible than the policy's minimum.
    BelowMinimum {
        /// The policy's minimum.
        minimum: u64,
    },
    /// A task is RUNNING or CANCELLING, or its status is unknown. SQS allows one active task per queue.
    TaskActive,
    /// The newest task started too recently to judge what came back.
    CoolingDown {
        /// How long until the cooldown is over.
        remaining: Duration,
    },
}

/// Why nothing starts until a person acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The kill switch is on.
    Paused,
}

/// A rule that may keep a DLQ from being redriven; `None` lets it pass.
type Gate = fn(&Policy, &Observation, SystemTime) -> Option<Decision>;

/// The gates, in the order in which they are asked.
const GATES: [Gate; 6] = [
    empty,
    in_flight_only,
    below_minimum,
    task_active,
    paused,
    cooling_down,
];

/// Whether to redrive a DLQ that was observed so, under this policy, at this time.
pub fn decide(policy: &Policy, observation: &Observation, now: SystemTime) -> Decision {
    GATES
        .iter()
        .find_map(|gate| gate(policy, observation, now))
        .unwrap_or_else(|| {
            Decision::Start(Start {
                destination: policy.destination.clone(),
                max_messages_per_second: policy.max_messages_per_second,
            })
        })
}

/// Gate 1: there is nothing to move.
fn empty(_: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    (seen.visible == 0 && seen.in_flight == 0).then_some(Decision::Skip(Skip::Empty))
}

/// Gate 2: all there is, someone else is holding.
fn in_flight_only(_: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    (seen.visible == 0).then_some(Decision::Skip(Skip::InFlightOnly))
}

/// Gate 3: too little to bother.
fn below_minimum(policy: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    let minimum = policy.min_messages;
    (seen.visible < minimum).then_some(Decision::Skip(Skip::BelowMinimum { minimum }))
}

/// Gate 4: SQS is at it already, or may be.
fn task_active(_: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    seen.tasks
        .iter()
        .any(|task| task.status.is_active())
        .then_some(Decision::Skip(Skip::TaskActive))
}

/// Gate 5: the kill switch.
fn paused(policy: &Policy, _: &Observation, _: SystemTime) -> Option<Decision> {
    policy.paused.then_some(Decision::Hold(Hold::Paused))
}

/// Gate 6: what the newest task moved has not had the time to come back.
fn cooling_down(policy: &Policy, seen: &Observation, now: SystemTime) -> Option<Decision> {
    let newest = seen.tasks.iter().map(|task| task.age(now)).min()?;
    let remaining = policy.cooldown.checked_sub(newest)?;
    (remaining > Duration::ZERO).then_some(Decision::Skip(Skip::CoolingDown { remaining }))
}

#[cfg(test)]
mod tests;
