//! Looking: the context of an invocation, and the first look at each DLQ.

use crate::config::Limits;
use crate::deadlines::{Deadlines, retry_while_throttled};
use crate::decision::facts;
use crate::enrollment::Target;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::observation::Observation;
use crate::outcome::{Deferred, Failed, Finding, Outcome, Skipped};
use crate::queue::QueueArn;
use crate::sqs::{Sqs, SqsError};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
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
    /// When its tasks were listed.
    pub looked: Instant,
    /// When its brakes were read.
    pub brakes_read: Option<Instant>,
}

/// What SQS answered to a look, and when.
pub(crate) type Answer = (Seen, Instant);

/// What a look has seen. Most DLQs are empty, so that takes little memory.
pub(crate) enum Seen {
    /// No messages, and how long the DLQ would keep one.
    Empty(Option<Duration>),
    /// Messages.
    Messages(Box<Observation>),
    /// The look failed.
    Failed(Box<SqsError>),
}

/// The looks of an invocation.
pub(crate) struct Looks<'a, S> {
    sqs: &'a S,
    /// The most looks at a time.
    concurrency: usize,
    begun: Instant,
    waiting: VecDeque<QueueArn>,
    running: FuturesUnordered<Running<'a>>,
    /// When SQS was asked about a DLQ.
    asked: HashMap<QueueArn, Instant>,
    answers: Vec<(QueueArn, Answer)>,
}

/// A look at a DLQ that is under way.
type Running<'a> = Pin<Box<dyn Future<Output = (QueueArn, Answer)> + 'a>>;

impl<'a, S: Sqs> Looks<'a, S> {
    /// No looks yet.
    pub(crate) fn new(sqs: &'a S, concurrency: usize) -> Self {
        Self {
            sqs,
            concurrency,
            begun: Instant::now(),
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            asked: HashMap::new(),
            answers: Vec::new(),
        }
    }

    /// Adds DLQs to look at [`during`](Self::during) something else. They may turn out not to matter.
    pub(crate) fn add(&mut self, dlqs: impl Iterator<Item = QueueArn>) {
        self.waiting.extend(dlqs);
    }

    /// Waits for something else, and looks meanwhile.
    pub(crate) async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            self.begin_some();
            tokio::select! {
                biased;
                done = &mut other => return done,
                Some(answer) = self.running.next() => self.answers.push(answer),
            }
        }
    }

    /// Looks at each of these DLQs whose policy is valid, and at each that has a brake, because a task may have
    /// to be canceled. It looks in this order, unless it has already. Returns the answers in the order of the
    /// DLQs. A look that began just before the time was up was none.
    pub(crate) async fn finish(
        mut self,
        targets: &[Target],
        until: Instant,
    ) -> impl Iterator<Item = (&Target, Result<Answer, Deferred>)> {
        let to_look_at = targets.iter().filter(|target| {
            target.policy_error.is_none() || !target.policy.brake_alarms.is_empty()
        });
        self.waiting = to_look_at.map(|target| target.dlq.clone()).collect();
        let finished = async {
            self.begin_some();
            while let Some(answer) = self.running.next().await {
                self.answers.push(answer);
                self.begin_some();
            }
        };
        // Running out of time is no error: the DLQs without an answer are deferred.
        let _ = timeout_at(until, finished).await;
        let enough = until.saturating_duration_since(self.begun) / 2;
        let enough = enough.min(MOST_FOR_A_LOOK);
        let Self {
            asked, mut answers, ..
        } = self;
        let place = targets.iter().enumerate();
        let place: HashMap<&QueueArn, usize> = place.map(|(n, it)| (&it.dlq, n)).collect();
        answers.retain(|(dlq, _)| place.contains_key(dlq));
        answers.sort_unstable_by_key(|(dlq, _)| place.get(dlq).copied());
        let mut answers = answers.into_iter().peekable();
        targets.iter().map(move |target| {
            let answer = answers.next_if(|(dlq, _)| *dlq == target.dlq);
            let is_hung = |asked: &Instant| asked.elapsed() >= enough;
            let look = match answer {
                Some((_, answer)) => Ok(answer),
                None if asked.get(&target.dlq).is_some_and(is_hung) => Err(Deferred::NoAnswer),
                None => Err(Deferred::NotLookedAt),
            };
            (target, look)
        })
    }

    fn begin_some(&mut self) {
        while self.running.len() < self.concurrency
            && let Some(dlq) = self.waiting.pop_front()
        {
            if self.asked.contains_key(&dlq) {
                continue;
            }
            self.asked.insert(dlq.clone(), Instant::now());
            let sqs = self.sqs;
            self.running.push(Box::pin(async move {
                let look = async || look(sqs, &dlq).await;
                let seen = retry_while_throttled(look, SqsError::is_throttled).await;
                let seen = seen.unwrap_or_else(|error| Seen::Failed(Box::new(error)));
                (dlq, (seen, Instant::now()))
            }));
        }
    }
}

/// A look without an answer for this long hangs. It takes two calls.
const MOST_FOR_A_LOOK: Duration = Duration::from_secs(2);

impl<'a> Candidate<'a> {
    pub(crate) fn finding(self, outcome: Outcome, now: SystemTime) -> Finding<'a> {
        let facts = facts(&self.target.policy, &self.observation, now);
        let metrics_error = match self.observation.metrics {
            Some(Metrics::Denied(why) | Metrics::Failed(why)) => Some(why),
            _ => None,
        };
        Finding {
            queue_arn: self.target.dlq.as_str(),
            outcome,
            streak: facts.streak,
            last_verdict: facts.last_verdict,
            depth: Some(self.observation.depth),
            tasks: self.observation.tasks,
            fall_time: self.observation.fall_time,
            metrics_error,
            expires_in: None,
        }
    }
}

/// Takes one call if the DLQ is empty, two otherwise.
async fn look(sqs: &impl Sqs, dlq: &QueueArn) -> Result<Seen, SqsError> {
    let (depth, retention) = sqs.depth(dlq).await?;
    if depth.is_empty() {
        return Ok(Seen::Empty(retention));
    }
    Ok(Seen::Messages(Box::new(Observation {
        depth,
        retention,
        tasks: sqs.list_tasks(dlq).await?,
        ..Observation::default()
    })))
}

/// The DLQ to decide about. `Err` if the look already decides what happens to it.
pub(crate) fn candidate(
    target: &Target,
    look: Result<Answer, Deferred>,
) -> Result<Candidate<'_>, Outcome> {
    let invalid = |error: &String| Outcome::Failed(Failed::InvalidPolicy(error.clone()));
    let invalid = target.policy_error.as_ref().map(invalid);
    let (seen, looked) = match look {
        Ok(answer) => answer,
        Err(deferred) => return Err(invalid.unwrap_or(Outcome::Deferred(deferred))),
    };
    let observation = match seen {
        Seen::Empty(retention) => Observation {
            retention,
            ..Observation::default()
        },
        Seen::Messages(observation) => *observation,
        Seen::Failed(error) => {
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
