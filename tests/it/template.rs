//! What `template.yaml` watches is what the function emits.
//!
//! The template is read as text: its dashboard is JSON, and its alarms are lines of known form.

use crate::support::report;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

const TEMPLATE: &str = include_str!("../../template.yaml");

/// A metric as a dashboard or an alarm names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    namespace: String,
    name: String,
    dimension: String,
}

fn metric(namespace: &str, name: &str, dimension: &str) -> Metric {
    Metric {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        dimension: dimension.to_owned(),
    }
}

/// What the function's own line declares, and what Lambda publishes of every function
/// (<https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html>).
fn emitted() -> BTreeSet<Metric> {
    let line = report::of_nothing().metrics("redrive", UNIX_EPOCH);
    let line: Value = serde_json::from_str(&line).unwrap();
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    let namespace = directive["Namespace"].as_str().unwrap();
    assert_eq!(directive["Dimensions"].as_array().unwrap().len(), 1);
    let dimensions = directive["Dimensions"][0].as_array().unwrap();
    assert_eq!(dimensions.len(), 1, "{dimensions:?}");
    let dimension = dimensions[0].as_str().unwrap();
    let ours = directive["Metrics"].as_array().unwrap();
    let ours = ours
        .iter()
        .map(|declared| metric(namespace, declared["Name"].as_str().unwrap(), dimension));
    let lambdas = ["Errors", "Duration", "Invocations"]
        .map(|name| metric("AWS/Lambda", name, "FunctionName"));
    ours.chain(lambdas).collect()
}

/// The text below each name of a section, in the order of the section.
fn blocks(section: &'static str) -> Vec<(&'static str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in section.lines() {
        match line.strip_prefix("  ").and_then(|l| l.strip_suffix(':')) {
            Some(name) if !name.starts_with([' ', '#']) => found.push((name, String::new())),
            _ => {
                if let Some((_, text)) = found.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    found
}

/// The text of each resource of the template, by its name.
fn resources() -> Vec<(&'static str, String)> {
    let (_, rest) = TEMPLATE.split_once("\nResources:\n").unwrap();
    let (resources, _) = rest.split_once("\nOutputs:\n").unwrap();
    blocks(resources)
}

fn dashboard() -> Value {
    let (_, text) = resources()
        .into_iter()
        .find(|(name, _)| *name == "Dashboard")
        .expect("there is a dashboard");
    let (_, body) = text.split_once("DashboardBody: !Sub |\n").unwrap();
    serde_json::from_str(body).expect("the dashboard's body is JSON")
}

/// Every metric that the dashboard shows, each of them of this stack's function.
fn shown() -> BTreeSet<Metric> {
    let dashboard = dashboard();
    let widgets = dashboard["widgets"].as_array().unwrap();
    let rows = widgets
        .iter()
        .filter(|widget| widget["type"] == "metric")
        .flat_map(|widget| widget["properties"]["metrics"].as_array().unwrap());
    rows.map(|row| {
        assert_eq!(row[3], "${RedriveFunction}", "{row}");
        let text = |index: usize| row[index].as_str().unwrap();
        metric(text(0), text(1), text(2))
    })
    .collect()
}

/// Every metric of the function that an alarm of the template watches.
fn watched() -> BTreeSet<Metric> {
    let value = |text: &str, key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key).map(str::to_owned));
        line.map(|rest| rest.trim().to_owned())
    };
    resources()
        .into_iter()
        .filter(|(_, text)| text.contains("Type: AWS::CloudWatch::Alarm\n"))
        .filter(|(name, _)| !name.ends_with("DepthAlarm"))
        .map(|(name, text)| {
            assert_eq!(
                value(&text, "Value:").as_deref(),
                Some("!Ref RedriveFunction"),
                "{name}"
            );
            let field = |key| value(&text, key).unwrap_or_else(|| panic!("{name} lacks {key}"));
            metric(
                &field("Namespace:"),
                &field("MetricName:"),
                &field("- Name:"),
            )
        })
        .collect()
}

#[test]
fn dashboard_and_alarms_refer_only_to_metrics_that_are_emitted() {
    let emitted = emitted();
    for metric in shown().union(&watched()) {
        assert!(
            emitted.contains(metric),
            "the function does not emit {metric:?}"
        );
    }
}

#[test]
fn alarms_watch_errors_invocations_and_deferred_expiring_and_held_queues() {
    let names: Vec<String> = watched().into_iter().map(|metric| metric.name).collect();
    assert_eq!(
        names,
        ["Errors", "Invocations", "Deferred", "ExpiringSoon", "Held"]
    );
}

#[test]
fn fleet_alarm_asks_what_the_docs_say() {
    let query = |text: &str| {
        let (_, query) = text.split_once("SELECT MAX(").unwrap();
        let (query, _) = query.split_once("Period: 60").unwrap();
        query.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (_, alarm) = TEMPLATE.split_once("\n  FleetDepthAlarm:\n").unwrap();
    let asked = query(alarm).replace("${EnrollTagValue}", "enabled");
    assert_eq!(asked, query(include_str!("../../docs/fleet.md")));
    assert!(asked.starts_with("ApproximateNumberOfMessagesVisible)"));
}

#[test]
fn dashboard_shows_every_metric_that_the_function_emits() {
    let shown = shown();
    for metric in emitted() {
        assert!(shown.contains(&metric), "the dashboard lacks {metric:?}");
    }
}

/// The parameters in the order of the console's groups, and those of the template's own section.
fn parameters() -> (Vec<&'static str>, Vec<(&'static str, String)>) {
    let (head, _) = TEMPLATE.split_once("\nRules:\n").unwrap();
    let (_, head) = head.split_once("    ParameterGroups:\n").unwrap();
    let (groups, declared) = head.split_once("\nParameters:\n").unwrap();
    let (declared, _) = declared.split_once("\n# ").unwrap();
    let grouped = groups
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Parameters: [")?.strip_suffix(']'))
        .flat_map(|group| group.split(", "))
        .collect();
    (grouped, blocks(declared))
}

#[test]
fn every_parameter_has_a_type_a_description_a_default_and_a_place_in_the_console() {
    let (grouped, declared) = parameters();
    assert!(declared.len() > 20, "{declared:?}");
    let mut names: Vec<&str> = declared.iter().map(|(name, _)| *name).collect();
    let mut places = grouped;
    names.sort_unstable();
    places.sort_unstable();
    assert_eq!(places, names);
    for (name, text) in declared {
        for field in ["Type", "Description", "Default"] {
            assert!(
                text.contains(&format!("    {field}: ")),
                "{name} lacks {field}"
            );
        }
        let is_bounded = ["AllowedPattern", "AllowedValues", "MinValue"]
            .iter()
            .any(|bound| text.contains(&format!("    {bound}: ")));
        assert!(is_bounded, "{name} takes anything");
    }
}

#[test]
fn docs_list_every_parameter_with_its_default() {
    let page = include_str!("../../docs/deploy.md");
    let (_, section) = page.split_once("\n## Parameters\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" |").next().unwrap().trim_matches('`')))
        .collect();
    let (grouped, declared) = parameters();
    let names: Vec<&str> = rows.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, grouped);
    for (name, documented) in rows {
        let (_, text) = declared.iter().find(|(n, _)| *n == name).unwrap();
        let default = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Default: "))
            .unwrap()
            .trim_matches('"');
        let default = if default.is_empty() { "none" } else { default };
        assert_eq!(documented, default, "{name}");
    }
}

#[test]
fn costs_count_the_metrics_and_the_alarms_of_a_stack() {
    let costs = include_str!("../../docs/costs.md");
    let emitted = emitted().into_iter();
    let ours = emitted
        .filter(|it| it.namespace == "SqsAutoRedrive")
        .count();
    let metrics = format!("| custom metrics | {ours} |");
    assert!(costs.contains(&metrics), "{metrics}");
    let alarms = format!("| alarms | {}; ", watched().len());
    assert!(costs.contains(&alarms), "{alarms}");
}

/// What CloudFormation calls to create each kind of resource, in the name of who deploys.
const CREATED_BY: &[(&str, &str)] = &[
    ("AWS::CloudWatch::Alarm", "cloudwatch:PutMetricAlarm"),
    ("AWS::CloudWatch::Dashboard", "cloudwatch:PutDashboard"),
    ("AWS::Events::Rule", "events:PutRule"),
    ("AWS::IAM::Role", "iam:CreateRole"),
    ("AWS::KMS::Key", "kms:CreateKey"),
    (
        "AWS::Lambda::EventInvokeConfig",
        "lambda:PutFunctionEventInvokeConfig",
    ),
    ("AWS::Lambda::Function", "lambda:CreateFunction"),
    ("AWS::Lambda::Permission", "lambda:AddPermission"),
    ("AWS::Logs::LogGroup", "logs:CreateLogGroup"),
    ("AWS::SNS::Subscription", "sns:Subscribe"),
    ("AWS::SNS::Topic", "sns:CreateTopic"),
    ("AWS::Scheduler::Schedule", "scheduler:CreateSchedule"),
];

#[test]
fn policy_for_who_deploys_allows_every_resource_of_the_template_to_be_created() {
    let policy: Value =
        serde_json::from_str(include_str!("../../examples/deployer-policy.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let allowed: BTreeSet<&str> = statements
        .iter()
        .filter_map(|statement| statement["Action"].as_array())
        .flatten()
        .map(|action| action.as_str().unwrap())
        .collect();
    let kinds: BTreeSet<String> = resources()
        .into_iter()
        .filter_map(|(_, text)| {
            let line = text.lines().find_map(|it| it.strip_prefix("    Type: "));
            line.map(str::to_owned)
        })
        .collect();
    let known: BTreeSet<String> = CREATED_BY
        .iter()
        .map(|(kind, _)| (*kind).to_owned())
        .collect();
    assert_eq!(kinds, known);
    for (kind, action) in CREATED_BY {
        assert!(allowed.contains(action), "{kind} needs {action}");
    }
}
