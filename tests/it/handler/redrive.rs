//! What becomes of a DLQ: the calls that it takes, and the outcome of each.

use super::*;

#[tokio::test]
async fn empty_dlq_takes_one_call() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 0);
    let report = fake.invoke(ALARM).report().await;
    assert_eq!(outcomes(&report), ["skipped/empty"]);
    assert_eq!(fake.calls(), ["GetQueueAttributes orders-dlq"]);
}

#[tokio::test]
async fn dlq_whose_messages_are_all_in_flight_is_left_alone() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default();
    fake.counts_are(&queue, 0, 3);
    let report = fake.invoke(SWEEP).report().await;
    assert_eq!(outcomes(&report), ["skipped/in-flight-only"]);
    assert_eq!(report["queues"][0]["inFlight"], 3);
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn without_samples_an_active_task_takes_two_calls_and_a_start_three() {
    let queue = dlq("orders-dlq");
    let look = ["GetQueueAttributes", "ListMessageMoveTasks"].as_slice();
    // This DLQ has no source queue whose facts would be read.
    let facts = ["ListDeadLetterSourceQueues"].as_slice();
    let start = ["StartMessageMoveTask"].as_slice();
    let none = [].as_slice();
    for (policy, facts) in [(without_samples(), none), (Policy::default(), facts)] {
        for (fake, outcome, start) in [
            (
                with_past(&queue, 5, "RUNNING", MINUTE),
                "skipped/task-active",
                none,
            ),
            (Fake::default().with(&queue, 5), "started/ready", start),
        ] {
            let report = fake.invoke(ALARM).policy(policy.clone()).report().await;
            assert_eq!(outcomes(&report), [outcome]);
            let calls = fake.calls();
            let operations: Vec<String> = calls
                .iter()
                .map(|call| call.replace(" orders-dlq", ""))
                .collect();
            assert_eq!(operations, [look, facts, start].concat());
        }
    }
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
        let report = fake.invoke(event).policy(policy).report().await;
        assert_eq!(outcomes(&report), ["wouldStart/ready"]);
        assert_eq!(report["dryRun"], true);
        assert_eq!(report["counts"]["wouldStart"], 1);
    }
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn lost_race_between_looking_and_starting_is_no_failure() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let function = fake.function(fake.config());
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
    let failure = fake
        .invoke(SWEEP)
        .listing(&[&missing, &denied, &fine])
        .failure()
        .await;
    assert_eq!(
        failure.to_string(),
        format!("2 DLQs failed: {denied} (access-denied), {missing} (queue-not-found)")
    );
    assert_eq!(fake.starts(&fine).len(), 1);

    let answer = fake.invoke(SWEEP).listing(&[&denied]).answer().await;
    let report = answer.report;
    assert!(
        report.queues[0].detail.contains("sqs:receivemessage"),
        "{}",
        report.queues[0].detail
    );
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
    let answer = fake.invoke(SWEEP).max_starts(1).answer().await;
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
async fn error_of_any_call_fails_its_dlq_alone_with_the_code_of_the_error() {
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
        let answer = fake.invoke(event).answer().await;
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
        let message = fault.to_string();
        assert!(
            detail.to_lowercase().contains(&message.to_lowercase()),
            "{detail}"
        );
        let failure = answer.result().unwrap_err().to_string();
        assert!(failure.contains(&format!("a-bad ({code})")), "{failure}");
        assert!(!failure.contains("b-fine"), "{failure}");
    }
}

#[test]
fn every_error_of_sqs_has_its_code() {
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
        (SqsError::Unreachable(text()), "service-error"),
        (SqsError::BadAnswer(text()), "service-error"),
    ] {
        let outcome = Outcome::Failed(Failed::Sqs(fault));
        assert_eq!(outcome.reason().code(), code);
        assert_eq!(outcome.code().code(), "failed");
        let detail = outcome.to_string();
        assert!(detail.contains("because"), "{detail}");
    }
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
        let report = fake.invoke(ALARM).report().await;
        assert_eq!(outcomes(&report), ["skipped/cooling-down"]);
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(advice), "{detail}");
    }
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
    let report = fake.invoke(SWEEP).report().await;
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
    let by_one_call = ["filling", "quiet", "unseen"].map(|dlq| format!("GetMetricData {dlq}"));
    assert_eq!(asked, by_one_call);
}

#[tokio::test(start_paused = true)]
async fn start_whose_answer_is_lost_is_found_in_the_list_and_reported_as_started() {
    let queue = dlq("orders-dlq");
    for lost in [
        LostAnswer::Unreachable,
        LostAnswer::Repeated,
        LostAnswer::Silence,
    ] {
        let fake = Fake::default()
            .with(&queue, 5)
            .with_lost_start(&queue, lost);
        let report = fake.invoke(SWEEP).report().await;
        assert_eq!(outcomes(&report), ["started/ready"], "{lost:?}");
        assert_eq!(report["queues"][0]["task"]["handle"], "task-0");
        assert_eq!(fake.starts(&queue).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn task_of_another_pace_or_destination_is_no_answer_to_a_lost_start() {
    let queue = dlq("orders-dlq");
    let unreachable = SqsError::Unreachable("the connection was closed".to_owned());
    let fake = Fake::default();
    let own = task(&fake, "RUNNING", 5, Duration::ZERO);
    let other_pace = MoveTask {
        max_messages_per_second: Some(7),
        ..own.clone()
    };
    let other_destination = MoveTask {
        destination_arn: Some(dlq("elsewhere").to_string()),
        ..own.clone()
    };
    let older = MoveTask {
        started_at: Some(fake.now() - MINUTE),
        ..own.clone()
    };
    for (listed, is_it) in [
        (own, true),
        (other_pace, false),
        (other_destination, false),
        (older, false),
    ] {
        let fault = unreachable.clone();
        let fake = Fake::default().with(&queue, 5);
        let fake = fake.with_fault(&queue, "StartMessageMoveTask", fault);
        let fake = fake.before("StartMessageMoveTask orders-dlq", move |fake| {
            fake.add_task(&dlq("orders-dlq"), listed);
        });
        let answer = fake.invoke(SWEEP).answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        let expected = if is_it {
            "started/ready"
        } else {
            "failed/service-error"
        };
        assert_eq!(outcomes(&report), [expected]);
    }
}

/// Its task may be over before this invocation asks for a start, so that SQS would not refuse it.
#[tokio::test(start_paused = true)]
async fn dlq_that_was_redriven_since_an_old_look_is_not_redriven_again() {
    let (quick, slow) = (dlq("a-quick"), dlq("b-slow"));
    for (latency, expected) in [(6, "skipped/task-active"), (1, "started/ready")] {
        let fake = Fake::default()
            .with(&quick, 5)
            .with(&slow, 0)
            .with_latency(&slow, Duration::from_secs(latency));
        let mut done = task(&fake, "COMPLETED", 5, Duration::ZERO);
        done.started_at = Some(fake.now() + Duration::from_secs(1));
        let list = "ListMessageMoveTasks a-quick";
        let fake = fake.before(list, |_| {}).before(list, move |fake| {
            fake.add_task(&dlq("a-quick"), done);
        });
        let report = fake.invoke(SWEEP).report().await;
        assert_eq!(outcomes(&report), [expected, "skipped/empty"]);
    }
}
