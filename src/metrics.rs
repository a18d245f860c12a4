//! What the decision needs to know from CloudWatch: what to ask, and how to reduce the answer while
//! it is read.

use crate::queue::QueueArn;
use std::time::{Duration, SystemTime};

/// How late SQS's datapoints may arrive.
pub const METRICS_DELAY: Duration = Duration::from_secs(120);

/// One DLQ's question to CloudWatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsQuery {
    /// The DLQ. Its depth is always read.
    pub dlq: QueueArn,
    /// The queues whose handled messages are added up. Empty if only the depth matters.
    pub consumed: Vec<QueueArn>,
    /// The start of the time range.
    pub from: SystemTime,
    /// The end of the time range: the time of the invocation.
    pub now: SystemTime,
    /// The quiet period of the policy.
    pub quiet_period: Duration,
    /// Whether a datapoint has the lowest depth of its period, not the highest: a short dip is enough to
    /// judge every task, and a long datapoint would hide it.
    pub shows_dips: bool,
    /// The move tasks to judge, newest first.
    pub tasks: Vec<TaskSpan>,
}

/// The times that matter for the judgment of one move task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSpan {
    /// When the task started.
    pub started: SystemTime,
    /// When the next newer task started, or now.
    pub until: SystemTime,
    /// The depth at or below which the DLQ counts as calm.
    pub calm_depth: u64,
    /// How long it must stay calm without a break.
    pub calm_for: Duration,
}

/// What CloudWatch returned for one DLQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// Its datapoints, reduced.
    Read(Readings),
    /// The function has no permission to read; AWS's words. This is the operator's choice.
    Denied(String),
    /// CloudWatch failed, or did not answer in time; the reason. This is a doubt.
    Failed(String),
    /// Nobody asked, because the answer changed nothing a little while ago.
    NotAsked,
}

/// The datapoints of one DLQ, reduced to what the decision needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// The lowest depth within the quiet period; `None` without a datapoint.
    pub fewest: Option<u64>,
    /// The lowest depth within the last hour; `None` without a datapoint.
    pub fewest_in_hour: Option<u64>,
    /// The messages handled within the quiet period.
    pub handled: u64,
    /// The datapoints around each task of the query, in the same order.
    pub tasks: Vec<TaskReadings>,
}

/// The datapoints around one move task, reduced to what the verdict needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReadings {
    /// When the task started. This identifies it.
    pub started: SystemTime,
    /// When the consumer first handled a message after the start; `None` if it did not.
    pub first_handled: Option<SystemTime>,
    /// When the consumer last handled a message before the next task; `None` if it did not.
    pub last_handled: Option<SystemTime>,
    /// The end of the newest period whose handled messages CloudWatch knows; `None` if it knows none
    /// since the start.
    pub handled_until: Option<SystemTime>,
    /// The latest time since when the DLQ was calm for long enough; `None` if it never was.
    pub calm_since: Option<SystemTime>,
    /// By how much the DLQ grew within the quiet period before the start.
    pub gained_before: u64,
    /// The messages handled within the quiet period before the start.
    pub handled_before: u64,
}

impl TaskReadings {
    fn nothing(span: &TaskSpan) -> Self {
        Self {
            started: span.started,
            first_handled: None,
            last_handled: None,
            handled_until: None,
            calm_since: None,
            gained_before: 0,
            handled_before: 0,
        }
    }
}

impl MetricsQuery {
    /// The length of one datapoint: one minute if the time range is under three hours long, otherwise
    /// five.
    pub fn period(&self) -> Duration {
        let length = self.now.duration_since(self.from).unwrap_or_default();
        match length < Duration::from_secs(3 * 3600) {
            true => Duration::from_secs(60),
            false => Duration::from_secs(300),
        }
    }

    /// A long datapoint has the depth at its end. So the datapoint that overlaps the start of a
    /// window belongs to the window. Otherwise growth would cover a shorter time than the handled
    /// messages.
    fn overlap(&self) -> Duration {
        match self.period().as_secs() {
            ..=60 => Duration::ZERO,
            _ => self.period(),
        }
    }
}

/// Reduces the datapoints of one DLQ as they arrive. Each series must arrive in time order.
#[derive(Debug)]
pub struct Reading {
    query: MetricsQuery,
    readings: Readings,
    /// For each task: since when the DLQ has been calm, and the lowest and the last depth before
    /// the start.
    calm_since: Vec<Option<SystemTime>>,
    before: Vec<Option<(u64, u64)>>,
    /// The end of the newest period whose depth was read.
    depth_until: Option<SystemTime>,
}

impl Reading {
    /// Nothing read yet.
    pub fn new(query: MetricsQuery) -> Self {
        let tasks = query.tasks.len();
        Self {
            readings: Readings {
                tasks: query.tasks.iter().map(TaskReadings::nothing).collect(),
                ..Readings::default()
            },
            calm_since: vec![None; tasks],
            before: vec![None; tasks],
            depth_until: None,
            query,
        }
    }

    /// Takes the depth of the period that starts at `time`.
    pub fn depth(&mut self, time: SystemTime, depth: u64) {
        let Self {
            query,
            readings,
            calm_since,
            before,
            depth_until,
        } = self;
        let lower = |fewest: &mut Option<u64>| {
            *fewest = Some(fewest.map_or(depth, |fewest| fewest.min(depth)));
        };
        let overlap = query.overlap();
        if time >= before_time(query.now, query.quiet_period + METRICS_DELAY + overlap) {
            lower(&mut readings.fewest);
        }
        if time >= before_time(query.now, HOUR + METRICS_DELAY) {
            lower(&mut readings.fewest_in_hour);
        }
        let period = query.period();
        // Nobody knows what happened where a datapoint is missing.
        let has_gap = depth_until.is_some_and(|until| until < time);
        *depth_until = Some(time + period);
        let tasks = query.tasks.iter().zip(&mut readings.tasks);
        for ((span, task), (calm_since, before)) in tasks.zip(calm_since.iter_mut().zip(before)) {
            let is_before = time < span.started;
            if is_before && time >= before_time(span.started, query.quiet_period + overlap) {
                let (fewest, _) = before.unwrap_or((depth, depth));
                *before = Some((fewest.min(depth), depth));
                task.gained_before = depth.saturating_sub(fewest.min(depth));
            }
            // The next task empties the DLQ, too.
            let is_after = time + period > span.until;
            if is_before || is_after || depth > span.calm_depth {
                *calm_since = None;
                continue;
            }
            if has_gap {
                *calm_since = None;
            }
            let since = *calm_since.get_or_insert(time);
            let end = time + period;
            // A long datapoint with a dip is calm for long enough by itself.
            if query.shows_dips && period >= span.calm_for {
                task.calm_since = Some(time);
            } else if end.duration_since(since).unwrap_or_default() >= span.calm_for {
                task.calm_since = end.checked_sub(span.calm_for);
            }
        }
    }

    /// Takes the messages that one consumed queue handled in the period that starts at `time`.
    pub fn handled(&mut self, time: SystemTime, handled: u64) {
        let Self {
            query, readings, ..
        } = self;
        if time >= before_time(query.now, query.quiet_period + METRICS_DELAY) {
            readings.handled = readings.handled.saturating_add(handled);
        }
        let period = query.period();
        for (span, task) in query.tasks.iter().zip(&mut readings.tasks) {
            if time < span.started && time >= before_time(span.started, query.quiet_period) {
                task.handled_before = task.handled_before.saturating_add(handled);
            }
            // A period that began before the start may include messages that the task brought.
            if time + period <= span.started || time >= span.until {
                continue;
            }
            let end = time + period;
            task.handled_until = task.handled_until.max(Some(end));
            if handled > 0 {
                let first = task.first_handled.map_or(time, |first| first.min(time));
                task.first_handled = Some(first.max(span.started));
                task.last_handled = task.last_handled.max(Some(end));
            }
        }
    }

    /// What has been read.
    pub fn finish(self) -> Readings {
        self.readings
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// This long before a time; at the earliest the Unix epoch.
pub fn before_time(time: SystemTime, ago: Duration) -> SystemTime {
    time.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
