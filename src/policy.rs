//! When to redrive a dead-letter queue, and when not to.
//!
//! [`decide`] is the whole of it: gates in order, the first that matches wins, and where none matches
//! the redrive starts. It touches nothing: what was seen of the queue and the time are arguments.
//! Wherever a gate is in doubt, the answer is not to start.

use crate::queue::{Depth, MoveTask, QueueArn, TaskStatus};
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
    /// Whether exhausted attempts lead to the parking queue, as they do unless a request names another destination.
    pub may_park: bool,
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
            may_park: true,
            brake_alarms: Vec::new(),
            paused: false,
            dry_run: false,
        }
    }
}

impl Policy {
    /// `Err` if this policy cannot be followed for this DLQ, because of where it would move messages.
    pub fn check(&self, dlq: &QueueArn) -> Result<(), DestinationError> {
        [&self.destination, &self.parking]
            .into_iter()
            .flatten()
            .try_for_each(|destination| check_destination(dlq, destination))
    }

    /// The settings that are each right and cannot be together.
    pub fn contradictions(&self) -> Vec<PolicyError> {
        let mut found = Vec::new();
        if self.parking.is_some() && self.parking == self.destination {
            found.push(PolicyError::ParkingIsDestination);
        }
        if self.cooldown > self.longest_wait() {
            found.push(PolicyError::WindowTooShort {
                attempts: self.max_attempts,
                cooldown: self.cooldown,
                window: self.attempt_window,
            });
        }
        found
    }

    /// The longest wait between two attempts with which all of them, and some hours to spare, fit into
    /// the window: else the first would be forgotten before the last, and they would never be exhausted.
    fn longest_wait(&self) -> Duration {
        self.attempt_window / self.max_attempts.saturating_add(1)
    }

    /// The policy of a request that says `force`: a person has looked and wants it done, so the gates
    /// that spare effort or wait for better times stand open. The safety gates stay as they are.
    #[must_use]
    pub fn forced(self) -> Self {
        Self {
            min_messages: 1,
            cooldown: Duration::ZERO,
            quiet_period: Duration::ZERO,
            max_attempts: u32::MAX,
            ..self
        }
    }
}

/// Why messages of a DLQ cannot be moved to a queue. Each is checked here, before any call, since
/// what SQS answers to them is not documented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
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

/// Settings of a policy that are each right and cannot be together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Every redrive would count as parked, and no streak would ever begin.
    #[error(
        "the parking queue is the destination too, so that every redrive would count as parked"
    )]
    ParkingIsDestination,
    /// The first attempt would be forgotten before the last one, so that they would never be exhausted.
    #[error(
        "{attempts} attempts with a cooldown of {} do not fit into the attempt window ({}), so that they would never be exhausted and a poison message would be redriven for ever; make the window longer than {} cooldowns",
        humantime::format_duration(*cooldown),
        humantime::format_duration(*window),
        attempts.saturating_add(1)
    )]
    WindowTooShort {
        /// Fruitless redrives in a row before giving up.
        attempts: u32,
        /// Least time between two of them.
        cooldown: Duration,
        /// How long tasks are remembered.
        window: Duration,
    },
}

/// `Err` if SQS would not, or might not, move messages of `dlq` to `destination`.
pub fn check_destination(dlq: &QueueArn, destination: &QueueArn) -> Result<(), DestinationError> {
    let (dlq, destination) = (dlq.clone(), destination.clone());
    if dlq == destination {
        Err(DestinationError::Itself(destination))
    } else if (dlq.account(), dlq.region()) != (destination.account(), destination.region()) {
        Err(DestinationError::Elsewhere { dlq, destination })
    } else if dlq.is_fifo() != destination.is_fifo() {
        Err(DestinationError::OtherType { dlq, destination })
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
    /// How many messages it holds.
    pub depth: Depth,
    /// The DLQ's message move tasks, newest first, ten at most. Not asked for, and so empty, where the DLQ is empty.
    pub tasks: Vec<MoveTask>,
    /// How deep the DLQ was; `None` until [`Question::DepthHistory`] was asked.
    pub depth_history: Option<DepthHistory>,
    /// How the policy's brake alarms stand; `None` until [`Question::Brakes`] was asked.
    pub brakes: Option<Vec<Brake>>,
}

/// How deep a DLQ was within the quiet period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepthHistory {
    /// The fewest visible messages that CloudWatch saw.
    Fewest(u64),
    /// CloudWatch has no datapoint: it cannot be said that the DLQ grows.
    NoData,
    /// CloudWatch did not answer, and why.
    Unreadable(String),
}

/// A brake alarm and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The alarm's name.
    pub alarm: String,
    /// How it stands.
    pub state: BrakeState,
}

/// How a brake alarm stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrakeState {
    /// In ALARM: nothing may start.
    On,
    /// In another state.
    Off,
    /// There is no such alarm, or its state could not be read, and why. In doubt nothing may start.
    Unknown(String),
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
    /// Every gate so far agrees, and the next one needs to know more. Ask, then decide again.
    Ask(Question),
}

/// The redrive to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where the messages go; `None` is each to its own source queue.
    pub destination: Option<QueueArn>,
    /// How fast; `None` is SQS's own pace.
    pub max_messages_per_second: Option<Rate>,
    /// Whether the destination is the parking queue, because the attempts are exhausted.
    pub parking: bool,
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
    /// The newest task started too recently: what it moved may still come back, or has come back
    /// before and deserves a longer wait.
    CoolingDown {
        /// How long until the cooldown is over.
        remaining: Duration,
    },
    /// The DLQ has grown within the quiet period: its consumer is still failing.
    StillFilling {
        /// The fewest visible messages within the quiet period.
        fewest: u64,
    },
}

/// Why nothing starts until a person acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The kill switch is on.
    Paused,
    /// So many redrives in a row came back, and there is no parking queue.
    AttemptsExhausted {
        /// Fruitless redrives in a row.
        streak: u32,
    },
    /// As [`Skip::StillFilling`], for over an hour.
    StillFilling {
        /// The fewest visible messages within the quiet period.
        fewest: u64,
    },
    /// A brake alarm is in ALARM.
    Braked {
        /// The alarm's name.
        alarm: String,
    },
    /// A brake alarm does not exist, or its state could not be read.
    BrakeUnknown {
        /// The alarm's name.
        alarm: String,
        /// Why its state is unknown.
        why: String,
    },
}

/// What a decision may still need to know. It is asked only for the DLQs that get so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Fill in [`Observation::depth_history`].
    DepthHistory,
    /// Fill in [`Observation::brakes`].
    Brakes,
}

/// A DLQ that still fills this long after the last redrive started is not recovering by itself.
const STILL_FILLING_WANTS_A_HUMAN: Duration = Duration::from_secs(3600);

/// A rule that may keep a DLQ from being redriven; `None` lets it pass.
type Gate = fn(&Policy, &Observation, SystemTime) -> Option<Decision>;

/// The gates, in the order in which they are asked.
const GATES: [Gate; 10] = [
    empty,
    in_flight_only,
    below_minimum,
    task_active,
    paused,
    cooling_down,
    attempts_exhausted,
    backing_off,
    still_filling,
    braked,
];

/// The gates on the way to the parking queue: what has come back every time is moved out of the way,
/// so that neither backoff nor growth matters.
const GATES_TO_PARKING: [Gate; 7] = [
    empty,
    in_flight_only,
    below_minimum,
    task_active,
    paused,
    cooling_down,
    braked,
];

/// Whether to redrive a DLQ that was observed so, under this policy, at this time.
pub fn decide(policy: &Policy, observation: &Observation, now: SystemTime) -> Decision {
    let exhausted = streak(policy, observation, now) >= policy.max_attempts;
    let parking = policy
        .parking
        .as_ref()
        .filter(|_| exhausted && policy.may_park);
    let gates: &[Gate] = match parking {
        Some(_) => &GATES_TO_PARKING,
        None => &GATES,
    };
    gates
        .iter()
        .find_map(|gate| gate(policy, observation, now))
        .unwrap_or_else(|| {
            Decision::Start(Start {
                destination: parking.or(policy.destination.as_ref()).cloned(),
                max_messages_per_second: policy.max_messages_per_second,
                parking: parking.is_some(),
            })
        })
}

/// Gate 1: there is nothing to move.
fn empty(_: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    seen.depth.is_empty().then_some(Decision::Skip(Skip::Empty))
}

/// Gate 2: all there is, someone else is holding.
fn in_flight_only(_: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    (seen.depth.visible == 0).then_some(Decision::Skip(Skip::InFlightOnly))
}

/// Gate 3: too little to bother.
fn below_minimum(policy: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    let minimum = policy.min_messages;
    (seen.depth.visible < minimum).then_some(Decision::Skip(Skip::BelowMinimum { minimum }))
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
    wait_since_newest_task(policy.cooldown, seen, now)
}

/// Gate 7: it came back every time. Where there is a parking queue, that is where it goes instead.
fn attempts_exhausted(policy: &Policy, seen: &Observation, now: SystemTime) -> Option<Decision> {
    let streak = streak(policy, seen, now);
    (streak >= policy.max_attempts).then_some(Decision::Hold(Hold::AttemptsExhausted { streak }))
}

/// Gate 8: it came back before, so the wait is longer: twice as long for each fruitless redrive after
/// the first, as far as all attempts still fit into the window.
fn backing_off(policy: &Policy, seen: &Observation, now: SystemTime) -> Option<Decision> {
    let doublings = streak(policy, seen, now).checked_sub(1)?;
    let wait = 2_u32
        .checked_pow(doublings)
        .and_then(|factor| policy.cooldown.checked_mul(factor))
        .map_or(policy.longest_wait(), |wait| {
            wait.min(policy.longest_wait())
        });
    wait_since_newest_task(wait, seen, now)
}

/// Gate 9: a redrive was tried, and the DLQ says the trouble is not over: it still grows. The first
/// redrive of an episode needs no such sign, and patience has an end. It spares effort and is no
/// safety, so a history that cannot be read lets it pass.
fn still_filling(policy: &Policy, seen: &Observation, now: SystemTime) -> Option<Decision> {
    let newest = newest_start(seen, now)?;
    if policy.quiet_period.is_zero() || newest > policy.attempt_window || newest >= policy.patience
    {
        return None;
    }
    match seen.depth_history {
        None => Some(Decision::Ask(Question::DepthHistory)),
        Some(DepthHistory::Fewest(fewest)) if seen.depth.visible > fewest => {
            Some(if newest > STILL_FILLING_WANTS_A_HUMAN {
                Decision::Hold(Hold::StillFilling { fewest })
            } else {
                Decision::Skip(Skip::StillFilling { fewest })
            })
        }
        Some(_) => None,
    }
}

/// Gate 10: a brake alarm is in ALARM, or may be.
fn braked(policy: &Policy, seen: &Observation, _: SystemTime) -> Option<Decision> {
    if policy.brake_alarms.is_empty() {
        return None;
    }
    let Some(brakes) = &seen.brakes else {
        return Some(Decision::Ask(Question::Brakes));
    };
    let states = policy.brake_alarms.iter().map(|alarm| {
        let brake = brakes.iter().find(|brake| brake.alarm == *alarm);
        (alarm.clone(), brake.map(|brake| &brake.state))
    });
    let mut unknown = None;
    for (alarm, state) in states {
        let why = match state {
            Some(BrakeState::On) => return Some(Decision::Hold(Hold::Braked { alarm })),
            Some(BrakeState::Off) => continue,
            Some(BrakeState::Unknown(why)) => why.clone(),
            None => "its state was not told".to_owned(),
        };
        unknown.get_or_insert(Decision::Hold(Hold::BrakeUnknown { alarm, why }));
    }
    unknown
}

/// How long ago the newest task started; `None` if no task is listed.
fn newest_start(seen: &Observation, now: SystemTime) -> Option<Duration> {
    seen.tasks.iter().map(|task| task.age(now)).min()
}

fn wait_since_newest_task(wait: Duration, seen: &Observation, now: SystemTime) -> Option<Decision> {
    let remaining = wait.checked_sub(newest_start(seen, now)?)?;
    (!remaining.is_zero()).then_some(Decision::Skip(Skip::CoolingDown { remaining }))
}

/// How many fruitless redrives there were in a row, up to now.
///
/// Counted are the tasks that started within the attempt window, had a message to move, and did not
/// go to the parking queue. One is fruitless if it FAILED, or if more than half of it came back: to
/// the next newer counted task, or to the DLQ as it is now. A CANCELLED task says nothing either way
/// and is passed over; a task to the parking queue ends the row.
pub fn streak(policy: &Policy, seen: &Observation, now: SystemTime) -> u32 {
    let parking = policy.parking.as_ref().map(QueueArn::as_str);
    let mut came_back = seen.depth.visible.saturating_add(seen.depth.in_flight);
    let mut streak = 0;
    for task in &seen.tasks {
        if parking.is_some() && task.destination_arn.as_deref() == parking {
            break;
        }
        if task.size() == 0 || task.age(now) > policy.attempt_window {
            continue;
        }
        match task.status {
            TaskStatus::Cancelled => {}
            TaskStatus::Failed => streak += 1,
            _ if came_back > task.size() / 2 => streak += 1,
            _ => break,
        }
        came_back = task.size();
    }
    streak
}

#[cfg(test)]
mod tests;
