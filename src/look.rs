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
use futures_util::{StreamExt, stream};
use std::future;
use std::time::SystemTime;
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
#[derive(Clone)]
pub(crate) enum Look {
    /// The time to look was over before SQS was asked.
    NotAsked,
    /// SQS did not answer before the time to look was over.
    NotAnswered,
    /// SQS answered, at this time.
    Answered(Box<Observation>, Instant),
    /// SQS failed, or refused the call.
    Refused(SqsError),
}

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

/// Looks at each DLQ whose policy is valid, and at each that has a brake: it may have to cancel a task.
pub(crate) async fn look_at_all<S: Sqs, C>(
    context: &Context<'_, S, C>,
    targets: &[Target],
) -> Vec<Look> {
    let mut answers = vec![Look::NotAsked; targets.len()];
    let looks = targets.iter().zip(&mut answers).filter(|(target, _)| {
        target.policy_error.is_none() || !target.policy.brake_alarms.is_empty()
    });
    let looks = looks.map(|(target, answer)| async {
        *answer = Look::NotAnswered;
        let look = async || look(context.sqs, &target.dlq).await;
        let seen = retry_while_throttled(look, SqsError::is_throttled).await;
        *answer = match seen {
            Ok(observation) => Look::Answered(Box::new(observation), Instant::now()),
            Err(error) => Look::Refused(error),
        };
    });
    let looks = stream::iter(looks).buffer_unordered(context.limits.concurrency);
    // Running out of time is no error: the DLQs without an answer are deferred.
    let _ = timeout_at(context.deadlines.look_until, looks.for_each(future::ready)).await;
    answers
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

/// The DLQ to decide about. `Err` if the look already decides what happens to it.
pub(crate) fn candidate(target: &Target, look: Look) -> Result<Candidate<'_>, Outcome> {
    match (look, &target.policy_error) {
        (Look::Answered(observation, looked), _) => Ok(Candidate {
            target,
            observation: *observation,
            looked,
            brakes_read: None,
        }),
        (_, Some(error)) => Err(Outcome::Failed(Failed::InvalidPolicy(error.clone()))),
        (Look::Refused(SqsError::QueueNotFound(why)), None) if !target.listed => {
            Err(Outcome::Skipped(Skipped::TaggedNotFound(why)))
        }
        (Look::Refused(error), None) => Err(Outcome::Failed(Failed::Sqs(error))),
        (Look::NotAnswered, None) => Err(Outcome::Deferred(Deferred::NoAnswer)),
        (Look::NotAsked, None) => Err(Outcome::Deferred(Deferred::NotLookedAt)),
    }
}
