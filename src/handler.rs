//! The shell around the policy: parse, enrol, observe, decide, act, report. No policy in it.

use crate::cloudwatch::{CloudWatch, DepthQuery};
use crate::config::{Config, ConfigError};
use crate::enrollment::{self, Target};
use crate::event::{self, Event, EventError, RecordError, Request, Selection};
use crate::plan::{Action, Cause, Plan, plan};
use crate::policy::{
    Brake, BrakeState, Decision, DepthHistory, Observation, Question, Rate, Skip, Start, decide,
    streak,
};
use crate::queue::{Location, MoveTask, QueueArn, QueueRef, TaggedQueue};
use crate::report::{
    self, MAX_LISTED, Outcome, QueueReport, Reason, Report, TriggerReport, Unlisted, describe_start,
};
use crate::sqs::{CancelError, Sqs, SqsError, StartError};
use crate::tagging::{Tagging, TaggingError};
use crate::text::{excerpt, first_three};
use futures_util::{StreamExt, stream};
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, timeout_at};

/// The function: its configuration and the world it acts on.
pub struct Function<S, C, T> {
    config: Config,
    region: String,
    sqs: S,
    cloudwatch: C,
    tagging: T,
    /// Where the first sweep of this process began.
    begin: OnceLock<usize>,
    /// How many DLQs this process has looked at.
    looked_at: AtomicUsize,
}

/// The circumstances of one invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where the function runs.
    pub location: Location,
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
    pub unreadable: Vec<RecordError>,
    /// Why enrolment by tag could not be read; what is listed was served all the same.
    pub tags_error: Option<TaggingError>,
}

/// Why an invocation fails, so that Lambda counts an error, retries, and tells the on-failure destination.
#[derive(thiserror::Error)]
pub enum InvocationError {
    /// Nothing was done: the environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing was done: the event is none of ours.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Everything that could be done was done; this could not.
    #[error("{0}")]
    Incomplete(String),
}

impl fmt::Debug for InvocationError {
    /// As for people: the Lambda runtime logs this form of whatever an invocation fails with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<InvocationError> for Diagnostic {
    fn from(failure: InvocationError) -> Self {
        let error_type = match failure {
            InvocationError::Config(_) => "InvalidConfiguration",
            InvocationError::Event(_) => "EventRejected",
            InvocationError::Incomplete(_) => "RedriveIncomplete",
        };
        Self {
            error_type: error_type.to_owned(),
            error_message: failure.to_string(),
        }
    }
}

impl Answer {
    /// What Lambda is told. `Err` if a DLQ failed or a record could not be read.
    pub fn result(self) -> Result<Report, InvocationError> {
        let failed = self.report.failed();
        let unreadable: Vec<String> = self.unreadable.iter().map(RecordError::to_string).collect();
        let mut faults = Vec::new();
        if !failed.is_empty() {
            let (n, first) = (failed.len(), first_three(&failed, ", "));
            faults.push(format!("DLQs that failed: {n}: {first}"));
        }
        if !unreadable.is_empty() {
            let (n, first) = (unreadable.len(), first_three(&unreadable, "; "));
            faults.push(format!("records that could not be read: {n}: {first}"));
        }
        if let Some(fault) = self.tags_error {
            faults.push(format!("enrolment by tag could not be read: {fault}"));
        }
        if faults.is_empty() {
            Ok(self.report)
        } else {
            Err(InvocationError::Incomplete(faults.join("; ")))
        }
    }
}

/// The time an invocation has under an emulator whose deadlines are of 1970.
const EMULATED_TIME: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl<S: Sqs, C: CloudWatch, T: Tagging> Function<S, C, T> {
    /// The function, in its region, with a configuration that was found right.
    pub fn new(config: Config, region: String, sqs: S, cloudwatch: C, tagging: T) -> Self {
        Self {
            config,
            region,
            sqs,
            cloudwatch,
            tagging,
            begin: OnceLock::new(),
            looked_at: AtomicUsize::new(0),
        }
    }

    /// Answers an invocation of the Lambda runtime, and writes its log and metrics.
    pub async fn handle(
        &self,
        event: LambdaEvent<Box<RawValue>>,
    ) -> Result<Report, InvocationError> {
        let now = SystemTime::now();
        let begun = Instant::now();
        let LambdaEvent { payload, context } = event;
        let deadline = UNIX_EPOCH + Duration::from_millis(context.deadline);
        let invocation = Invocation {
            location: Location::new(&context.invoked_function_arn, &self.region),
            now,
            time_left: match deadline.duration_since(now) {
                Ok(left) => left,
                Err(passed) if passed.duration() > DAY => EMULATED_TIME,
                Err(_) => Duration::ZERO,
            },
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
    pub async fn invoke(
        &self,
        payload: &str,
        invocation: &Invocation,
    ) -> Result<Answer, InvocationError> {
        let Event {
            triggers,
            unreadable,
            event_source_arns,
        } = event::parse(payload)?;
        let Invocation {
            location,
            now,
            time_left,
        } = invocation;
        let deadlines = Deadlines::new(*time_left);
        let plan = plan(triggers, &self.config.policy.brake_alarms, location);
        let trigger = TriggerReport::from(&plan);
        let Plan {
            action,
            selection,
            request,
            ..
        } = plan;

        let (tagged, tags_error) = match self
            .tagged(
                &selection,
                request.as_ref(),
                &event_source_arns,
                location,
                &deadlines,
            )
            .await
        {
            Ok(tagged) => (tagged, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let is_dlq = |arn: &&String| {
            let tagged = tagged.iter().map(|tagged| &tagged.dlq);
            let mut enrolled = self.config.queues.iter().chain(tagged);
            enrolled.any(|dlq| dlq.as_str() == arn.as_str())
        };
        if let Some(dlq) = event_source_arns.iter().find(is_dlq) {
            return Err(EventError::dead_letters(dlq).into());
        }

        let mut targets =
            enrollment::targets(&selection, request.as_ref(), &self.config, tagged, location);
        let mut queues = Vec::new();
        for (target, why) in targets.invalid {
            match action {
                Action::Redrive => {
                    queues.push(report(&target, Outcome::Failed, Reason::InvalidPolicy, why));
                }
                // To stop a task takes no policy but the dry run: a bad tag must not keep a brake from it.
                Action::Cancel(_) => targets.enrolled.push(target),
            }
        }
        let mut unlisted = Unlisted::default();
        if tags_error.is_none() {
            let listed = targets.not_enrolled.len().min(MAX_LISTED);
            unlisted.not_enrolled = targets.not_enrolled.split_off(listed).len() as u64;
        }
        queues.extend(
            targets
                .not_enrolled
                .into_iter()
                .map(|arn| match &tags_error {
                    None => {
                        let detail =
                            "the queue is not enrolled, and to be named enrols nothing".to_owned();
                        QueueReport::new(arn, Outcome::Skipped, Reason::NotEnrolled, detail)
                    }
                    Some(fault) => {
                        let detail = format!(
                            "whether the queue is enrolled could not be read from its tags: {fault}"
                        );
                        QueueReport::new(arn, Outcome::Failed, fault_reason(fault), detail)
                    }
                }),
        );
        let is_sweep = selection == Selection::All;
        if is_sweep {
            self.begin_elsewhere(&mut targets.enrolled, *now);
        }
        let (reports, looked_at) = match action {
            Action::Redrive => {
                self.redrive(targets.enrolled, *now, &deadlines, &mut unlisted)
                    .await
            }
            Action::Cancel(cause) => {
                self.cancel_all(&targets.enrolled, &cause, &deadlines, &mut unlisted)
                    .await
            }
        };
        if is_sweep {
            self.looked_at.fetch_add(looked_at, Ordering::Relaxed);
        }
        queues.extend(reports);
        let dry_run = self.config.policy.dry_run || request.is_some_and(|request| request.dry_run);
        Ok(Answer {
            report: Report::new(trigger, dry_run, queues, unlisted),
            unreadable,
            tags_error,
        })
    }

    /// The queues that bear the enrol tag: all for a sweep, those concerned for anything else. None and
    /// no call if there is no enrol tag, or nothing is called for.
    async fn tagged(
        &self,
        selection: &Selection,
        request: Option<&Request>,
        event_source_arns: &[String],
        location: &Location,
        deadlines: &Deadlines,
    ) -> Result<Vec<TaggedQueue>, TaggingError> {
        let Some(tag) = &self.config.enroll_tag else {
            return Ok(Vec::new());
        };
        let asked = async {
            let queues = match selection {
                Selection::All => return self.tagging.tagged(tag).await,
                Selection::Named(queues) => queues,
            };
            if queues.is_empty() && event_source_arns.is_empty() {
                return Ok(Vec::new());
            }
            // The queues themselves, and those that messages may go to: these must not be enrolled.
            let policy = &self.config.policy;
            let requested = request.and_then(|request| request.destination.as_ref());
            let destinations = [&policy.destination, &policy.parking].into_iter().flatten();
            let destinations = destinations.chain(requested).map(QueueRef::from);
            let event_source_arns = event_source_arns.iter().filter_map(|arn| arn.parse().ok());
            let others: Vec<QueueRef> = destinations.chain(event_source_arns).collect();
            let concerned = location.taggable_here(queues.iter().chain(&others));
            let mut tagged = self.tagging.tagged_among(&concerned, tag).await?;
            let further: Vec<QueueRef> =
                tagged.iter().flat_map(TaggedQueue::destinations).collect();
            let further = location.taggable_here(&further);
            let further: Vec<QueueArn> = further
                .into_iter()
                .filter(|arn| !concerned.contains(arn))
                .collect();
            if !further.is_empty() {
                tagged.extend(self.tagging.tagged_among(&further, tag).await?);
            }
            Ok(tagged)
        };
        // A tagging API that hangs must not take the time to look at what is listed.
        let until = match self.config.queues.is_empty() {
            true => deadlines.look_until,
            false => half_of_time_left(deadlines.look_until),
        };
        timeout_at(until, asked)
            .await
            .unwrap_or_else(|_| Err(TaggingError::Service("no answer came in time".to_owned())))
    }

    /// Has a sweep begin where the last one of this process had no more time to look, and the first one
    /// anywhere, so that no tail starves.
    fn begin_elsewhere(&self, targets: &mut [Target], now: SystemTime) {
        let anywhere = || {
            now.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .subsec_nanos() as usize
        };
        let begin = *self.begin.get_or_init(anywhere);
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        if let Some(n) = begin.wrapping_add(looked_at).checked_rem(targets.len()) {
            targets.rotate_left(n);
        }
    }

    /// Looks at all, decides all, then starts the deepest first. Every target is in exactly one report,
    /// but for the empty and the unseen ones among many, of which there is only the number. Also
    /// returns how many were looked at.
    async fn redrive(
        &self,
        targets: Vec<Target>,
        now: SystemTime,
        deadlines: &Deadlines,
        unlisted: &mut Unlisted,
    ) -> (Vec<QueueReport>, usize) {
        let many = targets.len() > MAX_LISTED;
        let mut reports = Vec::new();
        let seen = self.observe_all(&targets, deadlines.look_until).await;
        let looked_at = seen.iter().flatten().count();
        let mut all_seen = Vec::new();
        for (target, seen) in targets.iter().zip(seen) {
            match seen {
                None if many => unlisted.out_of_time += 1,
                None => {
                    let detail = "the invocation's time was up before this DLQ was looked at";
                    reports.push(report(target, Outcome::Deferred, Reason::OutOfTime, detail));
                }
                // The tagging API goes on naming queues for a while after they are gone.
                Some(Err(SqsError::QueueNotFound(_))) if !target.listed => {
                    let detail =
                        "the queue bears the enrol tag and does not exist: it was deleted lately";
                    reports.push(report(
                        target,
                        Outcome::Skipped,
                        Reason::QueueNotFound,
                        detail,
                    ));
                }
                Some(Err(fault)) => {
                    reports.push(QueueReport::failed(target.dlq.to_string(), &fault))
                }
                Some(Ok(seen)) => all_seen.push(Seen { target, seen }),
            }
        }

        let mut ready = Vec::new();
        for (seen, decision) in self.decide_all(all_seen, now, deadlines).await {
            let arn = seen.target.dlq.to_string();
            let outcome = match decision {
                Decision::Start(start) => {
                    ready.push((seen, start));
                    continue;
                }
                Decision::Skip(Skip::Empty) if many => {
                    unlisted.empty += 1;
                    continue;
                }
                Decision::Skip(skip) => QueueReport::skipped(arn, &skip),
                Decision::Hold(hold) => QueueReport::held(arn, &hold),
                // Not to be: every question was answered. If it were, this is the safe answer.
                Decision::Ask(_) => {
                    let detail = "the invocation's time was up before a question was answered";
                    report(seen.target, Outcome::Deferred, Reason::OutOfTime, detail)
                }
            };
            reports.push(seen.add_to(outcome, now));
        }

        ready.sort_by_key(|(seen, _)| Reverse(seen.seen.depth.visible));
        let mut starts_left = self.config.max_starts;
        while starts_left > 0 && !ready.is_empty() {
            let shallower = ready.split_off(ready.len().min(starts_left));
            let mut starts = stream::iter(&ready)
                .map(async |(seen, start): &(Seen, Start)| {
                    let outcome = self.start(seen, start, deadlines.act_until).await;
                    seen.add_to(outcome, now)
                })
                .buffer_unordered(self.config.concurrency);
            while let Some(report) = starts.next().await {
                // One that was deferred was not answered, and may have taken effect. One that failed
                // leaves its place to the next: else the same few would take all places every time.
                let took_place = [Outcome::Started, Outcome::WouldStart, Outcome::Deferred];
                if took_place.contains(&report.outcome) {
                    starts_left = starts_left.saturating_sub(1);
                }
                reports.push(report);
            }
            drop(starts);
            ready = shallower;
        }
        let most = self.config.max_starts;
        let detail = format!("{most} deeper DLQs went first, the most that one invocation starts");
        reports.extend(ready.iter().map(|(seen, _)| {
            let deferred = report(seen.target, Outcome::Deferred, Reason::StartLimit, &detail);
            seen.add_to(deferred, now)
        }));
        (reports, looked_at)
    }

    /// Looks at each DLQ. `None` for those whose turn had not come, or whose answer had not, by then.
    async fn observe_all(
        &self,
        targets: &[Target],
        until: Instant,
    ) -> Vec<Option<Result<Observation, SqsError>>> {
        let mut seen = vec![None; targets.len()];
        let looks = targets.iter().zip(&mut seen).map(|(target, seen)| async {
            let look = async || self.observe(&target.dlq).await;
            *seen = Some(retry_while_throttled(look, is_throttled).await);
        });
        let looks = stream::iter(looks).buffer_unordered(self.config.concurrency);
        // Out of time is no error: what was not seen stays `None`.
        let _ = timeout_at(until, looks.for_each(future::ready)).await;
        seen
    }

    /// One call where the DLQ is empty, two where it is not.
    async fn observe(&self, dlq: &QueueArn) -> Result<Observation, SqsError> {
        let depth = self.sqs.depth(dlq).await?;
        let tasks = if depth.is_empty() {
            Vec::new()
        } else {
            self.sqs.list_tasks(dlq).await?
        };
        Ok(Observation {
            depth,
            tasks,
            ..Observation::default()
        })
    }

    /// Decides, asks CloudWatch what the decisions turn on, and decides again: first the depth
    /// histories of all DLQs that get so far, then the brakes of all that would start.
    /// Where CloudWatch does not answer in time, that is its answer.
    async fn decide_all<'a>(
        &self,
        looked_at: Vec<Seen<'a>>,
        now: SystemTime,
        deadlines: &Deadlines,
    ) -> Vec<(Seen<'a>, Decision)> {
        let decided = |seen: Seen<'a>| {
            let decision = decide(&seen.target.policy, &seen.seen, now);
            (seen, decision)
        };
        let mut all: Vec<_> = looked_at.into_iter().map(decided).collect();

        let mut asking = those_asking(&mut all, Question::DepthHistory);
        if !asking.is_empty() {
            let query = |(seen, _): &&mut (Seen<'a>, Decision)| DepthQuery {
                dlq: seen.target.dlq.clone(),
                quiet_period: seen.target.policy.quiet_period,
            };
            let queries: Vec<DepthQuery> = asking.iter().map(query).collect();
            let histories = self.cloudwatch.depth_histories(&queries, now);
            let histories = timeout_at(half_of_time_left(deadlines.ask_until), histories)
                .await
                .unwrap_or_else(|_| {
                    vec![DepthHistory::Unreadable(NO_ANSWER.to_owned()); queries.len()]
                });
            for ((seen, decision), history) in asking.iter_mut().zip(histories) {
                seen.seen.depth_history = Some(history);
                *decision = decide(&seen.target.policy, &seen.seen, now);
            }
        }

        let mut asking = those_asking(&mut all, Question::Brakes);
        if !asking.is_empty() {
            let alarms: BTreeSet<&String> = asking
                .iter()
                .flat_map(|(seen, _)| &seen.target.policy.brake_alarms)
                .collect();
            let alarms: Vec<String> = alarms.into_iter().cloned().collect();
            let brakes = timeout_at(deadlines.ask_until, self.cloudwatch.brakes(&alarms))
                .await
                .unwrap_or_else(|_| alarms.into_iter().map(unknown_brake).collect());
            for (seen, decision) in &mut asking {
                let named = &seen.target.policy.brake_alarms;
                let of_this = brakes.iter().filter(|brake| named.contains(&brake.alarm));
                seen.seen.brakes = Some(of_this.cloned().collect());
                *decision = decide(&seen.target.policy, &seen.seen, now);
            }
        }
        all
    }

    async fn start(&self, seen: &Seen<'_>, start: &Start, until: Instant) -> QueueReport {
        let Seen { target, seen } = seen;
        let plan = describe_start(seen.depth.visible, start);
        let reason = if start.parking {
            Reason::Parking
        } else {
            Reason::Ready
        };
        if target.policy.dry_run {
            return report(
                target,
                Outcome::WouldStart,
                reason,
                format!("but for the dry run, {plan}"),
            );
        }
        let ask = async || self.sqs.start(&target.dlq, start).await;
        let is_start_throttled =
            |fault: &StartError| matches!(fault, StartError::Sqs(fault) if is_throttled(fault));
        match timeout_at(until, retry_while_throttled(ask, is_start_throttled)).await {
            Ok(Ok(handle)) => {
                report(target, Outcome::Started, reason, plan).with_task(report::Task {
                    handle,
                    destination_arn: start.destination.as_ref().map(QueueArn::to_string),
                    max_messages_per_second: start.max_messages_per_second.map(Rate::get),
                })
            }
            // Another invocation was faster, or a start whose answer was lost did take effect.
            Ok(Err(StartError::TaskActive)) => {
                QueueReport::skipped(target.dlq.to_string(), &Skip::TaskActive)
            }
            Ok(Err(StartError::Sqs(fault))) => QueueReport::failed(target.dlq.to_string(), &fault),
            Err(_) => {
                let detail = "a start was asked for and not answered in time; the next look will tell whether it took effect";
                report(target, Outcome::Deferred, Reason::OutOfTime, detail)
            }
        }
    }

    /// Cancels what runs. Also returns how many DLQs there was time for.
    async fn cancel_all(
        &self,
        targets: &[Target],
        cause: &Cause,
        deadlines: &Deadlines,
        unlisted: &mut Unlisted,
    ) -> (Vec<QueueReport>, usize) {
        let mut reports: Vec<QueueReport> = stream::iter(targets)
            .map(async |target| {
                match timeout_at(deadlines.act_until, self.cancel(target, cause)).await {
                    Ok(outcome) => outcome,
                    // Not deferred: nothing would cancel it next time. To fail has Lambda try again.
                    Err(_) => {
                        let detail =
                            "the time was up before the move task was known to be cancelled";
                        report(target, Outcome::Failed, Reason::OutOfTime, detail)
                    }
                }
            })
            .buffer_unordered(self.config.concurrency)
            .collect()
            .await;
        let out_of_time = reports
            .iter()
            .filter(|report| report.reason == Reason::OutOfTime)
            .count();
        let looked_at = reports.len() - out_of_time;
        if reports.len() > MAX_LISTED {
            let all = reports.len();
            reports.retain(|report| report.reason != Reason::NothingToCancel);
            unlisted.nothing_to_cancel = (all - reports.len()) as u64;
        }
        (reports, looked_at)
    }

    /// Cancels the task of one DLQ if it is RUNNING. To lose the race with its end is no failure.
    async fn cancel(&self, target: &Target, cause: &Cause) -> QueueReport {
        let (reason, because) = match cause {
            Cause::Requested => (Reason::Requested, String::new()),
            Cause::Braked(alarm) => (
                Reason::Braked,
                format!("the brake alarm `{}` is in ALARM: ", excerpt(alarm)),
            ),
        };
        let failed = |fault: &SqsError| QueueReport::failed(target.dlq.to_string(), fault);
        let nothing = |why: &str| report(target, Outcome::Skipped, Reason::NothingToCancel, why);
        let list = async || self.sqs.list_tasks(&target.dlq).await;
        let tasks = match retry_while_throttled(list, is_throttled).await {
            Ok(tasks) => tasks,
            Err(fault) => return failed(&fault),
        };
        let Some((task, handle)) = running(&tasks) else {
            return nothing("no move task is RUNNING, or SQS gave no handle for it")
                .with_tasks(&tasks);
        };
        let of_this_task = |report: QueueReport| {
            report.with_tasks(&tasks).with_task(report::Task {
                handle: handle.to_owned(),
                destination_arn: task.destination_arn.clone(),
                max_messages_per_second: None,
            })
        };
        if target.policy.dry_run {
            let detail =
                format!("{because}but for the dry run, the running move task is cancelled");
            return of_this_task(report(target, Outcome::WouldCancel, reason, detail));
        }
        let cancel = async || self.sqs.cancel(&target.dlq, handle).await;
        let is_cancel_throttled =
            |fault: &CancelError| matches!(fault, CancelError::Sqs(fault) if is_throttled(fault));
        match retry_while_throttled(cancel, is_cancel_throttled).await {
            Ok(()) => {
                let detail = format!(
                    "{because}the running move task is cancelled; what it has moved stays moved"
                );
                of_this_task(report(target, Outcome::Cancelled, reason, detail))
            }
            Err(CancelError::Sqs(fault)) => failed(&fault).with_tasks(&tasks),
            // What SQS meant by that, only another look can tell.
            Err(CancelError::NothingToCancel(why)) => {
                match self.sqs.list_tasks(&target.dlq).await {
                    Ok(tasks) if running(&tasks).is_some() => {
                        let detail = format!(
                            "SQS refused to cancel the move task, which is still RUNNING: {why}"
                        );
                        report(target, Outcome::Failed, Reason::ServiceError, detail)
                            .with_tasks(&tasks)
                    }
                    Ok(tasks) => {
                        nothing("the move task came to its end before it could be cancelled")
                            .with_tasks(&tasks)
                    }
                    Err(fault) => failed(&fault).with_tasks(&tasks),
                }
            }
        }
    }
}

impl From<&Plan> for TriggerReport {
    fn from(plan: &Plan) -> Self {
        let named = match &plan.selection {
            Selection::All => &[],
            Selection::Named(queues) => &queues[..],
        };
        let names: BTreeSet<&String> = named.iter().map(|queue| &queue.name).collect();
        Self {
            kind: plan.kind.code(),
            source: plan.source.clone(),
            queues: names.into_iter().take(MAX_LISTED).cloned().collect(),
            why: plan.why.clone(),
        }
    }
}

/// The task that can be cancelled, and its handle.
fn running(tasks: &[MoveTask]) -> Option<(&MoveTask, &str)> {
    tasks
        .iter()
        .find_map(|task| Some((task, task.cancellable()?)))
}

/// A DLQ and what was seen of it.
struct Seen<'a> {
    target: &'a Target,
    seen: Observation,
}

impl Seen<'_> {
    /// Adds what was seen to the report of what came of it.
    fn add_to(&self, report: QueueReport, now: SystemTime) -> QueueReport {
        let streak = streak(&self.target.policy, &self.seen, now);
        report.with(&self.seen, streak)
    }
}

/// Until when an invocation does what, so that it answers before Lambda ends it.
struct Deadlines {
    look_until: Instant,
    ask_until: Instant,
    act_until: Instant,
}

impl Deadlines {
    /// A fifth of the time, but no more than five seconds, is kept to ask CloudWatch: a DLQ that hangs
    /// must not take it. As much is kept for what comes then, half of it to start redrives.
    fn new(time_left: Duration) -> Self {
        let reserve = (time_left / 5).min(Duration::from_secs(5));
        let now = Instant::now();
        Self {
            look_until: now + (time_left - 2 * reserve),
            ask_until: now + (time_left - reserve),
            act_until: now + (time_left - reserve / 2),
        }
    }
}

/// Half of the time until then: one question that hangs must not take that of the next.
fn half_of_time_left(until: Instant) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / 2
}

/// Asks again while AWS throttles, for as long as the caller waits. The SDK has slowed down and
/// retried before it tells us; an account that is throttled makes a sweep slow, it does not fail it.
async fn retry_while_throttled<A, E>(
    ask: impl AsyncFn() -> Result<A, E>,
    is_throttled: impl Fn(&E) -> bool,
) -> Result<A, E> {
    loop {
        match ask().await {
            Err(fault) if is_throttled(&fault) => sleep(THROTTLED_PAUSE).await,
            answer => return answer,
        }
    }
}

fn is_throttled(fault: &SqsError) -> bool {
    matches!(fault, SqsError::Throttled(_))
}

const THROTTLED_PAUSE: Duration = Duration::from_secs(1);

const NO_ANSWER: &str = "CloudWatch did not answer in time";

fn unknown_brake(alarm: String) -> Brake {
    let state = BrakeState::Unknown(NO_ANSWER.to_owned());
    Brake { alarm, state }
}

/// Those of which the decision turns on a question.
fn those_asking<'all, 'a>(
    all: &'all mut [(Seen<'a>, Decision)],
    question: Question,
) -> Vec<&'all mut (Seen<'a>, Decision)> {
    all.iter_mut()
        .filter(|(_, decision)| *decision == Decision::Ask(question))
        .collect()
}

fn report(target: &Target, outcome: Outcome, reason: Reason, detail: impl ToString) -> QueueReport {
    QueueReport::new(target.dlq.to_string(), outcome, reason, detail.to_string())
}

fn fault_reason(fault: &TaggingError) -> Reason {
    match fault {
        TaggingError::AccessDenied(_) => Reason::AccessDenied,
        TaggingError::Service(_) => Reason::ServiceError,
    }
}
