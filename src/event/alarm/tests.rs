use crate::event::Selection;
use crate::event::alarm::AlarmState;
use crate::event::tests::*;
use serde_json::{Value, json};

const OTHER_ACCOUNT: &str = "999999999999";

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
        for (envelope, wrapped) in [
            ("sqs", sqs(&event)),
            ("sns", sns(&event)),
            ("sns to sqs", sqs(&sns_message(&event))),
            ("pipe", pipe(&event)),
        ] {
            assert_eq!(queues(shape, &wrapped), expected, "{shape} in {envelope}");
        }
        assert_eq!(
            only_alarm(shape, &event).source.as_deref(),
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
fn account_and_region_stay_open_whatever_the_envelopes_have() {
    let nowhere = [queue("orders-dlq", None, None)];
    let eventbridge = without(without(eventbridge(), "/resources"), "/account");
    for (case, event) in [
        (
            "input path",
            crate::event::tests::eventbridge()["detail"].clone(),
        ),
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
        for (envelope, wrapped) in [
            ("bare", event.clone()),
            ("sqs", sqs(&event)),
            ("sns", sns(&event)),
            ("sns to sqs", sqs(&sns_message(&event))),
            ("pipe", pipe(&event)),
        ] {
            assert_eq!(queues(case, &wrapped), nowhere, "{case}, {envelope}");
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
    let others = queues("not an account ID", &event);
    assert_eq!(others[0].name, "payments-dlq", "the others count");
    let metrics = "/detail/configuration/metrics";
    let alone = json!([event.pointer(&format!("{metrics}/1")).unwrap()]);
    let why = ignored("not an account ID", &with(event, metrics, alone));
    assert!(why.contains("`production`"), "{why}");
}

#[test]
fn impossible_queue_name_does_not_silence_the_others() {
    let path = "/detail/configuration/metrics/1/metricStat/metric/dimensions/QueueName";
    let event = with(metric_math(), path, json!("no queue"));
    let others = queues("one impossible name", &event);
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].name, "payments-dlq");
}

#[test]
fn account_of_a_contributor_says_whose_queue_it_is() {
    let path = "/detail/alarmContributor/attributes";
    let mut attributes = contributor().pointer(path).unwrap().clone();
    attributes["AWS.AccountId"] = json!(OTHER_ACCOUNT);
    let event = with(contributor(), path, attributes);
    let queues = queues("contributor", &event);
    assert_eq!(queues[0].account.as_deref(), Some(OTHER_ACCOUNT));
}

#[test]
fn alarm_that_names_more_queues_than_an_alarm_can_is_ignored() {
    let metric = |n: usize| {
        json!({"id": format!("m{n}"), "returnData": false, "metricStat": {
            "period": 60, "stat": "Maximum",
            "metric": {"namespace": "AWS/SQS", "name": "ApproximateNumberOfMessagesVisible",
                "dimensions": {"QueueName": format!("dlq-{n}")}},
        }})
    };
    let naming = |n: usize| {
        let metrics: Vec<Value> = (0..n).map(metric).collect();
        with(
            metric_math(),
            "/detail/configuration/metrics",
            json!(metrics),
        )
    };
    assert_eq!(queues("100", &naming(100)).len(), 100);
    let why = ignored("101", &naming(101));
    assert_eq!(why, "the alarm names 101 queues, more than 100");
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
        let alarm = only_alarm(shape, &event);
        assert_eq!(alarm.source.as_deref(), Some(&*arn), "{shape}");
        assert_eq!(alarm.name, name, "{shape}");
        assert_eq!(alarm.state, AlarmState::Alarm, "{shape}");
        assert_eq!(alarm.account.as_deref(), Some("111111111111"), "{shape}");
        assert_eq!(alarm.region.as_deref(), Some("eu-west-1"), "{shape}");
        let here = [queue("orders-dlq", Some("111111111111"), Some("eu-west-1"))];
        assert_eq!(queues(shape, &event), here, "{shape}");
    }
}

// What state it is in, and which queues it watches.

#[test]
fn state_of_an_alarm_is_read() {
    for (text, state) in [("ALARM", AlarmState::Alarm), ("OK", AlarmState::Ok)] {
        let event = with(eventbridge(), "/detail/state/value", json!(text));
        assert_eq!(only_alarm(text, &event).state, state);
    }
}

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
fn suppressed_and_muted_alarms_are_ignored() {
    let mute = json!({"mutedByArn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm-mute-rule:m"});
    for (shape, event) in notifications() {
        let prefix = match event {
            _ if event.get("detail").is_some() => "/detail",
            _ if event.get("alarmData").is_some() => "/alarmData",
            _ if event.get("state").is_some() => "",
            // CloudWatch sends nothing to SNS while an alarm is suppressed or muted.
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
            // The alarm may be a brake, and a brake counts anyway.
            let alarm = only_alarm(&case, &event);
            assert_eq!(alarm.state, AlarmState::Alarm, "{case}");
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
    // Without one of these fields, the event is not an alarm's, or its state cannot be read.
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
        let composite = plan_of(plain).selection == Selection::All;
        let is_action = event.get("alarmData").is_some();
        let is_bare = event.get("state").is_some();
        for path in fields(&event) {
            if needed.contains(&&*path) && !(is_action && path == "/source") {
                continue;
            }
            // Without the name, these two events look like anyone's JSON.
            let tells = (is_bare && path == "/alarmName") || path == "/AlarmName";
            let missing = (!tells).then(|| ("missing", without(event.clone(), &path)));
            let null = ("null", with(event.clone(), &path, json!(null)));
            for (how, event) in missing.into_iter().chain([null]) {
                match read(&event) {
                    Ok(read) if read.unreadable.is_empty() && read.triggers.len() == 1 => {
                        let plan = plan_of(read.triggers[0].clone());
                        // The function then knows less: fewer queues or none, but it never sweeps.
                        if plan.selection == Selection::All && !composite {
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

/// Amazon Connect's metrics have a dimension `QueueName` too.
#[test]
fn contributor_with_a_queue_name_is_ignored_unless_the_query_is_over_sqs() {
    let connect = sample(include_str!(
        "../../../events/ignored-contributor-other-service.json"
    ));
    let why = ignored("contributor over AWS/Connect", &connect);
    assert!(
        why.contains("`BasicQueue`") && why.contains("does not select from `AWS/SQS`"),
        "{why}"
    );
    assert_reads_well("contributor over AWS/Connect", &why);

    let query = "/detail/configuration/metrics/0/expression";
    for over_sqs in [
        r#"SELECT MAX(ApproximateNumberOfMessagesVisible) FROM SCHEMA("AWS/SQS", QueueName) GROUP BY QueueName"#,
        r#"SELECT MAX(ApproximateNumberOfMessagesVisible) FROM "AWS/SQS" GROUP BY QueueName"#,
        r#"SELECT MAX(MessagesFromHosts) FROM "AWS/SQS" GROUP BY QueueName"#,
        "select max(ApproximateNumberOfMessagesVisible)\n from  schema ( \"AWS/SQS\" , QueueName )\n group by QueueName",
    ] {
        let event = with(contributor(), query, json!(over_sqs));
        assert_eq!(queues(over_sqs, &event).len(), 1, "{over_sqs}");
    }
    for other in [
        r#"SELECT MAX(LongestQueueWaitTime) FROM SCHEMA("AWS/Connect", InstanceId, MetricGroup, QueueName) GROUP BY QueueName"#,
        r#"SELECT MAX(Depth) FROM "AWS/Connect" WHERE Team = 'AWS/SQS' GROUP BY QueueName"#,
        r#"SELECT MAX(Depth) FROM "AWS/Connect" WHERE Team = 'f() FROM "AWS/SQS"' GROUP BY QueueName"#,
        r#"SELECT MAX(Depth) FROM "aws/sqs" GROUP BY QueueName"#,
        r#"SELECT MAX(Depth) FROM SCHEMA("AWS/SQSX", QueueName) GROUP BY QueueName"#,
        r#"SELECT MAX("AWS/SQS") FROM "Custom" GROUP BY QueueName"#,
        "SELECT",
        "",
    ] {
        let event = with(contributor(), query, json!(other));
        let why = ignored(other, &event);
        assert!(
            why.contains("does not select from `AWS/SQS`"),
            "{other}: {why}"
        );
        let alarm = only_alarm(other, &event);
        assert_eq!(alarm.state, AlarmState::Alarm, "it may be a brake anyway");
    }
    for (case, event) in [
        (
            "sns",
            sample(include_str!("../../../events/contributor-sns.json")),
        ),
        (
            "lambda action",
            sample(include_str!(
                "../../../events/contributor-lambda-action.json"
            )),
        ),
    ] {
        let text = event.to_string();
        assert!(text.contains("AWS/SQS"), "{case}");
        let event: serde_json::Value =
            serde_json::from_str(&text.replace("AWS/SQS", "AWS/Connect")).unwrap();
        let why = ignored(case, &event);
        assert!(
            why.contains("does not select from `AWS/SQS`"),
            "{case}: {why}"
        );
    }
    let both = json!([
        {"id": "q1", "expression": r#"SELECT MAX(A) FROM "AWS/SQS" GROUP BY QueueName"#},
        {"id": "q2", "expression": r#"SELECT MAX(A) FROM "AWS/Connect" GROUP BY QueueName"#},
    ]);
    let metrics = "/detail/configuration/metrics";
    let event = with(contributor(), metrics, both);
    ignored("a query over SQS and one over another service", &event);
    for (namespace, is_over_sqs) in [("AWS/SQS", true), ("AWS/Connect", false)] {
        let metric = json!({"namespace": namespace, "name": "Depth", "dimensions": {}});
        let metric = json!([{"id": "m", "metricStat": {"metric": metric}}]);
        let alarm = only_alarm(namespace, &with(contributor(), metrics, metric));
        assert_eq!(alarm.queues.is_ok(), is_over_sqs, "{namespace}");
    }
    let event = without(contributor(), "/detail/configuration");
    ignored("no query", &event);
}

#[test]
fn contributor_of_a_promql_alarm_names_its_queue_by_an_arn() {
    let promql = || sample(include_str!("../../../events/contributor-promql.json"));
    let attributes = "/detail/alarmContributor/attributes";
    let expected = [queue("orders-dlq", Some(ACCOUNT), Some("us-east-1"))];
    assert_eq!(queues("promql", &promql()), expected);

    let elsewhere = "arn:aws:sqs:eu-west-1:210987654321:late-dlq.fifo";
    let event = with(promql(), attributes, json!({"any label": elsewhere}));
    let expected = [queue(
        "late-dlq.fifo",
        Some("210987654321"),
        Some("eu-west-1"),
    )];
    assert_eq!(queues("another account and region", &event), expected);

    let named = json!({"QueueName": "BasicQueue", "any label": elsewhere});
    let event = with(promql(), attributes, named);
    assert_eq!(
        queues("a name of any service beside an ARN", &event),
        expected
    );

    for (case, value, part) in [
        (
            "no ARN",
            json!({"@resource.cloud.region": "us-east-1"}),
            "`@resource.cloud.resource_id`",
        ),
        ("no attribute", json!({}), "`@resource.cloud.resource_id`"),
        (
            "an ARN of another service",
            json!({"a": "arn:aws:sns:us-east-1:123456789012:orders"}),
            "`@resource.cloud.resource_id`",
        ),
        (
            "a name of any service",
            json!({"QueueName": "orders-dlq"}),
            "in PromQL, group by",
        ),
    ] {
        let why = ignored(case, &with(promql(), attributes, value));
        assert!(why.contains(part), "{case}: {why}");
        assert_reads_well(case, &why);
    }
}

#[test]
fn alarm_on_a_queue_that_cannot_exist_is_ignored() {
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
            assert!(why.contains("is not a queue name"), "{case}: {why}");
            let alarm = only_alarm(&case, &event);
            assert_eq!(
                alarm.state,
                AlarmState::Alarm,
                "{case}: it may be a brake anyway"
            );
            assert_reads_well(&case, &why);
        }
    }
}
