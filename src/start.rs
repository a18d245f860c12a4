//! Starting redrives: the rest after a sample first, then the deepest DLQs. Samples are stopped after
//! their time, all together, so that an invocation waits once.

use crate::cloudwatch::CloudWatch;
use crate::deadlines::{Deadlines, THROTTLED_PAUSE, retry_while_throttled};
use crate::decision::{Hold, Purpose, Skip, Start};
use crate::observation::BrakeState;
use crate::outcome::{Deferred, Failed, Finding, Outcome, SampleEnd, Skipped};
use crate::queue::{MoveTask, QueueArn};
use crate::redrive::{Candidate, Context, read_brakes};
use crate::sqs::{CancelError, Sqs, SqsError, StartError};
use crate::verdict::SAMPLE_PACE;
use futures_util::{StreamExt, stream};
use std::cmp::Reverse;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Starts these redrives, as many as one invocation may start. `brakes_read` is when the brakes were
/// read.
pub(crate) async fn run<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    mut ready: Vec<(Start, Candidate<'a>)>,
    brakes_read: Instant,
) -> Vec<Finding<'a>> {
    ready.sort_by_key(|(start, candidate)| {
        let visible = candidate.observation.depth.visible;
        (start.purpose != Purpose::Rest, Reverse(visible))
    });
    let mut findings = Vec::with_capacity(ready.len());
    let mut samples = Vec::new();
    let mut starts_left = context.limits.max_starts;
    while starts_left > 0 && !ready.is_empty() {
        let later = ready.split_off(ready.len().min(starts_left));
        let mut starts = stream::iter(ready)
            .map(async |(start, candidate)| {
                let outcome = start_one(context, start, &candidate, brakes_read).await;
                (outcome, candidate)
            })
            .buffer_unordered(context.limits.concurrency);
        while let Some((outcome, candidate)) = starts.next().await {
            // A deferred start may have taken effect. A failed one leaves its place to the next DLQ,
            // or the same few would take all places every time.
            if !matches!(
                outcome,
                Outcome::Failed(_) | Outcome::Skipped(_) | Outcome::Held(_)
            ) {
                starts_left = starts_left.saturating_sub(1);
            }
            match Sample::of(&outcome) {
                Some(sample) => samples.push((sample, outcome, candidate)),
                None => findings.push(candidate.finding(outcome, context.now)),
            }
        }
        drop(starts);
        ready = later;
    }
    findings.extend(end_samples(context, samples).await);
    let over_limit = || Outcome::Deferred(Deferred::StartLimit(context.limits.max_starts));
    let deferred = ready
        .into_iter()
        .map(|(_, it)| it.finding(over_limit(), context.now));
    findings.extend(deferred);
    findings
}

async fn start_one<S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    start: Start,
    candidate: &Candidate<'_>,
    mut brakes_read: Instant,
) -> Outcome {
    let target = candidate.target;
    let visible = candidate.observation.depth.visible;
    if target.policy.dry_run {
        return Outcome::WouldStart { start, visible };
    }
    let is_sample = start.purpose == Purpose::Sample;
    if is_sample && sample_time(context.deadlines, target.policy.sample).is_none() {
        return Outcome::Deferred(Deferred::NoTimeForSample);
    }
    let until = context.deadlines.act_until;
    loop {
        // A brake may have come on while this start waited.
        if brakes_read.elapsed() > BRAKES_ARE_FRESH && !target.policy.brake_alarms.is_empty() {
            let alarms = target.policy.brake_alarms.clone();
            for brake in read_brakes(context.cloudwatch, alarms, until).await {
                let alarm = brake.alarm;
                match brake.state {
                    BrakeState::On => return Outcome::Held(Hold::Braked { alarm }),
                    BrakeState::Off => {}
                    BrakeState::Unknown(why) => {
                        return Outcome::Held(Hold::BrakeUnknown { alarm, why });
                    }
                }
            }
            brakes_read = Instant::now();
        }
        let call = context.sqs.start(&target.dlq, &start);
        return match timeout_at(until, call).await {
            Ok(Ok(handle)) => Outcome::Started {
                start,
                visible,
                handle,
                sample: None,
            },
            Ok(Err(error)) if error.is_throttled() => {
                if Instant::now() + THROTTLED_PAUSE < until {
                    sleep(THROTTLED_PAUSE).await;
                    continue;
                }
                Outcome::Deferred(Deferred::StartUnconfirmed)
            }
            // Another invocation was faster, or an earlier start whose answer was lost took effect.
            Ok(Err(StartError::TaskActive)) => Outcome::Skipped(Skipped::Gate(Skip::TaskActive)),
            Ok(Err(StartError::Sqs(error))) => Outcome::Failed(Failed::Sqs(error)),
            Err(_) if is_sample => Outcome::Started {
                start,
                visible,
                handle: None,
                sample: None,
            },
            Err(_) => Outcome::Deferred(Deferred::StartUnconfirmed),
        };
    }
}

/// Brakes that were read longer ago are read again before a start.
const BRAKES_ARE_FRESH: Duration = Duration::from_secs(5);

/// A sample that is running, or may be.
struct Sample {
    started: Instant,
    handle: Option<String>,
}

impl Sample {
    /// `None` for the outcome of anything but the start of a sample.
    fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Started { start, handle, .. } if start.purpose == Purpose::Sample => {
                Some(Self {
                    started: Instant::now(),
                    handle: handle.clone(),
                })
            }
            _ => None,
        }
    }
}

/// How long a sample can run before it must be stopped; `None` if that is less than a third of its time.
fn sample_time(deadlines: &Deadlines, sample: Duration) -> Option<Duration> {
    let left = deadlines
        .stop_from
        .saturating_duration_since(Instant::now());
    (left >= sample / 3).then(|| left.min(sample))
}

/// Waits for the end of all samples, and stops them.
async fn end_samples<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    samples: Vec<(Sample, Outcome, Candidate<'a>)>,
) -> Vec<Finding<'a>> {
    stream::iter(samples)
        .map(async |(sample, started, candidate)| {
            let length = candidate.target.policy.sample;
            sleep_until((sample.started + length).min(context.deadlines.stop_from)).await;
            let dlq = &candidate.target.dlq;
            let since = context.now - CLOCK_SKEW;
            let end = stop_sample(
                context.sqs,
                dlq,
                sample.handle,
                since,
                context.deadlines.act_until,
            );
            let outcome = match (end.await, started) {
                (
                    Ok(end),
                    Outcome::Started {
                        start,
                        visible,
                        handle,
                        ..
                    },
                ) => Outcome::Started {
                    start,
                    visible,
                    handle,
                    sample: Some(end),
                },
                (Err(outcome), _) | (_, outcome) => outcome,
            };
            candidate.finding(outcome, context.now)
        })
        .buffer_unordered(context.limits.max_starts.max(1))
        .collect()
        .await
}

/// Stops a sample by its handle, or without one by the list: a RUNNING task at the sample pace is it.
async fn stop_sample(
    sqs: &impl Sqs,
    dlq: &QueueArn,
    handle: Option<String>,
    since: SystemTime,
    until: Instant,
) -> Result<SampleEnd, Outcome> {
    let not_stopped = |why: String| Outcome::Failed(Failed::SampleNotStopped(why));
    let stop = async {
        let mut handle = handle;
        loop {
            if handle.is_none() {
                let list = async || sqs.list_tasks(dlq).await;
                let tasks = retry_while_throttled(list, SqsError::is_throttled).await;
                let tasks = tasks.map_err(|error| not_stopped(error.to_string()))?;
                match end_by_list(&tasks, since) {
                    Ok(end) => return Ok(end),
                    Err(running) => handle = Some(running.ok_or_else(unconfirmed)?),
                }
            }
            let Some(known) = handle.take() else {
                continue;
            };
            match sqs.cancel(dlq, &known).await {
                Ok(moved) => return Ok(SampleEnd::Stopped { moved }),
                // The list says whether it ended. If not, there may be time for another try.
                Err(CancelError::NothingToCancel(_)) => sleep(THROTTLED_PAUSE).await,
                Err(CancelError::Sqs(SqsError::AccessDenied(why))) => return Err(not_stopped(why)),
                Err(CancelError::Sqs(_)) => sleep(THROTTLED_PAUSE).await,
            }
        }
    };
    let out_of_time = || not_stopped("the invocation ran out of time".to_owned());
    timeout_at(until, stop)
        .await
        .unwrap_or_else(|_| Err(out_of_time()))
}

fn unconfirmed() -> Outcome {
    Outcome::Deferred(Deferred::StartUnconfirmed)
}

/// By how much SQS's clock may differ from the function's.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What the list says about a sample that started at `since` or later: how it ended, or the handle by which it can be stopped. `None` if
/// the list has no sample.
fn end_by_list(tasks: &[MoveTask], since: SystemTime) -> Result<SampleEnd, Option<String>> {
    let is_sample = |task: &&MoveTask| {
        let is_new = task.started_at.is_none_or(|started| started >= since);
        task.max_messages_per_second == Some(SAMPLE_PACE) && is_new
    };
    match tasks.first().filter(is_sample) {
        Some(task) if task.status.is_active() => match task.cancellable() {
            Some(handle) => Err(Some(handle.to_owned())),
            None => Ok(SampleEnd::Stopped { moved: task.moved }),
        },
        Some(task) => Ok(SampleEnd::EndedItself { moved: task.moved }),
        None => Err(None),
    }
}
