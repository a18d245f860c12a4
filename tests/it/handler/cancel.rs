//! Canceling move tasks.

use super::*;

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
    let report = fake.invoke(request).report().await;
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

#[tokio::test]
async fn cancel_names_the_brake_that_caused_it() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    let event: Value = serde_json::from_str(ALARM).unwrap();
    let without_arn = event["detail"].to_string();
    let report = fake
        .invoke(&without_arn)
        .policy(braked("orders-dlq-depth"))
        .report()
        .await;
    assert_eq!(outcomes(&report), ["cancelled/braked"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("The brake alarm `orders-dlq-depth` is in ALARM"),
        "{detail}"
    );
}

#[tokio::test]
async fn cancel_that_sqs_refuses_while_the_task_runs_is_a_failure() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_refused_cancel(&queue);
    let answer = fake.invoke(CANCEL).answer().await;
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
    let time_left = Duration::from_millis(300);
    let policy = braked("orders-dlq-depth");
    let failure = fake
        .invoke(ALARM)
        .policy(policy)
        .time_left(time_left)
        .failure()
        .await;
    assert!(
        failure.to_string().contains("orders-dlq (out-of-time)"),
        "{failure}"
    );
}

#[tokio::test]
async fn cancel_of_many_dlqs_counts_those_with_nothing_to_cancel() {
    let queues: Vec<QueueArn> = (0..101).map(|n| dlq(&format!("dlq-{n:03}"))).collect();
    let fake = queues
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
    let running = task(&fake, "RUNNING", 5, MINUTE);
    let fake = fake.with_task(&queues[50], running);
    let report = fake.invoke(CANCEL).report().await;
    assert_eq!(outcomes(&report), ["cancelled/requested"]);
    assert_eq!(report["counts"]["skipped"], 100);
    assert_eq!(
        report["unlisted"],
        json!({"empty": 0, "notEnrolled": 0, "outOfTime": 0, "nothingToCancel": 100})
    );
}

#[tokio::test]
async fn bad_tag_does_not_keep_a_task_from_being_canceled() {
    let queue = dlq("orders-dlq");
    let past = || with_past(&queue, 5, "RUNNING", MINUTE).with_tags(&queue, &[("cooldown", "5s")]);
    let fake = past();
    let report = fake.invoke(CANCEL).by_tag().report().await;
    assert_eq!(outcomes(&report), ["cancelled/requested"]);
    let report = past()
        .invoke(r#"{"action": "cancel", "dryRun": true}"#)
        .by_tag()
        .report()
        .await;
    assert_eq!(outcomes(&report), ["wouldCancel/requested"]);
}

#[tokio::test]
async fn bad_tag_beside_a_dry_run_does_not_lift_it() {
    let queue = dlq("orders-dlq");
    let tags = [("dry-run", "true"), ("cooldown", "5s")];
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_tags(&queue, &tags);
    let report = fake.invoke(CANCEL).by_tag().report().await;
    assert_eq!(outcomes(&report), ["wouldCancel/requested"]);
}

#[tokio::test]
async fn dry_run_tag_that_cannot_be_read_counts_as_a_dry_run() {
    let queue = dlq("orders-dlq");
    for tag in [
        ("dry-run", "yes"),
        ("dry_run", "true"),
        ("Dry-Run", "true"),
        ("dryRun", "true"),
    ] {
        let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_tags(&queue, &[tag]);
        let report = fake.invoke(CANCEL).by_tag().report().await;
        assert_eq!(outcomes(&report), ["wouldCancel/requested"]);
        let answer = fake.invoke(SWEEP).by_tag().answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(outcomes(&report), ["failed/invalid-policy"]);
        assert!(fake.calls().iter().all(|call| !call.starts_with("Cancel")));
    }
}

#[tokio::test]
async fn cancel_of_a_tagged_queue_that_is_gone_is_skipped_and_of_a_listed_one_fails() {
    let (gone, listed) = (dlq("a-gone"), dlq("b-listed"));
    let fake = Fake::default().with_tags(&gone, &[]);
    let report = fake.invoke(CANCEL).by_tag().report().await;
    assert_eq!(outcomes(&report), ["skipped/queue-not-found"]);
    let failure = fake.invoke(CANCEL).by_tag().listing(&[&listed]);
    let failure = failure.failure().await.to_string();
    assert_eq!(failure, format!("1 DLQ failed: {listed} (queue-not-found)"));
}

#[tokio::test]
async fn cancel_that_finds_nothing_says_that_an_invocation_under_way_may_still_start() {
    let queue = dlq("orders-dlq");
    let paused = Policy {
        paused: true,
        ..Policy::default()
    };
    for (policy, may_start) in [(Policy::default(), true), (paused, false)] {
        let fake = Fake::default().with(&queue, 5);
        let report = fake.invoke(CANCEL).policy(policy).report().await;
        assert_eq!(outcomes(&report), ["skipped/nothing-to-cancel"]);
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert_eq!(
            detail.contains("pause the function before you cancel"),
            may_start,
            "{detail}"
        );
    }
}

#[tokio::test]
async fn running_task_without_a_handle_makes_the_cancel_fail() {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE)
        .with_hidden_handles(&queue)
        .with_alarm("down", BrakeState::On);
    for event in [CANCEL, SWEEP] {
        let answer = fake.invoke(event).policy(braked("down")).answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(outcomes(&report), ["failed/service-error"]);
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("still RUNNING"), "{detail}");
    }
}

/// SQS refuses the cancel, because the task has another status by then. If the first answer to the cancel
/// was lost, this status is the outcome of the cancel.
#[tokio::test]
async fn refused_cancel_is_reported_by_what_became_of_the_task() {
    let queue = dlq("orders-dlq");
    let ended = "The move task ended before it could be canceled";
    let cancelled = "SQS was asked to cancel the RUNNING move task";
    for (status, outcome, said) in [
        ("CANCELLING", "cancelled/requested", cancelled),
        ("CANCELLED", "cancelled/requested", cancelled),
        ("COMPLETED", "skipped/nothing-to-cancel", ended),
        ("FAILED", "skipped/nothing-to-cancel", ended),
    ] {
        let changed = queue.clone();
        let fake = with_past(&queue, 5, "RUNNING", MINUTE).before(
            "CancelMessageMoveTask orders-dlq",
            move |fake| {
                fake.newest_task_is(&changed, status);
            },
        );
        let report = fake.invoke(CANCEL).report().await;
        assert_eq!(outcomes(&report), [outcome], "{status}");
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with(said), "{status}: {detail}");
    }
}
