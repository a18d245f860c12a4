//! What the stack has with each parameter of its own operation, set and not set.
//!
//! SAM's translator and `MiniStack`'s CloudFormation expand the template.

use crate::support::python::ask;
use crate::support::queues::queue_arn;
use serde_json::{Value, json};

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:oncall";
const BOUNDARY: &str = "arn:aws:iam::123456789012:policy/boundary";

/// An expanded stack.
struct Stack(Value);

/// The stack for one listed DLQ with these parameters.
fn stack(parameters: &[(&str, &str)]) -> Stack {
    let mut given = json!({
        "DeadLetterQueueArns": queue_arn("orders-dlq"),
        "SourceQueueArns": queue_arn("orders"),
    });
    for (name, value) in parameters {
        given[*name] = json!(value);
    }
    let mut answer = ask("permissions.py", &["expand"], &json!([given]));
    assert_eq!(answer[0]["refused"], Value::Null, "{parameters:?}");
    Stack(answer[0].take())
}

/// Why the template refuses these parameters beside one listed DLQ.
fn refusal(parameters: &Value) -> String {
    let mut given = json!({
        "DeadLetterQueueArns": queue_arn("orders-dlq"),
        "SourceQueueArns": queue_arn("orders"),
    });
    let all = given.as_object_mut().unwrap();
    all.extend(parameters.as_object().unwrap().clone());
    let answer = ask("permissions.py", &["expand"], &json!([given]));
    let refused = answer[0]["refused"].as_str();
    refused
        .unwrap_or_else(|| panic!("accepted: {parameters}"))
        .to_owned()
}

impl Stack {
    /// The properties of the resource of this name; null if the stack does not have it.
    fn properties(&self, name: &str) -> &Value {
        &self.0["resources"][name]["Properties"]
    }

    fn function(&self) -> &Value {
        self.properties("RedriveFunction")
    }

    fn output(&self, name: &str) -> Option<&str> {
        self.0["outputs"][name].as_str()
    }

    /// The names of all resources of this type, and their properties.
    fn of_type(&self, kind: &str) -> Vec<(&str, &Value)> {
        let resources = self.0["resources"].as_object().unwrap().iter();
        resources
            .filter(|(_, resource)| resource["Type"] == kind)
            .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
            .collect()
    }
}

// The function

#[test]
fn memory_is_128_megabytes_unless_it_is_set() {
    assert_eq!(stack(&[]).function()["MemorySize"], "128");
    let more = stack(&[("MemorySize", "512")]);
    assert_eq!(more.function()["MemorySize"], "512");
}

#[test]
fn concurrency_is_reserved_only_if_it_is_set_and_from_three_on() {
    let field = "ReservedConcurrentExecutions";
    assert_eq!(stack(&[]).function().get(field), None);
    let reserved = stack(&[("ReservedConcurrency", "3")]);
    assert_eq!(reserved.function()[field], "3");
    for too_few in ["0", "1", "2", "03"] {
        let refused = refusal(&json!({"ReservedConcurrency": too_few}));
        assert!(refused.contains("ReservedConcurrency"), "{refused}");
    }
}

#[test]
fn function_runs_in_the_subnets_that_are_given() {
    assert_eq!(stack(&[]).function().get("VpcConfig"), None);
    let inside = stack(&[
        ("SubnetIds", "subnet-0a1b2c3d,subnet-0a1b2c3e"),
        ("SecurityGroupIds", "sg-0a1b2c3d"),
    ]);
    let wanted = json!({
        "SubnetIds": ["subnet-0a1b2c3d", "subnet-0a1b2c3e"],
        "SecurityGroupIds": ["sg-0a1b2c3d"],
    });
    assert_eq!(inside.function()["VpcConfig"], wanted);
    let half = [
        (
            json!({"SubnetIds": "subnet-0a1b2c3d"}),
            "SecurityGroupIds beside",
        ),
        (
            json!({"SecurityGroupIds": "sg-0a1b2c3d"}),
            "SubnetIds beside",
        ),
    ];
    for (parameters, why) in half {
        let refused = refusal(&parameters);
        assert!(refused.contains(why), "{refused}");
    }
}

// Roles

#[test]
fn every_role_has_the_permissions_boundary_that_is_given() {
    let roles = |stack: &Stack| -> Vec<Value> {
        let roles = stack.of_type("AWS::IAM::Role");
        let boundaries = roles
            .iter()
            .map(|(_, role)| role["PermissionsBoundary"].clone());
        boundaries.collect()
    };
    assert_eq!(roles(&stack(&[])), [Value::Null, Value::Null]);
    let bounded = stack(&[("PermissionsBoundaryArn", BOUNDARY)]);
    assert_eq!(roles(&bounded), [BOUNDARY, BOUNDARY]);
}

#[test]
fn schedule_has_a_role_that_only_schedules_of_this_account_take_and_that_only_invokes() {
    let stack = stack(&[]);
    let [(_, schedule)] = stack.of_type("AWS::Scheduler::Schedule")[..] else {
        panic!("one schedule")
    };
    let role = &stack.0["resources"]["ScheduleRole"];
    assert_eq!(schedule["Target"]["RoleArn"], role["Arn"]);
    let trust = json!([{
        "Effect": "Allow",
        "Principal": {"Service": "scheduler.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}},
    }]);
    let properties = &role["Properties"];
    assert_eq!(properties["AssumeRolePolicyDocument"]["Statement"], trust);
    let allowed = json!([{
        "Sid": "Invoke",
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": stack.0["resources"]["RedriveFunction"]["Arn"],
    }]);
    let [policy] = &properties["Policies"].as_array().unwrap()[..] else {
        panic!("one policy: {properties:#}")
    };
    assert_eq!(policy["PolicyDocument"]["Statement"], allowed);
    assert_eq!(properties.get("ManagedPolicyArns"), None);
}

// Alerts

#[test]
fn alerts_go_to_the_stacks_encrypted_topic_or_to_the_topic_that_is_given() {
    let email = ("AlertEmail", "oncall@example.com");
    let own = stack(&[email]);
    let given = stack(&[email, ("AlertTopicArn", TOPIC)]);
    assert!(own.properties("AlertTopic")["KmsMasterKeyId"].is_string());
    for absent in ["AlertTopic", "AlertKey"] {
        assert_eq!(given.properties(absent), &Value::Null);
    }
    let own_topic = own.0["resources"]["AlertTopic"]["Ref"].as_str().unwrap();
    for (stack, topic) in [(&own, own_topic), (&given, TOPIC)] {
        assert_eq!(stack.output("AlertTopicArn"), Some(topic));
        assert_eq!(stack.properties("AlertSubscription")["TopicArn"], topic);
        let alarms = stack.of_type("AWS::CloudWatch::Alarm");
        assert!(alarms.len() >= 4, "{alarms:#?}");
        for (name, alarm) in alarms {
            assert_eq!(alarm["AlarmActions"], json!([topic]), "{name}");
        }
    }
}

#[test]
fn failures_go_to_the_report_bus_and_never_to_the_alert_topic() {
    let quiet = stack(&[]);
    let invocations = quiet.properties("AsyncInvocations");
    assert_eq!(invocations["MaximumRetryAttempts"], 2);
    assert_eq!(invocations.get("DestinationConfig"), None);
    let reporting = stack(&[("ReportBusName", "reports")]);
    let bus = json!({"Destination": "arn:aws:events:us-east-1:123456789012:event-bus/reports"});
    assert_eq!(
        reporting.properties("AsyncInvocations")["DestinationConfig"],
        json!({"OnSuccess": bus, "OnFailure": bus})
    );
}

#[test]
fn errors_alarm_stays_while_every_sweep_fails_so_it_notifies_once() {
    let stack = stack(&[]);
    let alarm = stack.properties("ErrorsAlarm");
    // Sweeps are up to six minutes apart: every five minutes, and up to a minute later.
    let seen = alarm["Period"].as_u64().unwrap() * alarm["EvaluationPeriods"].as_u64().unwrap();
    assert!(seen >= 2 * 360, "{alarm:#}");
    assert_eq!(alarm["DatapointsToAlarm"], 1);
    assert_eq!(alarm["TreatMissingData"], "ignore");
}

#[test]
fn an_alarm_tells_that_nothing_invokes_the_function_if_it_knows_the_schedule() {
    let rare = ("Schedule", "rate(6 hours)");
    let hours = |parameters: &[(&str, &str)]| {
        let stack = stack(parameters);
        let alarm = stack.properties("StoppedAlarm").clone();
        if !alarm.is_null() {
            assert_eq!(alarm["MetricName"], "Invocations");
            assert_eq!(alarm["ComparisonOperator"], "LessThanThreshold");
            assert_eq!(alarm["Threshold"], 1);
            assert_eq!(alarm["TreatMissingData"], "breaching");
            assert_eq!(alarm["Period"], 3600);
        }
        alarm["EvaluationPeriods"].clone()
    };
    assert_eq!(hours(&[]), 1);
    assert_eq!(hours(&[("StoppedAfterHours", "4")]), "4");
    assert_eq!(hours(&[rare]), Value::Null);
    assert_eq!(hours(&[rare, ("StoppedAfterHours", "12")]), "12");
    // CloudWatch looks back seven days at most.
    assert_eq!(hours(&[rare, ("StoppedAfterHours", "168")]), "168");
    let refused = refusal(&json!({"StoppedAfterHours": "169"}));
    assert!(refused.contains("StoppedAfterHours"), "{refused}");
}

// The dashboard

#[test]
fn dashboard_and_its_url_exist_unless_they_are_turned_off() {
    let shown = stack(&[]);
    assert!(shown.properties("Dashboard").is_object());
    assert!(shown.output("DashboardUrl").is_some());
    let hidden = stack(&[("CreateDashboard", "false")]);
    assert!(hidden.properties("Dashboard").is_null());
    assert_eq!(hidden.output("DashboardUrl"), None);
}

#[test]
fn dashboard_url_leads_to_the_console_of_the_partition() {
    for (partition, console) in [
        ("aws", "us-east-1.console.aws.amazon.com"),
        ("aws-us-gov", "console.amazonaws-us-gov.com"),
        ("aws-cn", "console.amazonaws.cn"),
    ] {
        let stack = stack(&[("AWS::Partition", partition)]);
        let url = format!(
            "https://{console}/cloudwatch/home?region=us-east-1#dashboards:name=sqs-auto-redrive-us-east-1"
        );
        assert_eq!(stack.output("DashboardUrl"), Some(url.as_str()));
    }
}

// Stopping

#[test]
fn stop_command_pauses_then_cancels_and_cancels_again_after_the_timeout() {
    let stack = stack(&[("Timeout", "300")]);
    let command = stack.output("StopCommand").unwrap();
    let steps = [
        "export AWS_REGION=us-east-1",
        "update-stack --stack-name sqs-auto-redrive --use-previous-template",
        "ParameterKey=Paused,ParameterValue=true",
        "wait stack-update-complete --stack-name sqs-auto-redrive",
        "for LEFT in 300 0",
        r#"{"action": "cancel", "queues": "all"}"#,
        "lambda invoke --function-name sqs-auto-redrive",
        "sleep $LEFT",
    ];
    let places = steps.map(|step| command.find(step).unwrap_or_else(|| panic!("no {step}")));
    assert!(places.is_sorted(), "{places:?} in {command}");
    assert_eq!(command.lines().count(), 1, "the console shows one line");
    // Everything else keeps its value, code included.
    assert!(command.contains("UsePreviousValue=true"));
    for deploys in ["--template", "s3", "sam ", "update-function-code"] {
        assert!(!command.contains(deploys), "{command}");
    }
}

#[test]
fn operating_page_begins_with_the_stop_command() {
    let page = include_str!("../../docs/operating.md");
    let (_, first) = page.split_once("\n## ").unwrap();
    let (first, _) = first.split_once("\n## ").unwrap();
    let (before, _) = first.split_once("<!-- /stop -->").unwrap();
    assert!(before.contains("OutputKey=='StopCommand'"), "{before}");
}
