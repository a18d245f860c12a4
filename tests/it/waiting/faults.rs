//! What may happen to a call between the function and AWS, and what must never result from it.
//!
//! Every disturbance meets every call that the function makes: its first attempt, and all attempts.
//! Behind the proxies are LocalStack's SQS and MiniStack's CloudWatch and tagging API; Lambda's
//! deadlines are real. The tables list the outcome of each. Whatever it is, no message is lost or
//! duplicated, no second move task starts, and the next invocation carries on.

use crate::support::cloudwatch::{Alarm, saw};
use crate::support::function::sample;
use crate::support::local::servers;
use crate::support::proxy::{Attempt, DISTURBANCES, Disturbance, Proxy};
use crate::support::queues::{Queue, Queues};
use crate::support::runtime::Process;
use crate::support::tagging::{Tagging, tag};
use Disturbance::{
    BlackHole, Expired, InternalError, Late, Malformed, Refused, ResetAtOnce, ResetMidAnswer,
    Throttled, Truncated, Unavailable,
};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};

const TAGGING_URL: &str = "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API";
const CLOUDWATCH_URL: &str = "AWS_ENDPOINT_URL_CLOUDWATCH";

/// Lambda's timeout, about as long as in template.yaml: three attempts that hang fit in.
const TIME: Duration = Duration::from_secs(30);

// The tables

/// A disturbance, the outcome of a DLQ when it meets the first attempt of a call, and when it meets
/// all attempts. A connection that is refused once is much the same as one that is reset
/// immediately.
type Row = (Disturbance, &'static str, &'static str);

/// The outcomes for calls that look at a DLQ.
#[rustfmt::skip]
const LOOKING: [Row; 11] = [
    (Refused,        "",                     "failed/service-error"),
    (ResetAtOnce,    "started/ready",        "failed/service-error"),
    (ResetMidAnswer, "started/ready",        "failed/service-error"),
    (BlackHole,      "started/ready",        "failed/service-error"),
    (InternalError,  "started/ready",        "failed/service-error"),
    (Unavailable,    "started/ready",        "failed/service-error"),
    // The function retries as long as there is time.
    (Throttled,      "started/ready",        "deferred/out-of-time"),
    (Truncated,      "started/ready",        "failed/service-error"),
    // The SDK does not retry if it cannot read an answer.
    (Malformed,      "failed/service-error", "failed/service-error"),
    (Late,           "started/ready",        "failed/service-error"),
    // A retry would not help.
    (Expired,        "failed/access-denied", "failed/access-denied"),
];

/// The outcomes for the start of a redrive.
#[rustfmt::skip]
const STARTING: [Row; 11] = [
    (Refused,        "",                     "failed/service-error"),
    (ResetAtOnce,    "started/ready",        "failed/service-error"),
    // If the start took effect, the list has its task.
    (ResetMidAnswer, "started/ready",        "started/ready"),
    (BlackHole,      "started/ready",        "failed/service-error"),
    (InternalError,  "started/ready",        "started/ready"),
    (Unavailable,    "started/ready",        "failed/service-error"),
    (Throttled,      "started/ready",        "deferred/out-of-time"),
    (Truncated,      "started/ready",        "started/ready"),
    (Malformed,      "started/ready",        "started/ready"),
    (Late,           "started/ready",        "started/ready"),
    (Expired,        "failed/access-denied", "failed/access-denied"),
];

/// The outcomes for the call that looks for a task to cancel.
#[rustfmt::skip]
const LOOKING_TO_CANCEL: [Row; 11] = [
    (Refused,        "",                     "failed/service-error"),
    (ResetAtOnce,    "cancelled/requested",  "failed/service-error"),
    (ResetMidAnswer, "cancelled/requested",  "failed/service-error"),
    (BlackHole,      "cancelled/requested",  "failed/service-error"),
    (InternalError,  "cancelled/requested",  "failed/service-error"),
    (Unavailable,    "cancelled/requested",  "failed/service-error"),
    // No later event would cancel it. The invocation fails so that Lambda retries it.
    (Throttled,      "cancelled/requested",  "failed/out-of-time"),
    (Truncated,      "cancelled/requested",  "failed/service-error"),
    (Malformed,      "failed/service-error", "failed/service-error"),
    (Late,           "cancelled/requested",  "failed/service-error"),
    (Expired,        "failed/access-denied", "failed/access-denied"),
];

/// The outcomes for the call that cancels a task.
#[rustfmt::skip]
const CANCELLING: [Row; 11] = [
    (Refused,        "",                          "failed/service-error"),
    (ResetAtOnce,    "cancelled/requested",       "failed/service-error"),
    // If the cancel took effect, the next attempt meets a task that is no longer RUNNING. The HTTP
    // status shows that even if the rest of the answer is lost, and another look confirms it.
    (ResetMidAnswer, "cancelled/requested",       "cancelled/requested"),
    (BlackHole,      "cancelled/requested",       "failed/service-error"),
    (InternalError,  "cancelled/requested",       "failed/service-error"),
    (Unavailable,    "cancelled/requested",       "failed/service-error"),
    (Throttled,      "cancelled/requested",       "failed/out-of-time"),
    (Truncated,      "cancelled/requested",       "cancelled/requested"),
    (Malformed,      "failed/service-error",      "failed/service-error"),
    (Late,           "cancelled/requested",       "failed/service-error"),
    (Expired,        "failed/access-denied",      "failed/access-denied"),
];

/// The outcomes for the call that reads the brakes. While they are unknown, nothing starts.
#[rustfmt::skip]
const BRAKES: [Row; 11] = [
    (Refused,        "",                   "held/brake-unknown"),
    (ResetAtOnce,    "started/ready",      "held/brake-unknown"),
    (ResetMidAnswer, "started/ready",      "held/brake-unknown"),
    (BlackHole,      "started/ready",      "held/brake-unknown"),
    (InternalError,  "started/ready",      "held/brake-unknown"),
    (Unavailable,    "started/ready",      "held/brake-unknown"),
    (Throttled,      "started/ready",      "held/brake-unknown"),
    (Truncated,      "started/ready",      "held/brake-unknown"),
    (Malformed,      "held/brake-unknown", "held/brake-unknown"),
    (Late,           "started/ready",      "held/brake-unknown"),
    (Expired,        "held/brake-unknown", "held/brake-unknown"),
];

/// The outcomes for the call that reads the depth history of a growing DLQ. If it is unknown, the
/// redrive starts.
#[rustfmt::skip]
const HISTORIES: [Row; 11] = [
    (Refused,        "",                      "started/ready"),
    (ResetAtOnce,    "skipped/still-filling", "started/ready"),
    (ResetMidAnswer, "skipped/still-filling", "started/ready"),
    (BlackHole,      "skipped/still-filling", "started/ready"),
    (InternalError,  "skipped/still-filling", "started/ready"),
    (Unavailable,    "skipped/still-filling", "started/ready"),
    (Throttled,      "skipped/still-filling", "started/ready"),
    (Truncated,      "skipped/still-filling", "started/ready"),
    (Malformed,      "started/ready",         "started/ready"),
    (Late,           "skipped/still-filling", "started/ready"),
    (Expired,        "started/ready",         "started/ready"),
];

/// The outcomes for the call that reads the tags of a queue that an alarm names. If they are
/// unknown, the DLQ fails: it may be enrolled.
#[rustfmt::skip]
const TAGS: [Row; 11] = [
    (Refused,        "",                     "failed/service-error"),
    (ResetAtOnce,    "started/ready",        "failed/service-error"),
    (ResetMidAnswer, "started/ready",        "failed/service-error"),
    (BlackHole,      "started/ready",        "failed/service-error"),
    (InternalError,  "started/ready",        "failed/service-error"),
    (Unavailable,    "started/ready",        "failed/service-error"),
    (Throttled,      "started/ready",        "failed/service-error"),
    (Truncated,      "started/ready",        "failed/service-error"),
    (Malformed,      "failed/service-error", "failed/service-error"),
    (Late,           "started/ready",        "failed/service-error"),
    (Expired,        "failed/service-error", "failed/service-error"),
];

// Running a table

/// One disturbance of one call.
#[derive(Clone)]
struct Case {
    operation: &'static str,
    disturbance: Disturbance,
    /// Whether it meets all attempts, or only the first.
    always: bool,
    /// The outcome of the DLQ.
    expected: &'static str,
}

impl Case {
    /// A name for queues that no other test uses.
    fn name(&self) -> String {
        let times = if self.always { "always" } else { "once" };
        format!("{}-{:?}-{times}", self.operation, self.disturbance)
    }

    /// Makes this proxy do it from now on.
    fn inject(&self, proxy: &Proxy) {
        let Self {
            operation,
            disturbance,
            always,
            ..
        } = *self;
        match (disturbance, operation) {
            (Refused, "StartMessageMoveTask" | "CancelMessageMoveTask") => {
                proxy.refuse_after("ListMessageMoveTasks");
            }
            (Refused, "ListMessageMoveTasks") => proxy.refuse_after("GetQueueAttributes"),
            (Refused, _) => proxy.refuse(),
            _ => proxy.plan(move |call: &Attempt| {
                let is_met = call.operation == operation && (always || call.nth == 0);
                is_met.then_some(disturbance)
            }),
        }
    }

    /// Asserts that this proxy has done it.
    #[track_caller]
    fn assert_injected(&self, proxy: &Proxy) {
        let calls = proxy.seen().calls;
        let met = (self.operation.to_owned(), Some(self.disturbance));
        assert!(
            self.disturbance == Refused || calls.contains(&met),
            "{calls:?}"
        );
    }

    /// How long it takes until the function gives up or succeeds.
    fn lasts(&self) -> Duration {
        let seconds = match (self.disturbance, self.always) {
            (Late | BlackHole | Throttled, true) => 20,
            (Late | BlackHole, false) => 6,
            _ => 2,
        };
        Duration::from_secs(seconds)
    }
}

/// Runs every disturbance of a table on this call, concurrently; each has queues and a process of
/// its own.
fn all(operation: &'static str, table: &[Row], run: fn(&Case)) {
    let faults: Vec<Disturbance> = table.iter().map(|(disturbance, ..)| *disturbance).collect();
    assert_eq!(faults, DISTURBANCES, "every disturbance is in the table");
    let cases = table.iter().flat_map(|(disturbance, once, always)| {
        let case = |always, expected| Case {
            operation,
            disturbance: *disturbance,
            always,
            expected,
        };
        [case(false, *once), case(true, *always)]
    });
    let mut cases: Vec<Case> = cases.filter(|case| !case.expected.is_empty()).collect();
    // Their queues are created one after the other; the longest cases begin first.
    cases.sort_by_key(|case| Reverse(case.lasts()));
    let runs = cases.into_iter();
    side_by_side(runs.map(|case| (case.name(), move || run(&case))));
}

/// Runs these in threads with these names. A failure prints the name.
fn side_by_side(runs: impl Iterator<Item = (String, impl FnOnce() + Send)>) {
    thread::scope(|scope| {
        let threads: Vec<_> = runs
            .map(|(name, run)| {
                let thread = thread::Builder::new().name(name);
                thread.spawn_scoped(scope, run).unwrap()
            })
            .collect();
        let failed = threads.into_iter().filter_map(|thread| {
            let name = thread.thread().name().unwrap().to_owned();
            thread.join().is_err().then_some(name)
        });
        let failed: Vec<String> = failed.collect();
        assert!(failed.is_empty(), "failed: {failed:#?}");
    });
}

// A DLQ and its function

/// A DLQ with dead letters in it, and its source queue.
struct Scenario {
    queues: Queues,
    sent: BTreeSet<String>,
    runtime: Runtime,
}

impl Scenario {
    /// Creates the queues. One scenario at a time: under all of them LocalStack would be slower
    /// than the function waits.
    fn new(name: &str, messages: u64) -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _turn = ONE_AT_A_TIME.lock();
        let (queues, sent) = runtime.block_on(async {
            let queues = Queues::create(name).await;
            let sent = queues.dead_letter(messages as usize).await;
            (queues, sent)
        });
        Self {
            queues,
            sent,
            runtime,
        }
    }

    fn dlq(&self) -> &Queue {
        &self.queues.dlq
    }

    /// The function, with this DLQ enrolled and SQS behind this proxy.
    fn function(&self, sqs: &Proxy, variables: &[(&str, &str)]) -> Process {
        let ours = [
            ("REDRIVE_QUEUES", self.dlq().arn.as_str()),
            // So slow that a task is still active when its start is retried.
            ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
            ("REDRIVE_SAMPLE", "0"),
            ("AWS_ENDPOINT_URL", &sqs.url),
            ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
        ];
        Process::start(&[&ours, variables].concat())
    }

    /// An alarm on the DLQ goes off.
    fn alarm(&self) -> String {
        sample(
            "alarm-eventbridge.json",
            &[("orders-dlq", &self.dlq().name)],
        )
    }

    /// The outcome of the DLQ, which is the only enrolled one.
    #[track_caller]
    fn outcome(&self, function: &mut Process, event: &str) -> String {
        let (result, log) = function.invoke_and_log(event, TIME);
        outcome(&result, &log, self.dlq())
    }

    /// Asserts that the function carries on as soon as no call is disturbed: one redrive was
    /// started in total, and in the end every message is in the source queue, once.
    fn assert_carries_on(&self, function: &mut Process, sqs: &Proxy) {
        let next = self.outcome(function, &self.alarm());
        let normal = [
            "started/ready",
            "skipped/task-active",
            "skipped/cooling-down",
            "skipped/empty",
        ];
        assert!(normal.contains(&next.as_str()), "{next}");
        let all = self.sent.len();
        self.runtime.block_on(async {
            self.queues.source.wait_until_holds(all).await;
            self.queues.dlq.assert_holds(0).await;
        });
        self.assert_none_lost();
        assert_eq!(sqs.seen().started, [self.dlq().arn.clone()], "one redrive");
    }

    /// Asserts that every message is in the DLQ or in the source queue, once.
    fn assert_none_lost(&self) {
        self.runtime.block_on(async {
            let mut all = self.queues.source.take_all().await;
            let left = self.queues.dlq.take_all().await;
            assert!(all.is_disjoint(&left), "none is in both");
            all.extend(left);
            assert_eq!(all, self.sent);
        });
    }
}

/// The outcome of this DLQ. It has exactly one: in the report, if there is one, and in the log, if
/// the DLQ is not empty.
#[track_caller]
fn outcome(result: &Result<Value, Value>, log: &[Value], dlq: &Queue) -> String {
    let of_it = |entries: &[Value], name: &str| {
        let entries = entries.iter().filter(|entry| entry[name] == dlq.arn);
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
        let verdict = |entry| format!("{}/{}", text(entry, "outcome"), text(entry, "reason"));
        entries.map(verdict).collect::<Vec<String>>()
    };
    let mut logged = of_it(log, "queue.arn");
    match result {
        Ok(report) => {
            let queues = report["queues"].as_array().unwrap();
            let mut reported = of_it(queues, "queueArn");
            assert_eq!(reported.len(), 1, "{report:#}");
            let counts = report["counts"].as_object().unwrap().values();
            let counted: u64 = counts.map(|n| n.as_u64().unwrap()).sum();
            assert_eq!(counted, queues.len() as u64, "{report:#}");
            assert!(logged.is_empty() || logged == reported, "{logged:?}");
            reported.remove(0)
        }
        Err(error) => {
            assert_eq!(error["errorType"], "RedriveIncomplete", "{error:#}");
            let message = error["errorMessage"].as_str().unwrap();
            assert!(!message.contains('\n'), "one line: {message}");
            assert_eq!(logged.len(), 1, "{logged:?}");
            let (outcome, code) = logged[0].split_once('/').unwrap();
            if outcome == "failed" {
                let named = format!("{} ({code})", dlq.arn);
                assert!(message.contains(&named), "{message}");
            }
            logged.remove(0)
        }
    }
}

// Calls of a redrive

/// A redrive is due, and the disturbance meets one of its calls.
fn redrive(case: &Case) {
    // The redrive, at one message a second, must last until the start is retried.
    let messages = match (case.operation, case.always) {
        ("StartMessageMoveTask", _) => case.lasts().as_secs() + 3,
        _ => 2,
    };
    let scenario = Scenario::new(&case.name(), messages);
    let sqs = Proxy::start(&servers().sqs_url);
    let mut function = scenario.function(&sqs, &[]);
    case.inject(&sqs);

    let outcome = scenario.outcome(&mut function, &scenario.alarm());

    assert_eq!(outcome, case.expected);
    case.assert_injected(&sqs);
    sqs.heal();
    scenario.assert_carries_on(&mut function, &sqs);
}

#[test]
fn disturbance_of_the_look_at_the_depth() {
    all("GetQueueAttributes", &LOOKING, redrive);
}

#[test]
fn disturbance_of_the_look_at_the_tasks() {
    all("ListMessageMoveTasks", &LOOKING, redrive);
}

#[test]
fn disturbance_of_the_start() {
    all("StartMessageMoveTask", &STARTING, redrive);
}

// Calls of a cancel

/// A redrive is to be canceled, and the disturbance meets one of the calls.
fn cancel(case: &Case) {
    let name = format!("cancel-{}", case.name());
    let scenario = Scenario::new(&name, case.lasts().as_secs() + 30);
    let sqs = Proxy::start(&servers().sqs_url);
    let mut function = scenario.function(&sqs, &[]);
    let started = scenario.outcome(&mut function, &scenario.alarm());
    assert_eq!(started, "started/ready");
    match (case.disturbance, case.operation) {
        (Refused, "ListMessageMoveTasks") => sqs.refuse(),
        _ => case.inject(&sqs),
    }
    let request = json!({"action": "cancel", "queues": [scenario.dlq().name]}).to_string();

    let outcome = scenario.outcome(&mut function, &request);

    assert_eq!(outcome, case.expected);
    case.assert_injected(&sqs);
    sqs.heal();
    let again = scenario.outcome(&mut function, &request);
    let normal = ["cancelled/requested", "skipped/nothing-to-cancel"];
    assert!(normal.contains(&again.as_str()), "{again}");
    scenario
        .runtime
        .block_on(wait_until_canceled(scenario.dlq()));
    let next = scenario.outcome(&mut function, &scenario.alarm());
    assert_eq!(next, "skipped/cooling-down");
    assert_eq!(sqs.seen().started.len(), 1);
    scenario.assert_none_lost();
}

/// Waits until the only task of a DLQ is CANCELLED.
async fn wait_until_canceled(dlq: &Queue) {
    for _ in 0..100 {
        let tasks = dlq.tasks().await;
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        if tasks[0].status() == Some("CANCELLED") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", dlq.tasks().await);
}

#[test]
fn disturbance_of_the_look_for_a_task_to_cancel() {
    all("ListMessageMoveTasks", &LOOKING_TO_CANCEL, cancel);
}

#[test]
fn disturbance_of_the_cancel() {
    all("CancelMessageMoveTask", &CANCELLING, cancel);
}

// Calls to CloudWatch and the tagging API

/// A redrive is due, and the disturbance meets the call that reads the brakes.
fn brake(case: &Case) {
    let scenario = Scenario::new(&case.name(), 2);
    let brake = case.name();
    scenario.runtime.block_on(Alarm::create(&brake));
    let sqs = Proxy::start(&servers().sqs_url);
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let variables = [
        ("REDRIVE_BRAKE_ALARMS", brake.as_str()),
        (CLOUDWATCH_URL, &cloudwatch.url),
    ];
    let mut function = scenario.function(&sqs, &variables);
    case.inject(&cloudwatch);

    let outcome = scenario.outcome(&mut function, &scenario.alarm());

    assert_eq!(outcome, case.expected);
    case.assert_injected(&cloudwatch);
    cloudwatch.heal();
    scenario.assert_carries_on(&mut function, &sqs);
}

#[test]
fn disturbance_of_the_brakes() {
    all("DescribeAlarms", &BRAKES, brake);
}

/// The redriven messages came back and the DLQ grows, and the disturbance meets the call that reads
/// its depth history.
fn depth_history(case: &Case) {
    const MINUTE: Duration = Duration::from_secs(60);
    let scenario = Scenario::new(&case.name(), 2);
    let sqs = Proxy::ageing(&servers().sqs_url, 20 * MINUTE);
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let variables = [
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "500"),
        (CLOUDWATCH_URL, &cloudwatch.url),
    ];
    let mut function = scenario.function(&sqs, &variables);
    let started = scenario.outcome(&mut function, &scenario.alarm());
    assert_eq!(started, "started/ready");
    scenario.runtime.block_on(async {
        scenario.dlq().wait_for_task().await;
        scenario.queues.fall(2).await;
        let depth = (SystemTime::now() - 5 * MINUTE, 1);
        saw(&scenario.dlq().name, [depth]).await;
    });
    case.inject(&cloudwatch);

    let (result, log) = function.invoke_and_log(&scenario.alarm(), TIME);

    assert_eq!(outcome(&result, &log, scenario.dlq()), case.expected);
    let unread = u32::from(case.expected == "started/ready");
    assert_eq!(log.last().unwrap()["DepthHistoryUnreadable"], unread);
    case.assert_injected(&cloudwatch);
    cloudwatch.heal();
    scenario.runtime.block_on(scenario.dlq().wait_for_task());
    let next = scenario.outcome(&mut function, &scenario.alarm());
    let normal = ["skipped/empty", "skipped/still-filling"];
    assert!(normal.contains(&next.as_str()), "{next}");
    let started = sqs.seen().started.len();
    assert_eq!(started, if unread == 1 { 2 } else { 1 });
    scenario.assert_none_lost();
}

#[test]
fn disturbance_of_the_depth_history() {
    all("GetMetricData", &HISTORIES, depth_history);
}

/// A redrive of a tagged DLQ is due, and the disturbance meets the call that reads its tags.
fn tags(case: &Case) {
    let scenario = Scenario::new(&case.name(), 2);
    let enroll = format!("auto-redrive={}", case.name());
    let (key, value) = enroll.split_once('=').unwrap();
    scenario
        .runtime
        .block_on(tag([scenario.dlq().name.clone()], &[(key, value)]));
    let sqs = Proxy::start(&servers().sqs_url);
    let tagging = Proxy::start(&Tagging::of_ministack().url);
    let variables = [
        ("REDRIVE_QUEUES", ""),
        ("REDRIVE_ENROLL_TAG", &enroll),
        (TAGGING_URL, &tagging.url),
    ];
    let mut function = scenario.function(&sqs, &variables);
    case.inject(&tagging);

    let outcome = scenario.outcome(&mut function, &scenario.alarm());

    assert_eq!(outcome, case.expected);
    case.assert_injected(&tagging);
    tagging.heal();
    scenario.assert_carries_on(&mut function, &sqs);
}

#[test]
fn disturbance_of_the_tags() {
    all("GetResources", &TAGS, tags);
}

// Random disturbances

/// Numbers that follow from a seed.
struct Dice(fastrand::Rng);

impl Dice {
    /// The numbers for a call. They do not depend on other calls.
    fn of(seed: u64, what: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, what).hash(&mut hasher);
        Self(fastrand::Rng::with_seed(hasher.finish()))
    }

    /// The disturbance of a call; `None` for three calls in four.
    fn disturbance(&mut self) -> Option<Disturbance> {
        // Disturbances that take long are rare.
        let (common, rare): (Vec<Disturbance>, Vec<Disturbance>) = DISTURBANCES
            .into_iter()
            .filter(|disturbance| *disturbance != Refused)
            .partition(|disturbance| !matches!(disturbance, BlackHole | Late));
        match self.0.u8(0..100) {
            0..5 => self.0.choice(rare),
            5..25 => self.0.choice(common),
            _ => None,
        }
    }
}

/// Makes this proxy disturb calls at random.
fn inject_at_random(proxy: &Proxy, seed: u64, round: usize) {
    let calls = Mutex::new(BTreeMap::<String, usize>::new());
    proxy.plan(move |call| {
        // By queue, because several are looked at concurrently.
        let queue = ["QueueUrl", "SourceArn", "TaskHandle"].map(|name| &call.question[name]);
        let what = format!("{round} {} {queue:?}", call.operation);
        let mut calls = calls.lock().unwrap();
        let nth = calls.entry(what.clone()).or_default();
        *nth += 1;
        Dice::of(seed, &(what, *nth)).disturbance()
    });
}

/// A listed DLQ and a tagged one, a brake alarm, and disturbances of any call.
fn anything_happens(seed: u64, round: usize) {
    let name = format!("random-{round}");
    let listed = Scenario::new(&format!("{name}-listed"), 20);
    let tagged = Scenario::new(&format!("{name}-tagged"), 20);
    let scenarios = [&listed, &tagged];
    listed.runtime.block_on(async {
        tag([tagged.dlq().name.clone()], &[("auto-redrive", &name)]).await;
        Alarm::create(&name).await;
    });
    let sqs = Proxy::start(&servers().sqs_url);
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let tagging = Proxy::start(&Tagging::of_ministack().url);
    let variables = [
        ("REDRIVE_ENROLL_TAG", format!("auto-redrive={name}")),
        ("REDRIVE_BRAKE_ALARMS", name.clone()),
        (CLOUDWATCH_URL, cloudwatch.url.clone()),
        (TAGGING_URL, tagging.url.clone()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let mut function = listed.function(&sqs, &variables);
    let proxies = [&sqs, &cloudwatch, &tagging];
    for proxy in proxies {
        inject_at_random(proxy, seed, round);
    }

    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);
    for _ in 0..2 {
        let (result, log) = function.invoke_and_log(&schedule, TIME);
        let tags_error = matches!(&result, Err(error)
            if error["errorMessage"].as_str().unwrap().contains("enrollment by tag could not be read"));
        for scenario in scenarios {
            if tags_error && scenario.dlq().arn == tagged.dlq().arn {
                continue;
            }
            let outcome = outcome(&result, &log, scenario.dlq());
            let possible = [
                "started/ready",
                "skipped/task-active",
                "skipped/cooling-down",
                "skipped/in-flight-only",
                "held/brake-unknown",
                "held/tags-unreadable",
                "deferred/out-of-time",
                "failed/service-error",
                "failed/access-denied",
            ];
            assert!(possible.contains(&outcome.as_str()), "{outcome}");
        }
    }

    proxies.into_iter().for_each(Proxy::heal);
    let (result, _) = function.invoke_and_log(&schedule, TIME);
    result.unwrap();
    for scenario in scenarios {
        let source = &scenario.queues.source;
        scenario.runtime.block_on(source.wait_until_holds(20));
        scenario.assert_none_lost();
    }
    let started = sqs.seen().started;
    let dlqs = scenarios.map(|scenario| scenario.dlq().arn.clone());
    assert_eq!(started.len(), 2, "one redrive of each: {started:?}");
    assert!(dlqs.iter().all(|dlq| started.contains(dlq)), "{started:?}");
}

#[test]
fn random_disturbances_lose_nothing_and_start_nothing_twice() {
    let seed = match std::env::var("FAULTS_SEED") {
        Ok(seed) => seed.parse().expect("FAULTS_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("to repeat this run: FAULTS_SEED={seed}");
    let rounds = 0..8;
    side_by_side(rounds.map(|round| {
        let run = move || anything_happens(seed, round);
        (format!("round {round}"), run)
    }));
}
