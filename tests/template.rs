//! What `template.yaml` watches is what the function emits.
//!
//! The template is read as text: its dashboard is JSON, and its alarms are lines of known form.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use serde_json::Value;
use sqs_auto_redrive::report::{Report, TriggerReport, Unlisted};
use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

const TEMPLATE: &str = include_str!("../template.yaml");

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
    let nothing = Report::new(
        TriggerReport::default(),
        false,
        Vec::new(),
        Unlisted::default(),
    );
    let line: Value = serde_json::from_str(&nothing.metrics("redrive", UNIX_EPOCH)).unwrap();
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
    let lambdas = ["Errors", "Duration"].map(|name| metric("AWS/Lambda", name, "FunctionName"));
    ours.chain(lambdas).collect()
}

/// The text of each resource of the template, by its name.
fn resources() -> Vec<(&'static str, String)> {
    let (_, rest) = TEMPLATE.split_once("\nResources:\n").unwrap();
    let (resources, _) = rest.split_once("\nOutputs:\n").unwrap();
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in resources.lines() {
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
        assert!(emitted.contains(metric), "nobody emits {metric:?}");
    }
}

#[test]
fn alarms_watch_errors_held_and_deferred_queues() {
    let names: Vec<String> = watched().into_iter().map(|metric| metric.name).collect();
    assert_eq!(names, ["Errors", "Deferred", "Held"]);
}

#[test]
fn dashboard_shows_every_metric_that_the_function_emits() {
    let shown = shown();
    for metric in emitted() {
        assert!(shown.contains(&metric), "the dashboard lacks {metric:?}");
    }
}

#[test]
fn every_variable_of_the_readme_has_a_line_in_the_template() {
    let (_, rest) = include_str!("../README.md")
        .split_once("<!-- variables -->")
        .unwrap();
    let (table, _) = rest.split_once("<!-- /variables -->").unwrap();
    let variables: Vec<&str> = table
        .lines()
        .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
        .collect();
    assert!(variables.len() > 10, "{variables:?}");
    for variable in variables {
        assert!(
            TEMPLATE.contains(&format!("\n          {variable}: ")),
            "{variable}"
        );
    }
}

#[test]
fn every_parameter_has_a_description_and_a_place_in_the_console() {
    let (head, _) = TEMPLATE.split_once("\nRules:\n").unwrap();
    let (head, parameters) = head.split_once("\nParameters:\n").unwrap();
    let groups: Vec<&str> = head
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Parameters: [")?.strip_suffix(']'))
        .flat_map(|group| group.split(", "))
        .collect();
    let named: Vec<&str> = parameters
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(|name| name.chars().all(char::is_alphanumeric))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    let sorted = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&groups), sorted(&named));
    assert_eq!(groups.len(), named.len(), "a parameter is in two groups");
    for (field, what) in [
        ("Type", "a type"),
        ("Description", "a description"),
        ("Default", "a default"),
    ] {
        let count = parameters.matches(&format!("\n    {field}: ")).count();
        assert_eq!(count, named.len(), "a parameter lacks {what}");
    }
}
