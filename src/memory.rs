//! What the process remembers between invocations, to save calls. If it forgets, it makes more
//! calls, but decides the same.

use crate::fall::FallTime;
use crate::queue::QueueArn;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What the process remembers between invocations.
#[derive(Default)]
pub struct Memory {
    fall_times: Mutex<HashMap<Way, (SystemTime, FallTime)>>,
    asked_in_vain: Mutex<HashMap<QueueArn, (SystemTime, Option<SystemTime>)>>,
}

/// A DLQ and the policy's destination.
type Way = (QueueArn, Option<QueueArn>);

/// How long source facts stay valid, and refusals to read them too.
pub const FACTS: Duration = Duration::from_secs(10 * 60);

/// How long no sample goes after SQS refused to cancel one.
pub const CANCEL_REFUSED: Duration = Duration::from_secs(3600);

/// How long CloudWatch is not asked again after its answer changed nothing. Each requested metric
/// costs money: with this pause 1,000 held DLQs cost about 29 USD a month, and 173 USD without it.
const IN_VAIN: Duration = Duration::from_secs(30 * 60);

/// Above this many entries, all of them are forgotten together.
const MAX_ENTRIES: usize = 20_000;

impl Memory {
    /// The fall time that is remembered; `None` if there is none.
    pub fn fall_time(
        &self,
        dlq: &QueueArn,
        destination: Option<&QueueArn>,
        now: SystemTime,
    ) -> Option<FallTime> {
        let known = self
            .fall_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (until, fall_time) = known.get(&(dlq.clone(), destination.cloned()))?;
        (now < *until).then(|| fall_time.clone())
    }

    /// Remembers a fall time until then.
    pub fn keep_fall_time(
        &self,
        dlq: &QueueArn,
        destination: Option<&QueueArn>,
        until: SystemTime,
        fall_time: FallTime,
    ) {
        let mut known = self
            .fall_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ENTRIES {
            known.clear();
        }
        known.insert((dlq.clone(), destination.cloned()), (until, fall_time));
    }

    /// Whether CloudWatch was asked about this DLQ within the last 30 minutes, its answer changed
    /// nothing, and no task has started since. `newest_start` is the start of the DLQ's newest
    /// task.
    pub fn asked_in_vain(
        &self,
        dlq: &QueueArn,
        newest_start: Option<SystemTime>,
        now: SystemTime,
    ) -> bool {
        let asked = self
            .asked_in_vain
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let answer = asked.get(dlq).copied();
        answer.is_some_and(|(asked, task)| is_recent(asked, IN_VAIN, now) && task == newest_start)
    }

    /// Remembers that CloudWatch's answer about this DLQ changed nothing.
    pub fn keep_asked_in_vain(
        &self,
        dlq: &QueueArn,
        newest_start: Option<SystemTime>,
        now: SystemTime,
    ) {
        let mut asked = self
            .asked_in_vain
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if asked.len() >= MAX_ENTRIES {
            asked.clear();
        }
        asked.insert(dlq.clone(), (now, newest_start));
    }
}

fn is_recent(time: SystemTime, within: Duration, now: SystemTime) -> bool {
    now.duration_since(time).is_ok_and(|ago| ago < within)
}
