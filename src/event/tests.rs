//! The builders of events that the tests of the files in `src/event/` share, and the tests of what
//! holds for every shape.

use super::*;
use crate::plan::{Kind, Plan, plan};
use crate::queue::{Location, QueueRef, is_account_id, is_queue_name, is_region};
use proptest::prelude::*;
use serde_json::json;

pub(super) const ACCOUNT: &str = "123456789012";
const ALARM_ARN: &str = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:orders-dlq-depth";
pub(super) const DLQ: &str = "arn:aws:sqs:us-east-1:123456789012:orders-dlq";

// The events.

pub(super) fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The text that SNS carries in one of the samples of SNS to Lambda.
fn message(text: &str) -> Value {
    sample(
        sample(text)["Records"][0]["Sns"]["Message"]
            .as_str()
            .unwrap(),
    )
}

pub(super) fn eventbridge() -> Value {
    sample(include_str!("../../events/alarm-eventbridge.json"))
}

pub(super) fn lambda_action() -> Value {
    sample(include_str!("../../events/alarm-lambda-action.json"))
}

pub(super) fn sns_alarm() -> Value {
    message(include_str!("../../events/alarm-sns.json"))
}

pub(super) fn contributor() -> Value {
    sample(include_str!("../../events/contributor-eventbridge.json"))
}

pub(super) fn metric_math() -> Value {
    sample(include_str!(
        "../../events/alarm-eventbridge-metric-math.json"
    ))
}

pub(super) fn sns_metric_math() -> Value {
    message(include_str!("../../events/alarm-sns-metric-math.json"))
}

/// An alarm in ALARM in every shape there is, without its envelopes.
pub(super) fn notifications() -> Vec<(&'static str, Value)> {
    vec![
        ("eventbridge", eventbridge()),
        ("lambda action", lambda_action()),
        ("sns", sns_alarm()),
        ("input path", eventbridge()["detail"].clone()),
        ("contributor, eventbridge", contributor()),
        (
            "contributor, lambda action",
            sample(include_str!("../../events/contributor-lambda-action.json")),
        ),
        (
            "contributor, sns",
            message(include_str!("../../events/contributor-sns.json")),
        ),
        ("metric math, eventbridge", metric_math()),
        ("metric math, sns", sns_metric_math()),
        (
            "composite, eventbridge",
            sample(include_str!("../../events/composite-eventbridge.json")),
        ),
        (
            "composite, sns",
            message(include_str!("../../events/composite-sns.json")),
        ),
        (
            "composite, lambda action",
            sample(include_str!(
                "../../events/composite-suppression-ended.json"
            )),
        ),
    ]
}

/// The event with the value at `path` replaced, or put there.
pub(super) fn with(mut event: Value, path: &str, value: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    event
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .unwrap_or_else(|| panic!("no object at `{parent}`"))
        .insert(field.to_owned(), value);
    event
}

/// The event without the field at `path`.
pub(super) fn without(mut event: Value, path: &str) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    let gone = event
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .and_then(|object| object.remove(field));
    assert!(gone.is_some(), "nothing at `{path}`");
    event
}

/// The paths of all fields of objects in `value`, however deep.
pub(super) fn fields(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value, bool)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v, true)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, v)| (n.to_string(), v, false))
            .collect(),
        _ => Vec::new(),
    };
    let mut paths = Vec::new();
    for (name, child, is_field) in children {
        if is_field {
            paths.push(format!("/{name}"));
        }
        paths.extend(fields(child).iter().map(|path| format!("/{name}{path}")));
    }
    paths
}

/// An SQS record of the queue that carries alarms, with all that Lambda puts into it.
pub(super) fn sqs_record(id: &str, body: &str) -> Value {
    json!({
        "messageId": id,
        "receiptHandle": "AQEB",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1791193351826"},
        "messageAttributes": {},
        "md5OfBody": "00000000000000000000000000000000",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:ap-south-1:888888888888:alarm-fanout",
        "awsRegion": "ap-south-1",
    })
}

pub(super) fn sqs(value: &Value) -> Value {
    json!({"Records": [sqs_record("id-1", &value.to_string())]})
}

pub(super) fn sns_message(value: &Value) -> Value {
    json!({
        "Type": "Notification",
        "MessageId": "sns-1",
        "TopicArn": "arn:aws:sns:ap-south-1:888888888888:alarms",
        "Message": value.to_string(),
    })
}

pub(super) fn sns(value: &Value) -> Value {
    json!({"Records": [{
        "EventSource": "aws:sns",
        "EventSubscriptionArn": "arn:aws:sns:ap-south-1:888888888888:alarms:0",
        "Sns": sns_message(value),
    }]})
}

pub(super) fn pipe(value: &Value) -> Value {
    json!([sqs_record("id-1", &value.to_string())])
}

// What they are read as.

pub(super) fn read(event: &Value) -> Result<Event, EventError> {
    parse(&event.to_string())
}

pub(super) fn only_trigger(case: &str, event: &Value) -> Trigger {
    let read = read(event).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(read.unreadable, [], "{case}");
    match <[Trigger; 1]>::try_from(read.triggers) {
        Ok([trigger]) => trigger,
        Err(other) => panic!("{case}: one trigger expected, got {other:?}"),
    }
}

pub(super) fn only_alarm(case: &str, event: &Value) -> Alarm {
    match only_trigger(case, event) {
        Trigger::Alarm(alarm) => alarm,
        other => panic!("{case}: an alarm expected, got {other:?}"),
    }
}

/// What a trigger calls for if no alarm is a brake.
pub(super) fn plan_of(trigger: Trigger) -> Plan {
    plan(vec![trigger], &[], &[], &Location::new("", "us-east-1"))
}

/// The queues that the event, an alarm, has the function look at.
pub(super) fn queues(case: &str, event: &Value) -> Vec<QueueRef> {
    match plan_of(only_trigger(case, event)) {
        Plan {
            kind: Kind::Alarm,
            selection: Selection::Named(queues),
            ..
        } => queues,
        other => panic!("{case}: queues expected, got {other:?}"),
    }
}

/// Why the event is ignored.
pub(super) fn ignored(case: &str, event: &Value) -> String {
    let plan = plan_of(only_trigger(case, event));
    assert_eq!(plan.kind, Kind::Ignored, "{case}: {plan:?}");
    plan.why.unwrap()
}

pub(super) fn rejected(case: &str, event: &Value) -> String {
    match read(event) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("{case}: rejected expected, got {read:?}"),
    }
}

pub(super) fn queue(name: &str, account: Option<&str>, region: Option<&str>) -> QueueRef {
    QueueRef {
        name: name.to_owned(),
        account: account.map(str::to_owned),
        region: region.map(str::to_owned),
    }
}

/// Whether a text may stand in one log line: no control characters, and no longer than a few quotes
/// of 100 characters with the words around them.
#[track_caller]
pub(super) fn assert_reads_well(case: &str, text: &str) {
    let start: String = text.chars().take(800).collect();
    assert!(
        !text.contains(char::is_control),
        "{case}: not on one line: {start:?}"
    );
    assert!(
        text.chars().count() <= 800,
        "{case}: {} long: {start}…",
        text.len()
    );
}

#[test]
fn value_that_only_looks_like_a_kind_is_rejected_naming_the_kind() {
    for (event, expected) in [
        (
            json!({"detail-type": 1}),
            "it is not a valid EventBridge event: invalid type: integer `1`",
        ),
        (
            json!({"Records": [{"body": 1, "eventSource": "aws:sqs"}]}),
            "record `number 1`: it is not a valid SQS message: invalid type: integer `1`",
        ),
        (
            json!({"Message": 1, "Type": "Notification"}),
            "it is not a valid SNS message: invalid type: integer `1`",
        ),
        (
            json!({"AlarmName": "x", "NewStateValue": 1}),
            "it is not a valid alarm notification: invalid type: integer `1`",
        ),
    ] {
        let why = rejected(expected, &event);
        let expected = format!("event rejected: {expected}");
        assert!(why.starts_with(&expected), "{why}");
    }
}

#[test]
fn unsupported_object_is_described_by_its_first_five_fields() {
    for (event, expected) in [
        (json!({}), "it is an empty object;"),
        (json!({"a": 1}), "it is an object with the fields `a`;"),
        (
            json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}),
            "it is an object with the fields `a`, `b`, `c`, `d`, `e`;",
        ),
        (
            json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}),
            "it is an object with the fields `a`, `b`, `c`, `d`, `e`, …;",
        ),
    ] {
        let why = rejected(expected, &event);
        assert!(why.contains(expected), "{expected} {why}");
    }
}

#[test]
fn configuration_change_is_ignored_with_and_without_its_envelope() {
    let event = sample(include_str!(
        "../../events/ignored-configuration-change.json"
    ));
    let why = "the alarm's configuration changed, not its state";
    assert_eq!(ignored("eventbridge", &event), why);
    assert_eq!(ignored("input path", &event["detail"]), why);
}

/// Only two fields together show these kinds; anyone's JSON may have one of them.
#[test]
fn one_field_of_a_pair_does_not_show_a_kind() {
    let alarm = sns_alarm().to_string();
    for (field, value) in [
        ("Message", json!(alarm)),
        ("Type", json!("Notification")),
        ("AlarmName", json!("orders-dlq-depth")),
        ("NewStateValue", json!("ALARM")),
        ("alarmName", json!("orders-dlq-depth")),
        ("operation", json!("update")),
        ("state", json!({"value": "ALARM"})),
    ] {
        let why = rejected(field, &json!({field: value}));
        let expected = format!("it is an object with the fields `{field}`;");
        assert!(why.contains(&expected), "{field}: {why}");
    }
}

/// Found while the fuzz target `event` was written: Unicode does not count these as control
/// characters.
#[test]
fn line_separators_and_direction_marks_are_shown_escaped() {
    let text = "a\u{2028}b\u{2029}c\u{202e}d\u{2066}e";
    let shown = "a\\u{2028}b\\u{2029}c\\u{202e}d\\u{2066}e";
    let suppressed = with(
        eventbridge(),
        "/detail/state/actionsSuppressedBy",
        json!(text),
    );
    let why = format!("the alarm's actions are suppressed by {shown}");
    assert_eq!(ignored("suppressor", &suppressed), why);
    let named = with(eventbridge(), "/resources", json!([text]));
    let named = only_alarm("source", &named);
    assert_eq!(named.source.as_deref(), Some(shown));
    let why = rejected("field", &json!({text: 1}));
    assert!(why.contains(&format!("`{shown}`")), "{why}");
}

// Hostile input.

#[test]
fn deep_json_is_refused_without_overflowing_the_stack() {
    for depth in [128, 200, 1_000_000] {
        for (case, open, close) in [("arrays", "[", "]"), ("objects", "{\"Records\":", "}")] {
            let deep = format!("{}null{}", open.repeat(depth), close.repeat(depth));
            let case = format!("{depth} {case}");
            let why = parse(&deep).unwrap_err().to_string();
            assert_reads_well(&case, &why);
            let in_sqs = json!({"Records": [sqs_record("id-1", &deep)]});
            let why = rejected(&case, &in_sqs);
            assert!(why.contains("`id-1`"), "{case}, in SQS: {why}");
            assert_reads_well(&case, &why);
            // Never closed.
            assert_reads_well(&case, &parse(&open.repeat(depth)).unwrap_err().to_string());
        }
    }
}

/// As deep as JSON may be, in every envelope that is unwrapped.
#[test]
fn deep_batches_in_deep_batches_do_not_overflow_the_stack() {
    let mut event = "{}".to_owned();
    for _ in 0..6 {
        let deep = format!("{}{event}{}", "[".repeat(120), "]".repeat(120));
        event = sqs_record("id-1", &deep).to_string();
    }
    assert!(parse(&event).is_err());
}

/// A message of a hostile sender: an array of this many numbers.
fn numbers(n: usize) -> String {
    serde_json::to_string(&vec![1; n]).unwrap()
}

#[test]
fn record_with_much_wrong_in_it_is_noted_once() {
    for n in [2, 9_000, 100_000] {
        let records = json!({"Records": [
            sqs_record("id-1", &numbers(n)),
            sqs_record("id-2", &eventbridge().to_string()),
            sqs_record("id-3", "{}"),
        ]});
        let read = read(&records).unwrap();
        let noted = read.unreadable.iter().map(|it| it.record.as_deref());
        assert_eq!(noted.collect::<Vec<_>>(), [Some("id-1"), Some("id-3")]);
        assert_eq!(read.triggers.len(), 1);
    }
}

#[test]
fn batch_of_more_records_than_aws_delivers_is_not_read() {
    let why = rejected("10,001", &json!(vec![1; 10_001]));
    assert!(why.contains("it is a batch of 10001 records"), "{why}");
}

#[test]
fn message_longer_than_aws_sends_is_not_read() {
    let padded = |n: usize| {
        let event = eventbridge().to_string();
        format!("{event}{}", " ".repeat(n - event.len()))
    };
    let batch = json!({"Records": [
        sqs_record("fits", &padded(256 * 1024)),
        sqs_record("is too long", &padded(256 * 1024 + 1)),
    ]});
    let read = read(&batch).unwrap();
    assert_eq!(read.triggers.len(), 1);
    assert_eq!(
        read.unreadable[0].to_string(),
        "record `is too long`: its message has 262145 bytes, more than 262144"
    );
}

#[test]
fn message_of_many_notifications_is_read_up_to_the_limit_and_takes_no_room_from_others() {
    let many = |n: usize| {
        let notification = json!({"alarmName": "a", "operation": "update"});
        Value::from(vec![notification; n]).to_string()
    };
    let sizes = [10, 11, 6_000, 1].map(many);
    let records = sizes.iter().enumerate();
    let records = records.map(|(n, body)| sqs_record(&format!("id-{n}"), body));
    let read = read(&json!({"Records": records.collect::<Vec<Value>>()})).unwrap();
    assert_eq!(read.triggers.len(), 10 + 10 + 10 + 1);
    let noted = read.unreadable.iter().map(|it| it.record.as_deref());
    assert_eq!(noted.collect::<Vec<_>>(), [Some("id-1"), Some("id-2")]);
}

#[test]
fn five_megabytes_are_refused_in_a_short_message() {
    let long = "x".repeat(5_000_000);
    let dimensions = "/detail/configuration/metrics/0/metricStat/metric/dimensions";
    for (case, event) in [
        ("a string", json!(long)),
        ("a value", json!({"hello": long})),
        ("a name", json!({&*long: 1})),
        ("a body", json!({"Records": [sqs_record("id-1", &long)]})),
        (
            "a message id",
            json!({"Records": [sqs_record(&long, "no JSON")]}),
        ),
        (
            "a queue",
            json!({"Records": [with(
                with(sqs_record("id-1", ""), "/eventSourceARN", json!(long)),
                "/attributes/DeadLetterQueueSourceArn",
                json!(DLQ),
            )]}),
        ),
        ("an SNS type", json!({"Type": long, "Message": "{}"})),
        (
            "a detail type",
            with(eventbridge(), "/detail-type", json!(long)),
        ),
        ("a source", with(eventbridge(), "/source", json!(long))),
    ] {
        assert_reads_well(case, &rejected(case, &event));
    }
    let account = "/detail/configuration/metrics/0/accountId";
    for (case, event) in [
        (
            "a queue name",
            with(eventbridge(), dimensions, json!({"QueueName": long})),
        ),
        ("an account", with(eventbridge(), account, json!(long))),
    ] {
        assert_reads_well(case, &ignored(case, &event));
    }
    let event = with(eventbridge(), "/resources", json!([long]));
    let source = only_alarm("an ARN", &event).source.unwrap();
    assert!(source.chars().count() <= 501);
    let event = with(eventbridge(), "/detail/state/value", json!(long));
    assert_reads_well("a state", &ignored("a state", &event));
    let event = with(
        eventbridge(),
        "/detail/state/actionsSuppressedBy",
        json!(long),
    );
    assert_reads_well("a suppressor", &ignored("a suppressor", &event));
}

/// Texts that come from the JSON library or from the ARN's own errors, with a long and hostile
/// value.
#[test]
fn foreign_text_is_quoted_short_and_on_one_line_wherever_it_stands() {
    let long = "\n\u{1b}[31mx".repeat(500);
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:123456789012:{name}");
    let mut wrong = Vec::new();
    for (case, event) in [
        (
            "unknown field of a request",
            json!({"action": "redrive", &*long: 1}),
        ),
        ("unknown action", json!({"action": long})),
        (
            "text for a boolean",
            json!({"action": "redrive", "dryRun": long}),
        ),
        (
            "text for a rate",
            json!({"action": "redrive", "maxMessagesPerSecond": long}),
        ),
        (
            "queue of a request",
            json!({"action": "redrive", "queues": [long]}),
        ),
        (
            "queue ARN of a request",
            json!({"action": "redrive", "queues": [arn(&long)]}),
        ),
        (
            "destination of a request",
            json!({"action": "redrive", "destinationArn": arn(&long)}),
        ),
        (
            "text for a state",
            with(eventbridge(), "/detail/state", json!(long)),
        ),
        (
            "text for a detail",
            with(eventbridge(), "/detail", json!(long)),
        ),
        ("text for SNS", json!({"Sns": long})),
        (
            "text for attributes",
            with(sqs_record("1", "{}"), "/attributes", json!(long)),
        ),
        (
            "text for resources",
            with(eventbridge(), "/resources", json!(long)),
        ),
        (
            "text for metrics",
            with(sns_alarm(), "/Trigger/Metrics", json!(long)),
        ),
    ] {
        let why = rejected(case, &event);
        let start: String = why.chars().take(150).collect();
        if why.contains(char::is_control) {
            wrong.push(format!("{case}: not on one line: {start:?}…"));
        } else if why.chars().count() > 800 {
            wrong.push(format!(
                "{case}: {} characters: {start}…",
                why.chars().count()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn error_texts_name_no_rust_types() {
    let mut wrong = Vec::new();
    for (case, event) in [
        (
            "state",
            with(eventbridge(), "/detail/state", json!("ALARM")),
        ),
        ("detail", with(eventbridge(), "/detail", json!("{}"))),
        ("alarmData", with(lambda_action(), "/alarmData", json!("x"))),
        (
            "configuration",
            with(eventbridge(), "/detail/configuration", json!("x")),
        ),
        ("trigger", with(sns_alarm(), "/Trigger", json!("x"))),
        ("Sns", json!({"Sns": "x"})),
        (
            "dimensions",
            with(sns_alarm(), "/Trigger/Dimensions", json!("x")),
        ),
        (
            "attributes",
            with(sqs_record("1", "{}"), "/attributes", json!("x")),
        ),
        ("action", json!({"action": 1})),
        ("resources", with(eventbridge(), "/resources", json!("x"))),
    ] {
        let why = rejected(case, &event);
        for rust in [
            "struct ",
            "enum ",
            "variant",
            "Option",
            "BTreeMap",
            "SqsMessage",
            "tuple ",
        ] {
            if why.contains(rust) {
                let own = why.split("; expected a schedule").next().unwrap();
                wrong.push(format!("{case}: `{rust}`: {own}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// Anything at all.

/// Texts that have a meaning somewhere, and some that have none.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "ALARM", "OK", "INSUFFICIENT_DATA", "AWS/SQS", "QueueName", "orders-dlq", ACCOUNT, DLQ, ALARM_ARN,
    "us-east-1", "EU (Ireland)", "aws.cloudwatch", "aws.events", "aws.scheduler", "Scheduled Event",
    "CloudWatch Alarm State Change", "Notification", "redrive", "cancel",
    "CloudWatch Alarm Contributor State Change", "CloudWatch Alarm Configuration Change", "all", "{}", "[]", "null", "",
    "\u{0}\n\u{202e}", "update",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(TEXTS).prop_map(str::to_owned),
        any::<String>(),
    ]
}

/// The names of fields that AWS and we use, and one more.
#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "Records", "body", "attributes", "DeadLetterQueueSourceArn", "messageId", "eventSourceARN", "awsRegion",
    "Sns", "Type", "Message", "MessageId", "TopicArn", "detail-type", "source", "account", "region",
    "resources", "detail", "alarmData", "alarmArn", "accountId", "alarmName", "state", "value",
    "actionsSuppressedBy", "muteDetail", "previousState", "configuration", "metrics", "metricStat",
    "metric", "namespace", "dimensions", "QueueName", "name", "alarmContributor", "alarmRule", "operation",
    "AlarmName", "NewStateValue", "AlarmArn", "AWSAccountId", "Region", "Trigger", "Metrics", "MetricStat",
    "Metric", "Namespace", "Dimensions", "AccountId", "AlarmRule", "AlarmContributorAttributes", "action",
    "queues", "dryRun", "force", "maxMessagesPerSecond", "destinationArn", "stray",
];

fn field() -> impl Strategy<Value = String> {
    proptest::sample::select(FIELDS).prop_map(str::to_owned)
}

/// JSON of the fields that AWS and we use, some of it as text within text, as SNS and SQS have it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            4 => proptest::collection::btree_map(field(), inner.clone(), 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            1 => inner.prop_map(|value| Value::String(value.to_string())),
        ]
    })
}

/// A real event of some shape in some envelope, with up to three of its fields replaced.
fn damaged_event() -> impl Strategy<Value = Value> {
    let damage = (any::<proptest::sample::Index>(), any_json());
    let envelope =
        proptest::sample::select(vec![sqs as fn(&Value) -> Value, sns, pipe, Value::clone]);
    let all = notifications();
    (
        proptest::sample::select(all),
        proptest::collection::vec(damage, 0..3),
        envelope,
    )
        .prop_map(|((_, mut event), damages, envelope)| {
            for (index, value) in damages {
                let paths = fields(&event);
                if !paths.is_empty() {
                    event = with(event, &paths[index.index(paths.len())], value);
                }
            }
            envelope(&event)
        })
}

/// What holds for every event that was read, and for every error.
fn check_anything(result: Result<Event, EventError>) -> Result<(), TestCaseError> {
    match result {
        Ok(event) => {
            prop_assert!(!event.triggers.is_empty(), "an event without a trigger");
            for trigger in event.triggers {
                let plan = plan_of(trigger);
                let named = match plan.selection {
                    Selection::Named(queues) => queues,
                    Selection::All => continue,
                };
                prop_assert_eq!(named.is_empty(), plan.kind == Kind::Ignored);
                for queue in named {
                    let QueueRef {
                        name,
                        account,
                        region,
                    } = &queue;
                    prop_assert!(is_queue_name(name), "{queue:?}");
                    prop_assert!(account.as_deref().is_none_or(is_account_id), "{queue:?}");
                    prop_assert!(region.as_deref().is_none_or(is_region), "{queue:?}");
                }
            }
        }
        Err(rejected) => {
            let text = rejected.to_string();
            prop_assert!(text.starts_with("event rejected: "), "{}", text);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parse_never_panics_on_json(event in any_json()) {
        check_anything(read(&event))?;
    }

    #[test]
    fn parse_never_panics_on_a_damaged_event(event in damaged_event()) {
        check_anything(read(&event))?;
    }

    #[test]
    fn parse_never_panics_on_text(text in any::<String>()) {
        check_anything(parse(&text))?;
    }
}
