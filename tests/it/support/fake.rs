//! SQS and CloudWatch in memory, with their rules: one active task per queue, at most ten tasks in
//! a list, counts that settle late, metrics that arrive late. The fake records calls. The test sets
//! the time.

mod draw;

use super::tagging::assert_sqs_takes;
pub use draw::Draws;
use draw::{Answer as Reply, Course, Draw};
use serde_json::Value;
use sqs_auto_redrive::cloudwatch::CloudWatch;
use sqs_auto_redrive::config::{Config, EnrollTag, Limits};
use sqs_auto_redrive::decision::Start;
use sqs_auto_redrive::fall::{QueueFacts, RedrivePolicy};
use sqs_auto_redrive::handler::{Answer, Function, Invocation, InvocationError};
use sqs_auto_redrive::metrics::{Metrics, MetricsQuery, Reading};
use sqs_auto_redrive::observation::{Brake, BrakeState};
use sqs_auto_redrive::policy::Policy;
use sqs_auto_redrive::queue::{Depth, Location, MoveTask, QueueArn, TaggedQueue, TaskStatus};
use sqs_auto_redrive::sqs::{CancelError, Sqs, SqsError, StartError};
use sqs_auto_redrive::tagging::{Page, Tagging, TaggingError};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

pub const MINUTE: Duration = Duration::from_secs(60);

/// How long every DLQ keeps a message.
pub const RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// Datapoints of SQS's metrics arrive two minutes late.
const METRICS_DELAY: Duration = Duration::from_secs(120);
/// SQS counts what a task has moved two minutes late.
const MOVED_DELAY: Duration = Duration::from_secs(120);

/// The ARN of a DLQ in the account and region of every test.
pub fn dlq(name: &str) -> QueueArn {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
        .parse()
        .unwrap()
}

/// SQS and CloudWatch.
pub struct Fake {
    state: RefCell<State>,
}

struct State {
    now: SystemTime,
    /// When the test last set the time.
    ticked: Instant,
    queues: BTreeMap<QueueArn, Queue>,
    calls: Vec<String>,
    /// By queue and operation.
    faults: BTreeMap<(QueueArn, &'static str), SqsError>,
    latency: BTreeMap<QueueArn, Duration>,
    /// How many more calls about a queue are throttled.
    throttled: BTreeMap<QueueArn, usize>,
    alarms: BTreeMap<String, BrakeState>,
    /// The facts of the queues that messages are moved to.
    facts: BTreeMap<QueueArn, Result<QueueFacts, SqsError>>,
    dice: fastrand::Rng,
    tags: BTreeMap<QueueArn, Vec<(String, String)>>,
    /// The queues among them without the enroll tag.
    only_settings: Vec<QueueArn>,
    /// How many queues are on a page of the list of tagged queues.
    page_size: usize,
    /// How long a page takes.
    page_latency: Duration,
    /// After how many pages the tagging API fails, and how.
    tagging_fault: Option<(usize, TaggingError)>,
    /// How many pages of a list came.
    pages: usize,
    /// How many of its queues a page has in common with the page before.
    overlap: usize,
    /// Whether the first page follows the last.
    repeats: bool,
    /// The DLQs whose depth SQS returned.
    seen: BTreeSet<QueueArn>,
    tagging_hangs: bool,
    /// What CloudWatch answers about the metrics of any queue, if it does not return them.
    unreadable_metrics: Option<Metrics>,
    /// Draws how long each call waits; `None` if no call does.
    jitter: Option<fastrand::Rng>,
    /// What happens before a call, by its text.
    hooks: Vec<(String, Hook)>,
}

type Hook = Box<dyn FnOnce(&Fake)>;

#[derive(Default)]
struct Queue {
    counts: Depth,
    /// What SQS reports, which settles late; `None` if it settles immediately.
    shown: Option<Depth>,
    refuses_to_cancel: bool,
    /// Whether SQS returns the handle of no task.
    hides_handles: bool,
    /// How SQS refuses a start because of the account's limit, if it does.
    account_limit: Option<String>,
    /// How the answer to the next start is lost, if it is.
    loses_start: Option<LostAnswer>,
    /// How long SQS takes to answer a start, in addition to the queue's latency.
    start_latency: Duration,
    /// Oldest first.
    tasks: Vec<FakeTask>,
    depths: Vec<(SystemTime, u64)>,
    /// How many messages its consumer handled in each minute.
    handled: Vec<(SystemTime, u64)>,
    /// The age of its oldest message, if CloudWatch knows it.
    oldest_age: Option<Duration>,
    /// What a sample, or a task whose course is drawn, moved since the last minute.
    sampled: u64,
    /// Whether a sample may go on after its cancel, and SQS's count of it lags.
    is_rough: bool,
    /// Draws the course of each task; see [`Fake::with_draws`].
    draw: Option<Draw>,
}

impl Queue {
    /// Lets the active task move what it has moved by now, if its course is drawn.
    fn catch_up(&mut self, now: SystemTime) {
        for task in self.tasks.iter_mut().filter(|task| task.is_active()) {
            let Some(course) = &task.course else {
                continue;
            };
            let moved = course.moved(now).saturating_sub(task.moved);
            let moved = moved.min(self.counts.visible);
            self.counts.visible -= moved;
            self.sampled += moved;
            task.moved += moved;
            let has_all = task.moved == course.total || self.counts.visible == 0;
            let end = match course.cancelled_by() {
                Some(by) if by <= now => TaskStatus::Cancelled,
                None if has_all => TaskStatus::Completed,
                _ => continue,
            };
            task.listed.status = end;
            task.listed.handle = None;
            task.ended_at = Some(now);
        }
    }
}

struct FakeTask {
    listed: MoveTask,
    rate: Option<u16>,
    moved: u64,
    ended_at: Option<SystemTime>,
    course: Option<Course>,
}

impl FakeTask {
    fn is_active(&self) -> bool {
        self.listed.status.is_active()
    }
}

/// An invocation that is yet to be made.
pub struct Invoke<'a> {
    fake: &'a Fake,
    event: &'a str,
    config: Config,
    invocation: Invocation,
}

impl Invoke<'_> {
    /// Lists these DLQs instead of all.
    pub fn listing(mut self, dlqs: &[&QueueArn]) -> Self {
        self.config.queues = dlqs.iter().copied().cloned().collect();
        self
    }

    /// Enrolls by the tag `auto-redrive=enabled` instead of a list.
    pub fn by_tag(mut self) -> Self {
        self.config.enroll_tag = Some(EnrollTag {
            key: "auto-redrive".to_owned(),
            value: Some("enabled".to_owned()),
        });
        self.listing(&[])
    }

    /// Sets the policy of the environment.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.config.policy = policy;
        self
    }

    /// Sets the most redrives that one invocation starts.
    pub fn max_starts(mut self, max_starts: usize) -> Self {
        self.config.limits.max_starts = max_starts;
        self
    }

    /// Sets the time until Lambda's deadline.
    pub fn time_left(mut self, time_left: Duration) -> Self {
        self.invocation.time_left = time_left;
        self
    }

    /// The answer of an invocation that produces a report, with or without failures in it.
    pub async fn answer(self) -> Answer {
        self.run().await.unwrap()
    }

    /// The report of an invocation that succeeds.
    pub async fn report(self) -> Value {
        let report = self.answer().await.result().unwrap();
        serde_json::to_value(report).unwrap()
    }

    /// The error of an invocation that fails.
    pub async fn failure(self) -> InvocationError {
        self.run().await.and_then(Answer::result).unwrap_err()
    }

    async fn run(self) -> Result<Answer, InvocationError> {
        let function = self.fake.function(self.config);
        function.invoke(self.event, &self.invocation).await
    }
}

/// How the answer to a call that took effect is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostAnswer {
    /// The caller gets an error of the network.
    Unreachable,
    /// The SDK sends the call again, and SQS refuses it.
    Repeated,
    /// The caller gets no answer at all.
    Silence,
}

/// What a tick of the clock moved out of a DLQ.
pub struct Moved {
    pub messages: u64,
    pub destination: Option<String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            state: RefCell::new(State {
                now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
                ticked: Instant::now(),
                queues: BTreeMap::new(),
                calls: Vec::new(),
                faults: BTreeMap::new(),
                latency: BTreeMap::new(),
                throttled: BTreeMap::new(),
                alarms: BTreeMap::new(),
                facts: BTreeMap::new(),
                dice: fastrand::Rng::with_seed(7),
                tags: BTreeMap::new(),
                only_settings: Vec::new(),
                page_size: usize::MAX,
                page_latency: Duration::ZERO,
                tagging_fault: None,
                pages: 0,
                overlap: 0,
                repeats: false,
                seen: BTreeSet::new(),
                tagging_hangs: false,
                unreadable_metrics: None,
                jitter: None,
                hooks: Vec::new(),
            }),
        }
    }
}

impl Fake {
    /// A DLQ with this many visible messages.
    pub fn with(self, queue: &QueueArn, visible: u64) -> Self {
        self.counts_are(queue, visible, 0);
        self
    }

    /// A task of the past, newer than the tasks given before.
    pub fn with_task(self, queue: &QueueArn, task: MoveTask) -> Self {
        self.add_task(queue, task);
        self
    }

    /// A task that somebody else started.
    pub fn add_task(&self, queue: &QueueArn, task: MoveTask) {
        let listed = FakeTask {
            moved: task.moved,
            rate: None,
            ended_at: Some(UNIX_EPOCH),
            course: None,
            listed: task,
        };
        self.queue(queue, |queue| queue.tasks.push(listed));
    }

    /// An alarm in this state.
    pub fn with_alarm(self, name: &str, state: BrakeState) -> Self {
        self.alarm_is(name, state);
        self
    }

    /// SQS refuses to cancel a task of this queue, although it is RUNNING.
    pub fn with_refused_cancel(self, queue: &QueueArn) -> Self {
        self.queue(queue, |queue| queue.refuses_to_cancel = true);
        self
    }

    /// SQS returns the handle of no task of this queue.
    pub fn with_hidden_handles(self, queue: &QueueArn) -> Self {
        self.queue(queue, |queue| queue.hides_handles = true);
        self
    }

    /// The newest task of this queue has this status now.
    pub fn newest_task_is(&self, queue: &QueueArn, status: &str) {
        self.queue(queue, |queue| {
            let task = &mut queue.tasks.last_mut().unwrap().listed;
            task.status = TaskStatus::from_sqs(Some(status));
            task.handle = None;
        });
    }

    /// The account has as many active tasks as SQS allows, which SQS says in these words.
    pub fn with_account_limit(self, queue: &QueueArn, words: &str) -> Self {
        self.queue(queue, |queue| queue.account_limit = Some(words.to_owned()));
        self
    }

    /// The next start on this queue takes effect, and its answer is lost.
    pub fn with_lost_start(self, queue: &QueueArn, how: LostAnswer) -> Self {
        self.queue(queue, |queue| queue.loses_start = Some(how));
        self
    }

    /// Lets the futures of a test take turns at every call, in an order that the seed decides.
    pub fn with_jitter(self, seed: u64) -> Self {
        self.state.borrow_mut().jitter = Some(fastrand::Rng::with_seed(seed));
        self
    }

    /// Does this before the next call with this text, `operation queue`. Each call takes one hook.
    pub fn before(self, call: &str, hook: impl FnOnce(&Self) + 'static) -> Self {
        let hook = (call.to_owned(), Box::new(hook) as Hook);
        self.state.borrow_mut().hooks.push(hook);
        self
    }

    /// Records a call, and lets other futures run first.
    async fn record(&self, call: String) {
        let turns = {
            let dice = &mut self.state.borrow_mut().jitter;
            dice.as_mut().map_or(0, |dice| dice.usize(0..5))
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let hook = {
            let hooks = &mut self.state.borrow_mut().hooks;
            let found = hooks.iter().position(|(at, _)| *at == call);
            found.map(|n| hooks.remove(n).1)
        };
        if let Some(hook) = hook {
            hook(self);
        }
        self.state.borrow_mut().calls.push(call);
    }

    /// SQS takes this long to answer a start on this queue.
    pub fn with_slow_start(self, queue: &QueueArn, latency: Duration) -> Self {
        self.queue(queue, |queue| queue.start_latency = latency);
        self
    }

    /// SQS answers this operation on this queue with an error.
    pub fn with_fault(self, queue: &QueueArn, operation: &'static str, fault: SqsError) -> Self {
        self.state
            .borrow_mut()
            .faults
            .insert((queue.clone(), operation), fault);
        self
    }

    /// SQS takes this long to answer any call about this queue.
    pub fn with_latency(self, queue: &QueueArn, latency: Duration) -> Self {
        self.latency_is(queue, latency);
        self
    }

    pub fn latency_is(&self, queue: &QueueArn, latency: Duration) {
        let mut state = self.state.borrow_mut();
        state.latency.insert(queue.clone(), latency);
    }

    /// A queue with the enroll tag, and the settings in its other tags.
    pub fn with_tags(self, queue: &QueueArn, settings: &[(&str, &str)]) -> Self {
        for (name, value) in settings {
            assert_sqs_takes(name, value);
        }
        self.with_any_tags(queue, settings)
    }

    /// As [`Self::with_tags`], with tags that SQS itself would refuse, too.
    pub fn with_any_tags(self, queue: &QueueArn, settings: &[(&str, &str)]) -> Self {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.state
            .borrow_mut()
            .tags
            .insert(queue.clone(), settings.collect());
        self
    }

    /// A queue without the enroll tag, but with settings in other tags.
    pub fn with_settings(self, queue: &QueueArn, settings: &[(&str, &str)]) -> Self {
        self.state.borrow_mut().only_settings.push(queue.clone());
        self.with_tags(queue, settings)
    }

    /// The tagging API answers with an error.
    pub fn with_tagging_fault(self, fault: TaggingError) -> Self {
        self.with_tagging_fault_after(0, fault)
    }

    /// The tagging API answers with an error, once it has listed this many pages.
    pub fn with_tagging_fault_after(self, pages: usize, fault: TaggingError) -> Self {
        self.state.borrow_mut().tagging_fault = Some((pages, fault));
        self
    }

    /// The tagging API lists this many queues on a page, and takes this long for each.
    pub fn with_pages(self, size: usize, latency: Duration) -> Self {
        self.state.borrow_mut().page_size = size;
        self.state.borrow_mut().page_latency = latency;
        self
    }

    /// Each page of the list begins with the last queue of the page before.
    pub fn with_overlapping_pages(self) -> Self {
        self.state.borrow_mut().overlap = 1;
        self
    }

    /// The list of tagged queues begins again after its last page.
    pub fn with_repeated_pages(self) -> Self {
        self.state.borrow_mut().repeats = true;
        self
    }

    /// The tagging API does not answer.
    pub fn with_slow_tagging(self) -> Self {
        self.state.borrow_mut().tagging_hangs = true;
        self
    }

    /// CloudWatch refuses to return metrics, or fails.
    pub fn with_unreadable_metrics(self, is_refused: bool) -> Self {
        let metrics = match is_refused {
            true => Metrics::Denied("not authorized".to_owned()),
            false => Metrics::Failed("InternalFailure".to_owned()),
        };
        self.state.borrow_mut().unreadable_metrics = Some(metrics);
        self
    }

    /// Whether a task of this queue is RUNNING.
    pub fn is_running(&self, queue: &QueueArn) -> bool {
        let is_running = |task: &FakeTask| task.listed.status == TaskStatus::Running;
        self.queue(queue, |queue| queue.tasks.iter().any(is_running))
    }

    /// Lists every DLQ given so far, with the default policy.
    pub fn config(&self) -> Config {
        Config {
            queues: self.state.borrow().queues.keys().cloned().collect(),
            enroll_tag: None,
            policy: Policy::default(),
            limits: Limits {
                max_starts: 20,
                concurrency: 64,
            },
        }
    }

    /// An invocation with this event and [`Self::config`], a minute before its deadline.
    pub fn invoke<'a>(&'a self, event: &'a str) -> Invoke<'a> {
        Invoke {
            fake: self,
            event,
            config: self.config(),
            invocation: self.invocation(),
        }
    }

    /// The function, with this fake for its services.
    pub fn function(&self, config: Config) -> Function<&Self, &Self, &Self> {
        Function::new(config, "us-east-1".to_owned(), self, self, self)
    }

    /// SQS throttles the next `calls` calls about this queue.
    pub fn with_throttling(self, queue: &QueueArn, calls: usize) -> Self {
        self.state
            .borrow_mut()
            .throttled
            .insert(queue.clone(), calls);
        self
    }

    /// A DLQ had this many visible messages, this long ago.
    pub fn with_depth(self, queue: &QueueArn, visible: u64, ago: Duration) -> Self {
        let at = self.now() - ago;
        self.queue(queue, |queue| queue.depths.push((at, visible)));
        self
    }

    /// A source queue of a DLQ: its visibility timeout, and how many receives a message survives.
    pub fn with_source(
        self,
        source: &QueueArn,
        dlq: &QueueArn,
        visibility: Duration,
        receives: u32,
    ) -> Self {
        let facts = QueueFacts {
            visibility_timeout: visibility,
            delay: Duration::ZERO,
            redrive_policy: Some(RedrivePolicy {
                dlq_arn: dlq.to_string(),
                max_receive_count: receives,
            }),
        };
        self.with_facts(source, Ok(facts))
    }

    /// SQS returns this when it is asked for the facts of a queue.
    pub fn with_facts(self, queue: &QueueArn, facts: Result<QueueFacts, SqsError>) -> Self {
        self.state.borrow_mut().facts.insert(queue.clone(), facts);
        self
    }

    /// Samples go on after their cancel, and SQS's count of what they moved lags. `seed` decides by
    /// how much.
    pub fn roughly(self, queue: &QueueArn, seed: u64) -> Self {
        self.state.borrow_mut().dice = fastrand::Rng::with_seed(seed);
        self.queue(queue, |queue| queue.is_rough = true);
        self
    }

    /// Whatever SQS and CloudWatch leave open about the tasks of this queue is drawn. Time
    /// passes within an invocation, too.
    pub fn with_draws(self, queue: &QueueArn, draws: Draws) -> Self {
        let draw = Draw::new(draws);
        self.queue(queue, |queue| queue.draw = Some(draw));
        self
    }

    /// How many answers to a start on this queue were lost.
    pub fn lost_starts(&self, queue: &QueueArn) -> u64 {
        self.queue(queue, |queue| {
            queue.draw.as_ref().map_or(0, |draw| draw.lost_starts)
        })
    }

    /// Messages fall into a DLQ.
    pub fn fall(&self, queue: &QueueArn, messages: u64) {
        self.queue(queue, |queue| queue.counts.visible += messages);
    }

    /// How many messages are in a DLQ, and how many its tasks have moved.
    pub fn left_and_moved(&self, queue: &QueueArn) -> (u64, u64) {
        let clock = self.clock();
        self.queue(queue, |queue| {
            queue.catch_up(clock);
            let moved = queue.tasks.iter().map(|task| task.moved).sum();
            (queue.counts.total(), moved)
        })
    }

    /// The consumer of a queue handled this many messages in the last minute.
    pub fn handled(&self, queue: &QueueArn, messages: u64) {
        let now = self.now();
        self.queue(queue, |queue| queue.handled.push((now, messages)));
    }

    /// By CloudWatch, this is the age of the DLQ's oldest message.
    pub fn oldest_age_is(&self, queue: &QueueArn, age: Duration) {
        self.queue(queue, |queue| queue.oldest_age = Some(age));
    }

    pub fn alarm_is(&self, name: &str, state: BrakeState) {
        self.state
            .borrow_mut()
            .alarms
            .insert(name.to_owned(), state);
    }

    /// The error of [`Self::with_fault`] is over.
    pub fn fault_is_over(&self, queue: &QueueArn, operation: &'static str) {
        self.state
            .borrow_mut()
            .faults
            .remove(&(queue.clone(), operation));
    }

    pub fn counts_are(&self, queue: &QueueArn, visible: u64, in_flight: u64) {
        self.queue(queue, |queue| queue.counts = Depth { visible, in_flight });
    }

    pub fn now(&self) -> SystemTime {
        self.state.borrow().now
    }

    /// The time, also within an invocation.
    fn clock(&self) -> SystemTime {
        let state = self.state.borrow();
        state.now + state.ticked.elapsed()
    }

    /// An invocation now, in the account and region of [`dlq`], a minute before its deadline.
    pub fn invocation(&self) -> Invocation {
        Invocation {
            location: Location::new("arn:aws:lambda:us-east-1:123456789012:function:redrive", ""),
            now: self.now(),
            time_left: MINUTE,
        }
    }

    /// The calls since the last time this method was called, in order, as `operation queue`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.borrow_mut().calls)
    }

    /// The DLQs whose depth SQS has returned so far.
    pub fn seen(&self) -> BTreeSet<QueueArn> {
        self.state.borrow().seen.clone()
    }

    /// Every task that was started on this queue: its time, and its destination.
    pub fn starts(&self, queue: &QueueArn) -> Vec<(SystemTime, Option<String>)> {
        self.queue(queue, |queue| {
            let start = |task: &FakeTask| {
                (
                    task.listed.started_at.unwrap(),
                    task.listed.destination_arn.clone(),
                )
            };
            queue.tasks.iter().map(start).collect()
        })
    }

    /// Lets a minute pass: metrics are recorded, counts settle, the active task moves messages.
    pub fn minute_passes(&self, queue: &QueueArn) -> Moved {
        self.state.borrow_mut().now += MINUTE;
        self.state.borrow_mut().ticked = Instant::now();
        let now = self.now();
        self.queue(queue, |queue| {
            queue.depths.push((now, queue.counts.visible));
            queue.shown = Some(queue.counts);
            queue.catch_up(now);
            let sampled = std::mem::take(&mut queue.sampled);
            let active = queue.tasks.iter_mut().find(|task| task.is_active());
            let Some(task) = active.filter(|task| task.course.is_none()) else {
                return Moved {
                    messages: sampled,
                    destination: None,
                };
            };
            let a_minute = u64::from(task.rate.unwrap_or(500)) * 60;
            // The messages to move are fixed at the start; messages that arrive later need another
            // task.
            let to_move = task.listed.to_move.unwrap_or_default();
            let messages = a_minute.min(queue.counts.visible).min(to_move - task.moved);
            queue.counts.visible -= messages;
            task.moved += messages;
            let stopped = task.listed.status == TaskStatus::Cancelling;
            if stopped || task.moved == to_move || queue.counts.visible == 0 {
                task.listed.status = match task.listed.status {
                    TaskStatus::Cancelling => TaskStatus::Cancelled,
                    _ => TaskStatus::Completed,
                };
                task.listed.handle = None;
                task.ended_at = Some(now);
            }
            Moved {
                messages,
                destination: task.listed.destination_arn.clone(),
            }
        })
    }

    /// Waits for the tagging API. `Err` if it fails.
    async fn tagging(&self) -> Result<(), TaggingError> {
        let (hangs, latency) = {
            let state = self.state.borrow();
            (state.tagging_hangs, state.page_latency)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let state = self.state.borrow();
        match &state.tagging_fault {
            Some((after, fault)) if state.pages >= *after => Err(fault.clone()),
            _ => Ok(()),
        }
    }

    fn queue<T>(&self, queue: &QueueArn, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(self
            .state
            .borrow_mut()
            .queues
            .entry(queue.clone())
            .or_default())
    }

    /// Records a call, waits for its latency, lets other futures run, and returns the error that is
    /// set for it.
    async fn call(&self, operation: &'static str, queue: &QueueArn) -> Result<(), SqsError> {
        self.record(format!("{operation} {}", queue.name())).await;
        let latency = self.state.borrow().latency.get(queue).copied();
        match latency {
            Some(latency) => tokio::time::sleep(latency).await,
            None => tokio::task::yield_now().await,
        }
        if let Some(calls) = self.state.borrow_mut().throttled.get_mut(queue)
            && *calls > 0
        {
            *calls -= 1;
            return Err(SqsError::Throttled("Rate exceeded".to_owned()));
        }
        let state = self.state.borrow();
        if let Some(fault) = state.faults.get(&(queue.clone(), operation)) {
            return Err(fault.clone());
        }
        if !state.queues.contains_key(queue) {
            return Err(SqsError::QueueNotFound(
                "The specified queue does not exist.".to_owned(),
            ));
        }
        Ok(())
    }
}

impl Sqs for &Fake {
    async fn depth(&self, queue: &QueueArn) -> Result<(Depth, Option<Duration>), SqsError> {
        self.call("GetQueueAttributes", queue).await?;
        self.state.borrow_mut().seen.insert(queue.clone());
        let depth = self.queue(queue, |queue| queue.shown.unwrap_or(queue.counts));
        Ok((depth, Some(RETENTION)))
    }

    async fn list_tasks(&self, dlq: &QueueArn) -> Result<Vec<MoveTask>, SqsError> {
        self.call("ListMessageMoveTasks", dlq).await?;
        let (now, clock) = (self.now(), self.clock());
        Ok(self.queue(dlq, |queue| {
            queue.catch_up(clock);
            let listed = |task: &FakeTask| {
                if let Some(course) = &task.course {
                    return MoveTask {
                        moved: course.counted(clock, task.moved),
                        ..task.listed.clone()
                    };
                }
                let settled = task
                    .ended_at
                    .is_some_and(|ended| ended + MOVED_DELAY <= now);
                let is_running = task.listed.status == TaskStatus::Running;
                MoveTask {
                    moved: if settled || is_running { task.moved } else { 0 },
                    ..task.listed.clone()
                }
            };
            let hides_handles = queue.hides_handles;
            let shown = |task: MoveTask| MoveTask {
                handle: task.handle.filter(|_| !hides_handles),
                ..task
            };
            let tasks = queue.tasks.iter().rev().take(10);
            tasks.map(listed).map(shown).collect()
        }))
    }

    async fn start(&self, dlq: &QueueArn, start: &Start) -> Result<Option<String>, StartError> {
        self.call("StartMessageMoveTask", dlq).await?;
        let latency = self.queue(dlq, |queue| queue.start_latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let (now, clock) = (self.now(), self.clock());
        let mut is_silent = false;
        let answer = self.queue(dlq, |queue| {
            queue.catch_up(clock);
            if let Some(words) = &queue.account_limit {
                return Err(StartError::AccountLimit(words.clone()));
            }
            if queue.tasks.iter().any(FakeTask::is_active) {
                return Err(StartError::TaskActive { is_repeated: false });
            }
            let rate = start.max_messages_per_second.map(|rate| rate.get());
            let total = queue.counts.total();
            let (mut to_move, mut course, mut reply) = (total, None, Reply::Arrives);
            if let Some(draw) = &mut queue.draw {
                to_move = draw.count_to_move(total);
                course = Some(draw.course(clock, rate, total));
                reply = draw.answer();
                draw.lost_starts += u64::from(reply == Reply::Lost);
            }
            let handle = format!("task-{}", queue.tasks.len());
            if let Some(how) = queue.loses_start.take() {
                is_silent = how == LostAnswer::Silence;
                reply = match how {
                    LostAnswer::Repeated => Reply::Repeated,
                    LostAnswer::Unreachable | LostAnswer::Silence => Reply::Lost,
                };
            }
            queue.tasks.push(FakeTask {
                listed: MoveTask {
                    status: TaskStatus::Running,
                    handle: Some(handle.clone()),
                    started_at: Some(if course.is_some() { clock } else { now }),
                    moved: 0,
                    to_move: Some(to_move),
                    destination_arn: start.destination.as_ref().map(QueueArn::to_string),
                    max_messages_per_second: rate.map(u32::from),
                    failure_reason: None,
                },
                rate,
                moved: 0,
                ended_at: None,
                course,
            });
            match reply {
                Reply::Arrives => Ok(Some(handle).filter(|_| !queue.hides_handles)),
                Reply::Lost => Err(unreachable().into()),
                Reply::Repeated => Err(StartError::TaskActive { is_repeated: true }),
            }
        });
        if is_silent {
            std::future::pending::<()>().await;
        }
        answer
    }

    async fn cancel(&self, dlq: &QueueArn, handle: &str) -> Result<u64, CancelError> {
        self.call("CancelMessageMoveTask", dlq).await?;
        let dice = self.state.borrow_mut().dice.clone();
        let mut dice = dice;
        let (now, clock) = (self.now(), self.clock());
        let answer = self.queue(dlq, |queue| {
            queue.catch_up(clock);
            let draw = queue.draw.as_mut();
            let reply = draw.map_or(Reply::Arrives, Draw::answer);
            if queue.refuses_to_cancel {
                return Err(CancelError::NothingToCancel("RequestExpired".to_owned()));
            }
            let is_it = |task: &&mut FakeTask| task.listed.cancellable() == Some(handle);
            match queue.tasks.iter_mut().find(is_it) {
                Some(task) if task.course.is_some() => cancel_drawn(task, clock, reply),
                Some(task) if task.rate == Some(1) => {
                    let (moved, lag) = match queue.is_rough {
                        true => (dice.u64(5..=26), dice.u64(0..=6)),
                        false => (20, 0),
                    };
                    let moved = moved.min(queue.counts.visible);
                    queue.counts.visible -= moved;
                    queue.sampled += moved;
                    task.moved = moved.saturating_sub(lag);
                    task.listed.status = TaskStatus::Cancelled;
                    task.listed.handle = None;
                    task.ended_at = Some(now - MOVED_DELAY);
                    Ok(task.moved)
                }
                Some(task) => {
                    task.listed.status = TaskStatus::Cancelling;
                    Ok(task.moved)
                }
                None => Err(CancelError::NothingToCancel(
                    "FakeTask does not exist.".to_owned(),
                )),
            }
        });
        self.state.borrow_mut().dice = dice;
        answer
    }

    async fn source_queues(&self, dlq: &QueueArn) -> Result<Vec<QueueArn>, SqsError> {
        self.call("ListDeadLetterSourceQueues", dlq).await?;
        let state = self.state.borrow();
        let is_source = |facts: &Result<QueueFacts, SqsError>| match facts {
            Ok(facts) => facts
                .redrive_policy
                .as_ref()
                .is_some_and(|it| it.dlq_arn == dlq.as_str()),
            Err(_) => true,
        };
        let sources = state.facts.iter().filter(|(_, facts)| is_source(facts));
        Ok(sources.map(|(queue, _)| queue.clone()).collect())
    }

    async fn facts(&self, queue: &QueueArn) -> Result<QueueFacts, SqsError> {
        self.state
            .borrow_mut()
            .calls
            .push(format!("GetQueueAttributes {} (facts)", queue.name()));
        let known = self.state.borrow().facts.get(queue).cloned();
        known.unwrap_or(Ok(QueueFacts {
            visibility_timeout: Duration::from_secs(30),
            delay: Duration::ZERO,
            redrive_policy: None,
        }))
    }
}

impl Tagging for &Fake {
    async fn page(&self, _: &EnrollTag, token: Option<&str>) -> Result<Page, TaggingError> {
        self.state
            .borrow_mut()
            .calls
            .push("GetResources".to_owned());
        self.tagging().await?;
        let mut state = self.state.borrow_mut();
        state.pages += 1;
        let (size, begin) = (
            state.page_size,
            token.map_or(0, |token| token.parse().unwrap()),
        );
        let queues = state.tags.iter().skip(begin).take(size);
        let end = begin.saturating_add(size);
        Ok(Page {
            queues: queues
                .map(|it| tagged_queue(it, &state.only_settings))
                .collect(),
            next: match end < state.tags.len() {
                true => Some((end - state.overlap).to_string()),
                false => state.repeats.then(|| "0".to_owned()),
            },
        })
    }

    async fn tagged_among(
        &self,
        queues: &[QueueArn],
        _: &EnrollTag,
    ) -> Result<Vec<TaggedQueue>, TaggingError> {
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = queues.iter().map(QueueArn::name).collect();
        let call = format!("GetResources {}", names.join(","));
        self.state.borrow_mut().calls.push(call);
        self.tagging().await?;
        let state = self.state.borrow();
        let asked = state.tags.iter().filter(|(it, _)| queues.contains(it));
        Ok(asked
            .map(|it| tagged_queue(it, &state.only_settings))
            .collect())
    }
}

fn tagged_queue(
    (dlq, settings): (&QueueArn, &Vec<(String, String)>),
    only_settings: &[QueueArn],
) -> TaggedQueue {
    TaggedQueue {
        dlq: dlq.clone(),
        enrolled: !only_settings.contains(dlq),
        settings: settings.clone(),
    }
}

impl CloudWatch for &Fake {
    async fn brakes(&self, alarms: &[String], _: Instant) -> Vec<Brake> {
        self.record(format!("DescribeAlarms {}", alarms.join(",")))
            .await;
        let state = self.state.borrow();
        let brake = |alarm: &String| Brake {
            alarm: alarm.clone(),
            state: match state.alarms.get(alarm) {
                Some(state) => state.clone(),
                None => BrakeState::Unknown("there is no such alarm".to_owned()),
            },
        };
        alarms.iter().map(brake).collect()
    }

    async fn metrics(&self, queries: Vec<MetricsQuery>, _: Instant) -> Vec<Metrics> {
        let mut state = self.state.borrow_mut();
        let now = state.now;
        let mut delays = Vec::new();
        for query in &queries {
            let queue = state.queues.get_mut(&query.dlq);
            let draw = queue.and_then(|queue| queue.draw.as_mut());
            delays.push(draw.map_or(METRICS_DELAY, Draw::metrics_delay));
            let consumed = query.consumed.iter().map(QueueArn::name);
            let metrics: Vec<&str> = std::iter::once(query.dlq.name()).chain(consumed).collect();
            state
                .calls
                .push(format!("GetMetricData {}", metrics.join(" ")));
        }
        if let Some(unreadable) = &state.unreadable_metrics {
            return vec![unreadable.clone(); queries.len()];
        }
        let read = |(query, delay): (MetricsQuery, Duration)| {
            let (dlq, consumed) = (query.dlq.clone(), query.consumed.clone());
            let (from, period) = (query.from, query.period());
            let shows_dips = query.shows_dips;
            let mut reading = Reading::new(query);
            let points = |points: &[(SystemTime, u64)]| {
                let late = now - delay;
                let points = points.iter().filter(|(at, _)| *at >= from && *at <= late);
                points.copied().collect::<Vec<_>>()
            };
            let queues = &state.queues;
            if let Some(queue) = queues.get(&dlq) {
                let join = if shows_dips { u64::min } else { u64::max };
                for (at, depth) in by_period(&points(&queue.depths), period, join) {
                    reading.depth(at, depth);
                }
            }
            for queue in consumed.iter().filter_map(|queue| queues.get(queue)) {
                for (at, handled) in by_period(&points(&queue.handled), period, |a, b| a + b) {
                    reading.handled(at, handled);
                }
            }
            Metrics::Read(reading.finish())
        };
        queries.into_iter().zip(delays).map(read).collect()
    }

    async fn oldest_ages(
        &self,
        dlqs: &[QueueArn],
        _: SystemTime,
        _: Instant,
    ) -> Vec<Option<Duration>> {
        let mut state = self.state.borrow_mut();
        for dlq in dlqs {
            state
                .calls
                .push(format!("GetMetricData {} (age)", dlq.name()));
        }
        let age = |dlq: &QueueArn| state.queues.get(dlq).and_then(|queue| queue.oldest_age);
        dlqs.iter().map(age).collect()
    }
}

/// Cancels a task whose course is drawn: it goes on for a while.
fn cancel_drawn(task: &mut FakeTask, now: SystemTime, reply: Reply) -> Result<u64, CancelError> {
    task.listed.status = TaskStatus::Cancelling;
    task.listed.handle = None;
    let Some(course) = &mut task.course else {
        return Ok(task.moved);
    };
    course.cancelled_at = Some(now);
    match reply {
        Reply::Arrives => Ok(course.counted(now, task.moved)),
        Reply::Lost => Err(unreachable().into()),
        Reply::Repeated => Err(CancelError::NothingToCancel("RequestExpired".to_owned())),
    }
}

fn unreachable() -> SqsError {
    SqsError::Unreachable("the answer was lost".to_owned())
}

/// The datapoints of each period, joined.
fn by_period(
    points: &[(SystemTime, u64)],
    period: Duration,
    join: impl Fn(u64, u64) -> u64,
) -> BTreeMap<SystemTime, u64> {
    let mut joined = BTreeMap::new();
    for (at, value) in points {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let start = seconds - seconds % period.as_secs();
        let start = UNIX_EPOCH + Duration::from_secs(start);
        joined
            .entry(start)
            .and_modify(|it| *it = join(*it, *value))
            .or_insert(*value);
    }
    joined
}
