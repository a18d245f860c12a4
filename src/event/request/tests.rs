use super::*;
use crate::event::Trigger;
use crate::event::tests::*;
use serde_json::json;

fn request(case: &str, event: &Value) -> Request {
    match only_trigger(case, event) {
        Trigger::Request(request) => request,
        other => panic!("{case}: a request expected, got {other:?}"),
    }
}

#[test]
fn every_field_of_a_request_is_read() {
    let plain = Request {
        action: Action::Redrive,
        queues: Selection::All,
        dry_run: false,
        force: false,
        max_messages_per_second: None,
        sample: None,
        destination: None,
    };
    let with_queues = |queues: &[QueueRef]| Request {
        queues: Selection::Named(queues.to_vec()),
        ..plain.clone()
    };
    let destination = "arn:aws:sqs:us-east-1:123456789012:orders";
    for (event, expected) in [
        (json!({"action": "redrive"}), plain.clone()),
        (json!({"action": "redrive", "queues": "all"}), plain.clone()),
        (
            json!({"action": "cancel"}),
            Request {
                action: Action::Cancel,
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "queues": ["orders-dlq"]}),
            with_queues(&[queue("orders-dlq", None, None)]),
        ),
        (
            json!({"action": "redrive", "queues": ["all"]}),
            with_queues(&[queue("all", None, None)]),
        ),
        (
            json!({"action": "redrive", "queues": [DLQ, "b.fifo"]}),
            with_queues(&[
                queue("orders-dlq", Some(ACCOUNT), Some("us-east-1")),
                queue("b.fifo", None, None),
            ]),
        ),
        (
            json!({"action": "redrive", "dryRun": true, "force": true}),
            Request {
                dry_run: true,
                force: true,
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": 1}),
            Request {
                max_messages_per_second: Rate::new(1),
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": 500}),
            Request {
                max_messages_per_second: Rate::new(500),
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "sample": 0}),
            Request {
                sample: Some(Duration::ZERO),
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "sample": 10}),
            Request {
                sample: Some(Duration::from_secs(10)),
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "sample": 30, "force": true}),
            Request {
                sample: Some(Duration::from_secs(30)),
                force: true,
                ..plain.clone()
            },
        ),
        (
            json!({"action": "redrive", "destinationArn": destination}),
            Request {
                destination: Some(destination.parse().unwrap()),
                ..plain.clone()
            },
        ),
    ] {
        let case = event.to_string();
        assert_eq!(request(&case, &event), expected, "{case}");
    }
}

#[test]
fn wrong_request_is_rejected_naming_the_culprit() {
    for (event, culprits) in [
        (
            json!({"action": "purge"}),
            vec!["`purge`", "`redrive`", "`cancel`"],
        ),
        (json!({"action": "Redrive"}), vec!["`Redrive`"]),
        (
            json!({"action": "redrive", "queue": "all"}),
            vec!["`queue`", "`queues`"],
        ),
        (
            json!({"action": "redrive", "Records": []}),
            vec!["`Records`"],
        ),
        (json!({"queues": "all"}), vec!["`queues`", "\"action\""]),
        (json!({"action": "redrive", "queues": []}), vec!["`queues`"]),
        (
            json!({"action": "redrive", "queues": "orders-dlq"}),
            vec!["`queues`"],
        ),
        (json!({"action": "redrive", "queues": {}}), vec!["`queues`"]),
        (
            json!({"action": "redrive", "queues": null}),
            vec!["`queues`"],
        ),
        (
            json!({"action": "redrive", "queues": ["a", 7]}),
            vec!["`queues`", "not text"],
        ),
        (
            json!({"action": "redrive", "queues": ["a", "b c"]}),
            vec!["`b c`"],
        ),
        (
            json!({"action": "redrive", "queues": ["arn:aws:sns:us-east-1:123456789012:t"]}),
            vec!["`sns`"],
        ),
        (
            json!({"action": "redrive", "queues": ["arn:aws:sqs:us-east-1:12:orders-dlq"]}),
            vec!["`12`"],
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": 0}),
            vec!["`maxMessagesPerSecond`", "`0`", "1 to 500"],
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": 501}),
            vec!["`maxMessagesPerSecond`", "`501`", "1 to 500"],
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": -1}),
            vec!["`maxMessagesPerSecond`", "`-1`", "1 to 500"],
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": 1.5}),
            vec!["`maxMessagesPerSecond`", "`1.5`", "1 to 500"],
        ),
        (
            json!({"action": "redrive", "maxMessagesPerSecond": u64::MAX}),
            vec!["`maxMessagesPerSecond`", "1 to 500"],
        ),
        (
            json!({"action": "redrive", "destinationArn": "orders"}),
            vec!["`destinationArn`", "`orders`", "queue ARN"],
        ),
        (
            json!({"action": "redrive", "destinationArn": "arn:aws:s3:::orders"}),
            vec!["`destinationArn`", "`s3`"],
        ),
    ] {
        let case = event.to_string();
        let why = rejected(&case, &event);
        for culprit in culprits {
            assert!(
                why.contains(culprit),
                "{case}: `{culprit}` is not in: {why}"
            );
        }
        assert_reads_well(&case, &why);
    }
}

#[test]
fn sample_of_a_request_is_0_or_10_to_30_seconds() {
    for seconds in [
        json!(1),
        json!(5),
        json!(9),
        json!(31),
        json!(-1),
        json!(20.5),
    ] {
        let event = json!({"action": "redrive", "sample": seconds});
        let case = event.to_string();
        let why = rejected(&case, &event);
        let expected = format!(
            "`sample` is `{seconds}`; it must be 0, or a whole number of seconds from 10 to 30"
        );
        assert!(why.contains(&expected), "{case}: {why}");
        assert_reads_well(&case, &why);
    }
}

#[test]
fn sample_in_a_cancel_request_is_rejected() {
    for seconds in [0, 20] {
        let event = json!({"action": "cancel", "queues": "all", "sample": seconds});
        let why = rejected("cancel", &event);
        let expected =
            "the request is not valid: `sample` is accepted only with the action `redrive`";
        assert!(why.contains(expected), "{why}");
        assert_reads_well("cancel", &why);
    }
}

/// The person who sent it must see which of the fields it was.
#[test]
fn request_with_a_field_of_the_wrong_type_is_rejected_naming_the_field() {
    let mut wrong = Vec::new();
    for (field, value) in [
        ("action", json!(1)),
        ("action", json!(null)),
        ("dryRun", json!("yes")),
        ("force", json!(1)),
        ("maxMessagesPerSecond", json!("10")),
        ("sample", json!("20")),
        ("sample", json!(null)),
        ("destinationArn", json!(5)),
        (
            "destinationArn",
            json!(["arn:aws:sqs:us-east-1:123456789012:orders"]),
        ),
    ] {
        let event = with(
            json!({"action": "redrive"}),
            &format!("/{field}"),
            value.clone(),
        );
        let why = rejected(field, &event);
        let own = why.split("; expected a schedule").next().unwrap();
        if !own.contains(&format!("`{field}`")) {
            wrong.push(format!("{field} = {value}: {own}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn request_in_an_envelope_is_rejected() {
    let request = json!({"action": "redrive", "queues": "all"});
    for (envelope, event) in [
        ("array", json!([request])),
        ("batch", json!({"Records": [request]})),
        ("sqs", sqs(&request)),
        ("sns", sns(&request)),
        ("sns to sqs", sqs(&sns_message(&request))),
        ("pipe", pipe(&request)),
    ] {
        let why = rejected(envelope, &event);
        assert!(
            why.contains("a request is accepted only as the bare payload"),
            "{envelope}: {why}"
        );
    }
    // A request beside a readable alarm is not accepted either.
    let batch = json!([
        sqs_record("1", &eventbridge().to_string()),
        sqs_record("2", &request.to_string())
    ]);
    let event = read(&batch).unwrap();
    assert_eq!((event.triggers.len(), event.unreadable.len()), (1, 1));
    assert!(matches!(event.triggers[0], Trigger::Alarm(_)));

    // Nor is one that is the detail of an event, because anyone may put events on a bus.
    let event = json!({"detail-type": "Redrive", "source": "me", "detail": request});
    rejected("eventbridge", &event);
}

#[test]
fn field_that_occurs_twice_in_a_request_is_rejected() {
    for request in [
        r#"{"action": "redrive", "dryRun": true, "dryRun": false}"#,
        r#"{"action": "cancel", "action": "redrive"}"#,
        r#"{"action": {"redrive": null}}"#,
    ] {
        let error = parse(request).unwrap_err().to_string();
        assert!(
            error.contains("the request is not valid"),
            "{request}: {error}"
        );
    }
}

#[test]
fn request_may_list_up_to_a_thousand_queues() {
    let naming = |n: usize| json!({"action": "redrive", "queues": vec!["orders-dlq"; n]});
    assert!(read(&naming(1000)).is_ok());
    let why = rejected("1,001 queues", &naming(1001));
    assert!(
        why.contains("lists 1001 queues; list at most 1000"),
        "{why}"
    );
}
