//! Whether to redrive a dead-letter queue, and how much of it.
//!
//! [`decide`] asks the gates below in order. The first gate that stops the DLQ decides. If every gate
//! lets it pass, `go` says what starts. Nothing here touches the world: the observation and the time
//! are arguments. If a fact is in doubt, at most a few messages pass.

use crate::fall::{Fall, FallTime};
use crate::metrics::Metrics;
use crate::observation::{Brake, BrakeState, Observation, Question};
use crate::plan::Cause;
use crate::policy::{Policy, Rate};
use crate::queue::{MoveTask, QueueArn, TaskStatus};
use crate::verdict::{
    self, Judged, LONGEST_TASK, LastVerdict, SAMPLE_PACE, SLACK, SQS_PACE, Settled, Verdict, few,
    is_ours, is_parking, is_sample, is_small_share,
};
use std::time::{Duration, SystemTime};

/// The gates, in the order in which they are asked.
const GATES: &[Gate] = &[
    every_start(empty),
    every_start(task_active),
    every_start(in_flight_only),
    every_start(below_minimum),
    every_start(paused),
    every_start(tags_unreadable),
    every_start(not_settled),
    every_start(metrics_unreadable),
    unless_parking(attempts_exhausted),
    unless_parking(backing_off),
    unless_parking(cannot_be_told),
    unless_parking(still_filling),
    every_start(braked),
];

/// Whether to redrive this DLQ, under this policy, at this time.
///
/// `Err` means that the decision depends on a fact nobody has asked for yet: fill it into the
/// observation and decide again.
pub fn decide(policy: &Policy, seen: &Observation, now: SystemTime) -> Result<Decision, Question> {
    let case = Case { policy, seen, now };
    for gate in GATES {
        // Messages that came back every time are parked: backoff and growth do not matter to them.
        if !gate.applies_to_parking && case.parking()?.is_some() {
            continue;
        }
        if let Some(stop) = (gate.ask)(&case)? {
            return Ok(stop);
        }
    }
    go(&case)
}

/// Why the active task must be canceled, whatever the rest of the policy: it is RUNNING, and a brake is in
/// ALARM. `None` if it need not be.
///
/// `Err` as for [`decide`].
pub fn braked_task(policy: &Policy, seen: &Observation) -> Result<Option<Cause>, Question> {
    let active = seen.tasks.iter().find(|task| task.status.is_active());
    if active.is_none_or(|task| task.status != TaskStatus::Running) {
        return Ok(None);
    }
    if policy.brake_alarms.is_empty() {
        return Ok(None);
    }
    let brakes = seen.brakes.as_ref().ok_or(Question::Brakes)?;
    Ok(brake_in_alarm(policy, brakes).map(Cause::Braked))
}

/// What a report says about the past of a DLQ, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The number of fruitless redrives in a row.
    pub streak: u32,
    /// What became of the newest task's messages; `None` while that is not settled.
    pub last_verdict: Option<LastVerdict>,
}

/// What a report says about the past of a DLQ, as far as it is known.
pub fn facts(policy: &Policy, seen: &Observation, now: SystemTime) -> Facts {
    let case = Case { policy, seen, now };
    let fall = case.sampling().ok().flatten();
    let verdicts = verdict::verdicts(policy, seen, fall, now);
    let newest = verdicts.first();
    let newest = newest.filter(|newest| seen.tasks.first() == Some(newest.task));
    let is_settled = |newest: &&Judged| match fall {
        Some(fall) => match verdict::settled(policy, seen, newest, fall) {
            Some(Settled::At(settled)) => settled <= now,
            _ => false,
        },
        None => newest.task.age(now) >= policy.cooldown,
    };
    Facts {
        streak: verdict::streak(policy, &verdicts, seen.depth.total()).length,
        last_verdict: newest.filter(is_settled).and_then(LastVerdict::new),
    }
}

/// What starts once every gate lets the DLQ pass: a sample first, then the rest. All messages go if
/// they are few or if sampling does not apply. They also go at the last try, unless the streak sent
/// a tenth of them before.
fn go(case: &Case) -> Result<Decision, Question> {
    let Case { policy, seen, .. } = case;
    let parking = case.parking()?;
    let streak = case.streak()?;
    let is_last_try =
        streak.length.saturating_add(1) >= policy.max_attempts && !streak.sent_a_tenth;
    let purpose = match case.newest()?.map(|newest| newest.verdict) {
        _ if parking.is_some() => Purpose::Parking,
        _ if case.sampling()?.is_none() => Purpose::All,
        _ if case.has_good_sample()? => Purpose::Rest,
        Some(Verdict::Unclear) => Purpose::All,
        _ if seen.depth.visible <= few(policy) || is_last_try => Purpose::All,
        _ => Purpose::Sample,
    };
    Ok(Decision::Start(Start {
        destination: parking.or(policy.destination.as_ref()).cloned(),
        max_messages_per_second: match purpose {
            Purpose::Sample => Rate::new(SAMPLE_PACE.into()),
            Purpose::Rest => case.pace_of_rest()?,
            Purpose::All | Purpose::Parking => policy.max_messages_per_second,
        },
        purpose,
    }))
}

/// The DLQ is empty.
fn empty(case: &Case) -> Answer {
    stop_if(case.seen.depth.is_empty(), Skip::Empty)
}

/// A move task is active. The function leaves it alone, unless a brake or harm calls for its end.
fn task_active(case: &Case) -> Answer {
    let Some(task) = case.seen.tasks.iter().find(|task| task.status.is_active()) else {
        return Ok(None);
    };
    let status = task.status.as_str().to_owned();
    let stuck = Hold::TaskStuck { status }.into();
    let is_overdue = task.age(case.now) > LONGEST_TASK;
    match task.status {
        TaskStatus::Running => {}
        TaskStatus::Unknown(_) => return Ok(Some(stuck)),
        _ if is_overdue => return Ok(Some(stuck)),
        _ => return Ok(Some(Skip::TaskActive.into())),
    }
    if let Some(cause) = braked_task(case.policy, case.seen)? {
        return Ok(Some(Decision::Cancel(cause)));
    }
    if is_overdue {
        return Ok(Some(stuck));
    }
    // Without its tags, it is unknown where the DLQ's own redrives go.
    let is_known = case.policy.unread_tags.is_none();
    let may_harm = is_known && is_ours(case.policy, task) && !is_parking(case.policy, task);
    let harm = match may_harm.then(|| case.sampling()).transpose()?.flatten() {
        Some(fall) => case.harm(task, fall)?,
        None => None,
    };
    Ok(Some(harm.map_or(Skip::TaskActive.into(), Decision::Cancel)))
}

/// Every message is in flight: someone is reading the DLQ.
fn in_flight_only(case: &Case) -> Answer {
    stop_if(case.seen.depth.visible == 0, Skip::InFlightOnly)
}

/// Fewer messages are visible than the minimum. The rest after a sample may be less.
fn below_minimum(case: &Case) -> Answer {
    let Case { policy, seen, .. } = case;
    let minimum = policy.min_messages;
    let newest = seen.tasks.iter().find(|task| is_ours(policy, task));
    let is_rest = newest.is_some_and(|task| is_sample(policy, task));
    let is_below = seen.depth.visible < minimum && !is_rest;
    stop_if(is_below, Skip::BelowMinimum { minimum })
}

/// The kill switch is on.
fn paused(case: &Case) -> Answer {
    stop_if(case.policy.paused, Hold::Paused)
}

/// The DLQ's own tags, which may pause it, cannot be read.
fn tags_unreadable(case: &Case) -> Answer {
    let unread = case.policy.unread_tags.clone();
    Ok(unread.map(|why| Hold::TagsUnreadable { why }.into()))
}

/// It is too early to judge the last task: its messages may still come back, or its consumer has handled
/// nothing yet. After anything but a sample, the cooldown must be over too.
fn not_settled(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    let wait = |remaining: Duration| Ok(Some(Skip::CoolingDown { remaining }.into()));
    if let Some(remaining) = case.cooldown_left()? {
        return wait(remaining);
    }
    // What depths alone show comes first: it costs no call to CloudWatch.
    for is_measured in [false, true] {
        let newest = match is_measured {
            false => case.newest_by_depth()?,
            true => case.newest()?,
        };
        let (Some(newest), Some(fall)) = (newest, case.sampling()?) else {
            return Ok(None);
        };
        match verdict::settled(policy, seen, &newest, fall) {
            Some(Settled::At(settled)) if settled > *now => {
                return wait(settled.duration_since(*now).unwrap_or_default());
            }
            Some(Settled::NotConsumed) if newest.task.age(*now) < policy.patience => {
                return Ok(Some(Skip::NotConsumed.into()));
            }
            Some(Settled::NotConsumed) => return Ok(Some(Hold::NotConsumed.into())),
            Some(Settled::At(_)) => {}
            // A missing start time counts as now.
            None => return wait(policy.cooldown),
        }
    }
    Ok(None)
}

/// CloudWatch or SQS fails, so it is unknown whether the consumer works. More than a few messages
/// wait.
fn metrics_unreadable(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    if seen.depth.visible <= few(policy) || policy.sample.is_zero() {
        return Ok(None);
    }
    let has_sampling = case.sampling()?.is_some();
    let why = match (&seen.fall_time, &seen.metrics) {
        (Some(FallTime::Failed(why)), _) => why.clone(),
        (_, None) if has_sampling => return Err(Question::Metrics),
        (_, Some(Metrics::Failed(why))) if has_sampling => why.clone(),
        _ => return Ok(None),
    };
    let is_patient = newest_start(seen, *now).is_none_or(|ago| ago < policy.patience);
    Ok(Some(match is_patient {
        true => Skip::MetricsUnreadable { why }.into(),
        false => Hold::MetricsUnreadable { why }.into(),
    }))
}

/// Too many redrives in a row came back, and there is no parking queue, or parking fails too.
fn attempts_exhausted(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    let has_parking = policy.may_park && policy.parking.is_some();
    if let Some(failed) = verdict::failed_parking(policy, seen, *now).filter(|_| has_parking) {
        let reason = failed.failure_reason.clone().unwrap_or_default();
        return Ok(Some(Hold::ParkingFailed { reason }.into()));
    }
    let streak = case.streak()?;
    if !case.is_exhausted()? {
        return Ok(None);
    }
    let newest_reason = seen
        .tasks
        .iter()
        .find_map(|task| task.failure_reason.clone());
    if streak.only_failed {
        let reason = newest_reason.unwrap_or_default();
        let streak = streak.length;
        return Ok(Some(Hold::TasksFailed { streak, reason }.into()));
    }
    let streak = streak.length;
    Ok(Some(Hold::AttemptsExhausted { streak }.into()))
}

/// The last redrive came back. From the second one on, the cooldown doubles each time, as long as
/// all attempts still fit into the window.
fn backing_off(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    let came_back = |newest: Judged| newest.verdict == Verdict::CameBack;
    if case.sampling()?.is_some() && !case.newest()?.is_some_and(came_back) {
        return Ok(None);
    }
    let Some(doublings) = case.streak()?.length.checked_sub(1) else {
        return Ok(None);
    };
    let longest = policy.longest_wait();
    let wait = 2_u32
        .checked_pow(doublings)
        .and_then(|factor| policy.cooldown.checked_mul(factor))
        .map_or(longest, |wait| wait.min(longest));
    let remaining = newest_start(seen, *now).and_then(|ago| wait.checked_sub(ago));
    let remaining = remaining.filter(|remaining| !remaining.is_zero());
    Ok(remaining.map(|remaining| Skip::CoolingDown { remaining }.into()))
}

/// It is unclear whether the last redrive came back: too many new messages arrive for a few
/// returning ones to show. Wait until the patience is over, then send all messages.
fn cannot_be_told(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    let is_unclear = |newest: Judged| {
        let is_waiting = newest.task.age(*now) < policy.patience;
        newest.verdict == Verdict::Unclear && is_waiting && seen.depth.visible > few(policy)
    };
    stop_if(case.newest()?.is_some_and(is_unclear), Skip::CannotBeTold)
}

/// After a redrive the DLQ still grows, by more than a twentieth of what its consumer handles.
///
/// The first redrive of an episode does not ask this, and patience ends the wait. A sample that
/// stayed away is better evidence than growth. Where sampling does not apply, any growth counts.
fn still_filling(case: &Case) -> Answer {
    let Case { policy, seen, now } = case;
    let Some(ago) = newest_start(seen, *now).filter(|_| !policy.quiet_period.is_zero()) else {
        return Ok(None);
    };
    if ago > policy.attempt_window || ago >= policy.patience {
        return Ok(None);
    }
    let is_sampling = case.sampling()?.is_some();
    if is_sampling && case.has_good_sample()? {
        return Ok(None);
    }
    case.need_metrics()?;
    let Some(readings) = seen.readings() else {
        return Ok(None);
    };
    let Some(fewest) = readings
        .fewest
        .filter(|fewest| seen.depth.visible > *fewest)
    else {
        return Ok(None);
    };
    let gained = seen.depth.visible - fewest;
    if is_sampling && is_small_share(gained, readings.handled) {
        return Ok(None);
    }
    let was_empty = is_sampling && readings.fewest_in_hour == Some(0);
    Ok(Some(if ago > NEEDS_A_PERSON_AFTER && !was_empty {
        Hold::StillFilling { fewest }.into()
    } else {
        Skip::StillFilling { fewest }.into()
    }))
}

/// A brake alarm is in ALARM, does not exist, or cannot be read.
fn braked(case: &Case) -> Answer {
    let Case { policy, seen, .. } = case;
    if policy.brake_alarms.is_empty() {
        return Ok(None);
    }
    let brakes = seen.brakes.as_ref().ok_or(Question::Brakes)?;
    Ok(hold_of_brakes(policy, brakes).map(Into::into))
}

/// Why the brake alarms of a DLQ hold it. One in ALARM comes before one that is unknown.
pub(crate) fn hold_of_brakes(policy: &Policy, brakes: &[Brake]) -> Option<Hold> {
    if let Some(alarm) = brake_in_alarm(policy, brakes) {
        return Some(Hold::Braked { alarm });
    }
    policy.brake_alarms.iter().cloned().find_map(|alarm| {
        let brake = brakes.iter().find(|brake| brake.alarm == alarm);
        let why = match brake.map(|brake| &brake.state) {
            Some(BrakeState::On | BrakeState::Off) => return None,
            Some(BrakeState::Unknown(why)) => why.clone(),
            None => "CloudWatch did not return its state".to_owned(),
        };
        Some(Hold::BrakeUnknown { alarm, why })
    })
}

/// The first brake alarm of a DLQ that is in ALARM.
fn brake_in_alarm(policy: &Policy, brakes: &[Brake]) -> Option<String> {
    let is_on = |alarm: &&String| {
        let on = |brake: &Brake| brake.alarm == **alarm && brake.state == BrakeState::On;
        brakes.iter().any(on)
    };
    policy.brake_alarms.iter().find(is_on).cloned()
}

/// A DLQ that still grows this long after its last redrive started does not recover by itself.
const NEEDS_A_PERSON_AFTER: Duration = Duration::from_secs(3600);

/// What one decision is about.
struct Case<'a> {
    policy: &'a Policy,
    seen: &'a Observation,
    now: SystemTime,
}

impl<'a> Case<'a> {
    /// How failing messages come back, if sampling applies: it is on, the fall time is known, and
    /// CloudWatch may be read. `None` means that the rules without samples apply, all of them.
    fn sampling(&self) -> Result<Option<&'a Fall>, Question> {
        if self.policy.sample.is_zero() || matches!(self.seen.metrics, Some(Metrics::Denied(_))) {
            return Ok(None);
        }
        match &self.seen.fall_time {
            None => Err(Question::FallTime),
            Some(FallTime::Unknown(_) | FallTime::Long(_) | FallTime::Failed(_)) => Ok(None),
            Some(FallTime::Known(fall)) => Ok(Some(fall)),
        }
    }

    fn need_metrics(&self) -> Result<(), Question> {
        match self.seen.metrics {
            None => Err(Question::Metrics),
            Some(_) => Ok(()),
        }
    }

    /// The verdicts from depths alone: metrics that nobody asked for count as silent.
    fn verdicts_by_depth(&self) -> Result<Vec<Judged<'a>>, Question> {
        let fall = self.sampling()?;
        Ok(verdict::verdicts(self.policy, self.seen, fall, self.now))
    }

    fn newest_by_depth(&self) -> Result<Option<Judged<'a>>, Question> {
        Ok(self.verdicts_by_depth()?.first().copied())
    }

    /// The verdicts with everything that CloudWatch knows, newest first.
    fn verdicts(&self) -> Result<Vec<Judged<'a>>, Question> {
        let verdicts = self.verdicts_by_depth()?;
        if !verdicts.is_empty() && self.sampling()?.is_some() {
            self.need_metrics()?;
            let stayed_away = |it: &Judged| it.verdict == Verdict::StayedAway;
            let is_known = self.seen.oldest_age.is_some() || self.seen.retention.is_none();
            if verdicts.iter().any(stayed_away) && !is_known {
                return Err(Question::OldestMessage);
            }
        }
        Ok(verdicts)
    }

    /// The newest verdict.
    fn newest(&self) -> Result<Option<Judged<'a>>, Question> {
        Ok(self.verdicts()?.first().copied())
    }

    /// Whether the last task that had anything to move is a sample of ours that stayed away, by the depth
    /// itself: an old sample says nothing about the messages of a new incident.
    fn has_good_sample(&self) -> Result<bool, Question> {
        let last = self.seen.tasks.iter().find(|task| task.size() > 0);
        Ok(self.newest()?.is_some_and(|newest| {
            newest.verdict == Verdict::StayedAway
                && is_sample(self.policy, newest.task)
                && last == Some(newest.task)
                && newest.came_back <= newest.task.moved_about() / 2
        }))
    }

    fn streak(&self) -> Result<verdict::Streak, Question> {
        let in_dlq = self.seen.depth.total();
        Ok(verdict::streak(self.policy, &self.verdicts()?, in_dlq))
    }

    /// Whether the attempts are exhausted. Samples alone never exhaust them.
    fn is_exhausted(&self) -> Result<bool, Question> {
        let streak = self.streak()?;
        let was_tried = streak.sent_a_tenth || streak.only_failed || self.sampling()?.is_none();
        Ok(streak.length >= self.policy.max_attempts && was_tried)
    }

    /// The parking queue, if the messages go there. `None` while attempts remain, if the messages
    /// may not be parked, or if no message reached the consumer.
    fn parking(&self) -> Result<Option<&'a QueueArn>, Question> {
        let Self { policy, seen, now } = self;
        let Some(parking) = policy.parking.as_ref().filter(|_| policy.may_park) else {
            return Ok(None);
        };
        let fails = verdict::failed_parking(policy, seen, *now).is_some();
        let may_park = !fails && self.is_exhausted()? && !self.streak()?.only_failed;
        Ok(may_park.then_some(parking))
    }

    /// How much of the cooldown is left since the newest start. It does not apply after a sample, where
    /// sampling applies or the redrive is forced.
    fn cooldown_left(&self) -> Result<Option<Duration>, Question> {
        let Self { policy, seen, now } = self;
        let left = |since: Option<Duration>| {
            let left = since.and_then(|ago| policy.cooldown.checked_sub(ago));
            left.filter(|left| !left.is_zero())
        };
        let others = seen.tasks.iter().filter(|task| !is_sample(policy, task));
        let after_other = left(others.map(|task| task.age(*now)).min());
        let after_any = left(newest_start(seen, *now));
        // Whether sampling applies is asked only where it makes a difference.
        if after_any != after_other && (policy.forced || self.sampling()?.is_some()) {
            return Ok(after_other);
        }
        Ok(after_any)
    }

    /// Why a RUNNING task of ours must be canceled: it is a sample whose time is over, or a redrive
    /// whose messages come back or are not consumed.
    fn harm(&self, task: &MoveTask, fall: &Fall) -> Result<Option<Cause>, Question> {
        let Self { policy, seen, now } = self;
        let age = task.age(*now);
        if is_sample(policy, task) {
            let is_large = task.to_move.is_none_or(|to_move| to_move > few(policy));
            let is_over = is_large && age > policy.sample + SLACK;
            return Ok(is_over.then_some(Cause::SampleOver));
        }
        if age <= fall.time + SLACK || task.moved < few(policy) {
            return Ok(None);
        }
        let in_dlq = seen.depth.total();
        // Without a count of messages to move, nobody knows how many it has yet to move.
        let came_back = task.to_move.map_or(0, |to_move| {
            in_dlq.saturating_sub(to_move.saturating_sub(task.moved))
        });
        if came_back > task.moved / 2 {
            return Ok(Some(Cause::Bouncing));
        }
        self.need_metrics()?;
        let Some(readings) = verdict::readings_of(seen, task) else {
            return Ok(None);
        };
        // A late datapoint is a doubt, not silence.
        let silent_since = readings.last_handled.max(task.started_at);
        let silent_for = silent_since
            .zip(readings.handled_until)
            .and_then(|(since, until)| until.duration_since(since).ok());
        let most = fall.time.max(QUIET_CONSUMER);
        let is_silent = silent_for.is_some_and(|silent| silent > most);
        Ok(is_silent.then_some(Cause::Bouncing))
    }

    /// The configured pace, with one exception. If a faster task came back although the sample
    /// before it stayed away, the consumer was overrun: then a fifth of the slowest such pace, at
    /// least 2 messages a second.
    fn pace_of_rest(&self) -> Result<Option<Rate>, Question> {
        let verdicts = self.verdicts()?;
        let overran = verdicts.windows(2).filter_map(|pair| {
            let [task, before] = pair else { return None };
            let is_overrun = task.verdict == Verdict::CameBack
                && !is_sample(self.policy, task.task)
                && before.verdict == Verdict::StayedAway
                && is_sample(self.policy, before.task);
            is_overrun.then_some(task.task.max_messages_per_second.unwrap_or(SQS_PACE))
        });
        let configured = self.policy.max_messages_per_second;
        let Some(slowest) = overran.min() else {
            return Ok(configured);
        };
        let slower = Rate::new(u64::from(slowest / 5).max(2));
        Ok(slower.map(|slower| configured.map_or(slower, |it| it.min(slower))))
    }
}

/// A consumer that handles nothing for this long is quiet, however short the fall time.
const QUIET_CONSUMER: Duration = Duration::from_secs(300);

/// How long ago the newest task started; `None` if SQS lists no task.
fn newest_start(seen: &Observation, now: SystemTime) -> Option<Duration> {
    seen.tasks.iter().map(|task| task.age(now)).min()
}

/// One gate: a rule that may stop a DLQ.
struct Gate {
    ask: fn(&Case) -> Answer,
    applies_to_parking: bool,
}

/// A gate's answer. `Ok(None)` lets the DLQ pass.
type Answer = Result<Option<Decision>, Question>;

const fn every_start(ask: fn(&Case) -> Answer) -> Gate {
    Gate {
        ask,
        applies_to_parking: true,
    }
}

const fn unless_parking(ask: fn(&Case) -> Answer) -> Gate {
    Gate {
        ask,
        applies_to_parking: false,
    }
}

fn stop_if(is_shut: bool, stop: impl Into<Decision>) -> Answer {
    Ok(is_shut.then(|| stop.into()))
}

/// Whether to redrive. Only [`Decision::Start`] ever moves a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every gate lets the DLQ pass.
    Start(Start),
    /// A RUNNING task must be canceled.
    Cancel(Cause),
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
    /// What the redrive is for.
    pub purpose: Purpose,
}

/// What a redrive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To move a few messages and see whether they stay away. The function cancels it after
    /// [`Policy::sample`].
    Sample,
    /// To move the rest after a sample that stayed away.
    Rest,
    /// To move everything.
    All,
    /// To move everything to the parking queue, because the attempts are exhausted.
    Parking,
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
    /// A task is RUNNING or CANCELLING. SQS allows one active task per queue.
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
    /// So many new messages arrive that nobody can tell whether the last redrive came back.
    CannotBeTold,
    /// The consumer has handled nothing since the last redrive started.
    NotConsumed,
    /// CloudWatch or SQS fails, and more than a few messages wait.
    MetricsUnreadable {
        /// What failed.
        why: String,
    },
}

/// Why nothing starts, where a person should look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A task is RUNNING or CANCELLING although it started longer ago than SQS lets a task run, or its
    /// status is unknown.
    TaskStuck {
        /// The status, as SQS writes it.
        status: String,
    },
    /// The kill switch is on.
    Paused,
    /// The DLQ's own tags, which may pause it, cannot be read.
    TagsUnreadable {
        /// What failed.
        why: String,
    },
    /// As [`Skip::NotConsumed`], when the last start is older than the patience.
    NotConsumed,
    /// As [`Skip::MetricsUnreadable`], when the last start is older than the patience.
    MetricsUnreadable {
        /// What failed.
        why: String,
    },
    /// Too many redrives in a row FAILED, so nothing reached the consumer.
    TasksFailed {
        /// How many redrives.
        streak: u32,
        /// SQS's reason for the newest one.
        reason: String,
    },
    /// The attempts are exhausted, and moving the messages to the parking queue FAILED twice.
    ParkingFailed {
        /// SQS's reason for the newest failure.
        reason: String,
    },
    /// Too many redrives in a row came back, and there is no parking queue.
    AttemptsExhausted {
        /// The number of fruitless redrives in a row.
        streak: u32,
    },
    /// As [`Skip::StillFilling`], over an hour after the last start.
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
