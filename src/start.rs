//! Starting redrives: first the rest after a sample, then the deepest DLQs. All samples are stopped
//! together, so that an invocation waits once.

use crate::cloudwatch::CloudWatch;
use crate::deadlines::{Deadlines, THROTTLED_PAUSE, retry_while_throttled};
use crate::decision::{Hold, Purpose, Skip, Start, hold_of_brakes};
use crate::enrollment::Target;
use crate::fall::FallTime;
use crate::look::{Candidate, Context};
use crate::memory::CANCEL_REFUSED;
use crate::outcome::{Deferred, Failed, Finding, Outcome, SampleEnd, Skipped};
use crate::policy::Policy;
use crate::queue::{MoveTask, QueueArn, TaskStatus};
use crate::sqs::{CancelError, Sqs, SqsError, StartError};
use crate::verdict::is_sample;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use std::cmp::Reverse;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Starts these redrives, up to the limit of one invocation.
pub(crate) async fn run<'a, S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    mut ready: Vec<(Start, Candidate<'a>)>,
) -> Vec<Finding<'a>> {
    ready.sort_by_key(|(start, candidate)| {
        let visible = candidate.observation.depth.visible;
        (start.purpose != Purpose::Rest, Reverse(visible))
    });
    let mut findings = Vec::with_capacity(ready.len());
    // A sample must end in time, however long other starts take.
    let mut samples = FuturesUnordered::new();
    let mut starts_left = context.limits.max_starts;
    while starts_left > 0 && !ready.is_empty() {
        let later = ready.split_off(ready.len().min(starts_left));
        let mut starts = stream::iter(ready)
            .map(async |(start, candidate)| {
                let outcome = start_one(context, start, &candidate).await;
                (outcome, candidate)
            })
            .buffer_unordered(context.limits.concurrency);
        loop {
            let next = tokio::select! {
                next = starts.next() => next,
                Some(finding) = samples.next() => {
                    findings.push(finding);
                    continue;
                }
            };
            let Some((outcome, candidate)) = next else {
                break;
            };
            if takes_place(&outcome) {
                starts_left = starts_left.saturating_sub(1);
            }
            match Sample::of(&outcome) {
                Some(sample) => samples.push(end_sample(context, sample, outcome, candidate)),
                None => findings.push(candidate.finding(outcome, context.now)),
            }
        }
        drop(starts);
        ready = later;
    }
    while let Some(finding) = samples.next().await {
        findings.push(finding);
    }
    let over_limit = || Outcome::Deferred(Deferred::StartLimit(context.limits.max_starts));
    let deferred = ready.into_iter();
    findings.extend(deferred.map(|(_, it)| it.finding(over_limit(), context.now)));
    findings
}

/// Whether a start counts against the limit: it took effect, or may have. Any other leaves its place to
/// the next DLQ, or the same few would take all places every time.
fn takes_place(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Started { .. } | Outcome::Deferred(Deferred::StartUnconfirmed)
    )
}

async fn start_one<S: Sqs, C: CloudWatch>(
    context: &Context<'_, S, C>,
    start: Start,
    candidate: &Candidate<'_>,
) -> Outcome {
    let target = candidate.target;
    let mut looked = candidate.looked;
    let mut brakes_read = candidate.brakes_read;
    let is_sample = start.purpose == Purpose::Sample;
    let until = latest_start(context.deadlines, target, is_sample);
    if is_sample && Instant::now() > until {
        return Outcome::Deferred(Deferred::NoTimeForSample);
    }
    let mut out_of_time = Deferred::StartNotSent;
    while Instant::now() < until {
        if looked.elapsed() > FACTS_ARE_FRESH {
            looked = Instant::now();
            match timeout_at(until, still_unstarted(context, candidate)).await {
                Err(_) => break,
                Ok(Err(outcome)) => return outcome,
                Ok(Ok(())) => {}
            }
        }
        if brakes_read.is_some_and(|read| read.elapsed() > FACTS_ARE_FRESH) {
            brakes_read = Some(Instant::now());
            if let Some(hold) = brake_again(context, target, until).await {
                return Outcome::Held(hold);
            }
        }
        let call = context.sqs.start(&target.dlq, &start);
        match timeout_at(until, call).await {
            Ok(Err(error)) if error.is_throttled() => {
                out_of_time = Deferred::StartThrottled;
                sleep_until((Instant::now() + THROTTLED_PAUSE).min(until)).await;
            }
            answer => return started_or_not(context, start, candidate, answer.ok()).await,
        }
    }
    Outcome::Deferred(out_of_time)
}

/// The outcome of a start. `answer` is `None` if SQS did not answer in time.
async fn started_or_not<S: Sqs, C>(
    context: &Context<'_, S, C>,
    start: Start,
    candidate: &Candidate<'_>,
    answer: Option<Result<Option<String>, StartError>>,
) -> Outcome {
    let is_sample = start.purpose == Purpose::Sample;
    let (otherwise, may_run) = match answer {
        Some(Ok(handle)) => return started(start, candidate, handle),
        // It may run, and must be stopped then.
        None if is_sample => return started(start, candidate, None),
        None => (Outcome::Deferred(Deferred::StartUnconfirmed), true),
        Some(Err(error)) => {
            let may_run = error.may_have_taken_effect();
            let outcome = match error {
                StartError::TaskActive { .. } => Outcome::Skipped(Skipped::Gate(Skip::TaskActive)),
                StartError::AccountLimit(why) => Outcome::Deferred(Deferred::AccountLimit(why)),
                StartError::Sqs(error) => Outcome::Failed(Failed::Sqs(error)),
            };
            (outcome, may_run)
        }
    };
    let own = match may_run {
        true => own_task(context, candidate.target, &start).await,
        false => None,
    };
    match own {
        Some(handle) => started(start, candidate, handle),
        None => otherwise,
    }
}

fn started(start: Start, candidate: &Candidate, handle: Option<String>) -> Outcome {
    Outcome::Started {
        start,
        visible: candidate.observation.depth.visible,
        handle,
        sample: None,
    }
}

/// Lists the tasks again, because a task may have started since the look, and may even have ended. `Err` if
/// one started.
async fn still_unstarted<S: Sqs, C>(
    context: &Context<'_, S, C>,
    candidate: &Candidate<'_>,
) -> Result<(), Outcome> {
    let dlq = &candidate.target.dlq;
    let list = async || context.sqs.list_tasks(dlq).await;
    let list = retry_while_throttled(list, SqsError::is_throttled).await;
    let tasks = list.map_err(|error| Outcome::Failed(Failed::Sqs(error)))?;
    let start_of = |tasks: &[MoveTask]| tasks.first().and_then(|task| task.started_at);
    let newest = start_of(&tasks);
    let is_recent = newest.is_some_and(|started| started >= since(context));
    match is_recent && newest != start_of(&candidate.observation.tasks) {
        true => Err(Outcome::Skipped(Skipped::Overtaken)),
        false => Ok(()),
    }
}

/// The latest time to send a start.
fn latest_start(deadlines: &Deadlines, target: &Target, is_sample: bool) -> Instant {
    match is_sample {
        true => deadlines.latest_start(target.policy.sample),
        false => deadlines.act_until,
    }
}

/// Reads the brakes of a DLQ again: an alarm may have entered ALARM while the start waited.
async fn brake_again<S, C: CloudWatch>(
    context: &Context<'_, S, C>,
    target: &Target,
    until: Instant,
) -> Option<Hold> {
    let alarms = &target.policy.brake_alarms;
    let brakes = context.cloudwatch.brakes(alarms, until).await;
    hold_of_brakes(&target.policy, &brakes)
}

/// Tasks and brakes that were read longer ago than this are read again before a start.
const FACTS_ARE_FRESH: Duration = Duration::from_secs(5);

/// A sample that is running, or may be.
struct Sample {
    started: Instant,
    handle: Option<String>,
}

impl Sample {
    /// `None` if the outcome is not the start of a sample.
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

/// Waits for the end of a sample, and stops it.
async fn end_sample<'a, S: Sqs, C>(
    context: &Context<'_, S, C>,
    sample: Sample,
    mut outcome: Outcome,
    candidate: Candidate<'a>,
) -> Finding<'a> {
    let (target, deadlines) = (candidate.target, context.deadlines);
    sleep_until((sample.started + target.policy.sample).min(deadlines.stop_from)).await;
    let end = stop_sample(context.sqs, target, sample.handle, since(context));
    let end = timeout_at(deadlines.act_until, end).await;
    let out_of_time = || Err(NotStopped::new("the invocation ran out of time", false));
    let end = end.unwrap_or_else(|_| out_of_time());
    if let Err(NotStopped {
        is_denied: true, ..
    }) = &end
    {
        // Without this permission there are no samples. It may be granted at any time, so the
        // process tries again later.
        let (dlq, destination) = (&target.dlq, target.policy.destination.as_ref());
        let why = "a sample could not be stopped; grant `sqs:CancelMessageMoveTask`".to_owned();
        let unknown = FallTime::Unknown(why);
        let until = context.now + CANCEL_REFUSED;
        context
            .memory
            .keep_fall_time(dlq, destination, until, unknown);
    }
    match (end, &mut outcome) {
        (Ok(end), Outcome::Started { sample, .. }) => *sample = Some(end),
        (Ok(_), _) => {}
        (Err(not_stopped), _) => outcome = not_stopped.outcome,
    }
    candidate.finding(outcome, context.now)
}

/// The task that this start began, if SQS lists it: the answer was lost. The inner value is its
/// handle; `None` if it has already ended.
async fn own_task<S: Sqs, C>(
    context: &Context<'_, S, C>,
    target: &Target,
    start: &Start,
) -> Option<Option<String>> {
    let list = context.sqs.list_tasks(&target.dlq);
    let list = timeout_at(context.deadlines.confirm_until, list).await;
    let newest = list.ok()?.ok()?.into_iter().next()?;
    let pace = start.max_messages_per_second.map(|rate| rate.get().into());
    let is_it = newest.started_at.is_some_and(|at| at >= since(context))
        && newest.max_messages_per_second == pace
        && newest.destination_arn.as_deref() == start.destination.as_ref().map(QueueArn::as_str);
    is_it.then(|| newest.cancellable().map(str::to_owned))
}

/// The earliest start time of a task that started during this invocation, by SQS's clock.
fn since<S, C>(context: &Context<'_, S, C>) -> SystemTime {
    context.now.checked_sub(CLOCK_SKEW).unwrap_or(context.now)
}

/// Stops a sample by its handle, or if it has none, by the list. Tries again until it is stopped,
/// or until another try would not help.
async fn stop_sample(
    sqs: &impl Sqs,
    target: &Target,
    mut handle: Option<String>,
    since: SystemTime,
) -> Result<SampleEnd, NotStopped> {
    let is_confirmed = handle.is_some();
    loop {
        let known = match handle.take() {
            Some(known) => known,
            None => match sqs.list_tasks(&target.dlq).await {
                Ok(tasks) => match end_by_list(&tasks, &target.policy, since) {
                    Ok(end) => return Ok(end),
                    Err(NotEnded::Running(handle)) => handle,
                    Err(NotEnded::NoHandle) => {
                        return Err(NotStopped::new("SQS returned no handle for it", false));
                    }
                    Err(NotEnded::NotListed) if is_confirmed => {
                        return Err(NotStopped::new("SQS does not list it", false));
                    }
                    Err(NotEnded::NotListed) => {
                        let outcome = Outcome::Deferred(Deferred::StartUnconfirmed);
                        let is_denied = false;
                        return Err(NotStopped { outcome, is_denied });
                    }
                },
                Err(SqsError::AccessDenied(why)) => return Err(NotStopped::new(&why, false)),
                Err(_) => {
                    sleep(THROTTLED_PAUSE).await;
                    continue;
                }
            },
        };
        match sqs.cancel(&target.dlq, &known).await {
            Ok(moved) => return Ok(SampleEnd::Stopped { moved }),
            Err(CancelError::Sqs(SqsError::AccessDenied(why))) => {
                return Err(NotStopped::new(&why, true));
            }
            // The list says whether it ended. If not, there is another try.
            Err(_) => sleep(THROTTLED_PAUSE).await,
        }
    }
}

/// A sample that was not stopped.
struct NotStopped {
    outcome: Outcome,
    /// Whether the permission to cancel is missing.
    is_denied: bool,
}

impl NotStopped {
    fn new(why: &str, is_denied: bool) -> Self {
        let outcome = Outcome::Failed(Failed::SampleNotStopped(why.to_owned()));
        Self { outcome, is_denied }
    }
}

/// By how much SQS's clock may differ from the function's.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// Why the list does not say how a sample ended.
enum NotEnded {
    /// It runs, and this is the handle that can stop it.
    Running(String),
    /// It runs, and SQS returned no handle to stop it.
    NoHandle,
    /// The list has no such sample.
    NotListed,
}

/// How a sample that started at `since` or later ended, by the list.
fn end_by_list(
    tasks: &[MoveTask],
    policy: &Policy,
    since: SystemTime,
) -> Result<SampleEnd, NotEnded> {
    let is_it = |task: &&MoveTask| {
        let is_new = task.started_at.is_none_or(|started| started >= since);
        is_sample(policy, task) && is_new
    };
    let task = tasks.iter().find(is_it).ok_or(NotEnded::NotListed)?;
    let moved = task.moved;
    match (&task.status, task.cancellable()) {
        (_, Some(handle)) => Err(NotEnded::Running(handle.to_owned())),
        (TaskStatus::Cancelling | TaskStatus::Cancelled, None) => Ok(SampleEnd::Stopped { moved }),
        (TaskStatus::Completed | TaskStatus::Failed, None) => Ok(SampleEnd::EndedItself { moved }),
        _ => Err(NotEnded::NoHandle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_sample_is_found_behind_a_newer_task_of_a_person() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let task = |status, pace, ago| MoveTask {
            status,
            handle: None,
            started_at: Some(now - Duration::from_secs(ago)),
            moved: 9,
            to_move: Some(9),
            destination_arn: None,
            max_messages_per_second: pace,
            failure_reason: None,
        };
        let persons = task(TaskStatus::Running, None, 5);
        let own = task(TaskStatus::Completed, Some(1), 20);
        let since = now - Duration::from_secs(30);
        let end = end_by_list(&[persons, own], &Policy::default(), since);
        assert!(matches!(end, Ok(SampleEnd::EndedItself { moved: 9 })));
    }
}
