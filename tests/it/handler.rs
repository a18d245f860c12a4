//! The whole function but for Lambda's runtime, over the fake: which calls it makes, in which order,
//! and what it reports.

use crate::support::fake::{Fake, MINUTE, dlq};
use serde_json::{Value, json};
use sqs_auto_redrive::config::{Config, EnrollTag};
use sqs_auto_redrive::handler::{Invocation, InvocationError};
use sqs_auto_redrive::policy::{BrakeState, Policy};
use sqs_auto_redrive::queue::{MoveTask, QueueArn, TaskStatus};
use sqs_auto_redrive::report::QueueReport;
use sqs_auto_redrive::sqs::SqsError;
use sqs_auto_redrive::tagging::TaggingError;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SWEEP: &str = include_str!("../../events/schedule-eventbridge-rule.json");
const ALARM: &str = include_str!("../../events/alarm-eventbridge.json");
const CANCEL: &str = r#"{"action": "cancel"}"#;
const HOUR: Duration = Duration::from_secs(3600);

fn config(queues: &[&QueueArn]) -> Config {
    Config {
        queues: queues.iter().copied().cloned().collect(),
        enroll_tag: None,
        policy: Policy::default(),
        max_starts: 20,
        concurrency: 64,
    }
}

fn with_policy(queues: &[&QueueArn], policy: Policy) -> Config {
    Config {
        policy,
        ..config(queues)
    }
}

async fn invoke_with(
    fake: &Fake,
    config: Config,
    event: &str,
    invocation: &Invocation,
) -> Result<Value, InvocationError> {
    let function = fake.function(config);
    let report = function.invoke(event, invocation).await?.result()?;
    Ok(serde_json::to_value(report).unwrap())
}

/// The report of an invocation, or what it fails with.
async fn invoke(fake: &Fake, config: Config, event: &str) -> Result<Value, InvocationError> {
    invoke_with(fake, config, event, &fake.invocation()).await
}

/// Outcome and reason of each queue of a report, in its order.
fn outcomes(report: &Value) -> Vec<String> {
    let text = |queue: &Value, field: &str| queue[field].as_str().unwrap().to_owned();
    report["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| format!("{}/{}", text(queue, "outcome"), text(queue, "reason")))
        .collect()
}

/// A task of the past.
fn task(fake: &Fake, status: &str, size: u64, ago: Duration) -> MoveTask {
    MoveTask {
        status: TaskStatus::from_sqs(Some(status)),
        handle: (status == "RUNNING").then(|| "handle".to_owned()),
        started_at: Some(fake.now() - ago),
        moved: size,
        to_move: Some(size),
        destination_arn: None,
        failure_reason: None,
    }
}

/// A fake with one DLQ that has messages and this past task.
fn with_past(queue: &QueueArn, visible: u64, status: &str, ago: Duration) -> Fake {
    let fake = Fake::default().with(queue, visible);
    let task = task(&fake, status, visible, ago);
    fake.with_task(queue, task)
}

#[tokio::test]
async fn empty_dlq_takes_one_call() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 0);
    let report = invoke(&fake, config(&[&queue]), ALARM).await.unwrap();
    assert_eq!(outcomes(&report), ["skipped/empty"]);
    assert_eq!(fake.calls(), ["GetQueueAttributes orders-dlq"]);
}

#[tokio::test]
async fn active_task_takes_two_calls() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    let report = invoke(&fake, config(&[&queue]), ALARM).await.unwrap();
    assert_eq!(outcomes(&report), ["skipped/task-active"]);
    assert_eq!(
        fake.calls(),
        [
            "GetQueueAttributes orders-dlq",
            "ListMessageMoveTasks orders-dlq"
        ]
    );
}

#[tokio::test]
async fn start_takes_three_calls() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let report = invoke(&fake, config(&[&queue]), ALARM).await.unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
    assert_eq!(
        fake.calls(),
        [
            "GetQueueAttributes orders-dlq",
            "ListMessageMoveTasks orders-dlq",
            "StartMessageMoveTask orders-dlq"
        ]
    );
}

#[tokio::test]
async fn event_that_calls_for_nothing_takes_no_call() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let ignored = include_str!("../../events/ignored-ok.json");
    let report = invoke(&fake, config(&[&queue]), ignored).await.unwrap();
    assert_eq!(report["trigger"]["kind"], "ignored");
    assert_eq!(report["trigger"]["why"], "the alarm is in OK, not in ALARM");
    assert_eq!(outcomes(&report), [""; 0]);

    let rejected = invoke(&fake, config(&[&queue]), "{}").await.unwrap_err();
    assert!(matches!(rejected, InvocationError::Event(_)), "{rejected}");
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn queue_that_is_not_enrolled_takes_no_call() {
    let (enrolled, named) = (dlq("payments-dlq"), dlq("orders-dlq"));
    let fake = Fake::default().with(&enrolled, 5).with(&named, 5);
    let report = invoke(&fake, config(&[&enrolled]), ALARM).await.unwrap();
    assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    assert_eq!(report["queues"][0]["queueArn"], named.as_str());
    assert_eq!(report["trigger"]["queues"], json!(["orders-dlq"]));
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn queue_of_the_same_name_in_another_account_or_region_is_not_enrolled() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    for elsewhere in [
        ALARM.replace("123456789012", "210987654321"),
        ALARM.replace("us-east-1", "us-east-2"),
    ] {
        let report = invoke(&fake, config(&[&queue]), &elsewhere).await.unwrap();
        assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    }
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn dry_run_makes_no_call_that_changes_anything() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let dry_run = Policy {
        dry_run: true,
        ..Policy::default()
    };
    let asked = r#"{"action": "redrive", "dryRun": true}"#;
    for (policy, event) in [
        (dry_run.clone(), ALARM),
        (Policy::default(), asked),
        (dry_run, r#"{"action": "redrive", "dryRun": false}"#),
    ] {
        let report = invoke(&fake, with_policy(&[&queue], policy), event)
            .await
            .unwrap();
        assert_eq!(outcomes(&report), ["wouldStart/ready"]);
        assert_eq!(report["dryRun"], true);
        assert_eq!(report["counts"]["wouldStart"], 1);
    }
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn report_of_a_start_has_every_field_of_the_schema() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 7);
    let past = MoveTask {
        failure_reason: Some("CouldNotDetermineMessageSource".to_owned()),
        destination_arn: Some(dlq("elsewhere").to_string()),
        ..task(&fake, "FAILED", 40, HOUR)
    };
    let fake = fake.with_task(&queue, past);
    let policy = Policy {
        destination: Some(dlq("elsewhere")),
        ..Policy::default()
    };
    let report = invoke(&fake, with_policy(&[&queue], policy), ALARM)
        .await
        .unwrap();
    let expected = json!({
        "trigger": {
            "kind": "alarm",
            "source": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:orders-dlq-depth",
            "queues": ["orders-dlq"],
        },
        "dryRun": false,
        "counts": {
            "started": 1, "wouldStart": 0, "skipped": 0, "held": 0,
            "cancelled": 0, "wouldCancel": 0, "deferred": 0, "failed": 0,
        },
        "queues": [{
            "queueArn": queue.as_str(),
            "outcome": "started",
            "reason": "ready",
            "detail": format!(
                "7 visible messages go to {}, 50 a second at most; the last move task failed: `CouldNotDetermineMessageSource`: the messages were not moved here by SQS from a source queue (SNS, Lambda or a person sent them); set a destination.",
                dlq("elsewhere")
            ),
            "visible": 7,
            "inFlight": 0,
            "streak": 1,
            "task": {"handle": "task-1", "destinationArn": dlq("elsewhere").as_str(), "maxMessagesPerSecond": 50},
            "lastTask": {
                "status": "FAILED",
                "startedAt": "2027-01-15T07:00:00.000Z",
                "moved": 40,
                "toMove": 40,
                "destinationArn": dlq("elsewhere").as_str(),
                "failureReason": "CouldNotDetermineMessageSource",
            },
        }],
    });
    assert_eq!(report, expected);
}

#[tokio::test]
async fn known_failures_of_the_last_task_come_with_advice() {
    let queue = dlq("orders-dlq");
    for (reason, advice) in [
        ("CouldNotDetermineMessageSource", "set a destination"),
        ("AccessDenied", "grant `sqs:ReceiveMessage`"),
        ("AWS.SimpleQueueService.NonExistentQueue", "was deleted"),
        ("KmsAccessDenied", "grant `kms:Decrypt`"),
        ("SomethingNew", "the last move task failed: `SomethingNew`."),
    ] {
        let fake = Fake::default().with(&queue, 7);
        let past = MoveTask {
            failure_reason: Some(reason.to_owned()),
            ..task(&fake, "FAILED", 40, MINUTE)
        };
        let fake = fake.with_task(&queue, past);
        let report = invoke(&fake, config(&[&queue]), ALARM).await.unwrap();
        assert_eq!(outcomes(&report), ["skipped/cooling-down"]);
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(advice), "{detail}");
    }
}

#[tokio::test]
async fn race_that_is_lost_between_looking_and_starting_is_no_failure() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let function = fake.function(config(&[&queue]));
    let invocation = fake.invocation();
    let both = futures_util::future::join(
        function.invoke(ALARM, &invocation),
        function.invoke(ALARM, &invocation),
    );
    let (first, second) = both.await;
    let report = |answer: sqs_auto_redrive::handler::Answer| {
        serde_json::to_value(answer.result().unwrap()).unwrap()
    };
    let mut both = [
        outcomes(&report(first.unwrap())),
        outcomes(&report(second.unwrap())),
    ]
    .concat();
    both.sort();
    assert_eq!(both, ["skipped/task-active", "started/ready"]);
    assert_eq!(fake.starts(&queue).len(), 1);
}

#[tokio::test]
async fn deepest_dlqs_start_first_up_to_the_limit() {
    let queues: Vec<QueueArn> = (0..6).map(|n| dlq(&format!("dlq-{n}"))).collect();
    let fake = queues
        .iter()
        .zip([3, 60, 10, 0, 25, 1])
        .fold(Fake::default(), |fake, (queue, depth)| {
            fake.with(queue, depth)
        });
    let config = Config {
        max_starts: 3,
        ..config(&queues.iter().collect::<Vec<_>>())
    };
    let report = invoke(&fake, config.clone(), SWEEP).await.unwrap();
    let starts: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Start"))
        .collect();
    assert_eq!(
        starts,
        [
            "StartMessageMoveTask dlq-1",
            "StartMessageMoveTask dlq-4",
            "StartMessageMoveTask dlq-2"
        ]
    );
    assert_eq!(
        outcomes(&report),
        [
            "deferred/start-limit",
            "started/ready",
            "started/ready",
            "skipped/empty",
            "started/ready",
            "deferred/start-limit"
        ]
    );
    // What was deferred comes next.
    for queue in &queues {
        fake.minute_passes(queue);
        fake.minute_passes(queue);
    }
    let report = invoke(&fake, config, SWEEP).await.unwrap();
    assert_eq!(report["counts"]["started"], 2);
}

#[tokio::test]
async fn failure_of_one_dlq_stops_no_other_and_fails_the_invocation() {
    let (missing, denied, fine) = (dlq("missing"), dlq("denied"), dlq("orders-dlq"));
    let no = "User: arn:aws:sts::123456789012:assumed-role/redrive is not authorized to perform: sqs:receivemessage on resource: denied";
    let fake = Fake::default()
        .with(&denied, 5)
        .with_fault(
            &denied,
            "StartMessageMoveTask",
            SqsError::AccessDenied(no.to_owned()),
        )
        .with(&fine, 5);
    let failure = invoke(&fake, config(&[&missing, &denied, &fine]), SWEEP)
        .await
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!("DLQs that failed: 2: {denied} (access-denied), {missing} (queue-not-found)")
    );
    assert_eq!(fake.starts(&fine).len(), 1);

    let function = fake.function(config(&[&denied]));
    let report = function
        .invoke(SWEEP, &fake.invocation())
        .await
        .unwrap()
        .report;
    assert!(
        report.queues[0].detail.contains("sqs:receivemessage"),
        "{}",
        report.queues[0].detail
    );
}

#[tokio::test]
async fn invocation_answers_before_its_deadline_and_defers_what_it_has_not_seen() {
    let (slow, fine) = (dlq("slow"), dlq("orders-dlq"));
    let fake = Fake::default()
        .with(&slow, 5)
        .with_latency(&slow, HOUR)
        .with(&fine, 5);
    let begun = Instant::now();
    let invocation = Invocation {
        time_left: Duration::from_millis(500),
        ..fake.invocation()
    };
    let report = invoke_with(&fake, config(&[&slow, &fine]), SWEEP, &invocation)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["started/ready", "deferred/out-of-time"]);
    assert!(
        begun.elapsed() < invocation.time_left,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn start_that_is_not_answered_in_time_is_deferred() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default()
        .with(&queue, 5)
        .with_slow_start(&queue, HOUR);
    let begun = Instant::now();
    let invocation = Invocation {
        time_left: Duration::from_secs(1),
        ..fake.invocation()
    };
    let report = invoke_with(&fake, config(&[&queue]), SWEEP, &invocation)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);
    assert_eq!(report["queues"][0]["visible"], 5);
    assert!(
        begun.elapsed() < invocation.time_left,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn destination_that_cannot_be_is_refused_before_any_call() {
    let (standard, fifo) = (dlq("orders-dlq"), dlq("orders-dlq.fifo"));
    let fake = Fake::default().with(&standard, 5).with(&fifo, 5);
    let to = |destination: &QueueArn| {
        json!({"action": "redrive", "destinationArn": destination.as_str()}).to_string()
    };

    let failure = invoke(&fake, config(&[&fifo]), &to(&dlq("elsewhere")))
        .await
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("orders-dlq.fifo (invalid-policy)"),
        "{failure}"
    );
    let failure = invoke(&fake, config(&[&standard, &fifo]), &to(&fifo))
        .await
        .unwrap_err();
    assert!(
        failure.to_string().starts_with(
            "DLQs that failed: 2: arn:aws:sqs:us-east-1:123456789012:orders-dlq (invalid-policy)"
        ),
        "{failure}"
    );
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn request_chooses_queues_rate_and_destination() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default().with(&orders, 5).with(&payments, 5);
    let request = json!({
        "action": "redrive",
        "queues": ["orders-dlq", "strange", payments.as_str(), "orders-dlq"],
        "maxMessagesPerSecond": 7,
        "destinationArn": dlq("elsewhere").as_str(),
    });
    let report = invoke(&fake, config(&[&orders, &payments]), &request.to_string())
        .await
        .unwrap();
    assert_eq!(
        report["trigger"],
        json!({"kind": "request", "source": null, "queues": ["orders-dlq", "payments-dlq", "strange"]})
    );
    assert_eq!(
        outcomes(&report),
        ["started/ready", "started/ready", "skipped/not-enrolled"]
    );
    for n in [0, 1] {
        assert_eq!(report["queues"][n]["task"]["maxMessagesPerSecond"], 7);
        assert_eq!(
            report["queues"][n]["task"]["destinationArn"],
            dlq("elsewhere").as_str()
        );
    }
}

#[tokio::test]
async fn request_with_a_destination_is_not_diverted_to_the_parking_queue() {
    let queue = dlq("orders-dlq");
    let mut fake = Fake::default().with(&queue, 5);
    for hours in (1..=5).rev() {
        let task = task(&fake, "COMPLETED", 5, HOUR * hours);
        fake = fake.with_task(&queue, task);
    }
    let config = with_policy(
        &[&queue],
        Policy {
            parking: Some(dlq("parking")),
            ..Policy::default()
        },
    );
    let request =
        json!({"action": "redrive", "destinationArn": dlq("elsewhere").as_str()}).to_string();
    let report = invoke(&fake, config.clone(), &request).await.unwrap();
    assert_eq!(outcomes(&report), ["held/attempts-exhausted"]);
    let report = invoke(&fake, config, SWEEP).await.unwrap();
    assert_eq!(outcomes(&report), ["started/parking"]);
}

#[tokio::test]
async fn function_mapped_onto_a_dlq_fails_even_if_its_messages_can_be_read() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let record = |attributes: Value| {
        let from = queue.as_str();
        json!({"Records": [{"messageId": "1", "body": ALARM, "attributes": attributes, "eventSource": "aws:sqs", "eventSourceARN": from}]}).to_string()
    };
    let dead_letter = record(json!({"DeadLetterQueueSourceArn": dlq("orders").as_str()}));
    for (event, enrolled) in [
        (record(json!({})), &queue),
        (dead_letter, &dlq("another-dlq")),
    ] {
        let failure = invoke(&fake, config(&[enrolled]), &event)
            .await
            .unwrap_err();
        assert!(
            failure
                .to_string()
                .contains("remove the event source mapping"),
            "{failure}"
        );
    }
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn batch_is_acted_on_as_far_as_it_can_be_read_and_then_fails() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default().with(&orders, 5).with(&payments, 5);
    let batch = include_str!("../../events/batch-partly-unreadable.json");
    let failure = invoke(&fake, config(&[&orders, &payments]), batch)
        .await
        .unwrap_err();
    let batch: Value = serde_json::from_str(batch).unwrap();
    let ids = batch["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["messageId"].as_str().unwrap());
    let named: Vec<&str> = ids.filter(|id| failure.to_string().contains(id)).collect();
    assert_eq!(named.len(), 1, "{failure}");
    assert!(
        failure
            .to_string()
            .starts_with("records that could not be read: 1: record"),
        "{failure}"
    );
    assert_eq!(
        (fake.starts(&orders).len(), fake.starts(&payments).len()),
        (1, 1)
    );
}

#[tokio::test]
async fn empty_dlqs_are_counted_but_not_listed_among_more_than_a_hundred() {
    for (n, listed) in [(100, 100), (101, 1)] {
        let queues: Vec<QueueArn> = (0..n).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
        let fake = queues
            .iter()
            .fold(Fake::default(), |fake, queue| fake.with(queue, 0))
            .with(&queues[7], 1);
        let config = config(&queues.iter().collect::<Vec<_>>());
        let function = fake.function(config);
        let report = function
            .invoke(SWEEP, &fake.invocation())
            .await
            .unwrap()
            .report;
        assert_eq!(report.queues.len(), listed);
        assert_eq!(report.counts.skipped, n - 1);
        let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
        assert_eq!(metrics["QueuesLookedAt"], n);
    }
}

#[tokio::test]
async fn metrics_are_in_the_embedded_metric_format() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "FAILED", HOUR).with(&payments, 3);
    let function = fake.function(config(&[&orders, &payments, &dlq("missing")]));
    let report = function
        .invoke(SWEEP, &fake.invocation())
        .await
        .unwrap()
        .report;
    let line = report.metrics("redrive", fake.now());
    assert!(!line.contains('\n'));
    let line: Value = serde_json::from_str(&line).unwrap();
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(line["_aws"]["Timestamp"], 1_800_000_000_000_u64);
    assert_eq!(directive["Namespace"], "SqsAutoRedrive");
    assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
    assert_eq!(line["FunctionName"], "redrive");
    let metrics: Vec<(&str, u64)> = directive["Metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| {
            assert_eq!(metric["Unit"], "Count");
            let name = metric["Name"].as_str().unwrap();
            (name, line[name].as_u64().unwrap())
        })
        .collect();
    assert_eq!(
        metrics,
        [
            ("QueuesLookedAt", 2),
            ("Started", 2),
            ("MessagesRedriven", 8),
            ("Held", 0),
            ("Failed", 1),
            ("Deferred", 0),
            ("Cancelled", 0),
            ("MessagesVisible", 8),
            ("MoveTasksFailed", 1),
            ("DepthHistoryUnreadable", 0),
        ]
    );
}

#[tokio::test]
async fn messages_are_counted_as_redriven_only_where_a_redrive_started() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "COMPLETED", HOUR / 60).with(&payments, 3);
    let function = fake.function(config(&[&orders, &payments]));
    let report = function
        .invoke(SWEEP, &fake.invocation())
        .await
        .unwrap()
        .report;
    let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
    assert_eq!(metrics["MessagesVisible"], 8);
    assert_eq!(metrics["MessagesRedriven"], 3);
}

fn braked(alarm: &str) -> Policy {
    Policy {
        brake_alarms: vec![alarm.to_owned()],
        ..Policy::default()
    }
}

#[tokio::test]
async fn brakes_are_asked_once_and_only_if_something_would_start() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 0)
        .with(&payments, 0)
        .with_alarm("consumer is down", BrakeState::On);
    let config = with_policy(&[&orders, &payments], braked("consumer is down"));
    invoke(&fake, config.clone(), SWEEP).await.unwrap();
    assert!(
        fake.calls()
            .iter()
            .all(|call| !call.starts_with("Describe"))
    );

    fake.counts_are(&orders, 5, 0);
    fake.counts_are(&payments, 5, 0);
    let report = invoke(&fake, config, SWEEP).await.unwrap();
    assert_eq!(outcomes(&report), ["held/braked", "held/braked"]);
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Describe"))
        .collect();
    assert_eq!(asked, ["DescribeAlarms consumer is down"]);
}

#[tokio::test]
async fn depth_histories_are_asked_in_one_call_and_only_for_dlqs_that_get_so_far() {
    let queues = [
        dlq("filling"),
        dlq("quiet"),
        dlq("unseen"),
        dlq("new"),
        dlq("hot"),
        dlq("empty"),
    ];
    let [filling, quiet, unseen, new, hot, empty] = &queues;
    let mut fake = Fake::default().with(new, 5).with(empty, 0);
    for (queue, ago) in [
        (filling, MINUTE * 20),
        (quiet, MINUTE * 20),
        (unseen, MINUTE * 20),
        (hot, MINUTE),
    ] {
        let past = task(&fake, "COMPLETED", 100, ago);
        fake = fake.with(queue, 5).with_task(queue, past);
    }
    let fake = fake
        .with_depth(filling, 4, MINUTE * 5)
        .with_depth(quiet, 5, MINUTE * 5);
    let report = invoke(&fake, config(&queues.iter().collect::<Vec<_>>()), SWEEP)
        .await
        .unwrap();
    assert_eq!(
        outcomes(&report),
        [
            "skipped/empty",
            "skipped/still-filling",
            "skipped/cooling-down",
            "started/ready",
            "started/ready",
            "started/ready"
        ]
    );
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("GetMetricData"))
        .collect();
    assert_eq!(asked, ["GetMetricData filling,quiet,unseen"]);
}

#[tokio::test]
async fn brake_going_off_cancels_the_running_tasks_it_guards() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let past = task(&fake, "COMPLETED", 5, HOUR);
    let fake = fake.with_task(&payments, past);
    let config = with_policy(&[&orders, &payments], braked("orders-dlq-depth"));
    let report = invoke(&fake, config.clone(), ALARM).await.unwrap();
    assert_eq!(report["trigger"]["kind"], "brake");
    assert_eq!(
        outcomes(&report),
        ["cancelled/braked", "skipped/nothing-to-cancel"]
    );
    assert_eq!(report["queues"][0]["task"]["handle"], "handle");
    assert_eq!(report["queues"][0]["lastTask"]["status"], "RUNNING");
    let mut calls = fake.calls();
    calls.sort();
    assert_eq!(
        calls,
        [
            "CancelMessageMoveTask orders-dlq",
            "ListMessageMoveTasks orders-dlq",
            "ListMessageMoveTasks payments-dlq"
        ]
    );

    let dry = Config {
        policy: Policy {
            dry_run: true,
            ..config.policy
        },
        ..config
    };
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let report = invoke(&fake, dry, ALARM).await.unwrap();
    assert_eq!(
        outcomes(&report),
        ["wouldCancel/braked", "skipped/nothing-to-cancel"]
    );
    assert!(fake.calls().iter().all(|call| !call.starts_with("Cancel")));
}

#[tokio::test]
async fn suppressed_or_muted_brake_is_a_brake_all_the_same() {
    let queue = dlq("orders-dlq");
    let suppressed = include_str!("../../events/ignored-suppressed.json");
    let muted = include_str!("../../events/ignored-muted.json");
    for event in [suppressed, muted] {
        let name = serde_json::from_str::<Value>(event).unwrap()["detail"]["alarmName"]
            .as_str()
            .unwrap()
            .to_owned();
        let fake = with_past(&queue, 5, "RUNNING", MINUTE);
        let report = invoke(&fake, with_policy(&[&queue], braked(&name)), event)
            .await
            .unwrap();
        assert_eq!(outcomes(&report), ["cancelled/braked"]);
    }
}

#[tokio::test]
async fn brake_samples_cancel_and_sweep() {
    let queue = dlq("orders-dlq");
    let policy = braked("orders consumer is down");
    let alarm = include_str!("../../events/brake-alarm.json");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    let report = invoke(&fake, with_policy(&[&queue], policy.clone()), alarm)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["cancelled/braked"]);

    let ok = include_str!("../../events/brake-ok.json");
    let fake = Fake::default()
        .with(&queue, 5)
        .with_alarm("orders consumer is down", BrakeState::Off);
    let report = invoke(&fake, with_policy(&[&queue], policy), ok)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
}

#[tokio::test]
async fn brake_back_to_ok_sweeps() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 5)
        .with(&payments, 5)
        .with_alarm("orders-dlq-depth", BrakeState::Off);
    let config = with_policy(&[&orders, &payments], braked("orders-dlq-depth"));
    let ok = include_str!("../../events/ignored-ok.json");
    let report = invoke(&fake, config, ok).await.unwrap();
    assert_eq!(report["trigger"]["kind"], "brake");
    assert_eq!(outcomes(&report), ["started/ready", "started/ready"]);
}

#[tokio::test]
async fn brake_without_data_is_ignored() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let event = include_str!("../../events/ignored-insufficient-data.json");
    let report = invoke(
        &fake,
        with_policy(&[&queue], braked("orders-dlq-depth")),
        event,
    )
    .await
    .unwrap();
    assert_eq!(report["trigger"]["kind"], "ignored");
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn alarm_of_a_brakes_name_in_another_account_or_region_is_no_brake() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    for elsewhere in [
        ALARM.replace("123456789012", "210987654321"),
        ALARM.replace("us-east-1", "us-east-2"),
    ] {
        let report = invoke(
            &fake,
            with_policy(&[&queue], braked("orders-dlq-depth")),
            &elsewhere,
        )
        .await
        .unwrap();
        assert_eq!(report["trigger"]["kind"], "alarm");
        assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    }
}

#[tokio::test]
async fn cancel_by_request_cancels_running_tasks_only() {
    let queues = [
        dlq("cancelling"),
        dlq("completed"),
        dlq("running"),
        dlq("untouched"),
    ];
    let mut fake = Fake::default();
    for (queue, status) in queues
        .iter()
        .zip(["CANCELLING", "COMPLETED", "RUNNING", "RUNNING"])
    {
        let past = task(&fake, status, 5, MINUTE);
        fake = fake.with(queue, 5).with_task(queue, past);
    }
    let request = r#"{"action": "cancel", "queues": ["cancelling", "completed", "running"]}"#;
    let report = invoke(&fake, config(&queues.iter().collect::<Vec<_>>()), request)
        .await
        .unwrap();
    assert_eq!(
        outcomes(&report),
        [
            "skipped/nothing-to-cancel",
            "skipped/nothing-to-cancel",
            "cancelled/requested"
        ]
    );
    assert_eq!(report["counts"]["cancelled"], 1);
    assert!(fake.calls().iter().all(|call| !call.ends_with("untouched")));
}

/// A configuration that enrols by the tag `auto-redrive=enabled`, and these queues by list.
fn tagged(listed: &[&QueueArn]) -> Config {
    Config {
        enroll_tag: Some(EnrollTag {
            key: "auto-redrive".to_owned(),
            value: Some("enabled".to_owned()),
        }),
        ..config(listed)
    }
}

#[tokio::test]
async fn sweep_looks_at_what_is_listed_and_what_is_tagged() {
    let (listed, both, by_tag, neither) = (
        dlq("a-listed"),
        dlq("b-both"),
        dlq("c-tagged"),
        dlq("d-neither"),
    );
    let queues = [&listed, &both, &by_tag, &neither];
    let fake = queues
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
    let fake = fake.with_tags(&both, &[]).with_tags(&by_tag, &[]);
    let report = invoke(&fake, tagged(&[&listed, &both]), SWEEP)
        .await
        .unwrap();
    assert_eq!(
        outcomes(&report),
        ["started/ready", "started/ready", "started/ready"]
    );
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("GetResources"))
        .collect();
    assert_eq!(asked, ["GetResources"]);
    assert!(fake.starts(&neither).is_empty());
}

#[tokio::test]
async fn alarm_asks_for_the_tags_of_the_queue_it_names_and_of_no_other() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 5)
        .with(&payments, 5)
        .with_tags(&orders, &[]);
    let report = invoke(&fake, tagged(&[]), ALARM).await.unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
    assert_eq!(fake.calls()[0], "GetResources orders-dlq");

    let fake = Fake::default().with(&orders, 5).with_tags(&payments, &[]);
    let contributor = include_str!("../../events/contributor-eventbridge.json");
    let report = invoke(&fake, tagged(&[]), contributor).await.unwrap();
    assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    assert_eq!(fake.calls(), ["GetResources orders-dlq"]);
}

#[tokio::test]
async fn event_that_calls_for_nothing_asks_for_no_tags() {
    let fake = Fake::default();
    invoke(
        &fake,
        tagged(&[]),
        include_str!("../../events/ignored-ok.json"),
    )
    .await
    .unwrap();
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn tags_of_a_queue_say_its_policy() {
    let (slow, patient, paused) = (dlq("a-slow"), dlq("b-patient"), dlq("c-paused"));
    let fake = Fake::default()
        .with(&slow, 5)
        .with_tags(
            &slow,
            &[
                ("max-messages-per-second", "7"),
                ("destination-arn", dlq("elsewhere").as_str()),
            ],
        )
        .with(&patient, 5)
        .with_tags(&patient, &[("min-messages", "6")])
        .with(&paused, 5)
        .with_tags(&paused, &[("paused", "true")]);
    let report = invoke(&fake, tagged(&[]), SWEEP).await.unwrap();
    assert_eq!(
        outcomes(&report),
        ["started/ready", "skipped/below-minimum", "held/paused"]
    );
    assert_eq!(report["queues"][0]["task"]["maxMessagesPerSecond"], 7);
    assert_eq!(
        report["queues"][0]["task"]["destinationArn"],
        dlq("elsewhere").as_str()
    );
}

#[tokio::test]
async fn request_goes_before_the_tags_of_a_queue() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(
        &queue,
        &[("max-messages-per-second", "7"), ("min-messages", "6")],
    );
    let request = r#"{"action": "redrive", "force": true, "maxMessagesPerSecond": 8}"#;
    let report = invoke(&fake, tagged(&[]), request).await.unwrap();
    assert_eq!(report["queues"][0]["task"]["maxMessagesPerSecond"], 8);
}

#[tokio::test]
async fn bad_tag_fails_its_queue_alone_and_says_what_is_accepted() {
    let (bad, fine) = (dlq("bad"), dlq("fine"));
    for (settings, faults) in [
        (
            vec![("cooldown", "5s")],
            vec!["`auto-redrive:cooldown` holds `5s`: a duration from 1m to 14days"],
        ),
        (
            vec![("cooldwn", "15m")],
            vec!["`auto-redrive:cooldwn` holds `15m`: there is no such setting"],
        ),
        (
            vec![("cooldown", "5s"), ("max-messages-per-second", "501")],
            vec![
                "`auto-redrive:cooldown` holds `5s`",
                "`auto-redrive:max-messages-per-second` holds `501`: a whole number from 1 to 500",
            ],
        ),
        (
            vec![("cooldown", "25h")],
            vec!["do not fit into the attempt window"],
        ),
        (
            vec![(
                "destination-arn",
                "arn:aws:sqs:us-east-1:210987654321:orders",
            )],
            vec!["another account or region"],
        ),
        (
            vec![("parking-arn", "arn:aws:sqs:us-east-1:123456789012:fine")],
            vec!["is itself an enrolled DLQ"],
        ),
    ] {
        let fake = Fake::default()
            .with(&bad, 5)
            .with_tags(&bad, &settings)
            .with(&fine, 5)
            .with_tags(&fine, &[]);
        let answer = fake
            .function(tagged(&[]))
            .invoke(SWEEP, &fake.invocation())
            .await
            .unwrap();
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(
            outcomes(&report),
            ["failed/invalid-policy", "started/ready"]
        );
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(
            faults.iter().all(|fault| detail.contains(fault)),
            "{detail}"
        );
        assert!(
            answer
                .result()
                .unwrap_err()
                .to_string()
                .contains("bad (invalid-policy)")
        );
        assert!(fake.calls().iter().all(|call| !call.ends_with(" bad")));
    }
}

#[tokio::test]
async fn bad_tag_does_not_keep_a_task_from_being_cancelled() {
    let queue = dlq("orders-dlq");
    let past = || with_past(&queue, 5, "RUNNING", MINUTE).with_tags(&queue, &[("cooldown", "5s")]);
    let fake = past();
    let report = invoke(&fake, tagged(&[]), r#"{"action": "cancel"}"#)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["cancelled/requested"]);
    let report = invoke(
        &past(),
        tagged(&[]),
        r#"{"action": "cancel", "dryRun": true}"#,
    )
    .await
    .unwrap();
    assert_eq!(outcomes(&report), ["wouldCancel/requested"]);
}

#[tokio::test]
async fn tagging_api_that_hangs_does_not_take_the_time_of_what_is_listed() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_slow_tagging();
    let invocation = Invocation {
        time_left: Duration::from_millis(600),
        ..fake.invocation()
    };
    let answer = fake
        .function(tagged(&[&queue]))
        .invoke(SWEEP, &invocation)
        .await
        .unwrap();
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
    let failure = answer.result().unwrap_err().to_string();
    assert!(
        failure.contains("`tag:GetResources` failed: no answer came in time"),
        "{failure}"
    );
}

#[tokio::test]
async fn tag_adds_a_pause_or_a_dry_run_and_lifts_none() {
    let queue = dlq("orders-dlq");
    let paused = Policy {
        paused: true,
        ..Policy::default()
    };
    let dry_run = Policy {
        dry_run: true,
        ..Policy::default()
    };
    for (policy, tag, outcome) in [
        (paused.clone(), ("paused", "false"), "held/paused"),
        (dry_run, ("dry-run", "false"), "wouldStart/ready"),
        (Policy::default(), ("paused", "true"), "held/paused"),
        (Policy::default(), ("dry-run", "true"), "wouldStart/ready"),
    ] {
        let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[tag]);
        let config = Config {
            policy,
            ..tagged(&[])
        };
        let report = invoke(&fake, config, SWEEP).await.unwrap();
        assert_eq!(outcomes(&report), [outcome], "{tag:?}");
        assert!(fake.starts(&queue).is_empty());
    }
}

#[tokio::test]
async fn alarm_sees_that_a_destination_is_itself_enrolled_by_tag() {
    let (queue, other) = (dlq("orders-dlq"), dlq("other-dlq"));
    let to_other = [("destination-arn", other.as_str())];
    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &to_other)
        .with_tags(&other, &[]);
    let failure = invoke(&fake, tagged(&[]), ALARM).await.unwrap_err();
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert_eq!(
        fake.calls(),
        ["GetResources orders-dlq", "GetResources other-dlq"]
    );

    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &[])
        .with_tags(&other, &[]);
    let by_environment = Config {
        policy: Policy {
            parking: Some(other.clone()),
            ..Policy::default()
        },
        ..tagged(&[])
    };
    let failure = invoke(&fake, by_environment, ALARM).await.unwrap_err();
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert_eq!(fake.calls(), ["GetResources orders-dlq,other-dlq"]);

    let request =
        json!({"action": "redrive", "queues": ["orders-dlq"], "destinationArn": other.as_str()});
    let failure = invoke(&fake, tagged(&[]), &request.to_string())
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn fault_of_a_destination_names_its_tag() {
    let queue = dlq("orders-dlq");
    let elsewhere = "arn:aws:sqs:us-east-1:210987654321:orders";
    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &[("destination-arn", elsewhere)]);
    let answer = fake
        .function(tagged(&[]))
        .invoke(SWEEP, &fake.invocation())
        .await
        .unwrap();
    let detail = &answer.report.queues[0].detail;
    let blame = format!("tag `auto-redrive:destination-arn` holds `{elsewhere}`: ");
    assert!(
        detail.starts_with(&blame) && detail.contains("another account or region"),
        "{detail}"
    );
}

#[tokio::test]
async fn bad_tag_beside_a_dry_run_does_not_lift_it() {
    let queue = dlq("orders-dlq");
    let tags = [("dry-run", "true"), ("cooldown", "5s")];
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_tags(&queue, &tags);
    let report = invoke(&fake, tagged(&[]), r#"{"action": "cancel"}"#)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["wouldCancel/requested"]);
}

#[tokio::test]
async fn brakes_of_a_tag_hold_their_own_dlq_alone() {
    let (braked, free) = (dlq("a-braked"), dlq("b-free"));
    let fake = Fake::default()
        .with(&braked, 5)
        .with_tags(&braked, &[("brake-alarms", "down")])
        .with(&free, 5)
        .with_tags(&free, &[("brake-alarms", "up, calm")])
        .with_alarm("down", BrakeState::On)
        .with_alarm("up", BrakeState::Off)
        .with_alarm("calm", BrakeState::Off);
    let report = invoke(&fake, tagged(&[]), SWEEP).await.unwrap();
    assert_eq!(outcomes(&report), ["held/braked", "started/ready"]);
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Describe"))
        .collect();
    assert_eq!(asked, ["DescribeAlarms calm,down,up"]);
}

#[tokio::test]
async fn function_mapped_onto_a_tagged_dlq_fails_though_its_messages_call_for_nothing() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let ok = include_str!("../../events/ignored-ok.json");
    let event = json!({"Records": [{"messageId": "1", "body": ok, "eventSource": "aws:sqs", "eventSourceARN": queue.as_str()}]});
    let failure = invoke(&fake, tagged(&[]), &event.to_string())
        .await
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("remove the event source mapping"),
        "{failure}"
    );
}

#[tokio::test]
async fn alarms_between_sweeps_do_not_move_where_the_next_sweep_begins() {
    let queues: Vec<QueueArn> = (0..12).map(|n| dlq(&format!("dlq-{n:02}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 0)
            .with_latency(queue, Duration::from_millis(40))
    });
    let config = Config {
        concurrency: 1,
        ..config(&queues.iter().collect::<Vec<_>>())
    };
    let function = fake.function(config);
    let short = Invocation {
        time_left: Duration::from_millis(250),
        ..fake.invocation()
    };
    let named = r#"{"action": "redrive", "queues": ["dlq-00", "dlq-01", "dlq-02"]}"#;
    let mut seen_by_sweeps: Vec<String> = Vec::new();
    while seen_by_sweeps.len() < 12 {
        let report = function.invoke(SWEEP, &short).await.unwrap().report;
        let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
        let new: Vec<String> = seen.map(|queue| queue.queue_arn.clone()).collect();
        assert!(!new.is_empty());
        let again = new
            .iter()
            .filter(|arn| seen_by_sweeps.contains(arn))
            .count();
        assert!(
            again == 0 || seen_by_sweeps.len() + new.len() > 12,
            "a sweep went back: {new:?}"
        );
        seen_by_sweeps.extend(new);
        function.invoke(named, &fake.invocation()).await.unwrap();
    }
}

#[tokio::test]
async fn cancel_of_many_dlqs_counts_those_with_nothing_to_cancel() {
    let queues: Vec<QueueArn> = (0..101).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
    let fake = queues
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
    let running = task(&fake, "RUNNING", 5, MINUTE);
    let fake = fake.with_task(&queues[50], running);
    let report = invoke(
        &fake,
        config(&queues.iter().collect::<Vec<_>>()),
        r#"{"action": "cancel"}"#,
    )
    .await
    .unwrap();
    assert_eq!(outcomes(&report), ["cancelled/requested"]);
    assert_eq!(report["counts"]["skipped"], 100);
    assert_eq!(
        report["unlisted"],
        json!({"empty": 0, "notEnrolled": 0, "outOfTime": 0, "nothingToCancel": 100})
    );
}

#[tokio::test]
async fn tagged_queue_that_was_just_deleted_is_reported_and_no_failure() {
    let (deleted, fine) = (dlq("deleted"), dlq("fine"));
    let fake = Fake::default()
        .with_tags(&deleted, &[])
        .with(&fine, 5)
        .with_tags(&fine, &[]);
    let report = invoke(&fake, tagged(&[]), SWEEP).await.unwrap();
    assert_eq!(
        outcomes(&report),
        ["skipped/queue-not-found", "started/ready"]
    );
    let failure = invoke(&fake, tagged(&[&deleted]), SWEEP).await.unwrap_err();
    assert!(
        failure.to_string().contains("deleted (queue-not-found)"),
        "a listed one is a failure: {failure}"
    );
}

#[tokio::test]
async fn listed_queues_are_served_though_the_tags_cannot_be_read() {
    let (listed, named) = (dlq("listed"), dlq("orders-dlq"));
    let refused = TaggingError::AccessDenied(
        "User: … is not authorized to perform: tag:GetResources".to_owned(),
    );
    let expired =
        TaggingError::Service("PaginationTokenExpiredException: The token has expired.".to_owned());
    for (fault, said, reason) in [
        (refused, "grant `tag:GetResources`", "access-denied"),
        (expired, "PaginationTokenExpired", "service-error"),
    ] {
        let fake = Fake::default()
            .with(&listed, 5)
            .with(&named, 5)
            .with_tags(&named, &[])
            .with_tagging_fault(fault);
        let failure = invoke(&fake, tagged(&[&listed]), SWEEP)
            .await
            .unwrap_err()
            .to_string();
        assert!(failure.contains(said), "{failure}");
        assert_eq!(fake.starts(&listed).len(), 1);

        let failure = invoke(&fake, tagged(&[&listed]), ALARM)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains(&format!("orders-dlq ({reason})")),
            "{failure}"
        );
        assert!(fake.starts(&named).is_empty());
    }
}

#[tokio::test]
async fn function_mapped_onto_a_tagged_dlq_fails() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let event = json!({"Records": [{"messageId": "1", "body": ALARM, "eventSource": "aws:sqs", "eventSourceARN": queue.as_str()}]});
    let failure = invoke(&fake, tagged(&[]), &event.to_string())
        .await
        .unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("remove the event source mapping"),
        "{failure}"
    );
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn throttling_slows_a_sweep_and_does_not_fail_it() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_throttling(&queue, 1);
    let report = invoke(&fake, config(&[&queue]), SWEEP).await.unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);

    let fake = Fake::default()
        .with(&queue, 5)
        .with_throttling(&queue, usize::MAX);
    let invocation = Invocation {
        time_left: Duration::from_millis(500),
        ..fake.invocation()
    };
    let report = invoke_with(&fake, config(&[&queue]), SWEEP, &invocation)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);
}

#[tokio::test]
async fn sweeps_of_one_process_go_on_where_time_ran_out() {
    let queues: Vec<QueueArn> = (0..40).map(|n| dlq(&format!("dlq-{n:02}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 0)
            .with_latency(queue, Duration::from_millis(30))
    });
    let config = Config {
        concurrency: 2,
        ..config(&queues.iter().collect::<Vec<_>>())
    };
    let function = fake.function(config);
    let invocation = Invocation {
        time_left: Duration::from_millis(250),
        ..fake.invocation()
    };
    let mut looked_at = BTreeSet::new();
    for _ in 0..6 {
        let report = function.invoke(SWEEP, &invocation).await.unwrap().report;
        assert!(
            report.counts.deferred > 0,
            "one sweep cannot see all: {:?}",
            report.counts
        );
        let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
        looked_at.extend(seen.map(|queue| queue.queue_arn.clone()));
    }
    assert_eq!(looked_at.len(), 40);
}

#[tokio::test]
async fn cancel_that_sqs_refuses_while_the_task_runs_is_a_failure() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_refused_cancel(&queue);
    let answer = fake
        .function(config(&[&queue]))
        .invoke(r#"{"action": "cancel"}"#, &fake.invocation())
        .await
        .unwrap();
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["failed/service-error"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("still RUNNING") && detail.contains("RequestExpired"),
        "{detail}"
    );
    assert_eq!(
        fake.calls(),
        [
            "ListMessageMoveTasks orders-dlq",
            "CancelMessageMoveTask orders-dlq",
            "ListMessageMoveTasks orders-dlq"
        ]
    );
}

#[tokio::test]
async fn cancel_that_runs_out_of_time_fails_so_that_lambda_tries_again() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_latency(&queue, HOUR);
    let invocation = Invocation {
        time_left: Duration::from_millis(300),
        ..fake.invocation()
    };
    let policy = braked("orders-dlq-depth");
    let failure = invoke_with(&fake, with_policy(&[&queue], policy), ALARM, &invocation)
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("orders-dlq (out-of-time)"),
        "{failure}"
    );
}

#[tokio::test]
async fn cancel_names_the_brake_that_caused_it() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    let event: Value = serde_json::from_str(ALARM).unwrap();
    let without_arn = event["detail"].to_string();
    let report = invoke(
        &fake,
        with_policy(&[&queue], braked("orders-dlq-depth")),
        &without_arn,
    )
    .await
    .unwrap();
    assert_eq!(outcomes(&report), ["cancelled/braked"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("The brake alarm `orders-dlq-depth` is in ALARM"),
        "{detail}"
    );
}

#[tokio::test]
async fn brake_goes_before_all_else_in_a_batch() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let brake: Value = serde_json::from_str(include_str!("../../events/brake-alarm.json")).unwrap();
    let alarm: Value = serde_json::from_str(ALARM).unwrap();
    for batch in [json!([alarm, brake]), json!([brake, alarm])] {
        let policy = braked("orders consumer is down");
        let report = invoke(
            &fake,
            with_policy(&[&orders, &payments], policy),
            &batch.to_string(),
        )
        .await
        .unwrap();
        assert_eq!(report["trigger"]["kind"], "brake");
        assert_eq!(report["trigger"]["source"], brake["resources"][0]);
    }
    assert!(fake.starts(&payments).is_empty());
}

#[tokio::test]
async fn start_that_fails_leaves_its_place_to_the_next() {
    let (deepest, deep, shallow) = (dlq("a-deepest"), dlq("b-deep"), dlq("c-shallow"));
    let no_dlq = SqsError::NotADeadLetterQueue(
        "Source queue must be configured as a Dead Letter Queue.".to_owned(),
    );
    let fake = Fake::default()
        .with(&deepest, 50)
        .with_fault(&deepest, "StartMessageMoveTask", no_dlq)
        .with(&deep, 5)
        .with(&shallow, 1);
    let config = Config {
        max_starts: 1,
        ..config(&[&deepest, &deep, &shallow])
    };
    let answer = fake
        .function(config)
        .invoke(SWEEP, &fake.invocation())
        .await
        .unwrap();
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            "failed/not-a-dead-letter-queue",
            "started/ready",
            "deferred/start-limit"
        ]
    );
}

#[tokio::test]
async fn dlq_that_hangs_does_not_take_cloudwatchs_time() {
    let (hangs, filling) = (dlq("hangs"), dlq("filling"));
    let fake = Fake::default()
        .with(&hangs, 5)
        .with_latency(&hangs, HOUR)
        .with(&filling, 5);
    let past = task(&fake, "COMPLETED", 100, MINUTE * 20);
    let fake = fake
        .with_task(&filling, past)
        .with_depth(&filling, 4, MINUTE * 5);
    let invocation = Invocation {
        time_left: Duration::from_millis(500),
        ..fake.invocation()
    };
    let report = invoke_with(&fake, config(&[&hangs, &filling]), SWEEP, &invocation)
        .await
        .unwrap();
    assert_eq!(
        outcomes(&report),
        ["skipped/still-filling", "deferred/out-of-time"]
    );
}

#[tokio::test]
async fn parking_queue_is_known_as_such_to_a_request_with_another_destination() {
    let queue = dlq("orders-dlq");
    let mut fake = Fake::default().with(&queue, 8);
    for hours in (2..=6).rev() {
        let past = task(&fake, "COMPLETED", 8, HOUR * hours);
        fake = fake.with_task(&queue, past);
    }
    let parked = MoveTask {
        destination_arn: Some(dlq("parking").to_string()),
        ..task(&fake, "COMPLETED", 8, HOUR)
    };
    let fake = fake.with_task(&queue, parked);
    let policy = Policy {
        parking: Some(dlq("parking")),
        ..Policy::default()
    };
    let request =
        json!({"action": "redrive", "destinationArn": dlq("elsewhere").as_str()}).to_string();
    let report = invoke(&fake, with_policy(&[&queue], policy), &request)
        .await
        .unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
    assert_eq!(report["queues"][0]["streak"], 0);
}

#[tokio::test]
async fn many_queues_that_are_not_enrolled_are_counted_and_not_all_listed() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let names: Vec<String> = (0..1000).map(|n| format!("strange-{n:04}")).collect();
    let request = json!({"action": "redrive", "queues": names}).to_string();
    let report = invoke(&fake, config(&[&queue]), &request).await.unwrap();
    assert_eq!(report["counts"]["skipped"], 1000);
    assert_eq!(report["queues"].as_array().unwrap().len(), 100);
    assert_eq!(report["trigger"]["queues"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn many_dlqs_that_no_time_was_left_for_are_counted_and_not_listed() {
    let queues: Vec<QueueArn> = (0..101).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 5).with_latency(queue, HOUR)
    });
    let invocation = Invocation {
        time_left: Duration::from_millis(300),
        ..fake.invocation()
    };
    let report = invoke_with(
        &fake,
        config(&queues.iter().collect::<Vec<_>>()),
        SWEEP,
        &invocation,
    )
    .await
    .unwrap();
    assert_eq!(report["counts"]["deferred"], 101);
    assert_eq!(report["unlisted"]["outOfTime"], 101);
    assert_eq!(outcomes(&report), [""; 0]);
}

#[tokio::test]
async fn hostile_texts_stay_on_one_line() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let event = json!({"action\u{1b}[31m\n": "x\ny"}).to_string();
    let failure = invoke(&fake, config(&[&queue]), &event)
        .await
        .unwrap_err()
        .to_string();
    assert!(failure.chars().all(|c| !c.is_control()), "{failure:?}");
}

#[tokio::test]
async fn thousand_dlqs_are_swept_quickly_and_each_is_in_one_outcome() {
    let queues: Vec<QueueArn> = (0..1000).map(|n| dlq(&format!("dlq-{n:04}"))).collect();
    let fake = queues
        .iter()
        .enumerate()
        .fold(Fake::default(), |fake, (n, queue)| {
            fake.with(queue, u64::from(n % 10 == 0))
        });
    let begun = Instant::now();
    let report = invoke(&fake, config(&queues.iter().collect::<Vec<_>>()), SWEEP)
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let total: u64 = report["counts"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(total, 1000);
    assert_eq!(report["counts"]["started"], 20);
    assert_eq!(report["counts"]["deferred"], 80);
}

#[tokio::test]
async fn dlq_whose_messages_are_all_in_flight_is_left_alone() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default();
    fake.counts_are(&queue, 0, 3);
    let report = invoke(&fake, config(&[&queue]), SWEEP).await.unwrap();
    assert_eq!(outcomes(&report), ["skipped/in-flight-only"]);
    assert_eq!(report["queues"][0]["inFlight"], 3);
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn fault_of_any_call_fails_its_dlq_alone_with_the_code_of_the_fault() {
    let denied = || SqsError::AccessDenied("not authorized".to_owned());
    let gone = || SqsError::DestinationNotFound("no such queue".to_owned());
    let broken = || SqsError::Service("InternalFailure: sorry".to_owned());
    for (event, operation, fault, code) in [
        (SWEEP, "GetQueueAttributes", denied(), "access-denied"),
        (SWEEP, "ListMessageMoveTasks", broken(), "service-error"),
        (
            SWEEP,
            "StartMessageMoveTask",
            gone(),
            "destination-not-found",
        ),
        (CANCEL, "ListMessageMoveTasks", denied(), "access-denied"),
        (CANCEL, "CancelMessageMoveTask", broken(), "service-error"),
    ] {
        let (bad, fine) = (dlq("a-bad"), dlq("b-fine"));
        let status = if event == CANCEL {
            "RUNNING"
        } else {
            "COMPLETED"
        };
        let ended = Fake::default().with(&bad, 5).with(&fine, 5);
        let fake = [&bad, &fine].into_iter().fold(ended, |fake, queue| {
            let task = task(&fake, status, 1, 30 * HOUR);
            fake.with_task(queue, task)
        });
        let fake = fake.with_fault(&bad, operation, fault.clone());
        let answer = fake
            .function(config(&[&bad, &fine]))
            .invoke(event, &fake.invocation())
            .await
            .unwrap();
        let report = serde_json::to_value(&answer.report).unwrap();
        let outcome = match event {
            CANCEL => "cancelled/requested",
            _ => "started/ready",
        };
        assert_eq!(
            outcomes(&report),
            [format!("failed/{code}").as_str(), outcome],
            "{operation}"
        );
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        let told = fault.to_string();
        assert!(
            detail.to_lowercase().contains(&told.to_lowercase()),
            "{detail}"
        );
        let failure = answer.result().unwrap_err().to_string();
        assert!(failure.contains(&format!("a-bad ({code})")), "{failure}");
        assert!(!failure.contains("b-fine"), "{failure}");
    }
}

#[test]
fn every_fault_of_sqs_has_a_code_of_its_own() {
    let text = || "because".to_owned();
    for (fault, code) in [
        (SqsError::AccessDenied(text()), "access-denied"),
        (
            SqsError::NotADeadLetterQueue(text()),
            "not-a-dead-letter-queue",
        ),
        (SqsError::QueueNotFound(text()), "queue-not-found"),
        (
            SqsError::DestinationNotFound(text()),
            "destination-not-found",
        ),
        (SqsError::Throttled(text()), "throttled"),
        (SqsError::Service(text()), "service-error"),
    ] {
        let report = QueueReport::failed(dlq("orders-dlq").to_string(), &fault);
        assert_eq!(report.reason.code(), code);
        assert_eq!(report.outcome.code(), "failed");
        assert!(report.detail.contains("because"), "{}", report.detail);
    }
}
