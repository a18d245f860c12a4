//! Canceling: lists the move tasks of every DLQ, and cancels the task that is RUNNING.

use crate::config::Limits;
use crate::deadlines::{Deadlines, retry_while_throttled};
use crate::enrollment::Target;
use crate::outcome::{Details, Failed, Finding, Outcome, Skipped};
use crate::plan::Cause;
use crate::queue::{MoveTask, TaskStatus};
use crate::sqs::{CancelError, Sqs, SqsError};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

/// Cancels the RUNNING move task of each of these DLQs. Each target gets one finding, whatever goes
/// wrong.
///
/// Canceling needs no valid policy, only its `dry_run`, so a bad tag does not block a brake.
pub async fn run<'a>(
    sqs: &impl Sqs,
    limits: &Limits,
    targets: &'a [Target],
    cause: &Cause,
    deadlines: &Deadlines,
) -> Vec<Finding<'a>> {
    stream::iter(targets)
        .map(async |target| {
            let until = deadlines.act_until;
            let out_of_time = match Instant::now() < until {
                true => Failed::CancelUnconfirmed,
                false => Failed::CancelNotSent,
            };
            let cancelled = timeout_at(until, cancel_one(sqs, target, cause)).await;
            let (outcome, tasks) = cancelled.unwrap_or((Outcome::Failed(out_of_time), Vec::new()));
            let details = Details {
                tasks,
                ..Details::default()
            };
            Finding {
                details: Some(Box::new(details)),
                ..Finding::unseen(target.dlq.as_str(), outcome)
            }
        })
        .buffer_unordered(limits.concurrency)
        .collect()
        .await
}

/// Also returns the tasks that SQS listed last.
async fn cancel_one(sqs: &impl Sqs, target: &Target, cause: &Cause) -> (Outcome, Vec<MoveTask>) {
    let list = async || sqs.list_tasks(&target.dlq).await;
    match retry_while_throttled(list, SqsError::is_throttled).await {
        Ok(tasks) => cancel_listed(sqs, target, cause, tasks).await,
        Err(SqsError::QueueNotFound(why)) if !target.listed => {
            (Outcome::Skipped(Skipped::TaggedNotFound(why)), Vec::new())
        }
        Err(error) => (Outcome::Failed(Failed::Sqs(error)), Vec::new()),
    }
}

fn is_running(task: &MoveTask) -> bool {
    task.status == TaskStatus::Running
}

/// Whether this task, by a later list, is being canceled, or was.
fn is_cancelled(task: &MoveTask, later: &[MoveTask]) -> bool {
    let task = later.iter().find(|it| it.started_at == task.started_at);
    task.is_some_and(|task| matches!(task.status, TaskStatus::Cancelling | TaskStatus::Cancelled))
}

/// Cancels the RUNNING task among these. Also returns the tasks that SQS listed last.
pub(crate) async fn cancel_listed(
    sqs: &impl Sqs,
    target: &Target,
    cause: &Cause,
    tasks: Vec<MoveTask>,
) -> (Outcome, Vec<MoveTask>) {
    let cancellable = |task: &MoveTask| Some((task.clone(), task.cancellable()?.to_owned()));
    let Some((running, handle)) = tasks.iter().find_map(cancellable) else {
        if tasks.iter().any(is_running) {
            return (Outcome::Failed(Failed::NoHandle), tasks);
        }
        // Another invocation may have decided to start one.
        let may_start = *cause == Cause::Requested && !target.policy.paused;
        let nothing = Skipped::NothingToCancel { may_start };
        return (Outcome::Skipped(nothing), tasks);
    };
    let cause = cause.clone();
    if target.policy.dry_run {
        return (Outcome::WouldCancel { cause, handle }, tasks);
    }
    let cancel = async || sqs.cancel(&target.dlq, &handle).await;
    match retry_while_throttled(cancel, CancelError::is_throttled).await {
        Ok(_) => (Outcome::Cancelled { cause, handle }, tasks),
        Err(CancelError::Sqs(error)) => (Outcome::Failed(Failed::Sqs(error)), tasks),
        // Only another list shows what SQS meant.
        Err(CancelError::NothingToCancel(why)) => match sqs.list_tasks(&target.dlq).await {
            Ok(tasks) if tasks.iter().any(is_running) => {
                (Outcome::Failed(Failed::StillRunning(why)), tasks)
            }
            // SQS got the cancel twice: the first answer was lost.
            Ok(now) if is_cancelled(&running, &now) => {
                (Outcome::Cancelled { cause, handle }, tasks)
            }
            Ok(tasks) => (Outcome::Skipped(Skipped::EndedBeforeCancel), tasks),
            Err(error) => (Outcome::Failed(Failed::Sqs(error)), tasks),
        },
    }
}
