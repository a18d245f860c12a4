use crate::event::tests::*;
use serde_json::{Value, json};

#[test]
fn four_envelopes_are_unwrapped_and_five_are_not() {
    type Wrap = fn(&Value) -> Value;
    let sns_in_text: Wrap = sns_message;
    let sqs_in_text: Wrap = sqs;
    // Innermost first. A pipe's array is an envelope, and the SQS record in it another.
    let table: [(&str, &[Wrap], bool); 6] = [
        (
            "sns, sns, sns, sqs",
            &[sns_in_text, sns_in_text, sns_in_text, sqs_in_text],
            true,
        ),
        (
            "sqs, sqs, sqs, sqs",
            &[sqs_in_text, sqs_in_text, sqs_in_text, sqs_in_text],
            true,
        ),
        ("sns, sns, pipe", &[sns_in_text, sns_in_text, pipe], true),
        (
            "sns, sns, sns, sns, sqs",
            &[
                sns_in_text,
                sns_in_text,
                sns_in_text,
                sns_in_text,
                sqs_in_text,
            ],
            false,
        ),
        (
            "sqs five times",
            &[
                sqs_in_text,
                sqs_in_text,
                sqs_in_text,
                sqs_in_text,
                sqs_in_text,
            ],
            false,
        ),
        (
            "sns, sns, sns, pipe",
            &[sns_in_text, sns_in_text, sns_in_text, pipe],
            false,
        ),
    ];
    for (case, envelopes, is_read) in table {
        let event = envelopes
            .iter()
            .fold(eventbridge(), |event, wrap| wrap(&event));
        if is_read {
            assert_eq!(queues(case, &event).len(), 1, "{case}");
        } else {
            let why = rejected(case, &event);
            assert!(why.contains("four deep"), "{case}: {why}");
        }
    }
}

/// A function URL's event has a body, too, and an S3 event a source.
#[test]
fn event_with_a_body_is_an_sqs_message_only_if_it_comes_from_sqs() {
    let body = eventbridge().to_string();
    let record = sqs_record("1", &body);
    assert_eq!(queues("of SQS", &record).len(), 1);
    for other in [
        json!({"version": "2.0", "rawPath": "/", "body": body}),
        json!({"eventSource": "aws:s3", "body": body}),
        json!({"eventSource": "aws:sqs"}),
    ] {
        let why = rejected("not of SQS", &other);
        assert!(why.contains("it is an object with the fields"), "{why}");
    }
}

#[test]
fn array_counts_as_an_envelope() {
    let wrap = |times| (0..times).fold(eventbridge(), |event, _| json!([event]));
    assert_eq!(queues("four arrays", &wrap(4)).len(), 1);
    let why = rejected("five arrays", &wrap(5));
    assert!(why.contains("four deep"), "{why}");
}

#[test]
fn unreadable_record_is_named_and_the_others_are_read() {
    let good = |id| sqs_record(id, &eventbridge().to_string());
    let bad = |id| sqs_record(id, "orders-dlq is filling up");
    let batch = json!({"Records": [good("id-1"), bad("id-2"), good("id-3")]});
    let event = read(&batch).unwrap();
    assert_eq!(event.triggers.len(), 2);
    let [unreadable] = &event.unreadable[..] else {
        panic!("one unreadable record expected: {event:?}");
    };
    assert_eq!(unreadable.record.as_deref(), Some("id-2"));
    let text = unreadable.to_string();
    assert!(
        text.starts_with("record `id-2`: ") && text.contains("cannot be read as JSON"),
        "{text}"
    );

    let records = |batch: &Value| -> Vec<Option<String>> {
        let unreadable = read(batch).unwrap().unreadable;
        unreadable.into_iter().map(|it| it.record).collect()
    };
    let pipe = json!([bad("id-1"), good("id-2"), bad("id-3")]);
    assert_eq!(
        records(&pipe),
        [Some("id-1".into()), Some("id-3".into())],
        "pipe"
    );

    let nameless = without(bad("x"), "/messageId");
    let batch = json!({"Records": [good("id-1"), nameless, null, 7]});
    let by_place = ["number 2", "number 3", "number 4"].map(|it| Some(it.to_owned()));
    assert_eq!(records(&batch), by_place, "by place, from 1");

    let sns = with(
        sns(&json!({})),
        "/Records/0/Sns/MessageId",
        json!("topic-7"),
    );
    let batch = json!({"Records": [good("id-1"), sns["Records"][0]]});
    assert_eq!(records(&batch), [Some("topic-7".into())], "SNS");

    // Lambda can keep or delete only the outermost record.
    let inner = json!({"Records": [bad("inner"), good("inner-2")]}).to_string();
    let batch = json!({"Records": [sqs_record("outer", &inner)]});
    assert_eq!(
        records(&batch),
        [Some("outer".into())],
        "the outermost record is named"
    );
}

#[test]
fn message_id_is_quoted_short_and_on_one_line() {
    let id = "\n\u{1b}[31m".repeat(100);
    let batch = json!({"Records": [sqs_record(&id, "no JSON"), sqs_record("x", "{}")]});
    assert_reads_well("long ids", &rejected("long ids", &batch));
}

#[test]
fn empty_batches_are_rejected() {
    for event in [
        json!([]),
        json!({"Records": []}),
        json!([[]]),
        json!({"Records": [[]]}),
    ] {
        let case = event.to_string();
        let why = rejected(&case, &event);
        assert!(why.contains("empty batch"), "{case}: {why}");
    }
    for event in [
        json!({"Records": null}),
        json!({"Records": {}}),
        json!({"Records": "x"}),
    ] {
        rejected(&event.to_string(), &event);
    }
}

/// If it counted as read, the invocation would succeed and Lambda would delete it.
#[test]
fn record_whose_body_is_an_empty_batch_is_unreadable() {
    for body in ["[]", "{\"Records\": []}"] {
        let good = sqs_record("id-1", &eventbridge().to_string());
        let batch = json!({"Records": [good, sqs_record("id-2", body)]});
        let unreadable = read(&batch).unwrap().unreadable;
        let records: Vec<_> = unreadable.iter().map(|it| it.record.as_deref()).collect();
        assert_eq!(records, [Some("id-2")], "{body}");
    }
}

#[test]
fn dead_letter_in_a_batch_rejects_the_whole_event() {
    let good = sqs_record("id-1", &eventbridge().to_string());
    let source = json!("arn:aws:sqs:us-east-1:123456789012:orders");
    for body in ["an order", "{}", &eventbridge().to_string()] {
        let letter = with(sqs_record("id-2", body), "/eventSourceARN", json!(DLQ));
        let letter = with(
            letter,
            "/attributes/DeadLetterQueueSourceArn",
            source.clone(),
        );
        for (case, event) in [
            ("alone", json!({"Records": [letter]})),
            ("last", json!({"Records": [good, letter]})),
            ("first", json!({"Records": [letter, good]})),
            ("by a pipe", json!([good, letter])),
        ] {
            let why = rejected(case, &event);
            assert!(
                why.contains("dead-letter queue") && why.contains(&format!("`{DLQ}`")),
                "{case}, {body}: {why}"
            );
        }
    }
}

#[test]
fn queues_the_records_came_from_are_listed() {
    let from = "arn:aws:sqs:ap-south-1:888888888888:alarm-fanout";
    for (case, event, expected) in [
        ("sqs", sqs(&eventbridge()), vec![from]),
        ("pipe", pipe(&eventbridge()), vec![from]),
        ("sns", sns(&eventbridge()), vec![]),
        ("bare", eventbridge(), vec![]),
    ] {
        assert_eq!(read(&event).unwrap().event_source_arns, expected, "{case}");
    }
}
