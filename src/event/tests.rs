use super::*;
use proptest::prelude::*;
use serde_json::json;

const ACCOUNT: &str = "123456789012";
const OTHER_ACCOUNT: &str = "999999999999";
const ALARM_ARN: &str = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:orders-dlq-depth";
const DLQ: &str = "arn:aws:sqs:us-east-1:123456789012:orders-dlq";

// The events.

fn sample(text: &str) -> Value {
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

fn eventbridge() -> Value {
    sample(include_str!("../../events/alarm-eventbridge.json"))
}

fn lambda_action() -> Value {
    sample(include_str!("../../events/alarm-lambda-action.json"))
}

fn sns_alarm() -> Value {
    message(include_str!("../../events/alarm-sns.json"))
}

fn contributor() -> Value {
    sample(include_str!("../../events/contributor-eventbridge.json"))
}

fn metric_math() -> Value {
    sample(include_str!(
        "../../events/alarm-eventbridge-metric-math.json"
    ))
}

fn sns_metric_math() -> Value {
    message(include_str!("../../events/alarm-sns-metric-math.json"))
}

/// A full alarm notification in ALARM of every shape there is, out of its coats.
fn notifications() -> Vec<(&'static str, Value)> {
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
fn with(mut event: Value, path: &str, value: Value) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    event
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .unwrap_or_else(|| panic!("no object at `{parent}`"))
        .insert(field.to_owned(), value);
    event
}

/// The event without the field at `path`.
fn without(mut event: Value, path: &str) -> Value {
    let (parent, field) = path.rsplit_once('/').unwrap();
    let gone = event
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .and_then(|object| object.remove(field));
    assert!(gone.is_some(), "nothing at `{path}`");
    event
}

/// The paths of all fields of objects in `value`, however deep.
fn fields(value: &Value) -> Vec<String> {
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
fn sqs_record(id: &str, body: &str) -> Value {
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

fn sqs(value: &Value) -> Value {
    json!({"Records": [sqs_record("id-1", &value.to_string())]})
}

fn sns_message(value: &Value) -> Value {
    json!({
        "Type": "Notification",
        "MessageId": "sns-1",
        "TopicArn": "arn:aws:sns:ap-south-1:888888888888:alarms",
        "Message": value.to_string(),
    })
}

fn sns(value: &Value) -> Value {
    json!({"Records": [{
        "EventSource": "aws:sns",
        "EventSubscriptionArn": "arn:aws:sns:ap-south-1:888888888888:alarms:0",
        "Sns": sns_message(value),
    }]})
}

fn pipe(value: &Value) -> Value {
    json!([sqs_record("id-1", &value.to_string())])
}

// What comes of them.

fn read(event: &Value) -> Result<Event, EventError> {
    parse(&event.to_string())
}

fn only_trigger(case: &str, event: &Value) -> Trigger {
    let read = read(event).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!(read.unreadable, [], "{case}");
    match <[Trigger; 1]>::try_from(read.triggers) {
        Ok([trigger]) => trigger,
        Err(other) => panic!("{case}: one trigger expected, got {other:?}"),
    }
}

fn queues(case: &str, event: &Value) -> Vec<QueueRef> {
    match only_trigger(case, event).calls_for {
        CallsFor::Queues(queues) => queues,
        other => panic!("{case}: queues expected, got {other:?}"),
    }
}

/// Why the event calls for nothing.
fn ignored(case: &str, event: &Value) -> String {
    match only_trigger(case, event).calls_for {
        CallsFor::Nothing(why) => why,
        other => panic!("{case}: nothing expected, got {other:?}"),
    }
}

fn request(case: &str, event: &Value) -> Request {
    match only_trigger(case, event).calls_for {
        CallsFor::Request(request) => request,
        other => panic!("{case}: a request expected, got {other:?}"),
    }
}

fn rejected(case: &str, event: &Value) -> String {
    match read(event) {
        Err(error) => error.to_string(),
        Ok(read) => panic!("{case}: rejected expected, got {read:?}"),
    }
}

fn queue(name: &str, account: Option<&str>, region: Option<&str>) -> QueueRef {
    QueueRef {
        name: name.to_owned(),
        account: account.map(str::to_owned),
        region: region.map(str::to_owned),
    }
}

/// Whether a text may stand in one log line: no control characters, and no longer than a few quotes
/// of 100 characters with the words around them.
#[track_caller]
fn assert_reads_well(case: &str, text: &str) {
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
fn what_seems_to_be_of_a_kind_and_is_not_is_told_with_the_kind() {
    for (event, told) in [
        (
            json!({"detail-type": 1}),
            "as an EventBridge event: invalid type: integer `1`",
        ),
        (
            json!({"Records": [{"body": 1}]}),
            "record `number 1`: as an SQS message: invalid type: integer `1`",
        ),
        (
            json!({"Message": 1, "Type": "Notification"}),
            "as an SNS message: invalid type: integer `1`",
        ),
        (
            json!({"AlarmName": "x", "NewStateValue": 1}),
            "as an alarm notification: invalid type: integer `1`",
        ),
    ] {
        let why = rejected(told, &event);
        let told = format!("event rejected: {told}");
        assert!(why.starts_with(&told), "{why}");
    }
}

#[test]
fn object_that_is_none_of_ours_is_told_by_its_first_five_fields() {
    for (event, told) in [
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
        let why = rejected(told, &event);
        assert!(why.contains(told), "{told} {why}");
    }
}

#[test]
fn configuration_change_out_of_its_coat_calls_for_nothing() {
    let event = sample(include_str!(
        "../../events/ignored-configuration-change.json"
    ));
    let why = "the alarm's configuration changed, not its state";
    assert_eq!(ignored("in its coat", &event), why);
    assert_eq!(ignored("input path", &event["detail"]), why);
}

/// Two fields together tell a kind; one of them is anybody's.
#[test]
fn field_that_stands_without_its_companion_tells_no_kind() {
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
        let told = format!("it is an object with the fields `{field}`;");
        assert!(why.contains(&told), "{field}: {why}");
    }
}

/// Found while the rules of the fuzz target `event` were written: these are no control characters to Unicode.
#[test]
fn line_separators_and_marks_of_direction_are_shown_as_what_they_are() {
    let text = "a\u{2028}b\u{2029}c\u{202e}d\u{2066}e";
    let shown = "a\\u{2028}b\\u{2029}c\\u{202e}d\\u{2066}e";
    let read = |event| read(&event).unwrap().triggers.remove(0);
    let suppressed = read(with(
        eventbridge(),
        "/detail/state/actionsSuppressedBy",
        json!(text),
    ));
    let why = format!("the alarm's actions are suppressed by {shown}");
    assert_eq!(suppressed.calls_for, CallsFor::Nothing(why));
    let named = read(with(eventbridge(), "/resources", json!([text])));
    assert_eq!(named.source.as_deref(), Some(shown));
    let why = rejected("field", &json!({text: 1}));
    assert!(why.contains(&format!("`{shown}`")), "{why}");
}

// Where the queue is.

#[test]
fn queue_is_where_the_alarms_own_arn_says() {
    let arn = "arn:aws:cloudwatch:eu-west-1:111111111111:alarm:orders-dlq-depth";
    let expected = [queue("orders-dlq", Some("111111111111"), Some("eu-west-1"))];
    for (shape, event) in [
        (
            "eventbridge",
            with(eventbridge(), "/resources", json!([arn])),
        ),
        (
            "contributor",
            with(contributor(), "/resources", json!([arn])),
        ),
        (
            "lambda action",
            with(lambda_action(), "/alarmArn", json!(arn)),
        ),
        ("sns", with(sns_alarm(), "/AlarmArn", json!(arn))),
    ] {
        assert_eq!(queues(shape, &event), expected, "{shape}");
        for (coat, wrapped) in [
            ("sqs", sqs(&event)),
            ("sns", sns(&event)),
            ("sns to sqs", sqs(&sns_message(&event))),
            ("pipe", pipe(&event)),
        ] {
            assert_eq!(queues(shape, &wrapped), expected, "{shape} in {coat}");
        }
        assert_eq!(
            only_trigger(shape, &event).source.as_deref(),
            Some(arn),
            "{shape}"
        );
    }
}

#[test]
fn without_an_arn_the_fields_beside_it_say_where_the_queue_is() {
    let here = [queue("orders-dlq", Some(OTHER_ACCOUNT), Some("eu-west-1"))];
    let eventbridge = with(eventbridge(), "/account", json!(OTHER_ACCOUNT));
    let eventbridge = with(eventbridge, "/region", json!("eu-west-1"));
    let action = with(lambda_action(), "/accountId", json!(OTHER_ACCOUNT));
    let action = with(action, "/region", json!("eu-west-1"));
    for (case, event) in [
        ("no resources", without(eventbridge.clone(), "/resources")),
        (
            "resources null",
            with(eventbridge.clone(), "/resources", json!(null)),
        ),
        (
            "resources empty",
            with(eventbridge.clone(), "/resources", json!([])),
        ),
        (
            "no ARN",
            with(
                eventbridge.clone(),
                "/resources",
                json!(["orders-dlq-depth"]),
            ),
        ),
        (
            "another's ARN",
            with(eventbridge.clone(), "/resources", json!([DLQ])),
        ),
        (
            "ARN with a wrong account",
            with(
                eventbridge.clone(),
                "/resources",
                json!(["arn:aws:cloudwatch:us-east-1:1234:alarm:a"]),
            ),
        ),
        ("no alarmArn", without(action.clone(), "/alarmArn")),
        ("alarmArn null", with(action, "/alarmArn", json!(null))),
    ] {
        assert_eq!(queues(case, &event), here, "{case}");
        assert_eq!(queues(case, &sqs(&event)), here, "{case}, in SQS");
    }
}

#[test]
fn what_nobody_says_is_left_open_whatever_the_coats_say() {
    let nowhere = [queue("orders-dlq", None, None)];
    let eventbridge = without(without(eventbridge(), "/resources"), "/account");
    for (case, event) in [
        ("input path", super::tests::eventbridge()["detail"].clone()),
        ("eventbridge", without(eventbridge.clone(), "/region")),
        (
            "account and region that cannot be",
            with(
                with(eventbridge, "/region", json!("EU (Ireland)")),
                "/account",
                json!("me"),
            ),
        ),
    ] {
        for (coat, wrapped) in [
            ("no coat", event.clone()),
            ("sqs", sqs(&event)),
            ("sns", sns(&event)),
            ("sns to sqs", sqs(&sns_message(&event))),
            ("pipe", pipe(&event)),
        ] {
            assert_eq!(queues(case, &wrapped), nowhere, "{case}, {coat}");
        }
    }
}

#[test]
fn region_of_an_sns_alarm_is_a_display_name_and_never_used() {
    let no_arn = without(sns_alarm(), "/AlarmArn");
    let account = Some(ACCOUNT);
    for region in ["EU (Ireland)", "eu-west-1"] {
        let event = with(no_arn.clone(), "/Region", json!(region));
        let here = [queue("orders-dlq", account, None)];
        assert_eq!(queues(region, &event), here, "{region}");
        assert_eq!(queues(region, &sns(&event)), here, "{region}, in SNS");
    }
    let event = with(sns_alarm(), "/Region", json!("EU (Ireland)"));
    let here = [queue("orders-dlq", account, Some("us-east-1"))];
    assert_eq!(queues("with an ARN", &event), here);
}

#[test]
fn metrics_own_account_goes_before_the_alarms() {
    let path = "/detail/configuration/metrics/1/accountId";
    for (case, event) in [
        (
            "eventbridge",
            with(metric_math(), path, json!(OTHER_ACCOUNT)),
        ),
        (
            "sns",
            with(
                sns_metric_math(),
                "/Trigger/Metrics/1/AccountId",
                json!(OTHER_ACCOUNT),
            ),
        ),
    ] {
        let expected = [
            queue("orders-dlq", Some(OTHER_ACCOUNT), Some("us-east-1")),
            queue("payments-dlq", Some(ACCOUNT), Some("us-east-1")),
        ];
        assert_eq!(queues(case, &event), expected, "{case}");
    }
    let event = with(metric_math(), path, json!(null));
    let first = queues("null", &event).remove(0);
    assert_eq!(
        first.account.as_deref(),
        Some(ACCOUNT),
        "null is no account"
    );

    let event = with(metric_math(), path, json!("production"));
    let why = ignored("not an account id", &event);
    assert!(why.contains("`production`"), "{why}");
}

#[test]
fn name_of_an_alarm_may_have_spaces_and_colons() {
    let name = "Orders: DLQ depth / prod (v2): high";
    let arn = format!("arn:aws:cloudwatch:eu-west-1:111111111111:alarm:{name}");
    let eventbridge = with(eventbridge(), "/resources", json!([arn]));
    let action = with(lambda_action(), "/alarmArn", json!(arn));
    let sns = with(sns_alarm(), "/AlarmArn", json!(arn));
    for (shape, event) in [
        (
            "eventbridge",
            with(eventbridge.clone(), "/detail/alarmName", json!(name)),
        ),
        (
            "eventbridge, name by ARN",
            without(eventbridge, "/detail/alarmName"),
        ),
        (
            "lambda action",
            with(action.clone(), "/alarmData/alarmName", json!(name)),
        ),
        (
            "lambda action, name by ARN",
            without(action, "/alarmData/alarmName"),
        ),
        ("sns", with(sns.clone(), "/AlarmName", json!(name))),
        ("sns, name by ARN", with(sns, "/AlarmName", json!(null))),
    ] {
        let trigger = only_trigger(shape, &event);
        assert_eq!(trigger.source.as_deref(), Some(&*arn), "{shape}");
        let alarm = trigger.alarm.unwrap_or_else(|| panic!("{shape}: no alarm"));
        assert_eq!((&*alarm.name, &*alarm.state), (name, "ALARM"), "{shape}");
        assert_eq!(alarm.account.as_deref(), Some("111111111111"), "{shape}");
        assert_eq!(alarm.region.as_deref(), Some("eu-west-1"), "{shape}");
        let here = [queue("orders-dlq", Some("111111111111"), Some("eu-west-1"))];
        assert_eq!(queues(shape, &event), here, "{shape}");
    }
}

// What the alarm says.

#[test]
fn only_the_new_state_counts() {
    let previous = [
        json!(null),
        json!({}),
        json!({"value": null}),
        json!({"value": "ALARM"}),
        json!({"value": "ALARM", "actionsSuppressedBy": "Alarm", "actionsSuppressedReason": "…"}),
        json!({"value": "OK"}),
        json!({"value": "INSUFFICIENT_DATA"}),
    ];
    let shapes = [
        (
            "eventbridge",
            eventbridge(),
            "/detail/previousState",
            "/detail/state/value",
        ),
        (
            "lambda action",
            lambda_action(),
            "/alarmData/previousState",
            "/alarmData/state/value",
        ),
    ];
    for (shape, event, old_path, new_path) in shapes {
        for old in &previous {
            let case = format!("{shape}, from {old}");
            let event = with(event.clone(), old_path, old.clone());
            assert_eq!(queues(&case, &event).len(), 1, "{case}");
            for new in ["OK", "INSUFFICIENT_DATA", "alarm", "", "SOMETHING_NEW"] {
                let case = format!("{case} to {new}");
                let why = ignored(&case, &with(event.clone(), new_path, json!(new)));
                assert!(why.contains(new), "{case}: {why}");
            }
        }
    }
    for old in [json!("ALARM"), json!("OK"), json!(null)] {
        let event = with(sns_alarm(), "/OldStateValue", old.clone());
        assert_eq!(queues("sns", &event).len(), 1, "sns, from {old}");
        let why = ignored("sns", &with(event, "/NewStateValue", json!("OK")));
        assert!(why.contains("OK"), "sns, from {old}: {why}");
    }
}

#[test]
fn suppressed_and_muted_alarms_call_for_nothing() {
    let mute = json!({"mutedByArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm-mute-rule:m"});
    for (shape, event) in notifications() {
        let prefix = match event {
            _ if event.get("detail").is_some() => "/detail",
            _ if event.get("alarmData").is_some() => "/alarmData",
            _ if event.get("state").is_some() => "",
            // SNS is told nothing while actions are suppressed or muted.
            _ => continue,
        };
        let suppressed = format!("{prefix}/state/actionsSuppressedBy");
        let muted = format!("{prefix}/muteDetail");
        let plain = only_trigger(shape, &event);
        for (path, value, because) in [
            (&suppressed, json!("WaitPeriod"), "suppressed by WaitPeriod"),
            (&suppressed, json!("Alarm"), "suppressed by Alarm"),
            (&muted, mute.clone(), "muted"),
            (&muted, json!({}), "muted"),
        ] {
            let case = format!("{shape}, {path} is {value}");
            let event = with(event.clone(), path, value);
            let why = ignored(&case, &event);
            assert!(why.contains(because), "{case}: {why}");
            // It may be a brake, which counts all the same.
            let alarm = only_trigger(&case, &event).alarm;
            assert_eq!(
                alarm.map(|alarm| alarm.state).as_deref(),
                Some("ALARM"),
                "{case}"
            );
        }
        for path in [&suppressed, &muted] {
            let event = with(event.clone(), path, json!(null));
            assert_eq!(
                only_trigger(shape, &event),
                plain,
                "{shape}, {path} is null"
            );
        }
    }
}

#[test]
fn every_field_but_the_state_value_may_be_missing_or_null() {
    // What holds the state value, and what alone tells that the event is an alarm's at all.
    let needed = [
        "/detail",
        "/detail/state",
        "/detail/state/value",
        "/alarmData",
        "/alarmData/state",
        "/alarmData/state/value",
        "/state",
        "/state/value",
        "/NewStateValue",
        "/detail-type",
        "/source",
    ];
    let mut wrong = Vec::new();
    for (shape, event) in notifications() {
        let plain = only_trigger(shape, &event);
        let composite = plain.calls_for == CallsFor::Sweep;
        let is_action = event.get("alarmData").is_some();
        let is_bare = event.get("state").is_some();
        for path in fields(&event) {
            if needed.contains(&&*path) && !(is_action && path == "/source") {
                continue;
            }
            // Without its name, nothing tells these two from anybody's JSON.
            let tells = (is_bare && path == "/alarmName") || path == "/AlarmName";
            let missing = (!tells).then(|| ("missing", without(event.clone(), &path)));
            let null = ("null", with(event.clone(), &path, json!(null)));
            for (how, event) in missing.into_iter().chain([null]) {
                match read(&event) {
                    Ok(read) if read.unreadable.is_empty() && read.triggers.len() == 1 => {
                        let calls_for = &read.triggers[0].calls_for;
                        // Less is known: fewer queues, or nothing; never everything.
                        if *calls_for == CallsFor::Sweep && !composite {
                            wrong.push(format!("{shape}: {path} {how}: it sweeps"));
                        }
                    }
                    other => wrong.push(format!("{shape}: {path} {how}: {other:?}")),
                }
            }
        }
        for path in needed {
            if path.ends_with("alue") && event.pointer(path).is_some() {
                rejected(shape, &without(event.clone(), path));
                rejected(shape, &with(event.clone(), path, json!(null)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn periods_exceed_16_bits() {
    let period = json!(604_800);
    for (case, event, path, count) in [
        (
            "eventbridge",
            eventbridge(),
            "/detail/configuration/metrics/0/metricStat/period",
            1,
        ),
        (
            "expression",
            metric_math(),
            "/detail/configuration/metrics/0/period",
            2,
        ),
        (
            "lambda action",
            lambda_action(),
            "/alarmData/configuration/metrics/0/metricStat/period",
            1,
        ),
        ("sns", sns_alarm(), "/Trigger/Period", 1),
        (
            "sns metric math",
            sns_metric_math(),
            "/Trigger/Metrics/1/MetricStat/Period",
            2,
        ),
    ] {
        let event = with(event, path, period.clone());
        assert_eq!(queues(case, &event).len(), count, "{case}");
    }
}

#[test]
fn mentions_of_one_queue_are_merged() {
    for (case, event, path) in [
        (
            "eventbridge",
            metric_math(),
            "/detail/configuration/metrics/2/metricStat/metric/dimensions",
        ),
        (
            "sns",
            sns_metric_math(),
            "/Trigger/Metrics/2/MetricStat/Metric/Dimensions",
        ),
    ] {
        let dimensions = event
            .pointer(&path.replacen("/2/", "/1/", 1))
            .cloned()
            .unwrap();
        let event = with(event, path, dimensions);
        let once = [queue("orders-dlq", Some(ACCOUNT), Some("us-east-1"))];
        assert_eq!(queues(case, &event), once, "{case}");
    }
    // One contributor of an alarm that is itself about the same queue.
    let event = with(
        contributor(),
        "/detail/configuration",
        eventbridge()["detail"]["configuration"].clone(),
    );
    let once = [queue("orders-dlq", Some(ACCOUNT), Some("us-east-1"))];
    assert_eq!(queues("contributor and metric", &event), once);
}

#[test]
fn only_queue_names_of_sqs_metrics_count() {
    let metric = "/detail/configuration/metrics/0/metricStat/metric";
    for (case, path, value) in [
        ("other namespace", "namespace", json!("Custom/SQS")),
        ("namespace in small letters", "namespace", json!("aws/sqs")),
        (
            "other dimension",
            "dimensions",
            json!({"TopicName": "orders-dlq"}),
        ),
        (
            "dimension in small letters",
            "dimensions",
            json!({"queueName": "orders-dlq"}),
        ),
        ("no dimension", "dimensions", json!({})),
    ] {
        let why = ignored(
            case,
            &with(eventbridge(), &format!("{metric}/{path}"), value),
        );
        assert!(why.contains("no SQS queue"), "{case}: {why}");
    }
    let event = with(
        contributor(),
        "/detail/alarmContributor/attributes",
        json!({"Host": "h"}),
    );
    let why = ignored("contributor of something else", &event);
    assert!(why.contains("no SQS queue"), "{why}");
}

#[test]
fn queue_name_that_cannot_exist_calls_for_nothing() {
    for name in [
        "",
        "orders dlq",
        "orders.dlq",
        DLQ,
        "../orders",
        "orders-dlq\n",
        &"q".repeat(81),
    ] {
        for (shape, event) in [
            (
                "eventbridge",
                with(
                    eventbridge(),
                    "/detail/configuration/metrics/0/metricStat/metric/dimensions",
                    json!({"QueueName": name}),
                ),
            ),
            (
                "sns",
                with(
                    sns_alarm(),
                    "/Trigger/Dimensions",
                    json!([{"name": "QueueName", "value": name}]),
                ),
            ),
            (
                "contributor",
                with(
                    contributor(),
                    "/detail/alarmContributor/attributes",
                    json!({"QueueName": name}),
                ),
            ),
        ] {
            let case = format!("{shape}, {name:?}");
            let why = ignored(&case, &event);
            assert!(why.contains("is no queue name"), "{case}: {why}");
            let alarm = only_trigger(&case, &event).alarm.unwrap();
            assert_eq!(
                alarm.state, "ALARM",
                "{case}: it may be a brake all the same"
            );
            assert_reads_well(&case, &why);
        }
    }
}

// Coats and batches.

#[test]
fn four_coats_are_taken_off_and_five_are_not() {
    type Coat = fn(&Value) -> Value;
    let sns_in_text: Coat = sns_message;
    let sqs_in_text: Coat = sqs;
    // Innermost first. A pipe's array is a coat, and the SQS record in it another.
    let table: [(&str, &[Coat], bool); 6] = [
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
    for (case, coats, is_read) in table {
        let event = coats.iter().fold(eventbridge(), |event, coat| coat(&event));
        if is_read {
            assert_eq!(queues(case, &event).len(), 1, "{case}");
        } else {
            let why = rejected(case, &event);
            assert!(why.contains("four deep"), "{case}: {why}");
        }
    }
}

#[test]
fn array_counts_as_a_coat() {
    let wrap = |times| (0..times).fold(eventbridge(), |event, _| json!([event]));
    assert_eq!(queues("four arrays", &wrap(4)).len(), 1);
    let why = rejected("five arrays", &wrap(5));
    assert!(why.contains("four deep"), "{why}");
}

#[test]
fn unreadable_record_is_named_and_the_others_are_acted_on() {
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
        text.starts_with("record `id-2`: ") && text.contains("not JSON"),
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

    // Lambda can spare or delete the outermost record only.
    let inner = json!({"Records": [bad("inner"), good("inner-2")]}).to_string();
    let batch = json!({"Records": [sqs_record("outer", &inner)]});
    assert_eq!(
        records(&batch),
        [Some("outer".into())],
        "the outermost record is named"
    );
}

#[test]
fn records_own_id_is_quoted_like_any_foreign_text() {
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

/// A record that says nothing is not one that was read: to succeed would delete it unseen.
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
fn dead_letter_in_a_batch_has_the_whole_event_refused() {
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
fn queue_that_a_batch_was_delivered_from_is_told() {
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

// Requests.

#[test]
fn request_says_what_to_do() {
    let plain = Request {
        action: Action::Redrive,
        queues: Selection::All,
        dry_run: false,
        force: false,
        max_messages_per_second: None,
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
fn request_in_a_coat_is_refused() {
    let request = json!({"action": "redrive", "queues": "all"});
    for (coat, event) in [
        ("array", json!([request])),
        ("batch", json!({"Records": [request]})),
        ("sqs", sqs(&request)),
        ("sns", sns(&request)),
        ("sns to sqs", sqs(&sns_message(&request))),
        ("pipe", pipe(&request)),
    ] {
        let why = rejected(coat, &event);
        assert!(
            why.contains("a request counts only as the bare payload"),
            "{coat}: {why}"
        );
    }
    // Nor beside an alarm that can be read.
    let batch = json!([
        sqs_record("1", &eventbridge().to_string()),
        sqs_record("2", &request.to_string())
    ]);
    let event = read(&batch).unwrap();
    assert_eq!((event.triggers.len(), event.unreadable.len()), (1, 1));
    assert!(matches!(event.triggers[0].calls_for, CallsFor::Queues(_)));

    // Nor as the detail of an event that anyone may put on a bus.
    let event = json!({"detail-type": "Redrive", "source": "me", "detail": request});
    rejected("eventbridge", &event);
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

/// As deep as JSON may be, in every coat that is taken off.
#[test]
fn deep_batches_in_deep_batches_do_not_overflow_the_stack() {
    let mut event = "{}".to_owned();
    for _ in 0..6 {
        let deep = format!("{}{event}{}", "[".repeat(120), "]".repeat(120));
        event = sqs_record("id-1", &deep).to_string();
    }
    assert!(parse(&event).is_err());
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
    let source = only_trigger("an ARN", &event).source.unwrap();
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

/// Texts that come from the JSON library or from the ARN's own errors, with a long and hostile value.
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

/// Texts that mean something somewhere, and some that never do.
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

/// A real event of some shape and coat, with up to three of its fields replaced.
fn damaged_event() -> impl Strategy<Value = Value> {
    let damage = (any::<proptest::sample::Index>(), any_json());
    let coat = proptest::sample::select(vec![sqs as fn(&Value) -> Value, sns, pipe, Value::clone]);
    let all = notifications();
    (
        proptest::sample::select(all),
        proptest::collection::vec(damage, 0..3),
        coat,
    )
        .prop_map(|((_, mut event), damages, coat)| {
            for (index, value) in damages {
                let paths = fields(&event);
                if !paths.is_empty() {
                    event = with(event, &paths[index.index(paths.len())], value);
                }
            }
            coat(&event)
        })
}

/// What holds of every event that was read, and of every error.
fn check_anything(result: Result<Event, EventError>) -> Result<(), TestCaseError> {
    match result {
        Ok(event) => {
            prop_assert!(!event.triggers.is_empty(), "read, and nothing in it");
            for trigger in event.triggers {
                let named = match trigger.calls_for {
                    CallsFor::Queues(queues) => {
                        prop_assert!(!queues.is_empty(), "an alarm that names no queue");
                        queues
                    }
                    CallsFor::Request(Request {
                        queues: Selection::Named(queues),
                        ..
                    }) => queues,
                    _ => Vec::new(),
                };
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

#[test]
fn field_that_stands_twice_in_a_request_is_refused() {
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
fn request_may_name_a_thousand_queues_and_no_more() {
    let naming = |n: usize| json!({"action": "redrive", "queues": vec!["orders-dlq"; n]});
    assert!(read(&naming(1000)).is_ok());
    let why = rejected("1,001 queues", &naming(1001));
    assert!(
        why.contains("names 1001 queues; 1000 are accepted"),
        "{why}"
    );
}
