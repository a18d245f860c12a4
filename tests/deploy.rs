//! A rehearsal of the deployment: `template.yaml` becomes a stack, and what is in it wakes the function.
//!
//! CloudFormation, Scheduler, EventBridge, SNS, CloudWatch and Lambda are MiniStack's, which runs the
//! binary itself; SQS is LocalStack's. Nothing here invokes the function but what the stack has made,
//! with one exception: [`alarm_action`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, StateValue, Statistic};
use aws_sdk_cloudwatch::{Client, config};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::function::sample;
use support::local::{ACCOUNT, REGION, project_file, servers};
use support::queues::{Queue, Queues, queue_arn};
use tokio::time::{Instant, sleep};

/// A schedule comes round after a minute, and MiniStack looks at its schedules every ten seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// A schedule that does not come round while a test runs.
const NOT_TODAY: (&str, &str) = ("Schedule", "rate(365 days)");

/// Deploys the stack with these parameters, and returns its outputs.
#[track_caller]
fn deploy(stack: &str, parameters: &[(&str, &str)]) -> Value {
    let binary = env!("CARGO_BIN_EXE_sqs-auto-redrive");
    let result = cloudformation(stack, binary, parameters);
    assert_eq!(result["status"], "CREATE_COMPLETE", "{result:#}");
    assert_eq!(result["reasons"], json!({}));
    result["outputs"].clone()
}

/// What `local/deploy.py` says of the stack.
fn cloudformation(stack: &str, bootstrap: &str, parameters: &[(&str, &str)]) -> Value {
    let settings = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let output = Command::new(project_file(".venv/local/bin/python"))
        .arg(project_file("local/deploy.py"))
        .args([&servers().cloudwatch_url, stack, bootstrap])
        .args(settings)
        // Nothing of the person's own AWS settings may get in.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("local/deploy.py said: {text}"))
}

/// Waits until all messages have left the DLQ and are back in their source queue, by one task.
async fn are_back(queues: &Queues, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while queues.source.depth().await.visible < count {
        let dlq = queues.dlq.depth().await;
        assert!(
            Instant::now() < deadline,
            "waited in vain; still in the DLQ: {dlq:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
    queues.source.assert_holds(count).await;
    queues.dlq.wait_until_holds(0).await;
    assert_eq!(queues.dlq.tasks().await.len(), 1);
}

/// Asks one of MiniStack's services. It wants no signature, but a service and an account.
async fn ask(
    service: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let url = format!("{}{path}", servers().cloudwatch_url);
    let credential = format!("Credential={ACCOUNT}/20260101/{REGION}/{service}/aws4_request");
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=none"),
        );
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_owned()).unwrap();
    let agent = ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let mut answer = agent.run(request).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    assert!(answer.status().is_success(), "{service}: {text}");
    text
}

/// A client of the local CloudWatch.
fn cloudwatch() -> Client {
    let config = config::Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(ACCOUNT, "none", None, None, "tests"))
        .endpoint_url(&servers().cloudwatch_url);
    Client::from_conf(config.build())
}

/// The alarm goes off.
async fn goes_off(alarm: &str) {
    let request = cloudwatch().set_alarm_state().alarm_name(alarm);
    let request = request.state_value(StateValue::Alarm);
    request.state_reason("a rehearsal").send().await.unwrap();
}

/// What CloudWatch does when the alarm goes off and one of its actions is a function. MiniStack knows
/// no such actions, so this is done here: but only if the alarm is in ALARM, has this action, and may
/// invoke the function.
async fn alarm_action(alarm_name: &str, dlq: &Queue) {
    let request = cloudwatch().describe_alarms().alarm_names(alarm_name);
    let alarms = request.send().await.unwrap().metric_alarms.unwrap();
    let [alarm] = &alarms[..] else {
        panic!("one alarm is called {alarm_name}: {alarms:?}")
    };
    assert_eq!(alarm.state_value(), Some(&StateValue::Alarm));
    assert_eq!(alarm.actions_enabled(), Some(true));
    let dimensions = alarm.dimensions();
    assert_eq!(dimensions[0].value(), Some(dlq.name.as_str()));
    let [action] = alarm.alarm_actions() else {
        panic!("one action: {:?}", alarm.alarm_actions())
    };
    let function = action.rsplit(':').next().unwrap();

    let path = format!("/2015-03-31/functions/{function}");
    let policy: Value =
        serde_json::from_str(&ask("lambda", "GET", &format!("{path}/policy"), &[], "").await)
            .unwrap();
    let policy: Value = serde_json::from_str(policy["Policy"].as_str().unwrap()).unwrap();
    let allowed = policy["Statement"].as_array().unwrap().iter().any(|it| {
        it["Effect"] == "Allow"
            && it["Action"] == "lambda:InvokeFunction"
            && it["Resource"] == **action
            && it["Principal"]["Service"] == "lambda.alarms.cloudwatch.amazonaws.com"
            && it["Condition"]["ArnLike"]["AWS:SourceArn"] == alarm.alarm_arn().unwrap()
            && it["Condition"]["StringEquals"]["AWS:SourceAccount"] == ACCOUNT
    });
    assert!(allowed, "the alarm may invoke the function: {policy:#}");

    let event = sample(
        "alarm-lambda-action.json",
        &[("orders-dlq-depth", alarm_name), ("orders-dlq", &dlq.name)],
    );
    let asynchronously = [("x-amz-invocation-type", "Event")];
    ask(
        "lambda",
        "POST",
        &format!("{path}/invocations"),
        &asynchronously,
        &event,
    )
    .await;
}

/// Creates a topic, and returns its ARN.
async fn create_topic(name: &str) -> String {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("Action=CreateTopic&Version=2010-03-31&Name={name}");
    let answer = ask("sns", "POST", "/", &form, &body).await;
    let (_, rest) = answer.split_once("<TopicArn>").unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn the_schedule_redrives_by_itself() {
    let queues = Queues::create("rehearsed-schedule").await;
    queues.dead_letter(3).await;

    let outputs = deploy(
        "rehearsed-schedule",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("DestinationQueueArns", &queues.source.arn),
            ("Schedule", "rate(1 minute)"),
        ],
    );

    assert_eq!(outputs["FunctionName"], "rehearsed-schedule");
    assert_eq!(outputs["LogGroupName"], "/aws/lambda/rehearsed-schedule");
    queues.dlq.assert_no_task().await;
    are_back(&queues, 3).await;
}

#[tokio::test]
async fn the_alarm_of_the_stack_redrives_its_queue_alone() {
    let (queues, other) = (
        Queues::create("rehearsed-alarm").await,
        Queues::create("rehearsed-no-alarm").await,
    );
    queues.dead_letter(3).await;
    other.dead_letter(1).await;
    deploy(
        "rehearsed-alarm",
        &[
            (
                "DeadLetterQueueArns",
                &format!("{},{}", queues.dlq.arn, other.dlq.arn),
            ),
            (
                "DestinationQueueArns",
                &format!("{},{}", queues.source.arn, other.source.arn),
            ),
            ("AlarmQueueName", &queues.dlq.name),
            NOT_TODAY,
        ],
    );
    let alarm = cloudwatch().describe_alarms().send().await.unwrap();
    let alarm = alarm.metric_alarms().iter().find(|alarm| {
        let of_queue = |it: &Dimension| it.value() == Some(&queues.dlq.name);
        alarm.dimensions().iter().any(of_queue)
    });
    let alarm = alarm
        .expect("the stack has an alarm on the queue")
        .alarm_name()
        .unwrap();

    goes_off(alarm).await;
    alarm_action(alarm, &queues.dlq).await;

    are_back(&queues, 3).await;
    other.dlq.assert_no_task().await;
}

#[tokio::test]
async fn an_alarm_that_notifies_the_topic_redrives() {
    let queues = Queues::create("rehearsed-topic").await;
    queues.dead_letter(3).await;
    let topic = create_topic("rehearsed-topic").await;
    let dimension = Dimension::builder()
        .name("QueueName")
        .value(&queues.dlq.name)
        .build();
    let alarm = cloudwatch()
        .put_metric_alarm()
        .alarm_name("rehearsed-topic");
    let alarm = alarm
        .namespace("AWS/SQS")
        .metric_name("ApproximateNumberOfMessagesVisible")
        .dimensions(dimension)
        .statistic(Statistic::Maximum)
        .period(60)
        .evaluation_periods(1)
        .threshold(1.0)
        .comparison_operator(ComparisonOperator::GreaterThanOrEqualToThreshold);
    alarm.alarm_actions(&topic).send().await.unwrap();
    deploy(
        "rehearsed-topic",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("DestinationQueueArns", &queues.source.arn),
            ("AlarmTopicArn", &topic),
            NOT_TODAY,
        ],
    );
    queues.dlq.assert_no_task().await;

    goes_off("rehearsed-topic").await;

    are_back(&queues, 3).await;
}

#[tokio::test]
async fn an_alarm_that_eventbridge_tells_of_redrives() {
    let queues = Queues::create("rehearsed-rule").await;
    queues.dead_letter(3).await;
    deploy(
        "rehearsed-rule",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("DestinationQueueArns", &queues.source.arn),
            ("AlarmNamePrefix", "rehearsed-rule-dlq-"),
            NOT_TODAY,
        ],
    );

    // MiniStack's alarms do not tell EventBridge, so it is told here.
    let event = sample(
        "alarm-eventbridge.json",
        &[("orders-dlq", &queues.dlq.name)],
    );
    let mut event: Value = serde_json::from_str(&event).unwrap();
    let put = |event: &Value| {
        let entry = json!({
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Resources": event["resources"],
            "Detail": event["detail"].to_string(),
        });
        json!({"Entries": [entry]}).to_string()
    };
    let headers = [
        ("x-amz-target", "AWSEvents.PutEvents"),
        ("content-type", "application/x-amz-json-1.1"),
    ];
    let fits = put(&event);
    // Another alarm on the same queue, which is not one of those that the rule is for.
    event["detail"]["alarmName"] = json!("another-alarm");
    let does_not = put(&event);

    ask("events", "POST", "/", &headers, &does_not).await;
    sleep(Duration::from_secs(5)).await;
    queues.dlq.assert_no_task().await;
    ask("events", "POST", "/", &headers, &fits).await;

    are_back(&queues, 3).await;
}

/// What CloudFormation says to a stack with these parameters: nothing, or why it refuses it.
fn refusal(number: usize, parameters: &[(&str, &str)]) -> Option<String> {
    let result = cloudformation(&format!("rehearsed-rules-{number}"), "-", parameters);
    if result == json!({"accepted": true}) {
        return None;
    }
    let why = result["refused"].as_str();
    Some(why.unwrap_or_else(|| panic!("{result:#}")).to_owned())
}

#[test]
fn contradictory_parameters_are_refused_before_anything_is_made() {
    let (dlq, source, other) = (queue_arn("q-dlq"), queue_arn("q"), queue_arn("other"));
    let (dlq, source, other) = (dlq.as_str(), source.as_str(), other.as_str());
    let both = format!("{source},{other}");
    let with_dlq = format!("{source},{dlq}");
    let (dlqs, to) = ("DeadLetterQueueArns", "DestinationQueueArns");
    let (tag, parking, destination) = ("EnrollTagValue", "ParkingArn", "DestinationArn");

    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[], "SomethingIsEnrolled"),
        (&[(to, source)], "SomethingIsEnrolled"),
        (&[(dlqs, dlq)], "ListedQueuesHaveDestinations"),
        (&[(dlqs, dlq), (tag, "on")], "ListedQueuesHaveDestinations"),
        (
            &[(dlqs, dlq), (to, source), (parking, other)],
            "ParkingIsListed",
        ),
        (&[(tag, "on"), (parking, other)], "ParkingIsListed"),
        (
            &[(dlqs, dlq), (to, &with_dlq), (parking, dlq)],
            "ParkingIsListed",
        ),
        (
            &[
                (dlqs, dlq),
                (to, &both),
                (parking, other),
                (destination, other),
            ],
            "ParkingIsListed",
        ),
        (
            &[(dlqs, dlq), (to, source), (destination, other)],
            "DestinationIsListed",
        ),
        (&[(tag, "on"), (destination, other)], "DestinationIsListed"),
        (
            &[(dlqs, dlq), (to, &with_dlq), (destination, dlq)],
            "DestinationIsListed",
        ),
        (
            &[(dlqs, dlq), (to, source), ("FleetAlarm", "true")],
            "FleetAlarmHasAFleet",
        ),
    ];
    for (number, (parameters, rule)) in cases.iter().enumerate() {
        let why = refusal(number, parameters).unwrap_or_else(|| panic!("accepted: {parameters:?}"));
        assert!(
            why.contains(&format!("rule {rule} ")),
            "{parameters:?}: {why}"
        );
    }

    let fine: [&[(&str, &str)]; 5] = [
        &[(dlqs, dlq), (to, source)],
        &[(tag, "on"), ("FleetAlarm", "true")],
        &[(dlqs, dlq), (to, source), (tag, "on")],
        &[(dlqs, dlq), (to, &both), (parking, other)],
        &[
            (dlqs, dlq),
            (to, &both),
            (destination, source),
            (parking, other),
        ],
    ];
    for (number, parameters) in fine.iter().enumerate() {
        assert_eq!(
            refusal(cases.len() + number, parameters),
            None,
            "{parameters:?}"
        );
    }
}
