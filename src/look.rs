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

/// What came of looking at a DLQ.
pub(crate) enum Look {
    /// SQS was asked at this time, and has not answered.
    Asked(Instant),
    /// SQS answered, at this time.
    Answered(Result<Observation, SqsError>, Instant),
}

/// The looks of an invocation.
pub(crate) struct Looks<'a, S> {
    sqs: &'a S,
    /// The most looks at a time.
    concurrency: usize,
    begun: Instant,
    waiting: VecDeque<QueueArn>,
    running: FuturesUnordered<Running<'a>>,
    looks: HashMap<QueueArn, Look>,
}

/// A look at a DLQ that is under way.
type Running<'a> = Pin<Box<dyn Future<Output = (QueueArn, Look)> + 'a>>;

impl<'a, S: Sqs> Looks<'a, S> {
    /// No looks yet.
    pub(crate) fn new(sqs: &'a S, concurrency: usize) -> Self {
        Self {
            sqs,
            concurrency,
            begun: Instant::now(),
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            looks: HashMap::new(),
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
                Some((dlq, look)) = self.running.next() => drop(self.looks.insert(dlq, look)),
            }
        }
    }

    /// Looks at these DLQs, in this order, unless it has already. Returns all looks.
    pub(crate) async fn finish(
        mut self,
        dlqs: impl Iterator<Item = QueueArn>,
        until: Instant,
    ) -> HashMap<QueueArn, Look> {
        self.waiting = dlqs.collect();
        let finished = async {
            self.begin_some();
            while let Some((dlq, look)) = self.running.next().await {
                self.looks.insert(dlq, look);
                self.begin_some();
            }
        };
        // Running out of time is no error: the DLQs without an answer are deferred.
        let _ = timeout_at(until, finished).await;
        // A look that has just begun is as good as none.
        let enough = until.saturating_duration_since(self.begun) / 2;
        let enough = enough.min(MOST_FOR_A_LOOK);
        let is_hung = |asked: &Instant| asked.elapsed() >= enough;
        let had_time = |_: &QueueArn, look: &mut Look| match look {
            Look::Asked(asked) => is_hung(asked),
            Look::Answered(..) => true,
        };
        self.looks.retain(had_time);
        self.looks
    }

    fn begin_some(&mut self) {
        while self.running.len() < self.concurrency
            && let Some(dlq) = self.waiting.pop_front()
        {
            if self.looks.contains_key(&dlq) {
                continue;
            }
            self.looks.insert(dlq.clone(), Look::Asked(Instant::now()));
            let sqs = self.sqs;
            self.running.push(Box::pin(async move {
                let look = async || look(sqs, &dlq).await;
                let seen = retry_while_throttled(look, SqsError::is_throttled).await;
                (dlq, Look::Answered(seen, Instant::now()))
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
async fn look(sqs: &impl Sqs, dlq: &QueueArn) -> Result<Observation, SqsError> {
    let (depth, retention) = sqs.depth(dlq).await?;
    let tasks = match depth.is_empty() {
        true => Vec::new(),
        false => sqs.list_tasks(dlq).await?,
    };
    Ok(Observation {
        depth,
        retention,
        tasks,
        ..Observation::default()
    })
}

/// The DLQ to decide about. `Err` if the look, or the lack of one, already decides what happens to it.
pub(crate) fn candidate(target: &Target, look: Option<Look>) -> Result<Candidate<'_>, Outcome> {
    if let Some(error) = &target.policy_error {
        return Err(Outcome::Failed(Failed::InvalidPolicy(error.clone())));
    }
    match look {
        Some(Look::Answered(Ok(observation), looked)) => Ok(Candidate {
            target,
            observation,
            looked,
            brakes_read: None,
        }),
        Some(Look::Answered(Err(SqsError::QueueNotFound(why)), _)) if !target.listed => {
            Err(Outcome::Skipped(Skipped::TaggedNotFound(why)))
        }
        Some(Look::Answered(Err(error), _)) => Err(Outcome::Failed(Failed::Sqs(error))),
        Some(Look::Asked(_)) => Err(Outcome::Deferred(Deferred::NoAnswer)),
        None => Err(Outcome::Deferred(Deferred::NotLookedAt)),
    }
}
