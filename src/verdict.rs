//! What past move tasks brought: which stayed away, which came back, and how sure that is.
//!
//! Pure. SQS's task list is the only memory; source facts and CloudWatch make the verdict more
//! accurate.

use crate::fall::{Fall, FallTime};
use crate::metrics::{METRICS_DELAY, MetricsQuery, TaskReadings, TaskSpan, before_time};
use crate::observation::Observation;
use crate::policy::Policy;
pub use crate::policy::SAMPLE_PACE;
use crate::queue::{MoveTask, QueueArn, TaskStatus};
use std::time::{Duration, SystemTime};

/// What became of the messages of one move task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At most half of them came back. New dead letters are excused.
    StayedAway,
    /// More than half of them came back, the task FAILED, or SQS may have deleted them since.
    CameBack,
    /// The DLQ gains too many new messages for a few returning ones to show.
    Unclear,
}

/// A move task of ours with its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// The task.
    pub task: &'a MoveTask,
    /// What became of its messages.
    pub verdict: Verdict,
    /// About how many of its messages came back.
    pub came_back: u64,
}

/// What became of the newest task's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastVerdict {
    /// Whether they stayed away.
    pub stayed_away: bool,
    /// About how many came back.
    pub came_back: u64,
}

impl LastVerdict {
    /// `None` for a verdict that is unclear.
    pub fn new(judged: &Judged) -> Option<Self> {
        let stayed_away = match judged.verdict {
            Verdict::StayedAway => true,
            Verdict::CameBack => false,
            Verdict::Unclear => return None,
        };
        let came_back = judged.came_back;
        Some(Self {
            stayed_away,
            came_back,
        })
    }
}

/// The error allowed for an estimate of time.
pub const SLACK: Duration = Duration::from_secs(120);

/// Whether this task is a sample of ours: it has the sample pace, which no redrive of this policy
/// has.
pub fn is_sample(policy: &Policy, task: &MoveTask) -> bool {
    let is_configured = policy
        .max_messages_per_second
        .is_some_and(|rate| u32::from(rate.get()) == SAMPLE_PACE);
    task.max_messages_per_second == Some(SAMPLE_PACE) && !is_configured && is_ours(policy, task)
}

/// Whether this policy could have started the task. Any other has no verdict.
pub fn is_ours(policy: &Policy, task: &MoveTask) -> bool {
    let sends_to = policy.destination.as_ref().map(QueueArn::as_str);
    task.destination_arn.as_deref() == sends_to || is_parking(policy, task)
}

/// Whether the task moves messages to the parking queue.
pub fn is_parking(policy: &Policy, task: &MoveTask) -> bool {
    let parking = policy.parking.as_ref().map(QueueArn::as_str);
    parking.is_some() && task.destination_arn.as_deref() == parking
}

/// The verdicts on the move tasks of ours, newest first.
///
/// It judges the tasks within the attempt window that had a message to move, up to the first
/// COMPLETED task to the parking queue. `fall` is `None` if sampling does not apply: then a
/// CANCELLED task has no verdict, and neither metrics nor expiry count.
pub fn verdicts<'a>(
    policy: &Policy,
    seen: &'a Observation,
    fall: Option<&Fall>,
    now: SystemTime,
) -> Vec<Judged<'a>> {
    let window = window(policy, seen, fall);
    let mut judged = Vec::new();
    for (n, task) in seen.tasks.iter().enumerate() {
        let is_old = ended_ago(policy, task, now) > window;
        if task.status.is_active() || !is_ours(policy, task) || is_old {
            continue;
        }
        match (&task.status, is_parking(policy, task)) {
            (TaskStatus::Completed, true) => break,
            (_, true) => continue,
            (TaskStatus::Cancelled, _) if fall.is_none() => continue,
            _ => {}
        }
        let is_uncounted = task.status == TaskStatus::Cancelled && task.to_move.is_none();
        if task.size() == 0 && task.status != TaskStatus::Failed && !is_uncounted {
            continue;
        }
        // A task that had nothing to move says nothing about the depth, because counts settle late.
        let mut newer = seen.tasks.iter().take(n).rev();
        let newer = newer.find(|task| task.size() > 0);
        judged.push(judge(policy, seen, fall, task, newer));
    }
    judged
}

fn judge<'a>(
    policy: &Policy,
    seen: &'a Observation,
    fall: Option<&Fall>,
    task: &'a MoveTask,
    newer: Option<&MoveTask>,
) -> Judged<'a> {
    let came_back = came_back(seen, task, newer);
    let is_back = task.status == TaskStatus::Failed || came_back > task.moved_about() / 2;
    let readings = fall.and_then(|fall| Some((fall, readings_of(seen, task)?)));
    let verdict = match readings {
        _ if task.status == TaskStatus::Failed => Verdict::CameBack,
        _ if !is_back && fall.is_some() && seen.is_expiring() => Verdict::CameBack,
        _ if !is_back => Verdict::StayedAway,
        None => Verdict::CameBack,
        Some((fall, it)) if !seen.is_expiring() && is_excused(policy, task, fall, it) => {
            Verdict::StayedAway
        }
        Some((fall, it)) if is_unclear(policy, task, fall, it) => Verdict::Unclear,
        Some(_) => Verdict::CameBack,
    };
    Judged {
        task,
        verdict,
        came_back: came_back.min(task.moved_about()),
    }
}

/// About how many more messages are in the DLQ than the task left there. The DLQ is counted now, or
/// at the start of the next newer task.
fn came_back(seen: &Observation, task: &MoveTask, newer: Option<&MoveTask>) -> u64 {
    let after = match newer {
        None => seen.depth.total(),
        Some(newer) => newer.to_move.unwrap_or_else(|| newer.size()),
    };
    let left = match (&task.status, task.to_move) {
        (TaskStatus::Cancelled, Some(to_move)) => to_move.saturating_sub(task.moved_about()),
        (TaskStatus::Cancelled, None) => return u64::MAX,
        _ => 0,
    };
    after.saturating_sub(left)
}

/// Whether the messages in the DLQ are new: CloudWatch saw it calm for long enough after the task's
/// messages should have been back.
fn is_excused(policy: &Policy, task: &MoveTask, fall: &Fall, readings: &TaskReadings) -> bool {
    let (Some(handled), Some(calm_since)) = (readings.first_handled, readings.calm_since) else {
        return false;
    };
    let Some(ended) = end(policy, task) else {
        return false;
    };
    let back_by = ended.max(handled) + fall.time;
    // Thirty calm minutes absorb what the estimates are off by; one minute does not.
    match is_whole_and_few(policy, task) {
        true => calm_since >= back_by + SLACK,
        false => calm_since >= back_by,
    }
}

/// Whether the verdict is unclear: the consumer mostly works, but too many new messages arrive. At
/// its rate before the task, the DLQ gains more messages in a fall time than half of what the task
/// moved.
fn is_unclear(policy: &Policy, task: &MoveTask, fall: &Fall, readings: &TaskReadings) -> bool {
    let quiet = policy.quiet_period.as_secs();
    if quiet == 0 {
        return false;
    }
    let in_fall_time = |n: u64| {
        let scaled = u128::from(n) * u128::from((fall.time + SLACK).as_secs()) / u128::from(quiet);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let gained = in_fall_time(readings.gained_before);
    let handled = in_fall_time(readings.handled_before);
    gained > task.moved_about() / 2 && is_small_share(gained, handled)
}

/// Whether the messages that the DLQ gained are at most a twentieth of all that its consumer got.
pub fn is_small_share(gained: u64, handled: u64) -> bool {
    gained.saturating_mul(20) <= gained.saturating_add(handled)
}

/// The fruitless redrives in a row, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    /// The number of redrives.
    pub length: u32,
    /// Whether every one of them FAILED, so that nothing reached the consumer.
    pub only_failed: bool,
    /// Whether one of them, or those canceled on the way together, sent at least a tenth of what the DLQ
    /// holds now. If not, most of its messages were never sent.
    pub sent_a_tenth: bool,
}

/// Counts the redrives that came back. It skips a CANCELLED task that stayed away and an unclear
/// task; any other task that stayed away ends the streak.
pub fn streak(policy: &Policy, judged: &[Judged], in_dlq: u64) -> Streak {
    let mut streak = Streak::default();
    let (mut largest, mut canceled) = (0, 0_u64);
    for Judged { task, verdict, .. } in judged {
        match (verdict, &task.status) {
            (Verdict::CameBack, status) => {
                let has_failed = *status == TaskStatus::Failed;
                streak.only_failed = has_failed && (streak.length == 0 || streak.only_failed);
                if !has_failed && !is_sample(policy, task) {
                    let sent = task.moved_about();
                    match task.status {
                        TaskStatus::Cancelled => canceled = canceled.saturating_add(sent),
                        _ => largest = sent.max(largest),
                    }
                    streak.sent_a_tenth |= largest.max(canceled) >= in_dlq / 10;
                }
                streak.length += 1;
            }
            (Verdict::Unclear, _) | (Verdict::StayedAway, TaskStatus::Cancelled) => {}
            (Verdict::StayedAway, _) => break,
        }
    }
    streak
}

/// The newest task to the parking queue, if it and the one before it FAILED.
pub fn failed_parking<'a>(
    policy: &Policy,
    seen: &'a Observation,
    now: SystemTime,
) -> Option<&'a MoveTask> {
    let recent = seen
        .tasks
        .iter()
        .filter(|task| ended_ago(policy, task, now) <= policy.attempt_window);
    let parked = recent.take_while(|task| is_parking(policy, task) || !is_ours(policy, task));
    let mut parked = parked.filter(|task| {
        is_parking(policy, task) && !task.status.is_active() && task.status != TaskStatus::Cancelled
    });
    let (newest, before) = (parked.next()?, parked.next()?);
    let both_failed = newest.status == TaskStatus::Failed && before.status == TaskStatus::Failed;
    both_failed.then_some(newest)
}

/// When a task is old enough to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// At this time.
    At(SystemTime),
    /// Not yet: its messages seem to have stayed away, but its consumer has handled nothing since.
    NotConsumed,
}

/// When the newest task is settled: one fall time after its end and, if its messages seem to have stayed
/// away, also one fall time after its consumer first handled something.
///
/// Metrics that nobody asked for do not delay it. `None` if SQS did not say when the task started.
pub fn settled(
    policy: &Policy,
    seen: &Observation,
    newest: &Judged,
    fall: &Fall,
) -> Option<Settled> {
    let back_after = |time: SystemTime| time + fall.time + SLACK;
    let by_depth = back_after(end(policy, newest.task)?);
    let readings = readings_of(seen, newest.task);
    let readings = readings.filter(|_| newest.verdict == Verdict::StayedAway);
    Some(
        match readings.map(|it| (it.first_handled, it.handled_until)) {
            None => Settled::At(by_depth),
            Some((Some(handled), _)) => Settled::At(by_depth.max(back_after(handled))),
            Some((None, None)) => Settled::At(by_depth + COLD_METRICS),
            Some((None, Some(_))) => Settled::NotConsumed,
        },
    )
}

/// How late the first datapoints of a queue that was inactive may be.
const COLD_METRICS: Duration = Duration::from_secs(15 * 60);

/// About how many messages per second SQS moves at its own pace.
pub const SQS_PACE: u32 = 250;

/// SQS ends a move task after 36 hours; one more is margin.
pub const LONGEST_TASK: Duration = Duration::from_secs(37 * 3600);

/// When a task ended, about: SQS does not say. `None` if it did not say when it started either.
pub fn end(policy: &Policy, task: &MoveTask) -> Option<SystemTime> {
    let lasted = if is_sample(policy, task) {
        // A sample whose invocation died ran for longer: at least a second for each message.
        let moving = Duration::from_secs(task.moved_about());
        moving.max(policy.sample + Duration::from_secs(30))
    } else {
        let pace = u64::from(task.max_messages_per_second.unwrap_or(SQS_PACE)).max(1);
        let lasted = Duration::from_secs(task.moved_about() / pace);
        lasted.saturating_mul(if pace < 10 { 2 } else { 1 })
    };
    task.started_at?.checked_add(lasted.min(LONGEST_TASK))
}

/// How long ago a task ended, about. An end that is unknown or in the future counts as now. A task may
/// run for longer than the attempt window, and must not be forgotten by the time it ends.
fn ended_ago(policy: &Policy, task: &MoveTask, now: SystemTime) -> Duration {
    let ended = end(policy, task);
    ended
        .and_then(|ended| now.duration_since(ended).ok())
        .unwrap_or_default()
}

/// For how long tasks count after their end: the attempt window, or the time that all attempts need if that is
/// longer.
pub fn window(policy: &Policy, seen: &Observation, fall: Option<&Fall>) -> Duration {
    let fall_time = match &seen.fall_time {
        Some(FallTime::Long(time)) if !policy.sample.is_zero() => Some(*time),
        _ => fall.map(|fall| fall.time),
    };
    let attempts = policy.max_attempts.saturating_add(1);
    let needed = fall_time.map(|time| time.saturating_add(SLACK).saturating_mul(attempts));
    policy.attempt_window.max(needed.unwrap_or_default())
}

/// How many messages are few: two for each second of a sample.
pub fn few(policy: &Policy) -> u64 {
    2 * policy.sample.as_secs()
}

/// The question to CloudWatch from which these tasks can be judged. Where sampling does not apply,
/// only the depth within the quiet period matters.
pub fn metrics_query(
    policy: &Policy,
    seen: &Observation,
    dlq: &QueueArn,
    now: SystemTime,
) -> MetricsQuery {
    let quiet_from = before_time(now, policy.quiet_period + METRICS_DELAY);
    let fall = match &seen.fall_time {
        Some(FallTime::Known(fall)) if !policy.sample.is_zero() => fall,
        _ => {
            return MetricsQuery {
                dlq: dlq.clone(),
                consumed: Vec::new(),
                from: quiet_from,
                now,
                quiet_period: policy.quiet_period,
                shows_dips: false,
                tasks: Vec::new(),
            };
        }
    };
    let tasks = spans(policy, seen, fall, now);
    let quiet = policy.quiet_period + Duration::from_secs(300);
    let oldest = tasks.last().map(|task| before_time(task.started, quiet));
    let hour_ago = before_time(now, Duration::from_secs(3600) + METRICS_DELAY);
    MetricsQuery {
        dlq: dlq.clone(),
        consumed: fall.consumed.clone(),
        from: oldest.unwrap_or(now).min(quiet_from).min(hour_ago),
        now,
        quiet_period: policy.quiet_period,
        shows_dips: !tasks.is_empty() && tasks.iter().all(|task| task.calm_for < LONG_CALM),
        tasks,
    }
}

/// One span for each task that may get a verdict.
fn spans(policy: &Policy, seen: &Observation, fall: &Fall, now: SystemTime) -> Vec<TaskSpan> {
    let window = window(policy, seen, Some(fall));
    let mut until = now;
    let mut spans = Vec::new();
    for task in &seen.tasks {
        let Some(started) = task.started_at else {
            continue;
        };
        if is_ours(policy, task) && ended_ago(policy, task, now) <= window {
            let left = match task.status {
                TaskStatus::Cancelled => task.size().saturating_sub(task.moved_about()),
                _ => 0,
            };
            spans.push(TaskSpan {
                started,
                until,
                calm_depth: left + task.moved_about() / 2,
                calm_for: calm_for(policy, task),
            });
        }
        until = started;
    }
    spans
}

fn calm_for(policy: &Policy, task: &MoveTask) -> Duration {
    match is_whole_and_few(policy, task) {
        true => Duration::from_secs(60),
        false => LONG_CALM,
    }
}

fn is_whole_and_few(policy: &Policy, task: &MoveTask) -> bool {
    task.status != TaskStatus::Cancelled && task.size() <= few(policy)
}

/// How long a DLQ must be calm after anything but a whole redrive of few messages.
const LONG_CALM: Duration = Duration::from_secs(30 * 60);

/// The readings around one task; `None` if CloudWatch was not asked, or did not answer.
pub fn readings_of<'a>(seen: &'a Observation, task: &MoveTask) -> Option<&'a TaskReadings> {
    let tasks = &seen.readings()?.tasks;
    tasks
        .iter()
        .find(|readings| Some(readings.started) == task.started_at)
}

#[cfg(test)]
mod tests;
