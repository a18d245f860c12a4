//! Whether to redrive a dead-letter queue.
//!
//! [`decide`] asks the gates below in order. The first gate that stops the DLQ decides, and if every
//! gate lets it pass, the redrive starts. Nothing here touches the world: the observation and the
//! time are arguments. A gate in doubt stops the DLQ.

use crate::policy::{Policy, Rate};
use crate::queue::{Depth, MoveTask, QueueArn, TaskStatus};
use std::time::{Duration, SystemTime};

/// The gates, in the order in which they are asked.
const GATES: &[Gate] = &[
    every_start(empty),
    every_start(in_flight_only),
    every_start(below_minimum),
    every_start(task_active),
    every_start(paused),
    every_start(cooling_down),
    unless_parking(attempts_exhausted),
    unless_parking(backing_off),
    unless_parking(still_filling),
    every_start(braked),
];

/// Whether to redrive this DLQ, under this policy, at this time.
///
/// `Err` means that the decision depends on a fact nobody has asked for yet: fill it into the
/// observation and decide again.
pub fn decide(policy: &Policy, seen: &Observation, now: SystemTime) -> Result<Decision, Question> {
    let parking = parking(policy, seen, now);
    for gate in GATES {
        if parking.is_some() && !gate.applies_to_parking {
            continue;
        }
        if let Some(stop) = (gate.ask)(policy, seen, now)? {
            return Ok(stop);
        }
    }
    Ok(Decision::Start(Start {
        destination: parking.or(policy.destination.as_ref()).cloned(),
        max_messages_per_second: policy.max_messages_per_second,
        parking: parking.is_some(),
    }))
}

/// The DLQ is empty.
fn empty(_: &Policy, seen: &Observation, _: SystemTime) -> Answer {
    stop_if(seen.depth.is_empty(), Skip::Empty)
}

/// Every message is in flight: someone is reading the DLQ.
fn in_flight_only(_: &Policy, seen: &Observation, _: SystemTime) -> Answer {
    stop_if(seen.depth.visible == 0, Skip::InFlightOnly)
}

/// Fewer messages are visible than the minimum.
fn below_minimum(policy: &Policy, seen: &Observation, _: SystemTime) -> Answer {
    let minimum = policy.min_messages;
    stop_if(seen.depth.visible < minimum, Skip::BelowMinimum { minimum })
}

/// A move task is active, or its status is unknown.
fn task_active(_: &Policy, seen: &Observation, _: SystemTime) -> Answer {
    let is_active = seen.tasks.iter().any(|task| task.status.is_active());
    stop_if(is_active, Skip::TaskActive)
}

/// The kill switch is on.
fn paused(policy: &Policy, _: &Observation, _: SystemTime) -> Answer {
    stop_if(policy.paused, Hold::Paused)
}

/// The newest task started less than the cooldown ago: what it moved may still come back.
fn cooling_down(policy: &Policy, seen: &Observation, now: SystemTime) -> Answer {
    wait_since_newest_start(policy.cooldown, seen, now)
}

/// Too many redrives in a row came back, and there is no parking queue.
fn attempts_exhausted(policy: &Policy, seen: &Observation, now: SystemTime) -> Answer {
    let streak = streak(policy, seen, now);
    stop_if(
        streak >= policy.max_attempts,
        Hold::AttemptsExhausted { streak },
    )
}

/// The last redrives came back. From the second one on, the cooldown doubles each time, as long as
/// all attempts still fit into the window.
fn backing_off(policy: &Policy, seen: &Observation, now: SystemTime) -> Answer {
    let Some(doublings) = streak(policy, seen, now).checked_sub(1) else {
        return Ok(None);
    };
    let longest = policy.longest_wait();
    let wait = 2_u32
        .checked_pow(doublings)
        .and_then(|factor| policy.cooldown.checked_mul(factor))
        .map_or(longest, |wait| wait.min(longest));
    wait_since_newest_start(wait, seen, now)
}

/// After a first redrive the DLQ still grows, so its consumer still fails.
///
/// The first redrive of an episode needs no such sign, and patience ends the wait. This gate saves
/// effort and guards nothing, so a history that cannot be read lets the DLQ pass.
fn still_filling(policy: &Policy, seen: &Observation, now: SystemTime) -> Answer {
    let is_off = policy.quiet_period.is_zero();
    let Some(ago) = newest_start(seen, now).filter(|_| !is_off) else {
        return Ok(None);
    };
    if ago > policy.attempt_window || ago >= policy.patience {
        return Ok(None);
    }
    match seen.depth_history {
        None => Err(Question::DepthHistory),
        Some(DepthHistory::Fewest(fewest)) if seen.depth.visible > fewest => {
            Ok(Some(if ago > NEEDS_A_PERSON_AFTER {
                Hold::StillFilling { fewest }.into()
            } else {
                Skip::StillFilling { fewest }.into()
            }))
        }
        Some(_) => Ok(None),
    }
}

/// A brake alarm is in ALARM, does not exist, or cannot be read.
fn braked(policy: &Policy, seen: &Observation, _: SystemTime) -> Answer {
    if policy.brake_alarms.is_empty() {
        return Ok(None);
    }
    let brakes = seen.brakes.as_ref().ok_or(Question::Brakes)?;
    let mut unknown = None;
    for alarm in policy.brake_alarms.iter().cloned() {
        let brake = brakes.iter().find(|brake| brake.alarm == alarm);
        let why = match brake.map(|brake| &brake.state) {
            Some(BrakeState::On) => return Ok(Some(Hold::Braked { alarm }.into())),
            Some(BrakeState::Off) => continue,
            Some(BrakeState::Unknown(why)) => why.clone(),
            None => "CloudWatch did not return its state".to_owned(),
        };
        unknown.get_or_insert(Hold::BrakeUnknown { alarm, why }.into());
    }
    Ok(unknown)
}

/// A DLQ that still grows this long after its last redrive started does not recover by itself.
const NEEDS_A_PERSON_AFTER: Duration = Duration::from_secs(3600);

/// Where the messages go instead of back: the parking queue, once the attempts are exhausted. `None`
/// while they are not, or where no messages may be parked.
fn parking<'a>(policy: &'a Policy, seen: &Observation, now: SystemTime) -> Option<&'a QueueArn> {
    let is_exhausted = policy.may_park && streak(policy, seen, now) >= policy.max_attempts;
    policy.parking.as_ref().filter(|_| is_exhausted)
}

/// The number of fruitless redrives in a row, up to now.
///
/// It counts the tasks that started within the attempt window, had a message to move, and did not go
/// to the parking queue. A task is fruitless if it FAILED, or if more than half of its messages came
/// back: to the next newer counted task, or to the DLQ as it is now. A CANCELLED task proves nothing
/// and is passed over. A task to the parking queue ends the streak.
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

fn wait_since_newest_start(wait: Duration, seen: &Observation, now: SystemTime) -> Answer {
    let ago = newest_start(seen, now);
    let remaining = ago.and_then(|ago| wait.checked_sub(ago));
    let remaining = remaining.filter(|remaining| !remaining.is_zero());
    Ok(remaining.map(|remaining| Skip::CoolingDown { remaining }.into()))
}

/// How long ago the newest task started; `None` if SQS lists no task.
fn newest_start(seen: &Observation, now: SystemTime) -> Option<Duration> {
    seen.tasks.iter().map(|task| task.age(now)).min()
}

/// One gate: a rule that may stop a DLQ.
struct Gate {
    ask: fn(&Policy, &Observation, SystemTime) -> Answer,
    /// Parking moves out of the way what came back every time, so backoff and growth do not matter
    /// to it.
    applies_to_parking: bool,
}

/// A gate's answer. `Ok(None)` lets the DLQ pass.
type Answer = Result<Option<Decision>, Question>;

const fn every_start(ask: fn(&Policy, &Observation, SystemTime) -> Answer) -> Gate {
    Gate {
        ask,
        applies_to_parking: true,
    }
}

const fn unless_parking(ask: fn(&Policy, &Observation, SystemTime) -> Answer) -> Gate {
    Gate {
        ask,
        applies_to_parking: false,
    }
}

fn stop_if(is_shut: bool, stop: impl Into<Decision>) -> Answer {
    Ok(is_shut.then(|| stop.into()))
}

/// The facts about one DLQ that a decision needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How many messages the DLQ holds.
    pub depth: Depth,
    /// The DLQ's move tasks, newest first, at most ten. Empty if the DLQ is empty: then nobody asks.
    pub tasks: Vec<MoveTask>,
    /// How deep the DLQ was; `None` until someone asks [`Question::DepthHistory`].
    pub depth_history: Option<DepthHistory>,
    /// The states of the policy's brake alarms; `None` until someone asks [`Question::Brakes`].
    pub brakes: Option<Vec<Brake>>,
}

/// How deep a DLQ was within the quiet period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepthHistory {
    /// The lowest number of visible messages among CloudWatch's datapoints.
    Fewest(u64),
    /// CloudWatch has no datapoint, so nothing shows that the DLQ grows.
    NoData,
    /// CloudWatch did not answer; the reason, in its words.
    Unreadable(String),
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

/// Whether to redrive. Only [`Decision::Start`] ever moves a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every gate lets the DLQ pass.
    Start(Start),
    /// There is nothing to do, or not yet. This is normal.
    Skip(Skip),
    /// There is something to do, and it waits for a person.
    Hold(Hold),
}

/// The redrive to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where the messages go; `None` sends each back to its own source queue.
    pub destination: Option<QueueArn>,
    /// The maximum number of messages per second; `None` lets SQS choose its own pace.
    pub max_messages_per_second: Option<Rate>,
    /// Whether `destination` is the parking queue, because the attempts are exhausted.
    pub parking: bool,
}

/// Why nothing starts now. No person needs to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// No message is visible or in flight.
    Empty,
    /// No message is visible: someone is reading the DLQ. A move task would wait for the messages
    /// they hold.
    InFlightOnly,
    /// Fewer messages are visible than the policy's minimum.
    BelowMinimum {
        /// The policy's minimum.
        minimum: u64,
    },
    /// A task is RUNNING or CANCELLING, or its status is unknown. SQS allows one active task per
    /// queue.
    TaskActive,
    /// The newest task started too recently: its messages may still come back, or came back before
    /// and now wait longer.
    CoolingDown {
        /// How long until the wait is over.
        remaining: Duration,
    },
    /// The DLQ grew within the quiet period, so its consumer still fails.
    StillFilling {
        /// The lowest number of visible messages within the quiet period.
        fewest: u64,
    },
}

/// Why nothing starts until a person acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The kill switch is on.
    Paused,
    /// Too many redrives in a row came back, and there is no parking queue.
    AttemptsExhausted {
        /// The number of fruitless redrives in a row.
        streak: u32,
    },
    /// As [`Skip::StillFilling`], for over an hour.
    StillFilling {
        /// The lowest number of visible messages within the quiet period.
        fewest: u64,
    },
    /// A brake alarm is in ALARM.
    Braked {
        /// The alarm's name.
        alarm: String,
    },
    /// A brake alarm does not exist, or its state cannot be read.
    BrakeUnknown {
        /// The alarm's name.
        alarm: String,
        /// Why its state is unknown.
        why: String,
    },
}

/// A fact that a decision may still need. Only DLQs that pass all earlier gates need it. The order
/// is that of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Fill in [`Observation::depth_history`].
    DepthHistory,
    /// Fill in [`Observation::brakes`].
    Brakes,
}

impl From<Skip> for Decision {
    fn from(skip: Skip) -> Self {
        Self::Skip(skip)
    }
}

impl From<Hold> for Decision {
    fn from(hold: Hold) -> Self {
        Self::Hold(hold)
    }
}

#[cfg(test)]
mod tests;
