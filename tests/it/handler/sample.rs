//! Samples: a few messages go first, and the invocation waits and cancels the task. These tests use
//! tokio's paused time.

use super::*;
use sqs_auto_redrive::handler::Function;
use sqs_auto_redrive::sqs::Sqs;
use std::pin::pin;
use std::task::Poll;
use tokio::time::Instant;

const SAMPLE: Duration = Duration::from_secs(20);

/// The status of each task at the sample pace, newest first.
async fn samples(fake: &Fake, queue: &QueueArn) -> Vec<String> {
    let tasks = fake.list_tasks(queue).await.unwrap().into_iter();
    let samples = tasks.filter(|task| task.max_messages_per_second == Some(1));
    samples
        .map(|task| task.status.as_str().to_owned())
        .collect()
}

fn minutes_pass(fake: &Fake, queue: &QueueArn, minutes: usize) {
    (0..minutes).for_each(|_| {
        fake.minute_passes(queue);
    });
}

#[tokio::test(start_paused = true)]
async fn sample_is_started_and_canceled_after_the_wait() {
    let queue = dlq("orders-dlq");
    let fake = with_source(Fake::default(), &queue, 100);
    let begun = Instant::now();
    let report = fake.invoke(ALARM).answer().await.report;
    assert_eq!(begun.elapsed().as_secs(), SAMPLE.as_secs());
    assert_eq!(
        fake.calls(),
        [
            "GetQueueAttributes orders-dlq",
            "ListMessageMoveTasks orders-dlq",
            "ListDeadLetterSourceQueues orders-dlq",
            "GetQueueAttributes orders-dlq-source (facts)",
            "GetMetricData orders-dlq orders-dlq-source",
            "StartMessageMoveTask orders-dlq",
            "CancelMessageMoveTask orders-dlq",
        ]
    );
    let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
    assert_eq!(
        metrics["MessagesRedriven"], 20,
        "the number that SQS reports as moved"
    );
    let report = serde_json::to_value(report).unwrap();
    assert_eq!(outcomes(&report), ["started/sample"]);
    let queue_report = &report["queues"][0];
    assert_eq!(queue_report["visible"], 100);
    assert_eq!(queue_report["fallTimeSeconds"], 150);
    let task = json!({"handle": "task-0", "maxMessagesPerSecond": 1, "sample": true});
    assert_eq!(queue_report["task"], task);
    assert_eq!(samples(&fake, &queue).await, ["CANCELLED"]);
}

#[tokio::test(start_paused = true)]
async fn few_messages_go_without_a_sample_and_without_waiting() {
    let queue = dlq("orders-dlq");
    for (visible, outcome) in [(40, "started/ready"), (41, "started/sample")] {
        let fake = with_source(Fake::default(), &queue, visible);
        let begun = Instant::now();
        let report = fake.invoke(ALARM).report().await;
        assert_eq!(outcomes(&report), [outcome]);
        let waited = begun.elapsed() >= SAMPLE;
        assert_eq!(waited, outcome == "started/sample");
    }
}

#[tokio::test(start_paused = true)]
async fn dry_run_starts_no_sample_and_does_not_wait() {
    let queue = dlq("orders-dlq");
    let fake = with_source(Fake::default(), &queue, 100);
    let dry_run = Policy {
        dry_run: true,
        ..Policy::default()
    };
    let begun = Instant::now();
    let report = fake.invoke(ALARM).policy(dry_run).report().await;
    assert_eq!(outcomes(&report), ["wouldStart/sample"]);
    assert!(begun.elapsed().is_zero());
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test(start_paused = true)]
async fn sweep_of_a_thousand_dlqs_waits_once_for_a_hundred_samples() {
    let queues: Vec<QueueArn> = (0..1000).map(|n| dlq(&format!("dlq-{n:04}"))).collect();
    let fake = queues
        .iter()
        .enumerate()
        .fold(Fake::default(), |fake, (n, queue)| {
            let visible = if n % 10 == 0 { 100 } else { 0 };
            with_source(fake, queue, visible)
        });
    // The source queues are queues of the fake too, but not enrolled.
    let enrolled: Vec<&QueueArn> = queues.iter().collect();
    let begun = Instant::now();
    let invoke = fake.invoke(SWEEP).listing(&enrolled).max_starts(100);
    let report = invoke.report().await;
    assert_eq!(begun.elapsed().as_secs(), SAMPLE.as_secs());
    assert_eq!(report["counts"]["started"], 100);
    assert_eq!(report["counts"]["skipped"], 900);
    let calls = fake.calls();
    let count = |operation: &str| {
        calls
            .iter()
            .filter(|call| call.starts_with(operation))
            .count()
    };
    assert_eq!(count("StartMessageMoveTask"), 100);
    assert_eq!(count("CancelMessageMoveTask"), 100);
    // Of an empty DLQ, the function reads only the depth.
    assert_eq!(count("ListMessageMoveTasks"), 100);
    assert_eq!(count("ListDeadLetterSourceQueues"), 100);
    for queue in queues.iter().step_by(10) {
        assert_eq!(samples(&fake, queue).await, ["CANCELLED"]);
    }
}

/// Polls this future `polls` times, and drops it. `None` if it is not done by then.
pub async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left == 0 => Poll::Ready(None),
            answer => answer.map(Some),
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn sample_of_an_invocation_that_ends_anywhere_is_over_two_looks_later() {
    let queue = dlq("orders-dlq");
    let mut left_running = 0;
    for polls in 1.. {
        assert!(polls < 100, "the invocation ends");
        let fake = with_source(Fake::default(), &queue, 1000);
        let first = dropped_after(polls, fake.invoke(SWEEP).report()).await;
        let is_running = samples(&fake, &queue).await == ["RUNNING"];
        left_running += usize::from(is_running);

        minutes_pass(&fake, &queue, 5);
        let second = fake.invoke(SWEEP).report().await;
        if is_running {
            assert_eq!(outcomes(&second), ["cancelled/sample-over"], "{polls}");
        }
        minutes_pass(&fake, &queue, 5);
        fake.invoke(SWEEP).report().await;
        let samples = samples(&fake, &queue).await;
        assert!(
            samples.iter().all(|status| status == "CANCELLED"),
            "{polls}: {samples:?}"
        );
        assert_eq!(fake.starts(&queue).len(), 1, "{polls}: no second start");
        if first.is_some() {
            break;
        }
    }
    // The invocation ends while it waits, and while it cancels.
    assert!(left_running >= 2, "{left_running}");
}

#[tokio::test(start_paused = true)]
async fn sample_that_sqs_refuses_to_cancel_fails_and_says_so() {
    let queue = dlq("orders-dlq");
    let denied = SqsError::AccessDenied("not authorized".to_owned());
    let fake = with_source(Fake::default(), &queue, 100);
    let fake = fake.with_fault(&queue, "CancelMessageMoveTask", denied);
    let answer = fake.invoke(ALARM).answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["failed/service-error"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("could not be stopped"), "{detail}");
    assert!(detail.contains("not authorized"), "{detail}");
    assert!(answer.result().is_err(), "Lambda tries again");
    assert_eq!(samples(&fake, &queue).await, ["RUNNING"]);
}

#[tokio::test(start_paused = true)]
async fn rest_after_a_sample_starts_before_deeper_dlqs() {
    let (sampled, deep) = (dlq("a-sampled"), dlq("b-deep"));
    let fake = with_source(Fake::default(), &sampled, 60);
    let past = MoveTask {
        to_move: Some(80),
        max_messages_per_second: Some(1),
        ..task(&fake, "CANCELLED", 20, MINUTE)
    };
    let fake = with_source(fake.with_task(&sampled, past), &deep, 5000);
    fake.handled(&dlq("a-sampled-source"), 20);
    minutes_pass(&fake, &sampled, 10);

    let invoke = fake.invoke(SWEEP).listing(&[&sampled, &deep]);
    let report = invoke.max_starts(1).report().await;

    assert_eq!(outcomes(&report), ["started/ready", "deferred/start-limit"]);
    let rest = &report["queues"][0];
    assert_eq!(rest["lastTask"]["verdict"], "stayedAway");
    assert_eq!(rest["lastTask"]["cameBack"], 0);
    assert_eq!(rest["task"]["maxMessagesPerSecond"], 50);
}

#[tokio::test(start_paused = true)]
async fn brakes_are_read_again_before_a_start_that_waited() {
    let (first, second) = (dlq("a-first"), dlq("b-second"));
    for (waited, asked) in [(4, 1), (6, 2)] {
        let fake = Fake::default()
            .with(&first, 9)
            .with_slow_start(&first, Duration::from_secs(waited))
            .with(&second, 5)
            .with_alarm("brake", BrakeState::Off);
        let config = Config {
            limits: Limits {
                concurrency: 1,
                ..fake.config().limits
            },
            policy: braked("brake"),
            ..fake.config()
        };
        let function = fake.function(config);
        let answer = function.invoke(SWEEP, &fake.invocation()).await.unwrap();
        let report = serde_json::to_value(answer.report).unwrap();
        assert_eq!(outcomes(&report), ["started/ready", "started/ready"]);
        let calls = fake.calls();
        let brakes = calls.iter().filter(|call| call.starts_with("Describe"));
        assert_eq!(brakes.count(), asked, "{waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn brake_that_goes_on_while_a_start_is_throttled_holds_it() {
    let queue = dlq("orders-dlq");
    let throttled = SqsError::Throttled("Rate exceeded".to_owned());
    let fake = Fake::default()
        .with(&queue, 5)
        .with_fault(&queue, "StartMessageMoveTask", throttled)
        .with_alarm("brake", BrakeState::Off);
    // The alarm is on before SQS takes the start.
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fake.alarm_is("brake", BrakeState::On);
        tokio::time::sleep(Duration::from_secs(3)).await;
        fake.fault_is_over(&queue, "StartMessageMoveTask");
    };
    let sweep = fake.invoke(SWEEP).policy(braked("brake")).report();
    let (report, ()) = futures_util::future::join(sweep, meanwhile).await;
    assert_eq!(outcomes(&report), ["held/braked"]);
    assert!(fake.starts(&queue).is_empty());
    let calls = fake.calls();
    let brakes = calls.iter().filter(|call| call.starts_with("Describe"));
    assert_eq!(brakes.count(), 2);
}

/// A DLQ with 250 messages and a source, whose samples SQS refuses to cancel.
fn without_permission_to_cancel(queue: &QueueArn) -> Fake {
    let denied = SqsError::AccessDenied("not authorized".to_owned());
    with_source(Fake::default(), queue, 250).with_fault(queue, "CancelMessageMoveTask", denied)
}

/// What this process reports about the one DLQ: outcome and reason, and the detail.
async fn look(
    function: &Function<&Fake, &Fake, &Fake>,
    fake: &Fake,
    event: &str,
) -> (String, String) {
    let answer = function.invoke(event, &fake.invocation()).await.unwrap();
    let report = serde_json::to_value(answer.report).unwrap();
    let detail = report["queues"][0]["detail"].as_str().unwrap().to_owned();
    (outcomes(&report).concat(), detail)
}

#[tokio::test(start_paused = true)]
async fn process_without_permission_to_cancel_lets_its_sample_run_and_waits() {
    let queue = dlq("orders-dlq");
    let fake = without_permission_to_cancel(&queue);
    let function = fake.function(fake.config());
    let (outcome, _) = look(&function, &fake, SWEEP).await;
    assert_eq!(outcome, "failed/service-error");
    assert!(fake.calls().iter().any(|call| call.starts_with("Cancel")));

    // The sample ends by itself, after five minutes. Then all of its messages come back.
    minutes_pass(&fake, &queue, 3);
    assert_eq!(samples(&fake, &queue).await, ["RUNNING"]);
    let running = look(&function, &fake, SWEEP).await;
    minutes_pass(&fake, &queue, 5);
    assert_eq!(samples(&fake, &queue).await, ["COMPLETED"]);
    fake.counts_are(&queue, 250, 0);
    minutes_pass(&fake, &queue, 1);
    let ended = look(&function, &fake, SWEEP).await;

    for ((outcome, detail), expected) in [
        (running, "skipped/task-active"),
        (ended, "skipped/cooling-down"),
    ] {
        assert_eq!(outcome, expected, "{detail}");
        let advice = "no sample: the fall time is unknown: a sample could not be stopped; grant `sqs:CancelMessageMoveTask`";
        assert!(detail.contains(advice), "{detail}");
    }
    assert_eq!(fake.starts(&queue).len(), 1);
    assert!(fake.calls().iter().all(|call| !call.starts_with("Cancel")));
}

#[tokio::test(start_paused = true)]
async fn process_without_permission_to_cancel_starts_no_second_sample() {
    let queue = dlq("orders-dlq");
    let fake = without_permission_to_cancel(&queue);
    // The DLQ does not count as growing.
    let policy = Policy {
        quiet_period: Duration::ZERO,
        ..Policy::default()
    };
    let config = Config {
        policy: policy.clone(),
        ..fake.config()
    };
    let function = fake.function(config);
    let (outcome, _) = look(&function, &fake, SWEEP).await;
    assert_eq!(outcome, "failed/service-error");
    minutes_pass(&fake, &queue, 50);
    fake.counts_are(&queue, 250, 0);
    minutes_pass(&fake, &queue, 1);

    // A process that met no refusal would start a sample.
    let dry_run = r#"{"action": "redrive", "dryRun": true}"#;
    let other = fake.invoke(dry_run).policy(policy).report().await;
    assert_eq!(outcomes(&other), ["wouldStart/sample"]);

    let (outcome, detail) = look(&function, &fake, SWEEP).await;
    assert_eq!(outcome, "started/ready", "{detail}");
    assert!(detail.contains("`sqs:CancelMessageMoveTask`"), "{detail}");
    assert_eq!(samples(&fake, &queue).await, ["COMPLETED"]);
    assert_eq!(fake.starts(&queue).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn sample_without_a_handle_is_reported_as_running_on() {
    let queue = dlq("orders-dlq");
    let fake = with_source(Fake::default(), &queue, 100).with_hidden_handles(&queue);
    let report = fake.invoke(SWEEP).answer().await.report;
    let report = serde_json::to_value(report).unwrap();
    assert_eq!(outcomes(&report), ["failed/service-error"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    let said = "The sample could not be stopped, so it goes on at 1 message a second: SQS returned no handle";
    assert!(detail.starts_with(said), "{detail}");
}
