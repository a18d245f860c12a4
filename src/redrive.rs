//! Redriving: look at every DLQ, decide, then start or stop what the decision says.

use crate::cancel;
use crate::cloudwatch::CloudWatch;
use crate::config::Limits;
use crate::deadlines::{Deadlines, half_of_time_left, retry_while_throttled};
use crate::decision::{Decision, Start, decide, facts};
use crate::enrollment::Target;
use crate::fall::{FallTime, MAX_SOURCES, fall_time};
use crate::memory::Memory;
use crate::metrics::{Metrics, MetricsQuery};
use crate::observation::{Brake, BrakeState, Observation, Question};
use crate::outcome::{Deferred, Failed, Finding, Outcome, Skipped};
use crate::plan::Cause;
use crate::queue::QueueArn;
use crate::sqs::{Sqs, SqsError};
use crate::start;
use crate::verdict::metrics_query;
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;
use std::future;
use std::time::SystemTime;
use tokio::time::{Instant, timeout_at};

/// What redriving works with.
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
    /// Until when it does what.
    pub deadlines: &'a Deadlines,
}

/// Looks at these DLQs and starts a redrive wherever every gate lets the DLQ pass. Each target gets
/// one finding, whatever goes wrong.
pub async fn run<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    targets: &'a [Target],
) -> Vec<Finding<'a>> {
    let mut sorted = Sorted::default();
    let looks = look_at_all(context, targets).await;
    for (target, look) in targets.iter().zip(looks) {
        match outcome_of_look(target, look) {
            Ok(observation) => sorted.add(
                Candidate {
                    target,
                    observation,
                    brakes_read: None,
                },
                context.now,
            ),
            Err(outcome) => {
                let finding = Finding::unseen(target.dlq.as_str(), outcome);
                sorted.findings.push(finding);
            }
        }
    }
    while let Some(question) = sorted.undecided.iter().map(|(question, _)| *question).min() {
        let is_asking = |(asked, _): &mut (Question, _)| *asked == question;
        let asking = sorted.undecided.extract_if(.., is_asking);
        let asking: Vec<Candidate> = asking.map(|(_, candidate)| candidate).collect();
        for candidate in answer(context, question, asking).await {
            sorted.add(candidate, context.now);
        }
    }
    let Sorted {
        mut findings,
        ready,
        harmful,
        ..
    } = sorted;
    findings.extend(stop_all(context, harmful).await);
    findings.extend(start::run(context, ready).await);
    findings
}

/// A DLQ that was looked at.
pub(crate) struct Candidate<'a> {
    pub target: &'a Target,
    pub observation: Observation,
    /// When its brakes were read.
    pub brakes_read: Option<Instant>,
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
        }
    }
}

/// DLQs by what the gates answer.
#[derive(Default)]
struct Sorted<'a> {
    findings: Vec<Finding<'a>>,
    ready: Vec<(Start, Candidate<'a>)>,
    harmful: Vec<(Cause, Candidate<'a>)>,
    undecided: Vec<(Question, Candidate<'a>)>,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, candidate: Candidate<'a>, now: SystemTime) {
        let outcome = match decide(&candidate.target.policy, &candidate.observation, now) {
            Err(question) => return self.undecided.push((question, candidate)),
            Ok(Decision::Start(start)) => return self.ready.push((start, candidate)),
            Ok(Decision::Cancel(cause)) => return self.harmful.push((cause, candidate)),
            Ok(Decision::Skip(skip)) => Outcome::Skipped(Skipped::Gate(skip)),
            Ok(Decision::Hold(hold)) => Outcome::Held(hold),
        };
        self.findings.push(candidate.finding(outcome, now));
    }
}

/// Looks at each DLQ whose policy is valid. `None` for DLQs that were not reached, or did not answer,
/// before the time to look was over.
async fn look_at_all<S: Sqs, C>(
    context: &Context<'_, S, C>,
    targets: &[Target],
) -> Vec<Option<Result<Observation, SqsError>>> {
    let mut answers = vec![None; targets.len()];
    let valid = targets.iter().zip(&mut answers);
    let valid = valid.filter(|(target, _)| target.policy_error.is_none());
    let looks = valid.map(|(target, answer)| async {
        let look = async || look(context.sqs, &target.dlq).await;
        *answer = Some(retry_while_throttled(look, SqsError::is_throttled).await);
    });
    let looks = stream::iter(looks).buffer_unordered(context.limits.concurrency);
    // Running out of time is no error: the DLQs without an answer are deferred.
    let _ = timeout_at(context.deadlines.look_until, looks.for_each(future::ready)).await;
    answers
}

/// Takes one call if the DLQ is empty, two if it is not.
async fn look(sqs: &impl Sqs, dlq: &QueueArn) -> Result<Observation, SqsError> {
    let depth = sqs.depth(dlq).await?;
    let tasks = match depth.is_empty() {
        true => Vec::new(),
        false => sqs.list_tasks(dlq).await?,
    };
    Ok(Observation {
        depth,
        tasks,
        ..Observation::default()
    })
}

/// `Err` if the look already decides what happens to the DLQ.
fn outcome_of_look(
    target: &Target,
    look: Option<Result<Observation, SqsError>>,
) -> Result<Observation, Outcome> {
    if let Some(error) = &target.policy_error {
        return Err(Outcome::Failed(Failed::InvalidPolicy(error.clone())));
    }
    match look {
        Some(Ok(observation)) => Ok(observation),
        Some(Err(SqsError::QueueNotFound(_))) if !target.listed => {
            Err(Outcome::Skipped(Skipped::RecentlyDeleted))
        }
        Some(Err(error)) => Err(Outcome::Failed(Failed::Sqs(error))),
        None => Err(Outcome::Deferred(Deferred::NotLookedAt)),
    }
}

/// Answers one question for these DLQs. Silence is an answer too.
async fn answer<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    question: Question,
    mut asking: Vec<Candidate<'a>>,
) -> Vec<Candidate<'a>> {
    let until = half_of_time_left(context.deadlines.ask_until);
    match question {
        Question::FallTime => ask_fall_times(context, &mut asking, until).await,
        Question::Metrics => ask_metrics(context, &mut asking, until).await,
        Question::OldestMessage => {
            let dlqs = asking.iter().map(|it| it.target.dlq.clone());
            let dlqs: Vec<QueueArn> = dlqs.collect();
            let ages = context.cloudwatch.oldest_ages(&dlqs, context.now);
            let mut ages = timeout_at(until, ages)
                .await
                .unwrap_or_default()
                .into_iter();
            for candidate in &mut asking {
                candidate.observation.oldest_age = Some(ages.next().flatten());
            }
        }
        Question::Brakes => ask_brakes(context.cloudwatch, &mut asking, until).await,
    }
    asking
}

/// Reads the source facts of these DLQs, unless the process remembers them.
async fn ask_fall_times<S: Sqs, C>(
    context: &Context<'_, S, C>,
    asking: &mut [Candidate<'_>],
    until: Instant,
) {
    let asks = asking.iter_mut().map(|candidate| async {
        let dlq = &candidate.target.dlq;
        let destination = candidate.target.policy.destination.as_ref();
        let known = context.memory.fall_time(dlq, destination, context.now);
        let read = async {
            let read = async || read_fall_time(context.sqs, dlq, destination).await;
            retry_while_throttled(read, SqsError::is_throttled).await
        };
        let fall_time = match known {
            Some(known) => known,
            None => match timeout_at(until, read).await {
                Ok(Ok(read)) => {
                    let memory = context.memory;
                    memory.keep_fall_time(dlq, destination, context.now, read.clone());
                    read
                }
                Ok(Err(error)) => FallTime::Failed(error.to_string()),
                Err(_) => FallTime::Failed("SQS did not answer in time".to_owned()),
            },
        };
        candidate.observation.fall_time = Some(fall_time);
    });
    let asks = stream::iter(asks).buffer_unordered(context.limits.concurrency);
    asks.for_each(future::ready).await;
}

/// Takes three calls for a DLQ with one source queue, and one more for each further source. `Err` if SQS
/// fails; a refusal is an answer.
async fn read_fall_time(
    sqs: &impl Sqs,
    dlq: &QueueArn,
    destination: Option<&QueueArn>,
) -> Result<FallTime, SqsError> {
    let queues = match destination {
        Some(destination) => Ok(vec![destination.clone()]),
        None => sqs.source_queues(dlq).await,
    };
    let queues = match queues {
        Ok(queues) => queues,
        Err(error) if error.is_failure() => return Err(error),
        Err(error) => return Ok(FallTime::Unknown(error.to_string())),
    };
    let retention = sqs.facts(dlq).await?.retention;
    let mut facts = Vec::with_capacity(queues.len());
    for queue in queues.into_iter().take(MAX_SOURCES + 1) {
        let read = match sqs.facts(&queue).await {
            Err(error) if error.is_failure() => return Err(error),
            Err(error) => Err(format!("the facts of `{queue}` cannot be read: {error}")),
            Ok(facts) => Ok(facts),
        };
        facts.push((queue, read));
    }
    Ok(fall_time(dlq, retention, facts))
}

/// Asks CloudWatch about these DLQs, except where it was asked lately, in vain: where depths alone
/// would hold the DLQ or let it wait, and the metrics changed nothing.
async fn ask_metrics<S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    asking: &mut [Candidate<'_>],
    until: Instant,
) {
    let now = context.now;
    let newest = |candidate: &Candidate| candidate.observation.tasks.first()?.started_at;
    let mut to_ask = Vec::new();
    for candidate in asking {
        let is_stopped = is_stopped_by_depth(candidate, now);
        let dlq = &candidate.target.dlq;
        if is_stopped && context.memory.asked_in_vain(dlq, newest(candidate), now) {
            candidate.observation.metrics = Some(Metrics::NotAsked);
        } else {
            to_ask.push((is_stopped, candidate));
        }
    }
    let queries: Vec<MetricsQuery> = to_ask.iter().map(|(_, it)| query(it, now)).collect();
    if queries.is_empty() {
        return;
    }
    let answers = timeout_at(until, context.cloudwatch.metrics(queries)).await;
    let mut answers = answers.unwrap_or_default().into_iter();
    for (was_stopped, candidate) in to_ask {
        let answer = answers.next();
        let answer = answer.unwrap_or_else(|| Metrics::Failed(NO_ANSWER.to_owned()));
        candidate.observation.metrics = Some(answer);
        let decision = decide(&candidate.target.policy, &candidate.observation, now);
        if was_stopped && matches!(decision, Ok(Decision::Skip(_) | Decision::Hold(_))) {
            let dlq = &candidate.target.dlq;
            context
                .memory
                .keep_asked_in_vain(dlq, newest(candidate), now);
        }
    }
}

/// Whether the DLQ would be held or would wait if CloudWatch knew nothing.
fn is_stopped_by_depth(candidate: &mut Candidate, now: SystemTime) -> bool {
    candidate.observation.metrics = Some(Metrics::NotAsked);
    let decision = decide(&candidate.target.policy, &candidate.observation, now);
    candidate.observation.metrics = None;
    matches!(decision, Ok(Decision::Skip(_) | Decision::Hold(_)))
}

fn query(candidate: &Candidate, now: SystemTime) -> MetricsQuery {
    let Candidate {
        target,
        observation,
        ..
    } = candidate;
    metrics_query(&target.policy, observation, &target.dlq, now)
}

/// Answers [`Question::Brakes`] for these DLQs.
async fn ask_brakes(cloudwatch: &impl CloudWatch, asking: &mut [Candidate<'_>], until: Instant) {
    let alarms = asking.iter().flat_map(|it| &it.target.policy.brake_alarms);
    let alarms: BTreeSet<&String> = alarms.collect();
    let alarms: Vec<String> = alarms.into_iter().cloned().collect();
    let brakes = read_brakes(cloudwatch, alarms, until).await;
    for Candidate {
        target,
        observation,
        brakes_read,
    } in asking
    {
        *brakes_read = Some(Instant::now());
        let named = &target.policy.brake_alarms;
        let of_this_dlq = brakes.iter().filter(|brake| named.contains(&brake.alarm));
        observation.brakes = Some(of_this_dlq.cloned().collect());
    }
}

/// Reads the states of these alarms. Those without an answer in time are unknown.
pub(crate) async fn read_brakes(
    cloudwatch: &impl CloudWatch,
    alarms: Vec<String>,
    until: Instant,
) -> Vec<Brake> {
    let brakes = timeout_at(until, cloudwatch.brakes(&alarms)).await;
    brakes.unwrap_or_else(|_| alarms.into_iter().map(unknown_brake).collect())
}

fn unknown_brake(alarm: String) -> Brake {
    let state = BrakeState::Unknown(NO_ANSWER.to_owned());
    Brake { alarm, state }
}

const NO_ANSWER: &str = "CloudWatch did not answer in time";

/// Cancels the RUNNING tasks that do harm.
async fn stop_all<'a, S: Sqs, C>(
    context: &Context<'_, S, C>,
    harmful: Vec<(Cause, Candidate<'a>)>,
) -> Vec<Finding<'a>> {
    let now = context.now;
    stream::iter(harmful)
        .map(async |(cause, candidate)| {
            let tasks = candidate.observation.tasks.clone();
            let target = candidate.target;
            let until = context.deadlines.act_until;
            let cancelled = cancel::cancel_listed(context.sqs, target, &cause, tasks);
            let outcome = match timeout_at(until, cancelled).await {
                Ok((outcome, _)) => outcome,
                Err(_) => Outcome::Failed(Failed::CancelUnconfirmed),
            };
            candidate.finding(outcome, now)
        })
        .buffer_unordered(context.limits.concurrency)
        .collect()
        .await
}
