//! The README's lists are the code's lists.

use sqs_auto_redrive::report::{Outcome, Reason, Report, TriggerReport, Unlisted};
use std::time::UNIX_EPOCH;

const README: &str = include_str!("../../README.md");

/// The first column of the table between `<!-- name -->` and `<!-- /name -->`: codes in backticks.
fn codes_in_table(name: &str) -> Vec<&'static str> {
    let (_, rest) = README
        .split_once(&format!("<!-- {name} -->"))
        .expect("the README has the table");
    let (table, _) = rest
        .split_once(&format!("<!-- /{name} -->"))
        .expect("the table has an end");
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').expect("a code in backticks").0)
        .collect()
}

#[test]
fn readme_explains_every_reason() {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes_in_table("reasons"), codes);
}

#[test]
fn readme_explains_every_outcome() {
    let codes: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.code()).collect();
    assert_eq!(codes_in_table("outcomes"), codes);
}

#[test]
fn readme_explains_every_metric() {
    let report = Report::new(
        TriggerReport::default(),
        false,
        Vec::new(),
        Unlisted::default(),
    );
    let line: serde_json::Value =
        serde_json::from_str(&report.metrics("redrive", UNIX_EPOCH)).unwrap();
    let metrics = line
        .pointer("/_aws/CloudWatchMetrics/0/Metrics")
        .unwrap()
        .as_array()
        .unwrap();
    let names: Vec<&str> = metrics
        .iter()
        .map(|metric| metric.get("Name").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(codes_in_table("metrics"), names);
}

#[test]
fn no_two_codes_are_alike() {
    let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    codes.extend(Outcome::ALL.iter().map(|outcome| outcome.code()));
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

#[test]
fn template_sets_all_variables_that_the_readme_explains_and_no_others() {
    let template = include_str!("../../template.yaml");
    let variables = codes_in_table("variables");
    assert!(variables.len() > 10, "{variables:?}");
    let set: Vec<&str> = template
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("REDRIVE_"))
        .collect();
    assert!(set.len() > 5, "{set:?}");
    for variable in &set {
        assert!(variables.contains(variable), "{variable}");
    }
    for variable in variables {
        assert!(set.contains(&variable), "{variable}");
    }
}
