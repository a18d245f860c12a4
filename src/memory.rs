//! What the process remembers between invocations, to save calls. If it forgets, it makes more
//! calls, but decides the same.

use crate::fall::FallTime;
use crate::queue::QueueArn;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// What the process remembers between invocations.
#[derive(Default)]
pub struct Memory {
    fall_times: Kept<Way, FallTime>,
    /// The start of the newest task when CloudWatch's answer changed nothing.
    asked_in_vain: Kept<QueueArn, Option<SystemTime>>,
    /// When the oldest message of a DLQ arrived there; `None` if it could not be read.
    oldest_arrivals: Kept<QueueArn, Option<SystemTime>>,
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

/// Above this many entries of a kind, all of them are forgotten together.
const MAX_ENTRIES: usize = 20_000;

impl Memory {
    /// The fall time that is remembered; `None` if there is none.
    pub fn fall_time(
        &self,
        dlq: &QueueArn,
        destination: Option<&QueueArn>,
        now: SystemTime,
    ) -> Option<FallTime> {
        let way = (dlq.clone(), destination.cloned());
        self.fall_times.get(&way, now)
    }

    /// Remembers a fall time until then.
    pub fn keep_fall_time(
        &self,
        dlq: &QueueArn,
        destination: Option<&QueueArn>,
        until: SystemTime,
        fall_time: FallTime,
    ) {
        let way = (dlq.clone(), destination.cloned());
        self.fall_times.keep(way, until, fall_time);
    }

    /// The age of the DLQ's oldest message, `Some(None)` if it could not be read. `None` if nothing
    /// is remembered.
    pub fn oldest_age(&self, dlq: &QueueArn, now: SystemTime) -> Option<Option<Duration>> {
        let arrival = self.oldest_arrivals.get(dlq, now)?;
        Some(arrival.map(|arrival| now.duration_since(arrival).unwrap_or_default()))
    }

    /// Remembers the age of the DLQ's oldest message for this long, but at least for 30 minutes.
    pub fn keep_oldest_age(
        &self,
        dlq: &QueueArn,
        age: Option<Duration>,
        now: SystemTime,
        at_least: Duration,
    ) {
        let arrival = age.map(|age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
        let until = now + IN_VAIN.max(at_least);
        self.oldest_arrivals.keep(dlq.clone(), until, arrival);
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
        self.asked_in_vain.get(dlq, now) == Some(newest_start)
    }

    /// Remembers that CloudWatch's answer about this DLQ changed nothing.
    pub fn keep_asked_in_vain(
        &self,
        dlq: &QueueArn,
        newest_start: Option<SystemTime>,
        now: SystemTime,
    ) {
        self.asked_in_vain
            .keep(dlq.clone(), now + IN_VAIN, newest_start);
    }
}

/// Values, each remembered until a time.
struct Kept<K, V>(Mutex<HashMap<K, (SystemTime, V)>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// `None` if nothing is remembered.
    fn get(&self, key: &K, now: SystemTime) -> Option<V> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, value) = kept.get(key)?;
        (now < *until).then(|| value.clone())
    }

    fn keep(&self, key: K, until: SystemTime, value: V) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_ENTRIES {
            kept.clear();
        }
        kept.insert(key, (until, value));
    }
}
