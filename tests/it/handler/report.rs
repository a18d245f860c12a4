//! The report and the metrics.

use super::*;

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
    let report = fake.invoke(ALARM).policy(policy).report().await;
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
                "7 visible messages to move to {}, at most 50 a second; no sample: the fall time is unknown: failing messages of `{}` do not come to this DLQ; the last move task failed: `CouldNotDetermineMessageSource`: SQS did not move these messages here from a source queue (SNS, Lambda or a person sent them), so set a destination.",
                dlq("elsewhere"),
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
                "verdict": "cameBack",
                "cameBack": 7,
            },
        }],
    });
    assert_eq!(report, expected);
}

#[tokio::test]
async fn empty_dlqs_are_counted_but_not_listed_among_more_than_a_hundred() {
    for (n, listed, counted) in [(100, 100, 0), (101, 1, 100)] {
        let queues: Vec<QueueArn> = (0..n).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
        let fake = queues
            .iter()
            .fold(Fake::default(), |fake, queue| fake.with(queue, 0))
            .with(&queues[7], 1);
        let report = fake.invoke(SWEEP).answer().await.report;
        assert_eq!(report.queues.len(), listed);
        assert_eq!(report.counts.skipped, n - 1);
        assert_eq!(report.unlisted.empty, counted);
        let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
        assert_eq!(metrics["QueuesLookedAt"], n);
    }
}

#[tokio::test]
async fn empty_dlq_is_listed_with_its_depth_and_nothing_about_tasks() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 0);
    let report = fake.invoke(SWEEP).report().await;
    let expected = json!({
        "queueArn": queue.as_str(),
        "outcome": "skipped",
        "reason": "empty",
        "detail": "The DLQ is empty.",
        "visible": 0,
        "inFlight": 0,
    });
    assert_eq!(report["queues"], json!([expected]));
}

#[tokio::test]
async fn a_hundred_empty_dlqs_are_listed_although_the_request_names_one_more_that_is_not_enrolled()
{
    let queues: Vec<QueueArn> = (0..100).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
    let fake = queues
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 0));
    let names = queues.iter().map(QueueArn::name).chain(["strange"]);
    let names: Vec<&str> = names.collect();
    let request = json!({"action": "redrive", "queues": names}).to_string();
    let report = fake.invoke(&request).report().await;
    assert_eq!(report["queues"].as_array().unwrap().len(), 101);
}

#[tokio::test]
async fn many_queues_that_are_not_enrolled_are_counted_but_not_all_listed() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let names: Vec<String> = (0..1000).map(|n| format!("strange-{n:04}")).collect();
    let request = json!({"action": "redrive", "queues": names}).to_string();
    let report = fake.invoke(&request).report().await;
    assert_eq!(report["counts"]["skipped"], 1000);
    assert_eq!(report["queues"].as_array().unwrap().len(), 100);
    assert_eq!(report["trigger"]["queues"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn many_dlqs_that_no_time_was_left_for_are_counted_but_not_listed() {
    let queues: Vec<QueueArn> = (0..101).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 5).with_latency(queue, HOUR)
    });
    let time_left = Duration::from_millis(300);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(report["counts"]["deferred"], 101);
    assert_eq!(report["unlisted"]["outOfTime"], 101);
    assert_eq!(outcomes(&report), [""; 0]);
}

#[tokio::test]
async fn metrics_are_in_the_embedded_metric_format() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "FAILED", HOUR).with(&payments, 3);
    let all = [&orders, &payments, &dlq("missing")];
    let report = fake.invoke(SWEEP).listing(&all).answer().await.report;
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
            ("ExpiringSoon", 0),
            ("OftenCancelled", 0),
        ]
    );
}

#[tokio::test]
async fn messages_are_counted_as_redriven_only_where_a_redrive_started() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "COMPLETED", HOUR / 60).with(&payments, 3);
    let report = fake.invoke(SWEEP).answer().await.report;
    let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
    assert_eq!(metrics["MessagesVisible"], 8);
    assert_eq!(metrics["MessagesRedriven"], 3);
}

#[tokio::test]
async fn new_dead_letters_hours_after_a_good_redrive_are_neither_held_nor_counted_as_returned() {
    let queue = dlq("orders-dlq");
    let fake = with_source(Fake::default(), &queue, 3);
    let good = task(&fake, "COMPLETED", 100, 4 * HOUR);
    let fake = (1..230)
        .rev()
        .fold(fake.with_task(&queue, good), |fake, minutes| {
            let visible = if minutes > 2 { 0 } else { 3 };
            fake.with_depth(&queue, visible, minutes * MINUTE)
        });
    for outcome in ["skipped/still-filling", "started/ready"] {
        let report = fake.invoke(SWEEP).report().await;
        assert_eq!(outcomes(&report), [outcome], "{report:#}");
        assert_eq!(report["queues"][0]["streak"], 0);
        assert_eq!(report["queues"][0]["lastTask"]["verdict"], "stayedAway");
        (0..15).for_each(|_| _ = fake.minute_passes(&queue));
    }
}

#[tokio::test]
async fn source_queues_that_leave_the_fall_time_unknown_mean_no_sample_and_are_named() {
    let queue = dlq("orders-dlq");
    let elsewhere = "arn:aws:sqs:us-east-1:999999999999:orders".parse().unwrap();
    let (one, second) = (dlq("orders"), Duration::from_secs(1));
    let source = |source: &QueueArn, visibility, receives| {
        let fake = Fake::default().with(&queue, 100);
        fake.with_source(source, &queue, visibility, receives)
    };
    let broken = |error| {
        Fake::default()
            .with(&queue, 100)
            .with_facts(&one, Err(error))
    };
    let eleven = (0..11).fold(Fake::default().with(&queue, 100), |fake, n| {
        fake.with_source(&dlq(&format!("orders-{n}")), &queue, second, 3)
    });
    let not_json = SqsError::BadAnswer("`RedrivePolicy` is not JSON".to_owned());
    let deleted = SqsError::QueueNotFound("no such queue".to_owned());
    let refused = SqsError::AccessDenied("sqs:ListDeadLetterSourceQueues".to_owned());
    let operation = "ListDeadLetterSourceQueues";
    for (fake, detail) in [
        (
            source(&elsewhere, second, 3),
            "orders` is in another account",
        ),
        (broken(not_json), "orders` cannot be read: `RedrivePolicy`"),
        (broken(deleted), "orders` cannot be read: queue not found"),
        (source(&one, 12 * HOUR, 1000), "takes about 1year"),
        (eleven, "more than 10 source queues"),
        (
            source(&one, second, 3).with_fault(&queue, operation, refused),
            "access denied",
        ),
    ] {
        let report = fake.invoke(SWEEP).report().await;
        assert_eq!(outcomes(&report), ["started/ready"], "{detail}: {report:#}");
        let told = report["queues"][0]["detail"].as_str().unwrap();
        assert!(told.contains("; no sample: "), "{told}");
        assert!(told.contains(detail), "{told}");
    }
}
