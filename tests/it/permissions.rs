//! The role of `template.yaml` allows what the function calls, and nothing else.
//!
//! SAM's translator and `MiniStack`'s CloudFormation expand the template for some deployments. The
//! function runs in the environment of each, against an account that records every call.
//! `MiniStack`'s policy engine decides whether the role allows these calls and denies others.

use crate::support::account::{Account, Call, task};
use crate::support::function::sample;
use crate::support::local::{ACCOUNT, REGION};
use crate::support::python::ask;
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

// What a call needs

const ON_THE_DLQ_TO_START: &[&str] = &[
    "sqs:StartMessageMoveTask",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
];

/// The actions that a call needs, on the queue that it names and on each queue that messages go to,
/// or on `*` if the action has no resources. Sources: the SQS developer guide
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>)
/// and the Service Authorization Reference
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>).
const NEEDS: &[(&str, On, &[&str])] = &[
    ("GetQueueAttributes", On::Queue, &["sqs:GetQueueAttributes"]),
    (
        "ListDeadLetterSourceQueues",
        On::Queue,
        &["sqs:ListDeadLetterSourceQueues"],
    ),
    (
        "ListMessageMoveTasks",
        On::Queue,
        &["sqs:ListMessageMoveTasks", "sqs:GetQueueAttributes"],
    ),
    ("StartMessageMoveTask", On::Queue, ON_THE_DLQ_TO_START),
    (
        "StartMessageMoveTask",
        On::Destinations,
        &["sqs:SendMessage"],
    ),
    (
        "CancelMessageMoveTask",
        On::Queue,
        &[
            "sqs:CancelMessageMoveTask",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
        ],
    ),
    ("GetResources", On::Everything, &["tag:GetResources"]),
    (
        "GetMetricData",
        On::Everything,
        &["cloudwatch:GetMetricData"],
    ),
    // On `*`, because a brake may be a composite alarm.
    (
        "DescribeAlarms",
        On::Everything,
        &["cloudwatch:DescribeAlarms"],
    ),
];

/// What Lambda needs to connect a function to subnets, all of it on `*`
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html>).
const NETWORK: &[&str] = &[
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// The queue that the call names: a DLQ or, for its attributes, a queue that messages go to.
    Queue,
    Destinations,
    Everything,
}

/// An action on a resource, in its context: what the policy engine decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    action: String,
    resource: String,
    /// The tags of the resource, or the service that acts for the role.
    context: Vec<(String, String)>,
}

impl Access {
    fn new(action: &str, resource: &str) -> Self {
        Self {
            action: action.to_owned(),
            resource: resource.to_owned(),
            context: Vec::new(),
        }
    }

    /// An access to a queue with these tags.
    fn to_queue(action: &str, arn: &str, tags: &[(&str, &str)]) -> Self {
        let tags = tags.iter();
        let tags = tags.map(|(key, value)| (format!("aws:ResourceTag/{key}"), value.to_string()));
        Self {
            context: tags.collect(),
            ..Self::new(action, arn)
        }
    }

    /// An access to a key, by a service that acts for the role.
    fn to_key(action: &str, arn: &str, service: &str) -> Self {
        let by = format!("{service}.{REGION}.amazonaws.com");
        Self {
            context: vec![("kms:ViaService".to_owned(), by)],
            ..Self::new(action, arn)
        }
    }

    fn on(&self, resource: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            ..self.clone()
        }
    }
}

// The queues

/// The tags of each queue that has any.
fn tags(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "invoices-dlq" => &[
            ("auto-redrive", "enabled"),
            ("auto-redrive:parking-arn", INVOICES_PARKING),
            ("auto-redrive:brake-alarms", "invoices consumer is down"),
        ],
        "refunds-dlq" => &[("auto-redrive", "enabled")],
        "invoices" | "refunds" | "invoices-parking" => &[("auto-redrive-source", "enabled")],
        _ => &[],
    }
}

const INVOICES_PARKING: &str = "arn:aws:sqs:us-east-1:123456789012:invoices-parking";
const BRAKE: &str = "orders consumer is down";
const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// A DLQ is named after its source queue.
fn source_of(dlq: &str) -> String {
    dlq.strip_suffix("-dlq").unwrap().to_owned()
}

fn queue(action: &str, arn: &str) -> Access {
    Access::to_queue(action, arn, tags(arn.rsplit(':').next().unwrap()))
}

// A deployment

/// A stack of the template.
struct Deployment {
    name: &'static str,
    dlqs: &'static [&'static str],
    parameters: Value,
    resources: Value,
}

/// The stacks whose roles are checked.
static DEPLOYMENTS: LazyLock<Vec<Deployment>> = LazyLock::new(|| {
    let deployment = |name, dlqs, parameters| Deployment {
        name,
        dlqs,
        parameters,
        resources: Value::Null,
    };
    let mut deployments = vec![
        deployment(
            "list",
            &["orders-dlq", "payments-dlq"],
            json!({
                "DeadLetterQueueArns": arns(&["orders-dlq", "payments-dlq"]),
                "SourceQueueArns": arns(&["orders", "payments"]),
            }),
        ),
        deployment(
            "list, with the old name of the source queues",
            &["orders-dlq"],
            json!({
                "DeadLetterQueueArns": arns(&["orders-dlq"]),
                "DestinationQueueArns": arns(&["orders"]),
            }),
        ),
        deployment(
            "list, with everything",
            &["orders-dlq", "payments-dlq"],
            json!({
                "DeadLetterQueueArns": arns(&["orders-dlq", "payments-dlq"]),
                "DestinationArn": queue_arn("replay"),
                "ParkingArn": queue_arn("parking"),
                "BrakeAlarms": format!("{BRAKE}, replay consumer is down"),
                "KmsKeyArns": KEY,
            }),
        ),
        deployment(
            "tag",
            &["invoices-dlq", "refunds-dlq"],
            json!({"EnrollTagValue": "enabled"}),
        ),
        deployment(
            "list and tag, with everything",
            &["orders-dlq", "invoices-dlq"],
            json!({
                "DeadLetterQueueArns": arns(&["orders-dlq"]),
                "SourceQueueArns": arns(&["orders"]),
                "ParkingArn": queue_arn("parking"),
                "EnrollTagValue": "enabled",
                "BrakeAlarms": BRAKE,
                "KmsKeyArns": KEY,
                "ReportBusName": "reports",
                "SubnetIds": "subnet-0a1b2c3d,subnet-0a1b2c3e",
                "SecurityGroupIds": "sg-0a1b2c3d",
            }),
        ),
    ];
    let parameters = deployments.iter().map(|d| d.parameters.clone());
    let expanded = ask("permissions.py", &["expand"], &parameters.collect());
    for (deployment, expanded) in deployments.iter_mut().zip(list(&expanded)) {
        let refused = &expanded["refused"];
        assert!(refused.is_null(), "{}: {refused}", deployment.name);
        deployment.resources = expanded["resources"].clone();
    }
    deployments
});

/// ARNs of queues, as in a parameter.
fn arns(names: &[&str]) -> String {
    let arns: Vec<String> = names.iter().map(|name| queue_arn(name)).collect();
    arns.join(",")
}

impl Deployment {
    fn named(name: &str) -> &'static Self {
        let mut deployments = DEPLOYMENTS.iter();
        deployments.find(|d| d.name == name).unwrap()
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters[name].as_str().unwrap_or_default()
    }

    fn of_type(&self, kind: &str) -> Vec<&Value> {
        let resources = self.resources.as_object().unwrap().values();
        resources
            .filter(|resource| resource["Type"] == kind)
            .collect()
    }

    fn function(&self) -> &Value {
        let functions = self.of_type("AWS::Lambda::Function");
        assert_eq!(functions.len(), 1);
        &functions[0]["Properties"]
    }

    /// The function's role.
    fn role(&self) -> &Value {
        let mut roles = self.of_type("AWS::IAM::Role");
        roles.retain(|role| role["Arn"] == self.function()["Role"]);
        assert_eq!(roles.len(), 1);
        roles[0]
    }

    /// All statements of all policies of the function's role.
    fn statements(&self) -> Vec<Value> {
        let role = self.role();
        let inline = role["Properties"]["Policies"].as_array();
        let mut policies: Vec<&Value> = inline.into_iter().flatten().collect();
        for managed in ["ManagedPolicyArns", "PermissionsBoundary"] {
            assert_eq!(role["Properties"].get(managed), None, "cannot be read");
        }
        let apart = self.resources.as_object().unwrap().values();
        for resource in apart {
            let properties = &resource["Properties"];
            match resource["Type"].as_str().unwrap() {
                "AWS::IAM::RolePolicy" if properties["RoleName"] == role["Ref"] => {
                    policies.push(properties);
                }
                "AWS::IAM::Policy" | "AWS::IAM::ManagedPolicy"
                    if list(&properties["Roles"]).contains(&role["Ref"]) =>
                {
                    policies.push(properties);
                }
                _ => {}
            }
        }
        policies
            .iter()
            .flat_map(|policy| list(&policy["PolicyDocument"]["Statement"]))
            .collect()
    }

    /// The function's calls in every mode.
    fn calls(&self) -> Vec<Call> {
        let account = Account::start();
        for dlq in self.dlqs {
            account.add_dlq(dlq, 3, tags(dlq));
        }
        for brake in [
            BRAKE,
            "replay consumer is down",
            "invoices consumer is down",
        ] {
            account.add_alarm(brake);
        }
        let given = self.function()["Environment"]["Variables"].as_object();
        let variables = given.unwrap().iter();
        let mut variables: Vec<(&str, &str)> = variables
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        variables.push(("AWS_ENDPOINT_URL", &account.url));
        let mut function = Process::start(&variables);
        let mut invoke = |event: &str, outcome: &str, reasons: &[&str]| {
            let report = function.invoke(event, Duration::from_secs(30)).unwrap();
            let queues = report["queues"].as_array().unwrap();
            for queue in queues {
                let reason = queue["reason"].as_str().unwrap();
                assert!(reasons.contains(&reason), "{report:#}");
            }
            assert_eq!(report["counts"][outcome], queues.len(), "{report:#}");
            queues.len()
        };
        let all = self.dlqs.len();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let destination = self.parameter("DestinationArn");
        let have = |tasks: &dyn Fn(&str) -> Vec<Value>| {
            for dlq in self.dlqs {
                let mut tasks = tasks(dlq);
                for task in tasks.iter_mut().filter(|_| !destination.is_empty()) {
                    task["DestinationArn"] = destination.into();
                }
                account.set_tasks(dlq, &tasks);
            }
        };
        let schedule = sample("schedule-eventbridge-scheduler.json", &[]);

        // Nothing has happened yet.
        assert_eq!(invoke(&schedule, "started", &["ready"]), all);
        for dlq in self.dlqs {
            let alarm = sample("alarm-eventbridge.json", &[("orders-dlq", dlq)]);
            assert_eq!(invoke(&alarm, "started", &["ready"]), 1);
        }

        // The redriven messages came back: the function reads metrics.
        have(&|dlq| vec![task(dlq, "COMPLETED", 3, hours(1))]);
        assert_eq!(invoke(&schedule, "started", &["ready"]), all);

        // They came back too often. Not every DLQ has a parking queue.
        have(&|dlq| Vec::from_iter((1..=5).map(|n| task(dlq, "COMPLETED", 3, hours(n)))));
        for dlq in self.dlqs {
            let alarm = sample("alarm-eventbridge.json", &[("orders-dlq", dlq)]);
            let has_parking = !self.parameter("ParkingArn").is_empty()
                || tags(dlq).contains(&("auto-redrive:parking-arn", INVOICES_PARKING));
            match has_parking {
                true => invoke(&alarm, "started", &["parking"]),
                false => invoke(&alarm, "held", &["attempts-exhausted"]),
            };
        }

        // Running redrives are to be canceled, by a request or by a brake.
        have(&|dlq| vec![task(dlq, "RUNNING", 3, hours(1))]);
        let cancel = json!({"action": "cancel", "queues": "all"}).to_string();
        assert_eq!(invoke(&cancel, "cancelled", &["requested"]), all);
        if !self.parameter("BrakeAlarms").is_empty() {
            account.alarms_are("ALARM");
            let brake = sample("brake-alarm.json", &[]);
            assert_eq!(invoke(&brake, "cancelled", &["braked"]), all);
        }
        account.calls()
    }

    /// All accesses that the role has to allow.
    fn needed(&self) -> BTreeSet<Access> {
        let calls = self.calls();
        let mut needed: BTreeSet<Access> = calls.iter().flat_map(|call| self.needs(call)).collect();
        needed.extend(self.needs_of_lambda());
        needed
    }

    fn needs(&self, call: &Call) -> Vec<Access> {
        let question = |field: &str| call.question[field].as_str();
        let named = match call.operation.as_str() {
            "GetQueueAttributes" | "ListDeadLetterSourceQueues" => {
                question("QueueUrl").map(|url| {
                    let name = url.rsplit('/').next().unwrap();
                    assert!(url.ends_with(&format!("/{ACCOUNT}/{name}")), "{url}");
                    queue_arn(name)
                })
            }
            // The account's handles are the ARNs of DLQs.
            "CancelMessageMoveTask" => question("TaskHandle").map(str::to_owned),
            _ => question("SourceArn").map(str::to_owned),
        };
        let rows: Vec<_> = NEEDS
            .iter()
            .filter(|(operation, ..)| *operation == call.operation)
            .collect();
        assert!(!rows.is_empty(), "what does this call need? {call:?}");
        let mut needs = Vec::new();
        for (_, on, actions) in rows {
            let resources = match on {
                On::Queue => vec![named.clone().unwrap()],
                On::Destinations => vec![self.destination_of(call)],
                On::Everything => vec!["*".to_owned()],
            };
            for resource in &resources {
                needs.extend(actions.iter().map(|action| queue(action, resource)));
            }
        }
        // With the role's permissions, SQS decrypts what it receives and encrypts what it sends
        // (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html>).
        if call.operation == "StartMessageMoveTask" && !self.parameter("KmsKeyArns").is_empty() {
            for action in ["kms:Decrypt", "kms:GenerateDataKey"] {
                needs.push(Access::to_key(action, self.parameter("KmsKeyArns"), "sqs"));
            }
        }
        needs
    }

    fn destination_of(&self, start: &Call) -> String {
        match start.question["DestinationArn"].as_str() {
            Some(destination) => destination.to_owned(),
            None => {
                let dlq = start.question["SourceArn"].as_str().unwrap();
                queue_arn(&source_of(dlq.rsplit(':').next().unwrap()))
            }
        }
    }

    /// What Lambda itself does with the role: it writes the log
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html>), sends to
    /// the destinations of asynchronous invocations
    /// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>), and
    /// connects the function to its subnets.
    fn needs_of_lambda(&self) -> Vec<Access> {
        let group = self.function()["LoggingConfig"]["LogGroup"].as_str();
        let stream = log_stream(group.unwrap());
        let mut needs = vec![
            Access::new("logs:CreateLogStream", &stream),
            Access::new("logs:PutLogEvents", &stream),
        ];
        for config in self.of_type("AWS::Lambda::EventInvokeConfig") {
            let destinations = config["Properties"]["DestinationConfig"].as_object();
            for destination in destinations.into_iter().flatten().map(|(_, to)| to) {
                let arn = destination["Destination"].as_str().unwrap();
                assert!(arn.starts_with("arn:aws:events:"), "what does {arn} need?");
                needs.push(Access::new("events:PutEvents", arn));
            }
        }
        if !self.function()["VpcConfig"].is_null() {
            let network = NETWORK.iter();
            needs.extend(network.map(|action| Access::new(action, "*")));
        }
        needs
    }

    /// What the role must deny: the same actions on resources that are not enrolled, no destination
    /// and not the stack's own, and actions that the function never takes.
    fn forbidden(&self, needed: &BTreeSet<Access>) -> BTreeSet<Access> {
        let is_tagged = !self.parameter("EnrollTagValue").is_empty();
        let mut forbidden = BTreeSet::new();
        for access in needed {
            let (service, operation) = access.action.split_once(':').unwrap();
            match service {
                "sqs" => forbidden.extend(elsewhere(access, is_tagged)),
                "kms" => {
                    let mut never = access.clone();
                    never.action = "kms:CreateGrant".to_owned();
                    forbidden.insert(never);
                    forbidden.insert(access.on(&format!("{}0", access.resource)));
                }
                "ec2" => {
                    forbidden.insert(Access::new("ec2:RunInstances", "*"));
                }
                "logs" | "events" => {
                    let never = match service {
                        "logs" => "logs:DeleteLogStream",
                        _ => "events:DeleteEventBus",
                    };
                    forbidden.insert(Access::new(never, &access.resource));
                    forbidden.insert(access.on(&access.resource.replace(REGION, "eu-west-1")));
                    let arn = access.resource.replace("sqs-auto-redrive", "other");
                    forbidden.insert(access.on(&arn.replace("/reports", "/other")));
                }
                // These actions have no resources.
                _ => assert!(
                    ["GetResources", "GetMetricData", "DescribeAlarms"].contains(&operation)
                ),
            }
        }
        // The role must not take messages from a source queue, nor send any to a DLQ. It may read
        // the attributes of both.
        let dlqs = BTreeSet::from_iter(self.dlqs.iter().map(|dlq| queue_arn(dlq)));
        let of_dlqs = needed
            .iter()
            .filter(|access| dlqs.contains(&access.resource));
        let mut actions = BTreeSet::from_iter(of_dlqs.map(|access| access.action.as_str()));
        actions.remove("sqs:GetQueueAttributes");
        for access in needed {
            if access.action == "sqs:SendMessage" {
                let arn = access.resource.as_str();
                forbidden.extend(actions.iter().map(|action| queue(action, arn)));
            }
        }
        for dlq in &dlqs {
            forbidden.insert(queue("sqs:SendMessage", dlq));
            for never in [
                "PurgeQueue",
                "DeleteQueue",
                "SetQueueAttributes",
                "TagQueue",
            ] {
                forbidden.insert(queue(&format!("sqs:{never}"), dlq));
            }
        }
        // A key may be used for the queues only.
        if !self.parameter("KmsKeyArns").is_empty() {
            let key = self.parameter("KmsKeyArns");
            forbidden.insert(Access::to_key("kms:Decrypt", key, "secretsmanager"));
            forbidden.insert(Access::new("kms:Decrypt", key));
        }
        for (action, resource) in [
            ("iam:PassRole", self.role()["Arn"].as_str().unwrap()),
            ("logs:CreateLogGroup", "*"),
            ("sqs:ListQueues", "*"),
            ("cloudwatch:PutMetricData", "*"),
            ("cloudwatch:DeleteAlarms", "*"),
            ("tag:TagResources", "*"),
        ] {
            forbidden.insert(Access::new(action, resource));
        }
        assert!(forbidden.is_disjoint(needed));
        forbidden
    }
}

fn log_stream(group: &str) -> String {
    format!(
        "arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:log-stream:2026/11/20/[$LATEST]8476a536"
    )
}

/// The same on queues that must not be touched.
fn elsewhere(access: &Access, is_tagged: bool) -> Vec<Access> {
    let (role, other) = match access.action.as_str() {
        "sqs:SendMessage" => ("auto-redrive-source", "auto-redrive"),
        _ => ("auto-redrive", "auto-redrive-source"),
    };
    let neighbor = format!("{}-2", access.resource);
    let to = |arn: &str, tags: &[(&str, &str)]| Access::to_queue(&access.action, arn, tags);
    let mut accesses = vec![
        to(&neighbor, &[]),
        to(&neighbor, &[(role, "disabled")]),
        to(&neighbor, &[(role, "Enabled")]),
        // Whatever its tags there.
        to(
            &access.resource.replace(REGION, "eu-west-1"),
            &[(role, "enabled")],
        ),
        to(
            &access.resource.replace(ACCOUNT, "999999999999"),
            &[(role, "enabled")],
        ),
    ];
    // The attributes of a DLQ and of a queue that messages go to may be read alike.
    if access.action != "sqs:GetQueueAttributes" {
        accesses.push(to(&neighbor, &[(other, "enabled")]));
    }
    if !is_tagged {
        accesses.push(to(&neighbor, &[(role, "enabled")]));
    }
    accesses
}

/// A list, or a single value as a list.
fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

// The engines

/// For each of these sets of statements, the accesses that it allows.
fn allowed(cases: &[Vec<Value>], accesses: &BTreeSet<Access>) -> Vec<BTreeSet<Access>> {
    let call = |access: &Access| {
        let context = access.context.iter();
        let context: Map<String, Value> = context
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        json!({"action": access.action, "resource": access.resource, "context": context})
    };
    let calls: Vec<Value> = accesses.iter().map(call).collect();
    let answers = list(&ask(
        "permissions.py",
        &["decide"],
        &json!({"cases": cases, "calls": calls}),
    ));
    assert_eq!(answers.len(), cases.len());
    let of_case = |answers: &Value| {
        let answers = list(answers);
        assert_eq!(answers.len(), accesses.len());
        let answers = accesses.iter().zip(answers);
        answers
            .filter(|(_, is_allowed)| *is_allowed == json!(true))
            .map(|(access, _)| access.clone())
            .collect()
    };
    answers.iter().map(of_case).collect()
}

/// The statements without one of their parts, for each part, and its description.
fn with_one_thing_less(statements: &[Value]) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    for (n, statement) in statements.iter().enumerate() {
        let sid = &statement["Sid"];
        let mut without = statements.to_vec();
        without.remove(n);
        all.push((format!("statement {sid}"), without));
        for field in ["Action", "Resource"] {
            let items = list(&statement[field]);
            for (left_out, item) in items.iter().enumerate().filter(|_| items.len() > 1) {
                let mut without = statements.to_vec();
                let mut fewer = items.clone();
                fewer.remove(left_out);
                without[n][field] = fewer.into();
                all.push((format!("{item} of statement {sid}"), without));
            }
        }
    }
    all
}

/// The statements without one of their bounds, for each bound, and its description.
fn with_one_bound_less(statements: &[Value]) -> Vec<(String, Vec<Value>)> {
    let mut all = Vec::new();
    for (n, statement) in statements.iter().enumerate() {
        let mut wider = statements.to_vec();
        if wider[n]
            .as_object_mut()
            .unwrap()
            .remove("Condition")
            .is_some()
        {
            all.push((format!("the condition of {}", statement["Sid"]), wider));
        }
        if statement["Resource"] != "*" {
            let mut wider = statements.to_vec();
            wider[n]["Resource"] = "*".into();
            all.push((format!("the resources of {}", statement["Sid"]), wider));
        }
        let mut wider = statements.to_vec();
        let service = list(&statement["Action"])[0].as_str().unwrap().to_owned();
        let (service, _) = service.split_once(':').unwrap();
        wider[n]["Action"] = format!("{service}:*").into();
        all.push((format!("the actions of {}", statement["Sid"]), wider));
    }
    all
}

/// Asserts that the role of this deployment allows what the function calls and nothing else, and
/// that no part and no bound of it is unnecessary.
fn assert_exact(deployment: &str) {
    let deployment = Deployment::named(deployment);
    let statements = deployment.statements();
    let needed = deployment.needed();
    let forbidden = deployment.forbidden(&needed);

    let less = with_one_thing_less(&statements);
    let wider = with_one_bound_less(&statements);
    let changed = less
        .iter()
        .chain(&wider)
        .map(|(_, changed)| changed.clone());
    let cases: Vec<Vec<Value>> = [statements].into_iter().chain(changed).collect();
    let allowed = allowed(&cases, &needed.union(&forbidden).cloned().collect());

    let (as_it_is, changed) = allowed.split_first().unwrap();
    let (of_less, of_wider) = changed.split_at(less.len());
    let denied: Vec<&Access> = needed.difference(as_it_is).collect();
    assert!(denied.is_empty(), "needed, and denied: {denied:#?}");
    let open: Vec<&Access> = forbidden.intersection(as_it_is).collect();
    assert!(open.is_empty(), "forbidden, and allowed: {open:#?}");
    for ((what, _), allowed) in less.iter().zip(of_less) {
        assert!(!needed.is_subset(allowed), "no call needs {what}");
    }
    for ((what, _), allowed) in wider.iter().zip(of_wider) {
        assert!(
            !forbidden.is_disjoint(allowed),
            "{what} denies nothing that is forbidden"
        );
    }
}

#[test]
fn role_for_listed_queues_is_exact() {
    assert_exact("list");
}

#[test]
fn role_for_source_queues_under_the_old_name_is_exact() {
    assert_exact("list, with the old name of the source queues");
}

#[test]
fn role_for_a_destination_parking_brakes_and_keys_is_exact() {
    assert_exact("list, with everything");
}

#[test]
fn role_for_tagged_queues_is_exact() {
    assert_exact("tag");
}

#[test]
fn role_for_listed_and_tagged_queues_a_report_bus_and_subnets_is_exact() {
    assert_exact("list and tag, with everything");
}

#[test]
fn every_call_of_the_function_is_made_in_these_runs() {
    let made = Deployment::named("tag").calls();
    let made = BTreeSet::from_iter(made.iter().map(|call| call.operation.as_str()));
    let known = BTreeSet::from_iter(NEEDS.iter().map(|(operation, ..)| *operation));
    assert_eq!(made, known);
}

#[test]
fn only_lambda_takes_the_role() {
    let only_lambda = json!([{
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }]);
    for deployment in DEPLOYMENTS.iter() {
        let trust = &deployment.role()["Properties"]["AssumeRolePolicyDocument"];
        assert_eq!(trust["Statement"], only_lambda);
    }
}

/// Actions without resources, and one that has none for composite alarms
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html>,
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>,
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonresourcegrouptaggingapi.html>).
const WITHOUT_RESOURCES: &[&str] = &[
    "cloudwatch:GetMetricData",
    "cloudwatch:DescribeAlarms",
    "tag:GetResources",
];

#[test]
fn what_has_a_resource_names_it() {
    let streams = log_stream("/aws/lambda/sqs-auto-redrive");
    let (log_group, _) = streams.split_once("log-stream").unwrap();
    for statement in DEPLOYMENTS.iter().flat_map(Deployment::statements) {
        assert_eq!(statement["Effect"], "Allow", "{statement:#}");
        let fields: Vec<&str> = statement
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for field in fields {
            let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
            assert!(known.contains(&field), "{statement:#}");
        }
        let actions = list(&statement["Action"]);
        assert!(!actions.is_empty(), "{statement:#}");
        for action in &actions {
            assert!(
                !action.as_str().unwrap().contains(['*', '?']),
                "{statement:#}"
            );
        }
        let tag_is_asked = statement["Condition"]["StringEquals"]
            .as_object()
            .is_some_and(|keys| keys.keys().any(|key| key.starts_with("aws:ResourceTag/")));
        for resource in list(&statement["Resource"]) {
            let resource = resource.as_str().unwrap();
            let may_be_anything = match resource.strip_suffix('*') {
                None => !resource.contains('?'),
                Some("") => actions
                    .iter()
                    .map(|action| action.as_str().unwrap())
                    .all(|action| WITHOUT_RESOURCES.contains(&action) || NETWORK.contains(&action)),
                // Any queue of this account and region with the tag.
                Some(prefix) if prefix == format!("arn:aws:sqs:{REGION}:{ACCOUNT}:") => {
                    tag_is_asked
                }
                // Any stream of the function's own log group.
                Some(prefix) => prefix == log_group,
            };
            assert!(may_be_anything, "{resource} in {statement:#}");
            assert!(
                !resource.trim_end_matches('*').contains('*'),
                "{statement:#}"
            );
        }
    }
}

#[test]
fn reference_lists_what_each_call_needs() {
    let reference = include_str!("../../docs/reference.md");
    for (operation, _, actions) in NEEDS {
        let actions: Vec<String> = actions.iter().map(|action| format!("`{action}`")).collect();
        let row = format!("\n| {operation} | {} |", actions.join(", "));
        assert!(reference.contains(&row), "docs/reference.md lacks {row}");
    }
}

// The engine itself

#[test]
fn engine_allows_and_denies_what_it_should() {
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:123456789012:{name}");
    let send = |name: &str| Access::new("sqs:SendMessage", &arn(name));
    let tagged = |tag| Access::to_queue("sqs:SendMessage", &arn("mine"), &[tag]);
    let elsewhere = "arn:aws:sqs:us-east-1:999999999999:mine";
    let accesses = [
        ("mine", send("mine")),
        ("in capitals", send("MINE")),
        ("longer", send("mine2")),
        ("any", Access::new("sqs:SendMessage", "*")),
        ("elsewhere", Access::new("sqs:SendMessage", elsewhere)),
        ("received", Access::new("sqs:ReceiveMessage", &arn("mine"))),
        ("tagged", tagged(("tag", "value"))),
        ("mistagged", tagged(("tag", "Value"))),
        ("tagged otherwise", tagged(("gat", "value"))),
        ("by SQS", Access::to_key("kms:Decrypt", "key", "sqs")),
        ("by SNS", Access::to_key("kms:Decrypt", "key", "sns")),
        ("by itself", Access::new("kms:Decrypt", "key")),
    ];
    let statement = |effect: &str, action: Value, resource: Value, condition: Value| json!({"Effect": effect, "Action": action, "Resource": resource, "Condition": condition});
    let allow = |action: &str, resource: &str| {
        statement("Allow", json!(action), json!(resource), json!({}))
    };
    let if_tagged = json!({"StringEquals": {"aws:ResourceTag/tag": "value"}});
    let by_sqs = json!({"StringLike": {"kms:ViaService": "sqs.*"}});
    let cases = [
        (vec![], vec![]),
        (
            vec![allow("sqs:SendMessage", &arn("mine"))],
            vec!["mine", "tagged", "mistagged", "tagged otherwise"],
        ),
        (
            vec![allow("sqs:sendmessage", &arn("mine2"))],
            vec!["longer"],
        ),
        (vec![allow("sqs:SendMessage", &arn("m*2"))], vec!["longer"]),
        (
            vec![allow("sqs:Receive*", "*"), allow("kms:Encrypt", "*")],
            vec!["received"],
        ),
        (
            vec![statement(
                "Allow",
                json!(["sqs:ReceiveMessage", "sqs:SendMessage"]),
                json!([arn("MINE"), elsewhere]),
                json!({}),
            )],
            vec!["in capitals", "elsewhere"],
        ),
        (
            vec![statement(
                "Allow",
                json!("sqs:SendMessage"),
                json!(arn("*")),
                if_tagged.clone(),
            )],
            vec!["tagged"],
        ),
        (
            vec![
                statement("Allow", json!("sqs:*"), json!("*"), if_tagged),
                allow("sqs:SendMessage", "*"),
                statement("Deny", json!("*"), json!(arn("mine")), json!({})),
            ],
            vec!["in capitals", "longer", "any", "elsewhere"],
        ),
        (
            vec![statement("Allow", json!("kms:*"), json!("key"), by_sqs)],
            vec!["by SQS"],
        ),
    ];
    let all = accesses.iter().map(|(_, access)| access.clone()).collect();
    let statements = cases.iter().map(|(statements, _)| statements.clone());
    let answers = allowed(&statements.collect::<Vec<_>>(), &all);
    for ((statements, wanted), answer) in cases.iter().zip(answers) {
        let allowed = accesses
            .iter()
            .filter(|(_, access)| answer.contains(access));
        let allowed: Vec<&str> = allowed.map(|(name, _)| *name).collect();
        assert_eq!(allowed, *wanted, "{statements:#?}");
    }
}

#[test]
fn parameters_that_contradict_each_other_are_refused() {
    let dlq = queue_arn("orders-dlq");
    let cases = [
        (json!({}), "Enroll dead-letter queues"),
        (
            json!({"DeadLetterQueueArns": dlq}),
            "List the source queues",
        ),
        (
            json!({"DeadLetterQueueArns": dlq, "DestinationArn": dlq}),
            "cannot be its own destination",
        ),
        (
            json!({"DeadLetterQueueArns": dlq, "SourceQueueArns": dlq}),
            "cannot be its own source queue",
        ),
        (
            json!({"DeadLetterQueueArns": dlq, "DestinationQueueArns": dlq}),
            "cannot be its own source queue",
        ),
        (
            json!({"DeadLetterQueueArns": dlq, "SourceQueueArns": queue_arn("orders"), "ParkingArn": dlq}),
            "cannot be its own parking queue",
        ),
        (
            json!({"EnrollTagValue": "enabled", "MaxMessagesPerSecond": "1"}),
            "set MaxMessagesPerSecond to 2 or more, or Sample to 0",
        ),
        (
            json!({"EnrollTagValue": "enabled", "Sample": "5"}),
            "Sample",
        ),
        (
            json!({"EnrollTagValue": "enabled", "Sample": "31"}),
            "Sample",
        ),
        (
            json!({"EnrollTagValue": "enabled", "Timeout": "59"}),
            "Timeout",
        ),
        (
            json!({"DeadLetterQueueArns": "orders-dlq", "SourceQueueArns": queue_arn("orders")}),
            "DeadLetterQueueArns",
        ),
        (json!({"EnrollTagValue": "a,b"}), "EnrollTagValue"),
    ];
    let parameters = cases.iter().map(|(parameters, _)| parameters.clone());
    let answers = list(&ask("permissions.py", &["expand"], &parameters.collect()));
    assert_eq!(answers.len(), cases.len());
    for ((parameters, why), answer) in cases.iter().zip(answers) {
        let refused = answer["refused"].as_str().unwrap_or_default();
        assert!(refused.contains(why), "{parameters}: {refused:?}");
    }
}
