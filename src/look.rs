//! Looking: the context of an invocation, and the first look at each DLQ.

use crate::config::Limits;
use crate::deadlines::{Deadlines, retry_while_throttled};
use crate::decision::facts;
use crate::enrollment::Target;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::observation::Observation;
use crate::outcome::{Deferred, Details, Failed, Finding, Outcome, Skipped};
use crate::queue::QueueArn;
use crate::sqs::{Sqs, SqsError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// What redriving needs, apart from the DLQs.
pub struct Context<'a, S, C> {
    /// The port to SQS.
    pub sqs: &'a S,
    /// The port to CloudWatch.
    pub cloudwatch: &'a C,
    /// What the process remembers.
    pub memory: &'a Memory,
    /// How much one invocation does.
    pub limits: &'a Limits,
    /// The time of the invocation.
    pub now: SystemTime,
    /// When each step must end.
    pub deadlines: &'a Deadlines,
}

/// A DLQ after the first look.
pub(crate) struct Candidate<'a> {
    pub target: &'a Target,
    pub observation: Observation,
    /// When its tasks were listed. Unused for an empty DLQ.
    pub looked: Instant,
    /// When its brakes were read.
    pub brakes_read: Option<Instant>,
}

/// What a look has seen. A sweep makes thousands of looks, and most find an empty DLQ, so `Empty` takes little
/// memory.
pub(crate) enum Seen {
    /// No messages.
    Empty,
    /// Messages, and when the DLQ's tasks were listed.
    Messages(Box<(Observation, Instant)>),
    /// The look failed.
    Failed(Box<SqsError>),
}

/// The looks of an invocation.
pub(crate) struct Looks<'a, S> {
    sqs: &'a S,
    /// The most looks at a time.
    concurrency: usize,
    begun: Instant,
    running: FuturesUnordered<Running<'a>>,
    looks: HashMap<QueueArn, Look>,
}

enum Look {
    /// SQS was asked then, and has not answered yet.
    Asked(Instant),
    Answered(Seen),
}

/// A look at a DLQ that is under way.
type Running<'a> = Pin<Box<dyn Future<Output = (QueueArn, Seen)> + 'a>>;

impl<'a, S: Sqs> Looks<'a, S> {
    /// No looks yet.
    pub(crate) fn new(sqs: &'a S, concurrency: usize) -> Self {
        Self {
            sqs,
            concurrency,
            begun: Instant::now(),
            running: FuturesUnordered::new(),
            looks: HashMap::new(),
        }
    }

    /// Waits for something else, and meanwhile looks at the DLQs that wait. Some of these looks may turn out to be
    /// needless.
    pub(crate) async fn during<T>(
        &mut self,
        other: impl Future<Output = T>,
        waiting: &mut VecDeque<QueueArn>,
    ) -> T {
        let mut other = pin!(other);
        loop {
            self.begin_some(|| waiting.pop_front());
            tokio::select! {
                biased;
                done = &mut other => return done,
                Some((dlq, seen)) = self.running.next() => self.note(dlq, seen),
            }
        }
    }

    /// Looks at each of these DLQs whose policy is valid, and at each that has a brake, because a task may have
    /// to be canceled. It looks in this order, unless it has already. Returns the answers in the order of the
    /// DLQs. A look that began just before the time was up counts as not made.
    pub(crate) async fn finish(
        mut self,
        targets: &[Target],
        until: Instant,
    ) -> impl Iterator<Item = (&Target, Result<Seen, Deferred>)> {
        let to_look_at = targets.iter().filter(|target| {
            target.policy_error.is_none() || !target.policy.brake_alarms.is_empty()
        });
        let mut waiting = to_look_at.map(|target| target.dlq.clone());
        let finished = async {
            self.begin_some(|| waiting.next());
            while let Some((dlq, seen)) = self.running.next().await {
                self.note(dlq, seen);
                self.begin_some(|| waiting.next());
            }
        };
        // Running out of time is no error: the DLQs without an answer are deferred.
        let _ = timeout_at(until, finished).await;
        let enough = until.saturating_duration_since(self.begun) / 2;
        let enough = enough.min(MOST_FOR_A_LOOK);
        let mut looks = self.looks;
        targets.iter().map(move |target| {
            let look = match looks.remove(&target.dlq) {
                Some(Look::Answered(seen)) => Ok(seen),
                Some(Look::Asked(asked)) if asked.elapsed() >= enough => Err(Deferred::NoAnswer),
                Some(Look::Asked(_)) | None => Err(Deferred::NotLookedAt),
            };
            (target, look)
        })
    }

    fn note(&mut self, dlq: QueueArn, seen: Seen) {
        self.looks.insert(dlq, Look::Answered(seen));
    }

    fn begin_some(&mut self, mut next: impl FnMut() -> Option<QueueArn>) {
        while self.running.len() < self.concurrency
            && let Some(dlq) = next()
        {
            let Entry::Vacant(entry) = self.looks.entry(dlq.clone()) else {
                continue;
            };
            entry.insert(Look::Asked(Instant::now()));
            let sqs = self.sqs;
            self.running.push(Box::pin(async move {
                let look = async || look(sqs, &dlq).await;
                let seen = retry_while_throttled(look, SqsError::is_throttled).await;
                let seen = seen.unwrap_or_else(|error| Seen::Failed(Box::new(error)));
                (dlq, seen)
            }));
        }
    }
}

/// A look without an answer for this long hangs. It takes two calls.
const MOST_FOR_A_LOOK: Duration = Duration::from_secs(2);

impl<'a> Candidate<'a> {
    pub(crate) fn finding(self, outcome: Outcome, now: SystemTime) -> Finding<'a> {
        let facts = facts(&self.target.policy, &self.observation, now);
        let observation = self.observation;
        let metrics_error = match observation.metrics {
            Some(Metrics::Denied(why) | Metrics::Failed(why)) => Some(why),
            _ => None,
        };
        let details = Details {
            streak: facts.streak,
            last_verdict: facts.last_verdict,
            tasks: observation.tasks,
            fall_time: observation.fall_time,
            metrics_error,
            expires_in: None,
        };
        Finding {
            depth: Some(observation.depth),
            details: Some(Box::new(details)),
            ..Finding::unseen(self.target.dlq.as_str(), outcome)
        }
    }
}

/// Takes one call if the DLQ is empty, two otherwise.
async fn look(sqs: &impl Sqs, dlq: &QueueArn) -> Result<Seen, SqsError> {
    let (depth, retention) = sqs.depth(dlq).await?;
    if depth.is_empty() {
        return Ok(Seen::Empty);
    }
    let observation = Observation {
        depth,
        retention,
        tasks: sqs.list_tasks(dlq).await?,
        ..Observation::default()
    };
    Ok(Seen::Messages(Box::new((observation, Instant::now()))))
}

/// The DLQ to decide about. `Err` if the look already decides what happens to it.
pub(crate) fn candidate(
    target: &Target,
    look: Result<Seen, Deferred>,
) -> Result<Candidate<'_>, Outcome> {
    let invalid = |error: &String| Outcome::Failed(Failed::InvalidPolicy(error.clone()));
    let invalid = target.policy_error.as_ref().map(invalid);
    let (observation, looked) = match look {
        Err(deferred) => return Err(invalid.unwrap_or(Outcome::Deferred(deferred))),
        // Nothing starts here, so the time does not matter.
        Ok(Seen::Empty) => (Observation::default(), Instant::now()),
        Ok(Seen::Messages(seen)) => *seen,
        Ok(Seen::Failed(error)) => {
            return Err(invalid.unwrap_or(match *error {
                SqsError::QueueNotFound(why) if !target.listed => {
                    Outcome::Skipped(Skipped::TaggedNotFound(why))
                }
                error => Outcome::Failed(Failed::Sqs(error)),
            }));
        }
    };
    Ok(Candidate {
        target,
        observation,
        looked,
        brakes_read: None,
    })
}
