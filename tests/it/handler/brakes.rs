//! Brake alarms, in the policy and in events.

use super::*;

#[tokio::test]
async fn brakes_are_asked_once_and_only_if_something_would_start() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 0)
        .with(&payments, 0)
        .with_alarm("consumer is down", BrakeState::On);
    let policy = braked("consumer is down");
    fake.invoke(SWEEP).policy(policy.clone()).report().await;
    assert!(
        fake.calls()
            .iter()
            .all(|call| !call.starts_with("Describe"))
    );

    fake.counts_are(&orders, 5, 0);
    fake.counts_are(&payments, 5, 0);
    let report = fake.invoke(SWEEP).policy(policy).report().await;
    assert_eq!(outcomes(&report), ["held/braked", "held/braked"]);
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Describe"))
        .collect();
    assert_eq!(asked, ["DescribeAlarms consumer is down"]);
}

#[tokio::test]
async fn brake_going_off_cancels_the_running_tasks_it_guards() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let past = task(&fake, "COMPLETED", 5, HOUR);
    let fake = fake.with_task(&payments, past);
    let policy = braked("orders-dlq-depth");
    let report = fake.invoke(ALARM).policy(policy.clone()).report().await;
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
            "DescribeAlarms orders-dlq-depth",
            "ListMessageMoveTasks orders-dlq",
            "ListMessageMoveTasks payments-dlq"
        ]
    );

    let dry = Policy {
        dry_run: true,
        ..policy
    };
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let report = fake.invoke(ALARM).policy(dry).report().await;
    assert_eq!(
        outcomes(&report),
        ["wouldCancel/braked", "skipped/nothing-to-cancel"]
    );
    assert!(fake.calls().iter().all(|call| !call.starts_with("Cancel")));
}

const REPLAYED: &str = include_str!("../../../events/brake-alarm-replayed.json");

/// The report of an event that says that the brake is in ALARM, while it is in this state now; and
/// the calls that were made.
async fn brake_event_while(state: BrakeState, event: &str) -> (Value, Vec<String>) {
    let brake = "orders consumer is down";
    let fake = with_past(&dlq("orders-dlq"), 5, "RUNNING", MINUTE).with_alarm(brake, state);
    let report = fake.invoke(event).policy(braked(brake)).report().await;
    (report, fake.calls())
}

#[tokio::test]
async fn event_of_a_brake_that_is_not_in_alarm_now_is_ignored_and_touches_no_queue() {
    let (report, calls) = brake_event_while(BrakeState::Off, REPLAYED).await;
    let trigger = &report["trigger"];
    assert_eq!(trigger["kind"], "ignored");
    let why = "the event says that the brake alarm is in ALARM, but it is not in ALARM now";
    assert_eq!(trigger["why"], why);
    let arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:orders consumer is down";
    assert_eq!(trigger["source"], arn);
    assert_eq!(report["queues"], json!([]));
    assert_eq!(calls, ["DescribeAlarms orders consumer is down"]);
}

#[tokio::test]
async fn event_of_a_brake_cancels_while_the_brake_is_in_alarm_or_its_state_is_unknown() {
    let unknown = BrakeState::Unknown("not authorized".to_owned());
    for state in [BrakeState::On, unknown] {
        let (report, calls) = brake_event_while(state, REPLAYED).await;
        assert_eq!(outcomes(&report), ["cancelled/braked"]);
        assert_eq!(calls[0], "DescribeAlarms orders consumer is down");
    }
}

/// Only the part of a batch that is out of date is ignored.
#[tokio::test]
async fn schedule_beside_an_old_event_of_a_brake_sweeps() {
    let event = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for batch in [
        json!([event(SWEEP), event(REPLAYED)]),
        json!([event(REPLAYED), event(SWEEP)]),
    ] {
        let (report, calls) = brake_event_while(BrakeState::Off, &batch.to_string()).await;
        assert_eq!(report["trigger"]["kind"], "schedule");
        assert_eq!(outcomes(&report), ["skipped/task-active"]);
        assert!(calls.iter().all(|call| !call.starts_with("Cancel")));
    }
}

#[tokio::test]
async fn suppressed_or_muted_brake_still_brakes() {
    let queue = dlq("orders-dlq");
    let suppressed = include_str!("../../../events/ignored-suppressed.json");
    let muted = include_str!("../../../events/ignored-muted.json");
    for event in [suppressed, muted] {
        let name = serde_json::from_str::<Value>(event).unwrap()["detail"]["alarmName"]
            .as_str()
            .unwrap()
            .to_owned();
        let fake = with_past(&queue, 5, "RUNNING", MINUTE);
        let report = fake.invoke(event).policy(braked(&name)).report().await;
        assert_eq!(outcomes(&report), ["cancelled/braked"]);
    }
}

#[tokio::test]
async fn brake_samples_cancel_and_sweep() {
    let queue = dlq("orders-dlq");
    let policy = braked("orders consumer is down");
    let alarm = include_str!("../../../events/brake-alarm.json");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE);
    let report = fake.invoke(alarm).policy(policy.clone()).report().await;
    assert_eq!(outcomes(&report), ["cancelled/braked"]);

    let ok = include_str!("../../../events/brake-ok.json");
    let fake = Fake::default()
        .with(&queue, 5)
        .with_alarm("orders consumer is down", BrakeState::Off);
    let report = fake.invoke(ok).policy(policy).report().await;
    assert_eq!(outcomes(&report), ["started/ready"]);
}

#[tokio::test]
async fn brake_back_to_ok_sweeps() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 5)
        .with(&payments, 5)
        .with_alarm("orders-dlq-depth", BrakeState::Off);
    let policy = braked("orders-dlq-depth");
    let ok = include_str!("../../../events/ignored-ok.json");
    let report = fake.invoke(ok).policy(policy).report().await;
    assert_eq!(report["trigger"]["kind"], "brake");
    assert_eq!(outcomes(&report), ["started/ready", "started/ready"]);
}

#[tokio::test]
async fn brake_without_data_is_ignored() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let event = include_str!("../../../events/ignored-insufficient-data.json");
    let report = fake
        .invoke(event)
        .policy(braked("orders-dlq-depth"))
        .report()
        .await;
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
        let report = fake
            .invoke(&elsewhere)
            .policy(braked("orders-dlq-depth"))
            .report()
            .await;
        assert_eq!(report["trigger"]["kind"], "alarm");
        assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    }
}

#[tokio::test]
async fn brake_wins_over_everything_else_in_a_batch() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = with_past(&orders, 5, "RUNNING", MINUTE).with(&payments, 5);
    let brake: Value =
        serde_json::from_str(include_str!("../../../events/brake-alarm.json")).unwrap();
    let alarm: Value = serde_json::from_str(ALARM).unwrap();
    let [schedule, ok] = [SWEEP, include_str!("../../../events/brake-ok.json")]
        .map(|event| serde_json::from_str::<Value>(event).unwrap());
    for (batch, outcome) in [
        (json!([alarm, brake]), "cancelled/braked"),
        (json!([brake, alarm]), "skipped/nothing-to-cancel"),
        (json!([schedule, ok, brake]), "skipped/nothing-to-cancel"),
        (json!([brake, ok, schedule]), "skipped/nothing-to-cancel"),
    ] {
        let policy = braked("orders consumer is down");
        let report = fake
            .invoke(&batch.to_string())
            .policy(policy)
            .report()
            .await;
        assert_eq!(report["trigger"]["kind"], "brake");
        assert_eq!(report["trigger"]["source"], brake["resources"][0]);
        assert_eq!(outcomes(&report), [outcome, "skipped/nothing-to-cancel"]);
    }
    assert!(fake.starts(&payments).is_empty());
}

#[tokio::test]
async fn brakes_of_a_tag_hold_their_own_dlq_alone() {
    let (braked, free) = (dlq("a-braked"), dlq("b-free"));
    let fake = Fake::default()
        .with(&braked, 5)
        .with_tags(&braked, &[("brake-alarms", "down")])
        .with(&free, 5)
        .with_tags(&free, &[("brake-alarms", "up")])
        .with_alarm("down", BrakeState::On)
        .with_alarm("up", BrakeState::Off);
    let report = fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(outcomes(&report), ["held/braked", "started/ready"]);
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Describe"))
        .collect();
    assert_eq!(asked, ["DescribeAlarms down,up"]);
}

#[tokio::test]
async fn brake_of_a_tag_adds_to_those_of_the_function() {
    let queue = dlq("orders-dlq");
    for (own, of_all, expected) in [
        (BrakeState::Off, BrakeState::On, "held/braked"),
        (BrakeState::On, BrakeState::Off, "held/braked"),
        (BrakeState::Off, BrakeState::Off, "started/ready"),
    ] {
        let fake = Fake::default()
            .with(&queue, 5)
            .with_tags(&queue, &[("brake-alarms", "own")])
            .with_alarm("own", own)
            .with_alarm("global", of_all);
        let sweep = fake.invoke(SWEEP).by_tag().policy(braked("global"));
        assert_eq!(outcomes(&sweep.report().await), [expected]);
    }
}

/// What a sweep says about a DLQ with these past tasks, each with its status and its pace, and its
/// metric `OftenCancelled`.
async fn after_tasks(tasks: &[(&str, Option<u32>)]) -> (String, u64) {
    let queue = dlq("orders-dlq");
    let mut fake = Fake::default()
        .with(&queue, 5)
        .with_alarm("down", BrakeState::On);
    for (n, (status, pace)) in tasks.iter().enumerate() {
        let ago = HOUR * u32::try_from(tasks.len() - n).unwrap();
        let task = MoveTask {
            max_messages_per_second: *pace,
            ..task(&fake, status, 5, ago)
        };
        fake = fake.with_task(&queue, task);
    }
    let report = fake
        .invoke(SWEEP)
        .policy(braked("down"))
        .answer()
        .await
        .report;
    let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
    let often = metrics["OftenCancelled"].as_u64().unwrap();
    (report.queues[0].detail.clone(), often)
}

#[tokio::test]
async fn three_canceled_redrives_among_the_listed_tasks_are_counted_and_reported() {
    let (cancelled, pace) = ("CANCELLED", Some(50));
    let redrive = (cancelled, pace);
    for often in [
        &[redrive, redrive, redrive][..],
        &[
            redrive,
            ("COMPLETED", pace),
            redrive,
            ("COMPLETED", pace),
            redrive,
        ],
        &[(cancelled, None), redrive, (cancelled, Some(2))],
    ] {
        let (detail, counted) = after_tasks(often).await;
        assert_eq!(counted, 1, "{often:?}");
        let said = "at least 3 of the DLQ's last redrives were canceled: its brake alarm changes its state often, or its consumer fails now and then";
        assert!(detail.contains(said), "{detail}");
    }
}

/// The function cancels each of its samples.
#[tokio::test]
async fn two_canceled_redrives_and_any_number_of_samples_are_normal() {
    let (cancelled, pace) = ("CANCELLED", Some(50));
    for seldom in [
        &[(cancelled, pace), (cancelled, pace), ("COMPLETED", pace)][..],
        &[(cancelled, Some(1)); 9],
    ] {
        let (detail, counted) = after_tasks(seldom).await;
        assert_eq!(counted, 0, "{seldom:?}");
        assert!(!detail.contains("were canceled"), "{detail}");
    }
}

/// What a sweep says about a RUNNING task whose brake has this state, and the Cancel calls it makes.
async fn sweep_of_a_running_task(state: BrakeState, policy: Policy) -> (Vec<String>, usize) {
    let queue = dlq("orders-dlq");
    let fake = with_past(&queue, 5, "RUNNING", MINUTE).with_alarm("down", state);
    let report = fake.invoke(SWEEP).policy(policy).report().await;
    assert_eq!(report["trigger"]["kind"], "schedule");
    let calls = fake.calls();
    let cancels = calls.iter().filter(|call| call.starts_with("Cancel"));
    assert_eq!(fake.starts(&queue).len(), 1, "no second task");
    (outcomes(&report), cancels.count())
}

#[tokio::test]
async fn sweep_cancels_a_running_task_while_its_brake_is_in_alarm() {
    let policy = braked("down");
    let paused = Policy {
        paused: true,
        ..policy.clone()
    };
    let dry = Policy {
        dry_run: true,
        ..policy.clone()
    };
    let unsampled = Policy {
        sample: Duration::ZERO,
        ..policy.clone()
    };
    for (policy, outcome, cancels) in [
        (policy, "cancelled/braked", 1),
        (paused, "cancelled/braked", 1),
        (unsampled, "cancelled/braked", 1),
        (dry, "wouldCancel/braked", 0),
    ] {
        let (outcomes, made) = sweep_of_a_running_task(BrakeState::On, policy).await;
        assert_eq!(outcomes, [outcome]);
        assert_eq!(made, cancels, "{outcome}");
    }
}

#[tokio::test]
async fn sweep_cancels_nothing_while_the_brake_is_off_or_unreadable() {
    let unreadable = BrakeState::Unknown("not authorized".to_owned());
    for state in [BrakeState::Off, unreadable] {
        let (outcomes, cancels) = sweep_of_a_running_task(state, braked("down")).await;
        assert_eq!(outcomes, ["skipped/task-active"]);
        assert_eq!(cancels, 0);
    }
}

/// A batch of SQS with these bodies and the event of a brake behind them, in which the brake is in ALARM.
fn batch_before_a_brake(bodies: &[String]) -> String {
    let brake = include_str!("../../../events/brake-alarm.json").to_owned();
    let bodies = bodies.iter().chain([&brake]);
    let records = bodies.enumerate().map(|(n, body)| {
        json!({"messageId": format!("message-{n}"), "body": body, "attributes": {},
            "eventSource": "aws:sqs", "eventSourceARN": dlq("alarms").as_str()})
    });
    json!({"Records": records.collect::<Vec<Value>>()}).to_string()
}

/// The outcomes of that batch for a tagged DLQ with a RUNNING task, and its error.
async fn brake_behind(bodies: &[String]) -> (Vec<String>, String) {
    let queue = dlq("orders-dlq");
    let brake = "orders consumer is down";
    let fake = with_past(&queue, 5, "RUNNING", MINUTE)
        .with_alarm(brake, BrakeState::On)
        .with_tags(&queue, &[]);
    let batch = batch_before_a_brake(bodies);
    let answer = fake.invoke(&batch).policy(braked(brake)).by_tag().answer();
    let answer = answer.await;
    let report = serde_json::to_value(&answer.report).unwrap();
    let error = answer.result().unwrap_err().to_string();
    (outcomes(&report), error)
}

#[tokio::test]
async fn message_that_claims_to_be_a_dead_letter_does_not_silence_the_brake_beside_it() {
    let queue = dlq("orders-dlq");
    let record = |attributes: Value| {
        json!({"body": "{}", "eventSource": "aws:sqs", "eventSourceARN": queue.as_str(),
            "attributes": attributes})
        .to_string()
    };
    let dead_letter = record(json!({"DeadLetterQueueSourceArn": dlq("orders").as_str()}));
    for body in [record(json!({})), dead_letter] {
        let (outcomes, error) = brake_behind(&[body]).await;
        assert_eq!(outcomes, ["cancelled/braked"]);
        let unread = "1 record could not be read: record `message-0`: ";
        assert!(error.starts_with(unread), "{error}");
    }
}

#[tokio::test]
async fn messages_full_of_notifications_do_not_silence_the_brake_behind_them() {
    let notification = json!({"alarmName": "a", "operation": "update"});
    let many = Value::from(vec![notification; 6_000]).to_string();
    let (outcomes, error) = brake_behind(&[many.clone(), many]).await;
    assert_eq!(outcomes, ["cancelled/braked"]);
    assert!(
        error.starts_with("2 records could not be read: record `message-0`: "),
        "{error}"
    );
}

/// The policy of such a DLQ is not followed, but a brake that the environment or a readable tag names
/// counts.
#[tokio::test]
async fn bad_tag_does_not_let_a_task_run_under_a_brake() {
    let queue = dlq("orders-dlq");
    for (policy, tags) in [
        (braked("down"), vec![("cooldown", "5s")]),
        (
            Policy::default(),
            vec![("cooldown", "5s"), ("brake-alarms", "down")],
        ),
    ] {
        for (state, expected) in [
            (BrakeState::On, "cancelled/braked"),
            (BrakeState::Off, "failed/invalid-policy"),
        ] {
            let fake = with_past(&queue, 5, "RUNNING", MINUTE)
                .with_tags(&queue, &tags)
                .with_alarm("down", state);
            let sweep = fake.invoke(SWEEP).policy(policy.clone()).by_tag();
            let report = serde_json::to_value(sweep.answer().await.report).unwrap();
            assert_eq!(outcomes(&report), [expected]);
        }
    }
}

#[tokio::test]
async fn bad_tag_fails_a_dlq_with_a_brake_even_if_it_is_empty() {
    let queue = dlq("orders-dlq");
    for state in [BrakeState::On, BrakeState::Off] {
        let fake = Fake::default()
            .with(&queue, 0)
            .with_tags(&queue, &[("cooldown", "5s")])
            .with_alarm("down", state);
        let sweep = fake.invoke(SWEEP).policy(braked("down")).by_tag();
        let report = serde_json::to_value(sweep.answer().await.report).unwrap();
        assert_eq!(outcomes(&report), ["failed/invalid-policy"]);
    }
}
