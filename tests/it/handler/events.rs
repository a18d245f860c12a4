//! Events and requests.

use super::*;

#[tokio::test]
async fn event_that_calls_for_nothing_takes_no_call() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let ignored = include_str!("../../../events/ignored-ok.json");
    let report = fake.invoke(ignored).report().await;
    assert_eq!(report["trigger"]["kind"], "ignored");
    assert_eq!(report["trigger"]["why"], "the alarm is in OK, not in ALARM");
    assert_eq!(outcomes(&report), [""; 0]);

    let rejected = fake.invoke("{}").failure().await;
    assert!(matches!(rejected, InvocationError::Event(_)), "{rejected}");
    assert_eq!(fake.calls(), [""; 0]);
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
        let failure = fake.invoke(&event).listing(&[enrolled]).failure().await;
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
async fn function_mapped_onto_a_tagged_dlq_fails() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let event = json!({"Records": [{"messageId": "1", "body": ALARM, "eventSource": "aws:sqs", "eventSourceARN": queue.as_str()}]});
    let failure = fake.invoke(&event.to_string()).by_tag().failure().await;
    assert!(
        failure
            .to_string()
            .contains("remove the event source mapping"),
        "{failure}"
    );
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn function_mapped_onto_a_tagged_dlq_fails_though_its_messages_call_for_nothing() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let ok = include_str!("../../../events/ignored-ok.json");
    let event = json!({"Records": [{"messageId": "1", "body": ok, "eventSource": "aws:sqs", "eventSourceARN": queue.as_str()}]});
    let failure = fake.invoke(&event.to_string()).by_tag().failure().await;
    assert!(
        failure
            .to_string()
            .contains("remove the event source mapping"),
        "{failure}"
    );
}

#[tokio::test]
async fn batch_is_handled_as_far_as_it_can_be_read_and_then_fails() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default().with(&orders, 5).with(&payments, 5);
    let batch = include_str!("../../../events/batch-partly-unreadable.json");
    let failure = fake.invoke(batch).failure().await;
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
            .starts_with("1 record could not be read: record"),
        "{failure}"
    );
    assert_eq!(
        (fake.starts(&orders).len(), fake.starts(&payments).len()),
        (1, 1)
    );
}

#[tokio::test]
async fn hostile_texts_stay_on_one_line() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let event = json!({"action\u{1b}[31m\n": "x\ny"}).to_string();
    let failure = fake.invoke(&event).failure().await.to_string();
    assert!(failure.chars().all(|c| !c.is_control()), "{failure:?}");
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
    let report = fake.invoke(&request.to_string()).report().await;
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
async fn impossible_destination_is_refused_before_any_call() {
    let (standard, fifo) = (dlq("orders-dlq"), dlq("orders-dlq.fifo"));
    let fake = Fake::default().with(&standard, 5).with(&fifo, 5);
    let to = |destination: &QueueArn| {
        json!({"action": "redrive", "destinationArn": destination.as_str()}).to_string()
    };

    let failure = fake
        .invoke(&to(&dlq("elsewhere")))
        .listing(&[&fifo])
        .failure()
        .await;
    assert!(
        failure
            .to_string()
            .contains("orders-dlq.fifo (invalid-policy)"),
        "{failure}"
    );
    let failure = fake.invoke(&to(&fifo)).failure().await;
    assert!(
        failure.to_string().starts_with(
            "2 DLQs failed: arn:aws:sqs:us-east-1:123456789012:orders-dlq (invalid-policy)"
        ),
        "{failure}"
    );
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn request_with_a_destination_is_not_diverted_to_the_parking_queue() {
    let (queue, elsewhere) = (dlq("orders-dlq"), dlq("elsewhere"));
    let request = json!({"action": "redrive", "destinationArn": elsewhere.as_str()}).to_string();
    // The attempts that count are those to where the request sends.
    for (destination, by_request, by_sweep) in [
        (None, "started/ready", "started/parking"),
        (Some(&elsewhere), "held/attempts-exhausted", "started/ready"),
    ] {
        let fake = || {
            (1..=5)
                .rev()
                .fold(Fake::default().with(&queue, 5), |fake, hours| {
                    let past = MoveTask {
                        destination_arn: destination.map(QueueArn::to_string),
                        ..task(&fake, "COMPLETED", 5, HOUR * hours)
                    };
                    fake.with_task(&queue, past)
                })
        };
        for (event, outcome) in [(request.as_str(), by_request), (SWEEP, by_sweep)] {
            let policy = Policy {
                parking: Some(dlq("parking")),
                ..Policy::default()
            };
            let report = fake().invoke(event).policy(policy).report().await;
            assert_eq!(outcomes(&report), [outcome], "{destination:?} {event}");
        }
    }
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
    let report = fake.invoke(&request).policy(policy).report().await;
    assert_eq!(outcomes(&report), ["started/ready"]);
    assert_eq!(report["queues"][0]["streak"], 0);
}

/// A sender can write any ARN into a message.
#[tokio::test]
async fn queues_that_a_message_claims_to_come_from_are_not_asked_for() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let record = |name: &str, body: &str| {
        json!({"messageId": name, "body": body, "eventSource": "aws:sqs",
            "eventSourceARN": dlq(name).as_str()})
    };
    let claims: Vec<Value> = (0..1_000).map(|n| record(&format!("q{n}"), "")).collect();
    let claims = Value::from(claims).to_string();
    let batch = json!({"Records": [record("alarms", ALARM), record("alarms", &claims)]});
    fake.invoke(&batch.to_string()).by_tag().failure().await;
    assert_eq!(fake.calls()[0], "GetResources alarms,orders-dlq");
    assert_eq!(fake.starts(&queue).len(), 1);
}
