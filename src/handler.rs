//! The function: an invocation from its event to its report.

use crate::cancel;
use crate::cloudwatch::CloudWatch;
use crate::config::{Config, ConfigError, EnrollTag};
use crate::deadlines::{Deadlines, half_of_time_left};
use crate::enrollment::{self, Tags, TagsToRead, Target};
use crate::event::request::Selection;
use crate::event::{self, EventError, RecordError};
use crate::look::{Context, Looks};
use crate::memory::Memory;
use crate::observation::BrakeState;
use crate::outcome::{Failed, Finding, Findings, Outcome, Skipped};
use crate::plan::{Action, Kind, brakes_in_alarm, plan};
use crate::queue::{Location, QueueArn, TaggedQueue};
use crate::redrive;
use crate::report::Report;
use crate::sqs::Sqs;
use crate::tagging::{MAX_PAGES, Page, Tagging, TaggingError};
use crate::text::{counted, first_three};
use crate::turns::Turns;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// The function: its configuration and the services it calls.
pub struct Function<S, C, T> {
    config: Config,
    region: String,
    sqs: S,
    cloudwatch: C,
    tagging: T,
    turns: Turns,
    cancel_turns: Turns,
    memory: Memory,
}

/// The circumstances of one invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where the function runs.
    pub location: Location,
    /// The time of the invocation, for every decision in it.
    pub now: SystemTime,
    /// How long Lambda lets the invocation run, from now.
    pub time_left: Duration,
}

/// What an invocation found out, if it understood the event.
#[derive(Debug)]
pub struct Answer {
    /// What happened to each queue.
    pub report: Report,
    /// The records of the event that could not be read.
    pub unreadable: Vec<RecordError>,
    /// Why enrollment by tag could not be read. The listed DLQs, and the tagged DLQs that were
    /// found before that, were handled.
    pub tags_error: Option<TagsError>,
}

/// Why not all tags could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsError {
    /// What failed.
    pub error: TaggingError,
    /// How many pages of the list of tagged queues had come until then. Their queues were served.
    pub pages: usize,
}

impl fmt::Display for TagsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, pages } = self;
        match *pages {
            0 => error.fmt(f),
            pages => {
                let pages = counted(pages as u64, "page");
                write!(
                    f,
                    "{error}; before that it listed {pages}, whose queues were served"
                )
            }
        }
    }
}

/// Why an invocation fails. Lambda counts the error, retries, and informs the on-failure
/// destination.
#[derive(thiserror::Error)]
pub enum InvocationError {
    /// The environment is wrong, so the function did nothing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The event is not a supported event, so the function did nothing.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The function did everything it could. This part failed.
    #[error("{0}")]
    Incomplete(String),
}

impl fmt::Debug for InvocationError {
    /// Same as `Display`: the Lambda runtime logs errors with `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        let error_type = match error {
            InvocationError::Config(_) => "InvalidConfiguration",
            InvocationError::Event(_) => "EventRejected",
            InvocationError::Incomplete(_) => "RedriveIncomplete",
        };
        Self {
            error_type: error_type.to_owned(),
            error_message: error.to_string(),
        }
    }
}

impl Answer {
    /// What Lambda returns. `Err` if a queue failed, if a record or the tags could not be read, or if a
    /// request is not done.
    pub fn result(self) -> Result<Report, InvocationError> {
        let failed = self.report.failed();
        let unreadable: Vec<String> = self.unreadable.iter().map(RecordError::to_string).collect();
        let mut faults = Vec::new();
        if !failed.is_empty() {
            let (dlqs, first) = (
                counted(failed.len() as u64, "DLQ"),
                first_three(&failed, ", "),
            );
            faults.push(format!("{dlqs} failed: {first}"));
        }
        if !unreadable.is_empty() {
            let records = counted(unreadable.len() as u64, "record");
            let first = first_three(&unreadable, "; ");
            faults.push(format!("{records} could not be read: {first}"));
        }
        // No schedule repeats a request.
        let undone = self.report.undone();
        if self.report.trigger.kind == Kind::Request && undone > 0 {
            let dlqs = counted(undone, "DLQ");
            faults.push(format!("the request is not done for {dlqs}; send it again"));
        }
        if let Some(error) = self.tags_error {
            faults.push(format!("enrollment by tag could not be read: {error}"));
        }
        match faults.is_empty() {
            true => Ok(self.report),
            false => Err(InvocationError::Incomplete(faults.join("; "))),
        }
    }
}

impl<S: Sqs, C: CloudWatch, T: Tagging> Function<S, C, T> {
    /// The function in its region, with a valid configuration.
    pub fn new(config: Config, region: String, sqs: S, cloudwatch: C, tagging: T) -> Self {
        Self {
            config,
            region,
            sqs,
            cloudwatch,
            tagging,
            turns: Turns::default(),
            cancel_turns: Turns::default(),
            memory: Memory::default(),
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
        let report = &answer.report;
        report.log(begun.elapsed());
        println!("{}", report.metrics(&context.env_config.function_name, now));
        answer.result()
    }

    /// Does what an event calls for. `Err` if the event is not supported; then nothing was touched.
    pub async fn invoke(
        &self,
        payload: &str,
        invocation: &Invocation,
    ) -> Result<Answer, InvocationError> {
        let Invocation { location, now, .. } = invocation;
        let deadlines = Deadlines::new(invocation.time_left);
        let config = &self.config;
        let event = event::parse(payload)?;
        let sources = &event.event_source_arns;
        let brakes = &config.policy.brake_alarms;
        let stated = brakes_in_alarm(&event.triggers, brakes, location);
        let released = self.released(stated, &deadlines).await;
        let plan = plan(event.triggers, brakes, &released, location);
        let (selection, request) = (&plan.selection, plan.request.as_ref());

        let wanted = enrollment::tags_to_read(selection, request, sources, config, location);
        let mut looks = Looks::new(&self.sqs, config.limits.concurrency);
        // Nothing may be touched if one of the sources turns out to be a DLQ.
        let early = (plan.action == Action::Redrive && sources.is_empty()).then_some(&mut looks);
        let (found, tags_error) = self.read_tags(wanted, location, &deadlines, early).await;
        if let Some(dlq) = enrollment::dlq_among(sources, config, &found) {
            return Err(EventError::dead_letters(dlq).into());
        }
        let unread = tags_error.as_ref().map(TagsError::to_string);
        let tags = Tags { found, unread };
        let timeout = invocation.time_left;
        let mut targets = enrollment::targets(selection, request, config, &tags, location, timeout);
        drop(tags); // Of 10,000 queues, they take half a MiB.
        let is_sweep = *selection == Selection::All;
        if is_sweep {
            self.turns_of(&plan.action)
                .apply(&mut targets.enrolled, *now);
        }

        let enrolled = &targets.enrolled;
        let acted = self.act(&plan.action, enrolled, looks, *now, &deadlines);
        let mut findings = acted.await;
        if is_sweep {
            self.turns_of(&plan.action).note(enrolled, &findings.others);
        }
        let others = targets.not_enrolled.iter();
        let others = others.map(|arn| not_enrolled(arn, tags_error.as_ref()));
        findings.others.extend(others);
        Ok(Answer {
            report: Report::new(&plan, targets.dry_run, findings),
            unreadable: event.unreadable,
            tags_error,
        })
    }

    /// Whose turn it is depends on what was done: a cancel asks nothing about the depth.
    fn turns_of(&self, action: &Action) -> &Turns {
        match action {
            Action::Redrive => &self.turns,
            Action::Cancel(_) => &self.cancel_turns,
        }
    }

    /// The alarms among these that are not in ALARM now. Takes no call if there are none. In doubt,
    /// the event is right.
    async fn released(&self, alarms: Vec<String>, deadlines: &Deadlines) -> Vec<String> {
        if alarms.is_empty() {
            return alarms;
        }
        let until = half_of_time_left(deadlines.look_until);
        let brakes = self.cloudwatch.brakes(&alarms, until).await;
        let released = brakes
            .into_iter()
            .filter(|brake| brake.state == BrakeState::Off);
        released.map(|brake| brake.alarm).collect()
    }

    /// Redrives or cancels. Each target is in the findings.
    async fn act<'a>(
        &self,
        action: &Action,
        targets: &'a [Target],
        looks: Looks<'_, S>,
        now: SystemTime,
        deadlines: &Deadlines,
    ) -> Findings<'a> {
        let limits = &self.config.limits;
        match action {
            Action::Redrive => {
                let sample = targets.iter().map(|target| target.policy.sample).max();
                let context = Context {
                    sqs: &self.sqs,
                    cloudwatch: &self.cloudwatch,
                    memory: &self.memory,
                    limits,
                    now,
                    deadlines: &deadlines.with_sample(sample.unwrap_or_default()),
                };
                redrive::run(&context, targets, looks).await
            }
            Action::Cancel(cause) => Findings {
                others: cancel::run(&self.sqs, limits, targets, cause, deadlines).await,
                ..Findings::default()
            },
        }
    }

    /// Reads the tags that enrollment needs, as far as the tagging API answers. Takes no call if it
    /// needs none.
    async fn read_tags(
        &self,
        wanted: TagsToRead,
        location: &Location,
        deadlines: &Deadlines,
        early: Option<&mut Looks<'_, S>>,
    ) -> (Vec<TaggedQueue>, Option<TagsError>) {
        let Some(tag) = &self.config.enroll_tag else {
            return (Vec::new(), None);
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        let read = async {
            let queues = match wanted {
                TagsToRead::None => return Ok(()),
                TagsToRead::All(mut listed) => {
                    self.list(tag, &mut found, &mut pages, early).await?;
                    let known: HashSet<&QueueArn> = found.iter().map(|it| &it.dlq).collect();
                    listed.retain(|dlq| !known.contains(dlq));
                    found.extend(self.tagging.tagged_among(&listed, tag).await?);
                    return Ok(());
                }
                TagsToRead::Of(queues) => queues,
            };
            found = self.tagging.tagged_among(&queues, tag).await?;
            let destinations = enrollment::destinations_to_read(&found, &queues, location);
            found.extend(self.tagging.tagged_among(&destinations, tag).await?);
            Ok(())
        };
        // However slow the tagging API is, there must be time left to look at the listed DLQs, and at
        // the tagged DLQs that were found.
        let half = half_of_time_left(deadlines.look_until);
        let until = match self.config.queues.is_empty() {
            true => half + deadlines.look_until.saturating_duration_since(half) / 2,
            false => half,
        };
        let no_answer = || TaggingError::Unreachable("no answer in time".to_owned());
        let read = timeout_at(until, read).await;
        let error = read.unwrap_or_else(|_| Err(no_answer())).err();
        (found, error.map(|error| TagsError { error, pages }))
    }

    /// Lists the queues with the enroll tag, page by page. While the next page is asked for, it looks early
    /// at the DLQs of the pages that came, if it may.
    async fn list(
        &self,
        tag: &EnrollTag,
        found: &mut Vec<TaggedQueue>,
        pages: &mut usize,
        mut early: Option<&mut Looks<'_, S>>,
    ) -> Result<(), TaggingError> {
        let mut known = HashSet::new();
        let mut waiting = VecDeque::new();
        let mut token = None;
        while *pages < MAX_PAGES {
            let page = self.tagging.page(tag, token.as_deref());
            let Page { queues, next } = match &mut early {
                Some(looks) => looks.during(page, &mut waiting).await?,
                None => page.await?,
            };
            *pages += 1;
            let new = queues.iter().filter(|it| known.insert(it.dlq.clone()));
            let is_repeated = new.count() == 0 && !queues.is_empty();
            if early.is_some() && next.is_some() {
                let enrolled = queues.iter().filter(|it| it.enrolled).map(|it| &it.dlq);
                waiting.extend(enrolled.filter(|it| self.turns.may_come_early(it)).cloned());
            }
            found.extend(queues);
            if next.is_none() {
                return Ok(());
            }
            if is_repeated || next == token {
                break;
            }
            token = next;
        }
        Err(TaggingError::Endless)
    }
}

/// The finding about a named queue that is not enrolled, as far as the tags could be read.
fn not_enrolled<'a>(queue_arn: &'a str, tags_error: Option<&TagsError>) -> Finding<'a> {
    let outcome = match tags_error {
        None => Outcome::Skipped(Skipped::NotEnrolled),
        Some(error) => Outcome::Failed(Failed::Tags(error.error.clone())),
    };
    Finding::unseen(queue_arn, outcome)
}

/// Some emulators send a deadline in 1970. The invocation then has this much time.
const EMULATED_TIME: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
