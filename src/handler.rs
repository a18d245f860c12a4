//! The shell around the policy: parse, enrol, observe, decide, act, report. No policy in it.

use crate::config::{Config, InvalidConfig};
use crate::enrolment::{self, Home, Target, Targets};
use crate::event::{
    self, Event, QueueRef, Rejected, Request, Selection, Trigger, Unreadable, Waker,
};
use crate::policy::{Decision, Observation, Policy, Skip, Start, decide};
use crate::queue::QueueArn;
use crate::report::{
    Outcome, QueueReport, Reason, Report, StartedTask, TriggerReport, describe_start,
};
use crate::sqs::{Fault, Sqs, StartFault};
use crate::text::first_three;
use futures_util::{StreamExt, stream};
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::fmt;
use std::future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// The function: its configuration and the world it acts on.
pub struct Function<S> {
    config: Config,
    region: String,
    sqs: S,
}

/// The circumstances of one invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where the function runs.
    pub home: Home,
    /// The time; the only reading of the clock that decisions see.
    pub now: SystemTime,
    /// How long Lambda lets the invocation run, from now.
    pub time_left: Duration,
}

/// What came of an invocation that was understood.
#[derive(Debug)]
pub struct Answer {
    /// What came of each DLQ.
    pub report: Report,
    /// The records of the event that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Why an invocation fails, so that Lambda counts an error, retries, and tells the on-failure destination.
#[derive(thiserror::Error)]
pub enum Failure {
    /// Nothing was done: the environment is wrong.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// Nothing was done: the event is none of ours.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Everything that could be done was done; this could not.
    #[error("{0}")]
    Incomplete(String),
}

impl fmt::Debug for Failure {
    /// As for people: the Lambda runtime logs this form of whatever an invocation fails with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        let error_type = match failure {
            Failure::InvalidConfig(_) => "InvalidConfiguration",
            Failure::Rejected(_) => "EventRejected",
            Failure::Incomplete(_) => "RedriveIncomplete",
        };
        Self {
            error_type: error_type.to_owned(),
            error_message: failure.to_string(),
        }
    }
}

impl Answer {
    /// What Lambda is told. `Err` if a DLQ failed or a record could not be read.
    pub fn result(self) -> Result<Report, Failure> {
        let failed = self.report.failed();
        let unreadable: Vec<String> = self.unreadable.iter().map(Unreadable::to_string).collect();
        let mut faults = Vec::new();
        if !failed.is_empty() {
            let (n, first) = (failed.len(), first_three(&failed, ", "));
            faults.push(format!("DLQs that failed: {n}: {first}"));
        }
        if !unreadable.is_empty() {
            let (n, first) = (unreadable.len(), first_three(&unreadable, "; "));
            faults.push(format!("records that could not be read: {n}: {first}"));
        }
        if faults.is_empty() {
            Ok(self.report)
        } else {
            Err(Failure::Incomplete(faults.join("; ")))
        }
    }
}

impl<S: Sqs> Function<S> {
    /// The function, in its region, with a configuration that was found right.
    pub fn new(config: Config, region: String, sqs: S) -> Self {
        Self {
            config,
            region,
            sqs,
        }
    }

    /// Answers an invocation of the Lambda runtime, and writes its log and metrics.
    pub async fn handle(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Report, Failure> {
        let now = SystemTime::now();
        let begun = Instant::now();
        let LambdaEvent { payload, context } = event;
        let deadline = UNIX_EPOCH + Duration::from_millis(context.deadline);
        let invocation = Invocation {
            home: Home::new(&context.invoked_function_arn, &self.region),
            now,
            time_left: deadline.duration_since(now).unwrap_or_default(),
        };
        let answer = self.invoke(payload.get(), &invocation).await?;
        answer.report.log(begun.elapsed());
        println!(
            "{}",
            answer
                .report
                .metrics(&context.env_config.function_name, now)
        );
        answer.result()
    }

    /// Does what an event calls for. `Err` if it calls for nothing we know; then nothing was touched.
    pub async fn invoke(&self, payload: &str, invocation: &Invocation) -> Result<Answer, Failure> {
        let Event {
            triggers,
            unreadable,
            delivered_from,
        } = event::parse(payload)?;
        for dlq in &self.config.queues {
            if delivered_from.iter().any(|queue| queue == dlq.as_str()) {
                return Err(Rejected::dead_letters(dlq.as_str()).into());
            }
        }
        let request = match &triggers[..] {
            [Trigger::Request(request)] => Some(request),
            _ => None,
        };
        let policy = Arc::new(policy(&self.config.policy, request));
        let (trigger, wanted) = what_woke_us(triggers);
        let targets = match &wanted {
            Selection::All => enrolment::all(&self.config, &policy),
            Selection::Named(queues) => {
                enrolment::named(&self.config, &policy, queues, &invocation.home)
            }
        };
        let queues = self.redrive(targets, invocation).await;
        Ok(Answer {
            report: Report::new(trigger, policy.dry_run, queues),
            unreadable,
        })
    }

    /// Looks at all, decides all, then starts the deepest first. Every target is in exactly one report.
    async fn redrive(&self, targets: Targets, invocation: &Invocation) -> Vec<QueueReport> {
        let pace = Pace::new(invocation.time_left);
        let mut reports: Vec<QueueReport> = targets
            .not_enrolled
            .iter()
            .map(|arn| not_enrolled(arn))
            .collect();
        let mut targets = targets.enrolled;
        targets.retain(|target| match target.policy.check(&target.dlq) {
            Ok(()) => true,
            Err(invalid) => {
                reports.push(QueueReport::new(
                    target.dlq.to_string(),
                    Outcome::Failed,
                    Reason::InvalidPolicy,
                    invalid.to_string(),
                ));
                false
            }
        });

        let seen = self.observe_all(&targets, pace.look_until).await;
        let mut ready = Vec::new();
        for (target, seen) in targets.iter().zip(seen) {
            match seen {
                None => reports.push(out_of_time(target)),
                Some(Err(fault)) => {
                    reports.push(QueueReport::failed(target.dlq.to_string(), &fault))
                }
                Some(Ok(seen)) => match decide(&target.policy, &seen, invocation.now) {
                    Decision::Skip(skip) => {
                        let report = QueueReport::skipped(target.dlq.to_string(), &skip);
                        reports.push(report.with(&seen));
                    }
                    Decision::Hold(hold) => {
                        let report = QueueReport::held(target.dlq.to_string(), &hold);
                        reports.push(report.with(&seen));
                    }
                    Decision::Start(start) => ready.push(Ready {
                        target,
                        seen,
                        start,
                    }),
                },
            }
        }

        ready.sort_by_key(|ready| Reverse(ready.seen.visible));
        let over = ready.split_off(ready.len().min(self.config.max_starts));
        reports.extend(over.iter().map(|ready| self.start_limit(ready)));
        let mut starts = stream::iter(&ready)
            .map(|ready| self.start(ready, pace.act_until))
            .buffer_unordered(self.config.concurrency);
        while let Some(report) = starts.next().await {
            reports.push(report);
        }
        reports.sort_by(|a, b| a.queue_arn.cmp(&b.queue_arn));
        reports
    }

    /// Looks at each DLQ. `None` for those whose turn had not come, or whose answer had not, by then.
    async fn observe_all(
        &self,
        targets: &[Target],
        until: Instant,
    ) -> Vec<Option<Result<Observation, Fault>>> {
        let mut seen = vec![None; targets.len()];
        let looks = targets.iter().zip(&mut seen).map(|(target, seen)| async {
            *seen = Some(self.observe(&target.dlq).await);
        });
        let looks = stream::iter(looks).buffer_unordered(self.config.concurrency);
        // Out of time is no error: what was not seen stays `None`.
        let _ = timeout_at(until, looks.for_each(future::ready)).await;
        seen
    }

    /// One call where the DLQ is empty, two where it is not.
    async fn observe(&self, dlq: &QueueArn) -> Result<Observation, Fault> {
        let counts = self.sqs.counts(dlq).await?;
        let tasks = if counts.is_empty() {
            Vec::new()
        } else {
            self.sqs.list_tasks(dlq).await?
        };
        Ok(Observation {
            visible: counts.visible,
            in_flight: counts.in_flight,
            tasks,
        })
    }

    async fn start(&self, ready: &Ready<'_>, until: Instant) -> QueueReport {
        let Ready {
            target,
            seen,
            start,
        } = ready;
        let report = |outcome, reason, detail| {
            QueueReport::new(target.dlq.to_string(), outcome, reason, detail).with(seen)
        };
        let plan = describe_start(seen.visible, start);
        if target.policy.dry_run {
            return report(
                Outcome::WouldStart,
                Reason::Ready,
                format!("but for the dry run, {plan}"),
            );
        }
        match timeout_at(until, self.sqs.start(&target.dlq, start)).await {
            Ok(Ok(handle)) => QueueReport {
                task: Some(StartedTask::new(handle, start)),
                ..report(Outcome::Started, Reason::Ready, plan)
            },
            Ok(Err(StartFault::TaskActive)) => {
                let skipped = QueueReport::skipped(target.dlq.to_string(), &Skip::TaskActive);
                skipped.with(seen)
            }
            Ok(Err(StartFault::Fault(fault))) => {
                QueueReport::failed(target.dlq.to_string(), &fault).with(seen)
            }
            Err(_) => report(
                Outcome::Deferred,
                Reason::OutOfTime,
                "a start was asked for and not answered in time; the next look will tell whether it took effect".to_owned(),
            ),
        }
    }

    fn start_limit(&self, ready: &Ready) -> QueueReport {
        let detail = format!(
            "{} deeper DLQs went first, the most that one invocation starts",
            self.config.max_starts
        );
        let arn = ready.target.dlq.to_string();
        QueueReport::new(arn, Outcome::Deferred, Reason::StartLimit, detail).with(&ready.seen)
    }
}

/// A DLQ that every gate agrees to redrive.
struct Ready<'a> {
    target: &'a Target,
    seen: Observation,
    start: Start,
}

/// Until when an invocation looks, and until when it starts, so that it answers before Lambda ends it.
struct Pace {
    look_until: Instant,
    act_until: Instant,
}

impl Pace {
    /// A fifth of the time is kept for what comes after looking, but no more than five seconds: half
    /// of it to start redrives, half to report.
    fn new(time_left: Duration) -> Self {
        let reserve = (time_left / 5).min(Duration::from_secs(5));
        let now = Instant::now();
        Self {
            look_until: now + (time_left - reserve),
            act_until: now + (time_left - reserve / 2),
        }
    }
}

/// The policy for every target: the environment's, and what a request says instead.
fn policy(environment: &Policy, request: Option<&Request>) -> Policy {
    let policy = environment.clone();
    let Some(request) = request else {
        return policy;
    };
    let policy = if request.force {
        policy.forced()
    } else {
        policy
    };
    Policy {
        // A deployed dry run stays one.
        dry_run: policy.dry_run || request.dry_run,
        max_messages_per_second: request
            .max_messages_per_second
            .or(policy.max_messages_per_second),
        destination: request.destination.clone().or(policy.destination),
        ..policy
    }
}

/// What the triggers of one event come to: what the report says of them, and which DLQs to look at.
/// A sweep covers every alarm; what calls for nothing counts only where it is all there is.
fn what_woke_us(triggers: Vec<Trigger>) -> (TriggerReport, Selection) {
    let mut woken = (0, TriggerReport::default());
    let mut named: Vec<QueueRef> = Vec::new();
    let mut all = false;
    for trigger in triggers {
        let (weight, kind, source, why) = match trigger {
            Trigger::Ignored { source, why } => (1, "ignored", source, Some(why)),
            Trigger::Alarm { source, queues } => {
                named.extend(queues);
                (2, "alarm", source, None)
            }
            Trigger::Sweep { by, source } => {
                all = true;
                let kind = match by {
                    Waker::Schedule => "schedule",
                    Waker::CompositeAlarm => "alarm",
                };
                (3, kind, source, None)
            }
            Trigger::Request(request) => {
                match request.queues {
                    Selection::All => all = true,
                    Selection::Named(queues) => named.extend(queues),
                }
                (4, "request", None, None)
            }
        };
        if weight > woken.0 {
            let queues = Vec::new();
            woken = (
                weight,
                TriggerReport {
                    kind,
                    source,
                    queues,
                    why,
                },
            );
        }
    }
    let (_, mut report) = woken;
    if all {
        return (report, Selection::All);
    }
    for queue in &named {
        if !report.queues.contains(&queue.name) {
            report.queues.push(queue.name.clone());
        }
    }
    (report, Selection::Named(named))
}

fn not_enrolled(arn: &str) -> QueueReport {
    let detail = "the queue is not enrolled, and to be named enrols nothing".to_owned();
    QueueReport::new(
        arn.to_owned(),
        Outcome::Skipped,
        Reason::NotEnrolled,
        detail,
    )
}

fn out_of_time(target: &Target) -> QueueReport {
    let detail = "the invocation's time was up before this DLQ was looked at".to_owned();
    QueueReport::new(
        target.dlq.to_string(),
        Outcome::Deferred,
        Reason::OutOfTime,
        detail,
    )
}
