//! Asking: fetches the facts that decisions depend on, for many DLQs in few calls.

use crate::cloudwatch::CloudWatch;
use crate::deadlines::{half_of_time_left, retry_while_throttled};
use crate::decision::{Decision, decide};
use crate::fall::{FallTime, MAX_SOURCES, fall_time};
use crate::look::{Candidate, Context};
use crate::memory::FACTS;
use crate::metrics::{Metrics, MetricsQuery};
use crate::observation::{EXPIRES_SOON, Question};
use crate::queue::QueueArn;
use crate::sqs::{Sqs, SqsError};
use crate::verdict::metrics_query;
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;
use std::future;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// Answers one question for these DLQs. No answer in time is an answer too: it is recorded as one.
pub(crate) async fn answer<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    question: Question,
    mut asking: Vec<Candidate<'a>>,
) -> Vec<Candidate<'a>> {
    let until = half_of_time_left(context.deadlines.ask_until);
    match question {
        Question::FallTime => ask_fall_times(context, &mut asking, until).await,
        Question::Metrics => ask_metrics(context, &mut asking, until).await,
        Question::OldestMessage => {
            let candidates: Vec<&Candidate> = asking.iter().collect();
            let ages = read_oldest_ages(context, &candidates, until).await;
            for (candidate, age) in asking.iter_mut().zip(ages) {
                candidate.observation.oldest_age = Some(age);
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
                    let until = context.now + FACTS;
                    memory.keep_fall_time(dlq, destination, until, read.clone());
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

/// Takes one call with a destination. Otherwise it takes two for a DLQ with one source queue, and one more
/// for each further source. `Err` if SQS fails; a refusal is an answer.
pub(crate) async fn read_fall_time(
    sqs: &impl Sqs,
    dlq: &QueueArn,
    destination: Option<&QueueArn>,
) -> Result<FallTime, SqsError> {
    let queues = match destination {
        _ if dlq.is_fifo() => Ok(Vec::new()),
        Some(destination) => Ok(vec![destination.clone()]),
        None => sqs.source_queues(dlq).await,
    };
    let queues = match queues {
        Ok(queues) => queues,
        Err(error) if error.is_failure() => return Err(error),
        Err(error) => return Ok(FallTime::Unknown(error.to_string())),
    };
    if queues.is_empty() || queues.len() > MAX_SOURCES {
        let unread = queues.into_iter().map(|queue| (queue, Err(String::new())));
        return Ok(fall_time(dlq, unread.collect()));
    }
    let mut facts = Vec::with_capacity(queues.len());
    for queue in queues {
        let read = match sqs.facts(&queue).await {
            Err(error) if error.is_failure() => return Err(error),
            Err(error) => Err(format!("the settings of `{queue}` cannot be read: {error}")),
            Ok(facts) => Ok(facts),
        };
        facts.push((queue, read));
    }
    Ok(fall_time(dlq, facts))
}

/// Asks CloudWatch about these DLQs. Leaves out a DLQ if the depths alone would hold it or let it
/// wait, and CloudWatch was asked lately and the metrics changed nothing.
async fn ask_metrics<S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    asking: &mut [Candidate<'_>],
    until: Instant,
) {
    let now = context.now;
    let newest = |candidate: &Candidate| candidate.observation.tasks.first()?.started_at;
    let mut to_ask = Vec::new();
    for candidate in asking {
        // A redrive that runs is watched at every look.
        let tasks = &candidate.observation.tasks;
        let has_active = tasks.iter().any(|task| task.status.is_active());
        let is_stopped = !has_active && is_stopped_by_depth(candidate, now);
        let dlq = &candidate.target.dlq;
        if is_stopped && context.memory.asked_in_vain(dlq, newest(candidate), now) {
            candidate.observation.metrics = Some(Metrics::NotAsked);
            candidate.observation.oldest_age = Some(None);
        } else {
            to_ask.push((is_stopped, candidate));
        }
    }
    let queries: Vec<MetricsQuery> = to_ask.iter().map(|(_, it)| query(it, now)).collect();
    if queries.is_empty() {
        return;
    }
    let answers = context.cloudwatch.metrics(queries, until).await;
    let mut answers = answers.into_iter();
    for (was_stopped, candidate) in to_ask {
        candidate.observation.metrics = answers.next();
        if was_stopped && is_stopped_whatever_the_age(candidate, now) {
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
    let is_stopped = is_stopped_whatever_the_age(candidate, now);
    candidate.observation.metrics = None;
    is_stopped
}

/// Whether the DLQ is held or waits. The age of its oldest message could only make it wait longer.
fn is_stopped_whatever_the_age(candidate: &mut Candidate, now: SystemTime) -> bool {
    let observation = &mut candidate.observation;
    observation.oldest_age = Some(None);
    let decision = decide(&candidate.target.policy, observation, now);
    observation.oldest_age = None;
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

/// The ages of the oldest messages of held DLQs, in the same order; `None` if unknown. The messages
/// stay until a person acts, so SQS may delete them first.
///
/// A DLQ is asked about at most every 30 minutes, and not again before its oldest message has a day
/// left: until then a message can only be younger.
pub(crate) async fn ages_of_held<S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    held: &[&Candidate<'_>],
) -> Vec<Option<Duration>> {
    let (memory, now) = (context.memory, context.now);
    let known = |candidate: &Candidate| match candidate.observation.oldest_age {
        Some(Some(age)) => Some(Some(age)),
        _ if candidate.observation.retention.is_none() => Some(None),
        _ => memory.oldest_age(&candidate.target.dlq, now),
    };
    let mut ages: Vec<_> = held.iter().map(|candidate| known(candidate)).collect();
    let unknown = held.iter().zip(&mut ages).filter(|(_, age)| age.is_none());
    let (candidates, unknown): (Vec<&Candidate>, Vec<_>) = unknown.unzip();
    let until = half_of_time_left(context.deadlines.ask_until);
    let read = read_oldest_ages(context, &candidates, until).await;
    for (age, read) in unknown.into_iter().zip(read) {
        *age = Some(read);
    }
    ages.into_iter().map(Option::flatten).collect()
}

/// Reads the ages of the oldest messages of these DLQs, and remembers them. Takes no call if there
/// are none.
async fn read_oldest_ages<S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    candidates: &[&Candidate<'_>],
    until: Instant,
) -> Vec<Option<Duration>> {
    let dlqs = candidates.iter().map(|it| it.target.dlq.clone());
    let dlqs: Vec<QueueArn> = dlqs.collect();
    let ages = context
        .cloudwatch
        .oldest_ages(&dlqs, context.now, until)
        .await;
    for (candidate, age) in candidates.iter().zip(&ages) {
        let expires_in = age.and_then(|age| candidate.observation.expires_in(age));
        let until_soon = expires_in.unwrap_or_default().saturating_sub(EXPIRES_SOON);
        let dlq = &candidate.target.dlq;
        context
            .memory
            .keep_oldest_age(dlq, *age, context.now, until_soon);
    }
    ages
}

/// Answers [`Question::Brakes`] for these DLQs.
async fn ask_brakes(cloudwatch: &impl CloudWatch, asking: &mut [Candidate<'_>], until: Instant) {
    let alarms = asking.iter().flat_map(|it| &it.target.policy.brake_alarms);
    let alarms: BTreeSet<&String> = alarms.collect();
    let alarms: Vec<String> = alarms.into_iter().cloned().collect();
    let brakes = cloudwatch.brakes(&alarms, until).await;
    for Candidate {
        target,
        observation,
        brakes_read,
        ..
    } in asking
    {
        *brakes_read = Some(Instant::now());
        let named = &target.policy.brake_alarms;
        let of_this_dlq = brakes.iter().filter(|brake| named.contains(&brake.alarm));
        observation.brakes = Some(of_this_dlq.cloned().collect());
    }
}
