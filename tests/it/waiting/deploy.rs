//! A rehearsal of the deployment: `template.yaml` becomes a stack, and its resources invoke the
//! function.
//!
//! CloudFormation, Scheduler, EventBridge, SNS, CloudWatch and Lambda are MiniStack's, which runs
//! the binary itself; SQS is LocalStack's. The schedule and the topic invoke the function by
//! themselves. MiniStack's alarms do not invoke functions and send no events to EventBridge;
//! [`alarm_acts`] and [`eventbridge`] do that for them, as far as the stack asks for it and allows
//! it.

use crate::support::cloudwatch::Alarm;
use crate::support::function::sample;
use crate::support::http::agent;
use crate::support::local::{ACCOUNT, REGION, project_file, sdk, servers};
use crate::support::queues::{Queue, Queues, queue_arn};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{Dimension, StateValue};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The schedule runs after a minute, and MiniStack checks its schedules every ten seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// A schedule that does not run during a test.
const NOT_TODAY: (&str, &str) = ("Schedule", "cron(0 0 1 1 ? 2199)");

const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

// The stack

/// Deploys the stack with these parameters, and returns its outputs.
#[track_caller]
fn deploy(stack: &str, parameters: &[(&str, &str)]) -> Value {
    let binary = env!("CARGO_BIN_EXE_sqs-auto-redrive");
    let result = cloudformation(stack, binary, parameters);
    assert_eq!(result["status"], "CREATE_COMPLETE", "{result:#}");
    assert_eq!(result["reasons"], json!({}));
    result["outputs"].clone()
}

/// The output of `local/deploy.py` about the stack.
fn cloudformation(stack: &str, bootstrap: &str, parameters: &[(&str, &str)]) -> Value {
    let settings = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let output = Command::new(project_file(".venv/local/bin/python"))
        .arg(project_file("local/deploy.py"))
        .args([&servers().cloudwatch_url, stack, bootstrap])
        .args(settings)
        // The developer's own AWS settings must not leak in.
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
            "timed out; still in the DLQ: {dlq:?}"
        );
        sleep(Duration::from_millis(200)).await;
    }
    queues.source.assert_holds(count).await;
    queues.dlq.wait_until_holds(0).await;
    assert_eq!(queues.dlq.tasks().await.len(), 1);
}

// What MiniStack leaves out

/// Calls one of MiniStack's services. It checks no signature, but needs a service and an account.
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
    let mut answer = agent().run(request).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    assert!(answer.status().is_success(), "{service}: {text}");
    text
}

/// A client of the local CloudWatch.
fn cloudwatch() -> Client {
    Client::new(&sdk(&servers().cloudwatch_url))
}

/// The alarm goes off.
async fn goes_off(alarm: &str) {
    let request = cloudwatch().set_alarm_state().alarm_name(alarm);
    let request = request.state_value(StateValue::Alarm);
    request.state_reason("a rehearsal").send().await.unwrap();
}

/// Invokes the function as CloudWatch does when the alarm goes off and its action is the function,
/// which MiniStack does not do. Asserts that the alarm is in ALARM and has this action.
async fn alarm_acts(alarm: &str, dlq: &Queue) {
    let request = cloudwatch().describe_alarms().alarm_names(alarm);
    let alarms = request.send().await.unwrap().metric_alarms.unwrap();
    let [described] = &alarms[..] else {
        panic!("one alarm is called {alarm}: {alarms:?}")
    };
    assert_eq!(described.state_value(), Some(&StateValue::Alarm));
    assert_eq!(described.actions_enabled(), Some(true));
    let [function] = described.alarm_actions() else {
        panic!("one action: {described:?}")
    };
    let replaced = [("orders-dlq-depth", alarm), ("orders-dlq", &dlq.name)];
    let event = sample("alarm-lambda-action.json", &replaced);
    let alarm_arn = described.alarm_arn().unwrap();
    invoke_as(
        "lambda.alarms.cloudwatch.amazonaws.com",
        alarm_arn,
        function,
        &event,
    )
    .await;
}

/// Sends an event of AWS's own to the targets of every rule with a matching pattern, as EventBridge
/// does. MiniStack has no events about alarms, and `PutEvents` refuses them. Returns how many rules
/// match.
async fn eventbridge(function: &str, event: &Value) -> usize {
    let rules = ask_events("ListRuleNamesByTarget", json!({"TargetArn": function})).await;
    let mut fit = 0;
    for name in rules["RuleNames"].as_array().unwrap() {
        let rule = ask_events("DescribeRule", json!({"Name": name})).await;
        assert_eq!(rule["State"], "ENABLED");
        let both = json!({"Event": event.to_string(), "EventPattern": rule["EventPattern"]});
        if ask_events("TestEventPattern", both).await["Result"] == true {
            fit += 1;
            let arn = rule["Arn"].as_str().unwrap();
            invoke_as("events.amazonaws.com", arn, function, &event.to_string()).await;
        }
    }
    fit
}

async fn ask_events(operation: &str, request: Value) -> Value {
    let headers = [
        ("x-amz-target", &*format!("AWSEvents.{operation}")),
        ("content-type", "application/x-amz-json-1.1"),
    ];
    let answer = ask("events", "POST", "/", &headers, &request.to_string()).await;
    serde_json::from_str(&answer).unwrap()
}

/// Invokes the function asynchronously for a service of AWS, if its policy allows that service to.
async fn invoke_as(service: &str, source_arn: &str, function_arn: &str, event: &str) {
    let name = function_arn.rsplit(':').next().unwrap();
    let path = format!("/2015-03-31/functions/{name}");
    let policy = ask("lambda", "GET", &format!("{path}/policy"), &[], "").await;
    let policy: Value = serde_json::from_str(&policy).unwrap();
    let policy: Value = serde_json::from_str(policy["Policy"].as_str().unwrap()).unwrap();
    let mut statements = policy["Statement"].as_array().unwrap().iter();
    let allowed = statements.any(|statement| {
        statement["Effect"] == "Allow"
            && statement["Action"] == "lambda:InvokeFunction"
            && statement["Resource"] == function_arn
            && statement["Principal"]["Service"] == service
            && statement["Condition"]["ArnLike"]["AWS:SourceArn"] == source_arn
    });
    assert!(
        allowed,
        "{service} may invoke it for {source_arn}: {policy:#}"
    );
    let asynchronously = [("x-amz-invocation-type", "Event")];
    ask(
        "lambda",
        "POST",
        &format!("{path}/invocations"),
        &asynchronously,
        event,
    )
    .await;
}

/// Calls SNS, which takes a form and returns XML. Returns the text of one element.
async fn ask_sns(action: &str, fields: &[(&str, &str)], element: &str) -> String {
    let mut body = format!("Action={action}&Version=2010-03-31");
    for (name, value) in fields {
        let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        body.push_str(&format!("&{name}={value}"));
    }
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let answer = ask("sns", "POST", "/", &headers, &body).await;
    let (_, rest) = answer.split_once(&format!("<{element}>")).unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

// A shared topic

/// The value of this attribute in the commands that docs/deploy.md shows.
fn documented(attribute: &str) -> &'static str {
    let docs = include_str!("../../../docs/deploy.md");
    let (_, shown) = docs.split_once("<!-- filter policy -->").unwrap();
    let (_, rest) = shown
        .split_once(&format!("--attribute-name {attribute} "))
        .unwrap();
    let (_, value) = rest.split_once("--attribute-value ").unwrap();
    let value = value.lines().next().unwrap();
    value.trim_matches('\'')
}

/// The message in a sample of SNS.
fn message_of(sample_name: &str) -> String {
    let event: Value = serde_json::from_str(&sample(sample_name, &[])).unwrap();
    let message = &event["Records"][0]["Sns"]["Message"];
    message.as_str().unwrap().to_owned()
}

/// SNS is MiniStack's, with its own matcher of filter policies.
#[tokio::test]
async fn documented_filter_policy_lets_alarms_pass_and_nothing_else() {
    let alarms = [
        "alarm-sns.json",
        "alarm-sns-fifo.json",
        "alarm-sns-metric-math.json",
        "composite-sns.json",
        "contributor-sns.json",
    ];
    let others = [
        "rejected-sns-budgets.json",
        "rejected-sns-free-text.json",
        "ignored-sns-finding.json",
        "ignored-ok-sns.json",
        "rejected-request-in-sns.json",
    ];
    let queues = aws_sdk_sqs::Client::new(&sdk(&servers().cloudwatch_url));
    let queue = queues.create_queue().queue_name("shared-topic");
    let url = queue.send().await.unwrap().queue_url.unwrap();
    let topic = ask_sns("CreateTopic", &[("Name", "shared")], "TopicArn").await;
    let endpoint = crate::support::queues::queue_arn("shared-topic");
    let subscription = [
        ("TopicArn", topic.as_str()),
        ("Protocol", "sqs"),
        ("Endpoint", &endpoint),
        ("ReturnSubscriptionArn", "true"),
    ];
    let subscription = ask_sns("Subscribe", &subscription, "SubscriptionArn").await;
    for attribute in ["FilterPolicyScope", "FilterPolicy"] {
        let fields = [
            ("SubscriptionArn", subscription.as_str()),
            ("AttributeName", attribute),
            ("AttributeValue", documented(attribute)),
        ];
        ask_sns("SetSubscriptionAttributes", &fields, "RequestId").await;
    }

    for name in others.iter().chain(&alarms) {
        let message = message_of(name);
        let fields = [("TopicArn", topic.as_str()), ("Message", &message)];
        ask_sns("Publish", &fields, "MessageId").await;
    }

    let mut passed = Vec::new();
    while passed.len() < alarms.len() {
        let received = queues.receive_message().queue_url(&url);
        let received = received.max_number_of_messages(10).wait_time_seconds(5);
        let messages = received.send().await.unwrap().messages.unwrap_or_default();
        assert!(!messages.is_empty(), "{passed:#?}");
        for message in messages {
            let body: Value = serde_json::from_str(&message.body.unwrap()).unwrap();
            passed.push(body["Message"].as_str().unwrap().to_owned());
        }
    }
    passed.sort();
    let mut expected = alarms.map(message_of);
    expected.sort();
    assert_eq!(passed, expected);
}

// What invokes the function

#[tokio::test]
async fn the_schedule_redrives_by_itself() {
    let queues = Queues::create("rehearsed-schedule").await;
    queues.dead_letter(3).await;

    let outputs = deploy(
        "rehearsed-schedule",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("SourceQueueArns", &queues.source.arn),
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
                "SourceQueueArns",
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
    let alarm = alarm.expect("the stack has an alarm on the queue");
    assert_eq!(alarm.namespace(), Some("AWS/SQS"));
    let depth = "ApproximateNumberOfMessagesVisible";
    assert_eq!(alarm.metric_name(), Some(depth));
    assert_eq!(alarm.dimensions().len(), 1);
    assert_eq!(alarm.dimensions()[0].name(), Some("QueueName"));
    assert_eq!(alarm.threshold(), Some(1.0));
    let alarm = alarm.alarm_name().unwrap();

    goes_off(alarm).await;
    alarm_acts(alarm, &queues.dlq).await;

    are_back(&queues, 3).await;
    other.dlq.assert_no_task().await;
}

/// Without the fleet alarm: MiniStack creates no alarms on queries.
#[test]
fn a_stack_with_nearly_everything_is_created() {
    let parking = queue_arn("parking");
    deploy(
        "rehearsed-everything",
        &[
            ("DeadLetterQueueArns", &queue_arn("orders-dlq")),
            ("SourceQueueArns", &queue_arn("orders")),
            ("ParkingArn", &parking),
            ("EnrollTagValue", "enabled"),
            ("KmsKeyArns", KEY),
            ("BrakeAlarms", "orders consumer is down"),
            ("AlarmNamePrefix", "orders"),
            ("AlertEmail", "oncall@example.com"),
            ("AlertTopicArn", "arn:aws:sns:us-east-1:123456789012:oncall"),
            ("StoppedAfterHours", "168"),
            ("ReportBusName", "default"),
            ("CreateDashboard", "false"),
            ("MemorySize", "512"),
            ("ReservedConcurrency", "3"),
            (
                "PermissionsBoundaryArn",
                "arn:aws:iam::123456789012:policy/boundary",
            ),
            ("SubnetIds", "subnet-0a1b2c3d,subnet-0a1b2c3e"),
            ("SecurityGroupIds", "sg-0a1b2c3d"),
            NOT_TODAY,
        ],
    );
}

#[tokio::test]
async fn an_alarm_that_notifies_the_topic_redrives() {
    let queues = Queues::create("rehearsed-topic").await;
    queues.dead_letter(3).await;
    let topic = ask_sns("CreateTopic", &[("Name", "rehearsed-topic")], "TopicArn").await;
    deploy(
        "rehearsed-topic",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("SourceQueueArns", &queues.source.arn),
            ("AlarmTopicArn", &topic),
            NOT_TODAY,
        ],
    );

    // MiniStack's own alarms send another message than CloudWatch: the dimensions have `Name` and
    // `Value` in place of `name` and `value` (`events/alarm-sns.json`).
    let event = sample("alarm-sns.json", &[("orders-dlq", &queues.dlq.name)]);
    let event: Value = serde_json::from_str(&event).unwrap();
    let message = event["Records"][0]["Sns"]["Message"].as_str().unwrap();
    ask_sns(
        "Publish",
        &[("TopicArn", &topic), ("Message", message)],
        "MessageId",
    )
    .await;

    are_back(&queues, 3).await;
}

#[tokio::test]
async fn an_alarm_that_eventbridge_reports_redrives() {
    let queues = Queues::create("rehearsed-rule").await;
    queues.dead_letter(3).await;
    let brakes = ["rehearsed-errors-1", "rehearsed-errors-2"];
    for brake in brakes {
        Alarm::create(brake).await.becomes(StateValue::Ok).await;
    }
    let outputs = deploy(
        "rehearsed-rule",
        &[
            ("DeadLetterQueueArns", &queues.dlq.arn),
            ("SourceQueueArns", &queues.source.arn),
            ("AlarmNamePrefix", "rehearsed-rule-"),
            ("BrakeAlarms", &brakes.join(",")),
            NOT_TODAY,
        ],
    );
    let function = outputs["FunctionArn"].as_str().unwrap();
    let event = |file: &str, changes: &[(&str, &str)]| {
        let mut event: Value = serde_json::from_str(&sample(file, &[])).unwrap();
        for (pointer, value) in changes {
            *event.pointer_mut(pointer).unwrap() = json!(value);
        }
        event
    };
    let (name, state) = ("/detail/alarmName", "/detail/state/value");
    let queue = "/detail/configuration/metrics/0/metricStat/metric/dimensions/QueueName";
    let alarm = "alarm-eventbridge.json";

    let others = [
        event(alarm, &[(queue, &queues.dlq.name)]),
        event(
            alarm,
            &[
                (queue, &queues.dlq.name),
                (name, "rehearsed-rule-1"),
                (state, "OK"),
            ],
        ),
        event("schedule-eventbridge-rule.json", &[]),
    ];
    for event in &others {
        assert_eq!(eventbridge(function, event).await, 0, "{event:#}");
    }
    let ours = event(
        alarm,
        &[(queue, &queues.dlq.name), (name, "rehearsed-rule-1")],
    );
    assert_eq!(eventbridge(function, &ours).await, 1);

    are_back(&queues, 3).await;
    let further = [
        event(
            "contributor-eventbridge.json",
            &[(name, "rehearsed-rule-2")],
        ),
        event("brake-alarm.json", &[(name, brakes[0])]),
        event("brake-ok.json", &[(name, brakes[1])]),
    ];
    for event in &further {
        assert_eq!(eventbridge(function, event).await, 1, "{event:#}");
    }
}

// Parameters

/// Why CloudFormation refuses a stack with these parameters; `None` if it accepts it.
fn refusal(number: usize, parameters: &[(&str, &str)]) -> Option<String> {
    let result = cloudformation(&format!("rehearsed-rules-{number}"), "-", parameters);
    if result == json!({"accepted": true}) {
        return None;
    }
    let why = result["refused"].as_str();
    Some(why.unwrap_or_else(|| panic!("{result:#}")).to_owned())
}

#[test]
fn contradictory_parameters_are_refused_before_anything_is_created() {
    let (dlq, source, other) = (queue_arn("q-dlq"), queue_arn("q"), queue_arn("other"));
    let (dlq, source, other) = (dlq.as_str(), source.as_str(), other.as_str());
    let (dlqs, from, old) = (
        "DeadLetterQueueArns",
        "SourceQueueArns",
        "DestinationQueueArns",
    );
    let (tag, parking, destination) = ("EnrollTagValue", "ParkingArn", "DestinationArn");

    let subnets = ("SubnetIds", "subnet-0a1b2c3d,subnet-0a1b2c3e");
    let groups = ("SecurityGroupIds", "sg-0a1b2c3d");
    let (gap, trailing) = (format!("{source},,{other}"), format!("{KEY},"));
    let cases: [(&[(&str, &str)], &str); 16] = [
        (&[], "SomethingIsEnrolled"),
        (&[(from, source)], "SomethingIsEnrolled"),
        (&[(dlqs, dlq)], "ListedQueuesHaveSources"),
        (&[(dlqs, dlq), (tag, "on")], "ListedQueuesHaveSources"),
        (&[(dlqs, dlq), (parking, other)], "ListedQueuesHaveSources"),
        (&[(dlqs, dlq), (from, dlq)], "ListedQueuesHaveSources"),
        (&[(dlqs, dlq), (old, dlq)], "ListedQueuesHaveSources"),
        (&[(dlqs, dlq), (from, &gap)], "ListsHaveNoGaps"),
        (&[(tag, "on"), ("KmsKeyArns", &trailing)], "ListsHaveNoGaps"),
        (
            &[(dlqs, dlq), (from, source), (parking, dlq)],
            "ParkingIsAnotherQueue",
        ),
        (
            &[(dlqs, dlq), (parking, other), (destination, other)],
            "ParkingIsAnotherQueue",
        ),
        (
            &[(dlqs, dlq), (destination, dlq)],
            "DestinationIsAnotherQueue",
        ),
        (
            &[(dlqs, dlq), (from, source), ("FleetAlarm", "true")],
            "FleetAlarmHasAFleet",
        ),
        (&[(tag, "on"), subnets], "VpcIsWhole"),
        (&[(tag, "on"), groups], "VpcIsWhole"),
        (
            &[(tag, "on"), ("SubnetIds", "subnet-0a1b2c3d,"), groups],
            "ListsHaveNoGaps",
        ),
    ];
    for (number, (parameters, rule)) in cases.iter().enumerate() {
        let why = refusal(number, parameters).unwrap_or_else(|| panic!("accepted: {parameters:?}"));
        assert!(
            why.contains(&format!("rule {rule} ")),
            "{parameters:?}: {why}"
        );
    }

    let fine: [&[(&str, &str)]; 9] = [
        &[(tag, "on"), subnets, groups],
        &[(dlqs, dlq), (from, source)],
        &[(dlqs, dlq), (old, source)],
        &[(dlqs, dlq), (from, source), (old, other)],
        &[(tag, "on"), ("FleetAlarm", "true")],
        &[(tag, "on"), (parking, other)],
        &[(dlqs, dlq), (from, source), (tag, "on")],
        &[(dlqs, dlq), (from, source), (parking, other)],
        &[(dlqs, dlq), (destination, source), (parking, other)],
    ];
    for (number, parameters) in fine.iter().enumerate() {
        assert_eq!(
            refusal(cases.len() + number, parameters),
            None,
            "{parameters:?}"
        );
    }
}
