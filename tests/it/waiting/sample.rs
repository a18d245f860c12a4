//! Samples on a real queue: the function starts one, waits, and cancels it, whatever happens in
//! between.
//!
//! SQS is LocalStack's, behind a proxy that can make move tasks look older. LocalStack moves
//! exactly one message a second, counts exactly, and a canceled task is CANCELLED immediately.
//! AWS's SQS is less exact in all three; the fake of `handler::sample` and the model run simulate
//! that.

use crate::support::cloudwatch::{acknowledged, refusing_url};
use crate::support::function::sample;
use crate::support::http::unreachable_url;
use crate::support::local::servers;
use crate::support::proxy::{Attempt, Disturbance, Proxy};
use crate::support::queues::Queues;
use crate::support::runtime::Process;
use Disturbance::{InternalError, NotRunning, ResetMidAnswer, Throttled, Truncated, Unavailable};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};

const MINUTE: Duration = Duration::from_secs(60);

/// Lambda's timeout.
const TIME: Duration = Duration::from_secs(60);

/// The number of messages that a sample of ten seconds moves.
const A_FEW: RangeInclusive<usize> = 8..=14;

/// A DLQ with dead letters in it, more than a few.
struct Scenario {
    queues: Queues,
    sent: BTreeSet<String>,
    sqs: Proxy,
    runtime: Runtime,
}

impl Scenario {
    fn new(name: &str, messages: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (queues, sent) = runtime.block_on(async {
            let queues = Queues::create(name).await;
            let sent = queues.dead_letter(messages).await;
            (queues, sent)
        });
        Self {
            queues,
            sent,
            sqs: Proxy::start(&servers().sqs_url),
            runtime,
        }
    }

    /// The function, whose samples last ten seconds. It has answered once.
    fn function(&self) -> Process {
        self.function_watching(&servers().cloudwatch_url)
    }

    /// The function with another CloudWatch endpoint.
    fn function_watching(&self, cloudwatch_url: &str) -> Process {
        let mut function = Process::start(&[
            ("REDRIVE_QUEUES", self.queues.dlq.arn.as_str()),
            ("REDRIVE_SAMPLE", "10"),
            ("AWS_ENDPOINT_URL", &self.sqs.url),
            ("AWS_ENDPOINT_URL_CLOUDWATCH", cloudwatch_url),
        ]);
        let report = function.invoke(&sample("ignored-ok.json", &[]), TIME);
        report.expect("it has started");
        function
    }

    /// Looks at the DLQ with this much time, and returns outcome and reason, and the DLQ's entry in
    /// the report. A failure has no report.
    fn look(&self, function: &mut Process, time: Duration) -> (String, Value) {
        match function.invoke(&self.alarm(), time) {
            Ok(report) => {
                let queue = report["queues"][0].clone();
                let text = |name: &str| queue[name].as_str().unwrap();
                (format!("{}/{}", text("outcome"), text("reason")), queue)
            }
            Err(error) => {
                let message = error["errorMessage"].as_str().unwrap();
                let code = message.rsplit(['(', ')']).nth(1).unwrap();
                (format!("failed/{code}"), error)
            }
        }
    }

    fn alarm(&self) -> String {
        let names = [("orders-dlq", self.queues.dlq.name.as_str())];
        sample("alarm-eventbridge.json", &names)
    }

    fn depths(&self) -> (usize, usize) {
        self.runtime.block_on(async {
            let (source, dlq) = (self.queues.source.depth(), self.queues.dlq.depth());
            (source.await.visible, dlq.await.visible)
        })
    }

    /// Disturbs calls of this operation: the first ones, as many as `attempts`.
    fn disturb(&self, operation: &'static str, disturbance: Disturbance, attempts: usize) {
        self.sqs.plan(move |call: &Attempt| {
            let is_met = call.operation == operation && call.nth < attempts;
            is_met.then_some(disturbance)
        });
    }

    /// The status of each task, newest first.
    fn tasks(&self) -> Vec<String> {
        let tasks = self.runtime.block_on(self.queues.dlq.tasks());
        let status = |task: &aws_sdk_sqs::types::ListMessageMoveTasksResultEntry| {
            assert_eq!(task.max_number_of_messages_per_second(), Some(1));
            task.status().unwrap().to_owned()
        };
        tasks.iter().map(status).collect()
    }

    /// Asserts that the sample is over, that it moved a few messages, and that none is lost or
    /// duplicated.
    #[track_caller]
    fn assert_a_few_moved(&self, status: &str) {
        assert_eq!(self.tasks(), [status]);
        let (source, dlq) = self.depths();
        assert!(A_FEW.contains(&source), "{source} moved");
        assert_eq!(source + dlq, self.sent.len());
        self.assert_none_lost();
    }

    /// Asserts that the sample still runs, and that it no longer runs two looks later.
    #[track_caller]
    fn assert_stopped_by_a_later_look(&self, function: &mut Process) {
        assert_eq!(self.tasks(), ["RUNNING"]);
        self.sqs.heal();
        // Another invocation may be waiting for it.
        self.sqs.age(MINUTE);
        assert_eq!(self.look(function, TIME).0, "skipped/task-active");
        self.sqs.age(3 * MINUTE);
        assert_eq!(self.look(function, TIME).0, "cancelled/sample-over");
        self.wait_for("CANCELLED");
        assert_eq!(self.tasks().len(), 1);
        self.assert_none_lost();
    }

    /// Waits until the newest task has this status.
    #[track_caller]
    fn wait_for(&self, status: &str) {
        let begun = Instant::now();
        while self.tasks()[0] != status {
            assert!(begun.elapsed() < TIME, "{:?}", self.tasks());
            sleep(Duration::from_millis(50));
        }
    }

    /// Asserts that every message is in the DLQ or in the source queue, once.
    #[track_caller]
    fn assert_none_lost(&self) {
        self.runtime.block_on(async {
            let mut all = self.queues.source.take_all().await;
            let left = self.queues.dlq.take_all().await;
            assert!(all.is_disjoint(&left), "no message is in both");
            all.extend(left);
            assert_eq!(all, self.sent);
        });
    }
}

// The verdict

#[test]
fn sample_goes_first_and_the_rest_once_it_stayed_away() {
    let it = Scenario::new("sampled-well", 200);
    let (source, dlq) = (&it.queues.source, &it.queues.dlq);
    let mut function = it.function();

    let (outcome, queue) = it.look(&mut function, TIME);

    assert_eq!(outcome, "started/sample");
    assert_eq!(queue["visible"], 200);
    assert_eq!(queue["task"]["sample"], true);
    assert_eq!(queue["task"]["maxMessagesPerSecond"], 1);
    // One receive of 30 seconds, and 20 until the next.
    assert_eq!(queue["fallTimeSeconds"], 50);
    assert_eq!(it.tasks(), ["CANCELLED"]);
    let handled = it.runtime.block_on(source.take_all());
    assert!(A_FEW.contains(&handled.len()), "{} moved", handled.len());
    it.runtime.block_on(dlq.assert_holds(200 - handled.len()));

    // It is too early to tell.
    let (outcome, queue) = it.look(&mut function, TIME);
    assert_eq!(outcome, "skipped/cooling-down");
    assert_eq!(queue["lastTask"]["status"], "CANCELLED");
    assert_eq!(queue["lastTask"].get("verdict"), None);

    // Later, CloudWatch has seen the consumer acknowledge them. Nothing has come back.
    it.sqs.age(6 * MINUTE);
    let messages = u32::try_from(handled.len()).unwrap();
    let seen = (SystemTime::now() - 5 * MINUTE, messages);
    it.runtime.block_on(acknowledged(&source.name, [seen]));
    let (outcome, queue) = it.look(&mut function, TIME);
    assert_eq!(outcome, "started/ready");
    assert_eq!(queue["lastTask"]["verdict"], "stayedAway");
    assert_eq!(queue["lastTask"]["cameBack"], 0);
    assert_eq!(queue["task"].get("sample"), None);
    assert_eq!(queue["task"]["maxMessagesPerSecond"], 50);
    it.runtime.block_on(async {
        source.wait_until_holds(200 - handled.len()).await;
        dlq.assert_holds(0).await;
        let rest = source.take_all().await;
        assert!(rest.is_disjoint(&handled), "no message was moved twice");
        assert_eq!(&rest | &handled, it.sent);
    });
}

#[test]
fn sample_that_comes_back_keeps_the_rest_where_it_is() {
    let it = Scenario::new("sampled-badly", 200);
    let mut function = it.function();
    assert_eq!(it.look(&mut function, TIME).0, "started/sample");
    let (moved, _) = it.depths();
    assert!(A_FEW.contains(&moved), "{moved} moved");
    // The consumer fails them all.
    it.runtime.block_on(it.queues.fall(200));

    for minutes in [6, 14] {
        it.sqs.age(minutes * MINUTE);
        let (outcome, queue) = it.look(&mut function, TIME);
        assert_eq!(outcome, "skipped/cooling-down");
        assert_eq!(queue["streak"], 1);
        assert_eq!(queue["lastTask"]["verdict"], "cameBack");
        assert_eq!(queue["lastTask"]["cameBack"], moved);
    }
    assert_eq!(it.tasks(), ["CANCELLED"]);
    assert_eq!(it.depths(), (0, 200));
    it.assert_none_lost();
}

#[test]
fn sample_that_nobody_handled_proves_nothing() {
    let it = Scenario::new("sampled-silently", 50);
    let source = &it.queues.source;
    let mut function = it.function();
    assert_eq!(it.look(&mut function, TIME).0, "started/sample");

    // CloudWatch sees a queue whose consumer acknowledges nothing.
    it.sqs.age(8 * MINUTE);
    let now = SystemTime::now();
    let silence = (1..8).map(|minutes| (now - minutes * MINUTE, 0));
    it.runtime.block_on(acknowledged(&source.name, silence));

    assert_eq!(it.look(&mut function, TIME).0, "skipped/not-consumed");
    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn doubt_about_the_consumer_is_no_permission_and_a_denied_cloudwatch_means_no_sample() {
    let it = Scenario::new("sampled-blindly", 50);
    let (outcome, queue) = it.look(&mut it.function_watching(&unreachable_url()), TIME);
    assert_eq!(outcome, "skipped/metrics-unreadable", "{queue:#}");
    it.runtime.block_on(it.queues.dlq.assert_no_task());
    // The report says once what failed.
    let detail = queue["detail"].as_str().unwrap();
    assert_eq!(
        detail.matches("could not be reached").count(),
        1,
        "{detail}"
    );

    // Nor is an SQS that does not say how a failing message comes back.
    it.disturb("ListDeadLetterSourceQueues", Unavailable, usize::MAX);
    let (outcome, queue) = it.look(&mut it.function(), TIME);
    assert_eq!(outcome, "skipped/metrics-unreadable", "{queue:#}");
    it.runtime.block_on(it.queues.dlq.assert_no_task());
    it.sqs.heal();

    let (outcome, queue) = it.look(&mut it.function_watching(&refusing_url()), TIME);
    assert_eq!(outcome, "started/ready", "{queue:#}");
    let detail = queue["detail"].as_str().unwrap();
    assert!(
        detail.contains("not authorized to perform: cloudwatch:GetMetricData"),
        "{detail}"
    );
    it.runtime.block_on(it.queues.source.wait_until_holds(50));
    it.assert_none_lost();
}

// Faults

#[test]
fn sample_whose_start_answer_is_lost_is_stopped_at_once() {
    let it = Scenario::new("start-lost", 150);
    let mut function = it.function();
    it.disturb("StartMessageMoveTask", ResetMidAnswer, 1);

    // The SDK's next attempt meets the task of the first.
    assert_eq!(it.look(&mut function, TIME).0, "started/sample");

    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn start_that_fails_and_took_effect_is_found_and_stopped() {
    let it = Scenario::new("start-failed", 50);
    let mut function = it.function();
    it.disturb("StartMessageMoveTask", InternalError, usize::MAX);

    assert_eq!(it.look(&mut function, TIME).0, "started/sample");

    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn cancel_that_is_throttled_is_tried_again() {
    let it = Scenario::new("cancel-throttled", 50);
    let mut function = it.function();
    it.disturb("CancelMessageMoveTask", Throttled, 2);

    assert_eq!(it.look(&mut function, TIME).0, "started/sample");

    assert_eq!(it.sqs.seen().calls_of("CancelMessageMoveTask"), 3);
    it.wait_for("CANCELLED");
    assert!(it.depths().0 < 25, "{:?}", it.depths());
    it.assert_none_lost();
}

#[test]
fn cancel_whose_answer_is_lost_needs_no_other() {
    let it = Scenario::new("cancel-lost", 50);
    let mut function = it.function();
    it.disturb("CancelMessageMoveTask", Truncated, usize::MAX);

    assert_eq!(it.look(&mut function, TIME).0, "started/sample");

    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn cancel_that_is_refused_is_made_by_a_later_look() {
    let it = Scenario::new("cancel-refused", 150);
    let mut function = it.function();
    it.disturb("CancelMessageMoveTask", NotRunning, usize::MAX);

    let (outcome, error) = it.look(&mut function, Duration::from_secs(30));

    assert_eq!(outcome, "failed/service-error", "{error}");
    it.assert_stopped_by_a_later_look(&mut function);
}

#[test]
fn sample_that_ends_by_itself_is_no_failure() {
    let it = Scenario::new("ended-itself", 50);
    let function = it.function();
    function.send(&it.alarm(), TIME);
    while it.sqs.seen().started.is_empty() {
        sleep(Duration::from_millis(20));
    }
    // Somebody takes all messages out of the DLQ.
    let taken = it.runtime.block_on(it.queues.dlq.take_all());
    it.wait_for("COMPLETED");
    it.disturb("CancelMessageMoveTask", NotRunning, usize::MAX);

    let report = loop {
        match function.answered() {
            Some(answer) => break answer.unwrap(),
            None => sleep(Duration::from_millis(50)),
        }
    };

    let queue = &report["queues"][0];
    assert_eq!(queue["reason"], "sample", "{report:#}");
    let detail = queue["detail"].as_str().unwrap();
    assert!(detail.contains("ended by itself"), "{detail}");
    let moved = it.runtime.block_on(it.queues.source.take_all());
    assert_eq!(&moved | &taken, it.sent);
    assert!(moved.is_disjoint(&taken), "no message is in both");
}

#[test]
fn too_little_time_for_a_sample_defers_it() {
    let it = Scenario::new("no-time", 50);
    let mut function = it.function();
    // The source facts are read, so that only the sample needs time.
    let dry = json!({"action": "redrive", "queues": "all", "dryRun": true}).to_string();
    let report = function.invoke(&dry, TIME).unwrap();
    assert_eq!(report["queues"][0]["outcome"], "wouldStart");
    assert_eq!(report["queues"][0]["reason"], "sample");

    let (outcome, queue) = it.look(&mut function, Duration::from_millis(4500));

    assert_eq!(outcome, "deferred/out-of-time", "{queue}");
    it.runtime.block_on(it.queues.dlq.assert_no_task());
    assert_eq!(it.look(&mut function, TIME).0, "started/sample");
    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn two_invocations_at_once_start_one_sample_and_stop_it() {
    let it = Scenario::new("sampled-twice", 50);
    let mut functions = [it.function(), it.function()];
    // Neither sees a task until both have looked.
    it.sqs.gather("ListMessageMoveTasks", 2);

    let alarm = it.alarm();
    let mut outcomes = thread::scope(|scope| {
        let invocations = functions.each_mut().map(|function| {
            let alarm = alarm.as_str();
            scope.spawn(move || {
                let report = function.invoke(alarm, TIME).unwrap();
                let text = |name: &str| report["queues"][0][name].as_str().unwrap().to_owned();
                format!("{}/{}", text("outcome"), text("reason"))
            })
        });
        invocations.map(|invocation| invocation.join().unwrap())
    });

    outcomes.sort();
    // The invocation that met the other's sample may take it for its own.
    assert!(["skipped/task-active", "started/sample"].contains(&outcomes[0].as_str()));
    assert_eq!(outcomes[1], "started/sample");
    it.assert_a_few_moved("CANCELLED");
}

#[test]
fn sample_of_a_process_that_was_killed_is_stopped_by_the_next() {
    let it = Scenario::new("killed-while-sampling", 100);
    for killed in 1..=3 {
        // Messages that came back have waited long enough.
        it.sqs.age(3 * 60 * MINUTE);
        let mut function = it.function();
        function.send(&it.alarm(), TIME);
        while it.sqs.seen().started.len() < killed {
            assert_eq!(function.answered(), None);
            sleep(Duration::from_millis(10));
        }
        // Each kill is at another moment.
        sleep(Duration::from_millis(1500) * (u32::try_from(killed).unwrap() - 1));
        function.kill();
        assert_eq!(it.tasks()[0], "RUNNING");
        assert_eq!(it.sqs.seen().calls_of("CancelMessageMoveTask"), killed - 1);

        it.sqs.age(3 * MINUTE);
        let (outcome, queue) = it.look(&mut it.function(), TIME);
        assert_eq!(outcome, "cancelled/sample-over", "{queue:#}");
        it.wait_for("CANCELLED");
        assert_eq!(it.tasks().len(), killed);
        // The consumer fails the moved messages.
        it.runtime.block_on(it.queues.fall(100));
    }
    it.assert_none_lost();
}
