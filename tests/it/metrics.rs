//! The line of metrics is in CloudWatch's embedded metric format, whatever the outcome of the
//! invocation.
//!
//! The lines are the real binary's. The published schema is `tests/emf.schema.json`; Python's
//! `jsonschema` checks them against it.

use crate::support::account::{Account, task};
use crate::support::function::{EmulatedFunction, sample};
use crate::support::python::ask;
use crate::support::queues::queue_arn;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: Duration = Duration::from_secs(60);

/// A function that has these DLQs enrolled, in this account.
fn function(account: &Account, dlqs: &[&str], variables: &[(&str, &str)]) -> EmulatedFunction {
    let arns: Vec<String> = dlqs.iter().map(|dlq| queue_arn(dlq)).collect();
    let arns = arns.join(",");
    let ours = [
        ("REDRIVE_QUEUES", arns.as_str()),
        ("AWS_ENDPOINT_URL", &account.url),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", &account.url),
    ];
    EmulatedFunction::start(&[&ours, variables].concat())
}

/// Its lines of metrics so far.
fn lines_of(function: &EmulatedFunction) -> Vec<Value> {
    let mut lines = function.log();
    lines.retain(|line| line.get("_aws").is_some());
    lines
}

/// A sweep in which everything that is counted happens, except cancels.
fn eventful_sweep() -> Vec<Value> {
    let account = Account::start();
    let dlqs = [
        "ready-dlq",
        "later-dlq",
        "spent-dlq",
        "broken-dlq",
        "empty-dlq",
    ];
    for (dlq, visible) in dlqs.iter().zip([9, 3, 3, 3, 0]) {
        account.add_dlq(dlq, visible, &[]);
    }
    account.refuse_metrics();
    account.set_tasks(
        "ready-dlq",
        &[task("ready-dlq", "COMPLETED", 9, 60 * MINUTE)],
    );
    account.set_tasks(
        "spent-dlq",
        &vec![task("spent-dlq", "COMPLETED", 3, 60 * MINUTE); 5],
    );
    account.set_tasks("broken-dlq", &[task("broken-dlq", "FAILED", 3, MINUTE)]);
    let enrolled = [dlqs.as_slice(), &["missing-dlq"]].concat();
    let mut function = function(&account, &enrolled, &[("REDRIVE_MAX_STARTS", "1")]);
    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);
    let error = function.invoke(&schedule).unwrap_err();
    assert_eq!(error["errorType"], "RedriveIncomplete", "{error:#}");
    lines_of(&function)
}

/// A cancel, an event that calls for nothing, and a dry cancel of a function that logs little.
fn other_invocations() -> Vec<Value> {
    let account = Account::start();
    account.add_dlq("orders-dlq", 3, &[]);
    account.set_tasks("orders-dlq", &[task("orders-dlq", "RUNNING", 3, MINUTE)]);
    let mut loud = function(&account, &["orders-dlq"], &[]);
    let cancel = sample("request-cancel.json", &[]);
    assert_eq!(loud.invoke(&cancel).unwrap()["counts"]["cancelled"], 1);
    loud.invoke(&sample("ignored-ok.json", &[])).unwrap();

    // Each OK of a brake started a redrive, and each ALARM canceled it. Then someone paused the
    // function, until messages expire.
    let cancelled = vec![task("orders-dlq", "CANCELLED", 3, 60 * MINUTE); 3];
    account.set_tasks("orders-dlq", &cancelled);
    account.oldest_messages_are(13 * 24 * 3600 + 3600);
    let mut paused = function(&account, &["orders-dlq"], &[("REDRIVE_PAUSED", "true")]);
    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);
    let report = paused.invoke(&schedule).unwrap();
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    for part in [
        "SQS deletes its oldest message within 23h",
        "at least 3 of the DLQ's last redrives were canceled",
    ] {
        assert!(detail.contains(part), "{detail}");
    }

    let settings = [
        ("REDRIVE_DRY_RUN", "true"),
        ("AWS_LAMBDA_LOG_LEVEL", "WARN"),
    ];
    account.set_tasks("orders-dlq", &[task("orders-dlq", "RUNNING", 3, MINUTE)]);
    let mut quiet = function(&account, &["orders-dlq"], &settings);
    assert_eq!(quiet.invoke(&cancel).unwrap()["counts"]["wouldCancel"], 1);
    [lines_of(&loud), lines_of(&paused), lines_of(&quiet)].concat()
}

/// What the published schema says is wrong with each of these lines.
fn faults_by_schema(lines: &[Value]) -> Vec<Vec<Value>> {
    let faults = ask("validate.py", &["tests/emf.schema.json"], &json!(lines));
    let faults = faults.as_array().unwrap().iter();
    let faults: Vec<Vec<Value>> = faults.map(|of| of.as_array().unwrap().clone()).collect();
    assert_eq!(faults.len(), lines.len());
    faults
}

/// What is wrong with a line by the rules that the specification has only in words: members that
/// are referred to are at the root and hold numbers or, for a dimension, text; `_aws` has no other
/// members; there are at most 100 metrics and 100 values; a log event has at most 1 MB, here the
/// former 256 KB.
fn faults_by_words(line: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |is_so: bool, what: String| {
        if !is_so {
            faults.push(what);
        }
    };
    let has_only = |object: &Value, members: &[&str]| {
        let mut names = object.as_object().unwrap().keys();
        names.all(|name| members.contains(&name.as_str()))
    };
    expect(line.to_string().len() <= 256 * 1024, "too long".to_owned());
    let metadata = &line["_aws"];
    let known = ["Timestamp", "CloudWatchMetrics"];
    expect(has_only(metadata, &known), format!("{metadata}"));
    for directive in metadata["CloudWatchMetrics"].as_array().unwrap() {
        let known = ["Namespace", "Dimensions", "Metrics"];
        expect(has_only(directive, &known), format!("{directive}"));
        let sets = directive["Dimensions"].as_array().unwrap();
        for dimension in sets.iter().flat_map(|set| set.as_array().unwrap()) {
            let value = &line[dimension.as_str().unwrap()];
            expect(value.is_string(), format!("{dimension}: {value}"));
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        expect(metrics.len() <= 100, "too many metrics".to_owned());
        for metric in metrics {
            let known = ["Name", "Unit", "StorageResolution"];
            expect(has_only(metric, &known), format!("{metric}"));
            let value = &line[metric["Name"].as_str().unwrap()];
            let is_metric = match value {
                Value::Array(values) => values.len() <= 100 && values.iter().all(Value::is_number),
                value => value.is_number(),
            };
            expect(is_metric, format!("{metric}: {value}"));
        }
    }
    faults
}

#[test]
fn every_line_is_in_the_embedded_metric_format() {
    let eventful = eventful_sweep();
    let others = other_invocations();
    assert_eq!(
        (eventful.len(), others.len()),
        (1, 4),
        "one for each invocation"
    );
    let lines = [eventful, others].concat();

    for (line, faults) in lines.iter().zip(faults_by_schema(&lines)) {
        assert!(faults.is_empty(), "{faults:#?} in {line:#}");
        assert_eq!(faults_by_words(line), [""; 0], "{line:#}");
        let timestamp = Duration::from_millis(line["_aws"]["Timestamp"].as_u64().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(timestamp < now && now - timestamp < 60 * MINUTE, "{line:#}");
        // The table in docs/operating.md says so of all of them.
        let metrics = &line["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        for metric in metrics.as_array().unwrap() {
            assert_eq!(metric["Unit"], "Count", "{metric}");
        }
    }

    // Each metric counts something in at least one line.
    let names = |line: &Value| -> BTreeSet<String> {
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].clone();
        let metrics = metrics.as_array().unwrap().iter();
        metrics
            .map(|metric| metric["Name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = names(&lines[0]);
    for name in &all {
        assert!(
            lines.iter().any(|line| line[name] != 0),
            "{name} is always 0"
        );
    }
    assert!(lines.iter().all(|line| names(line) == all));
}

#[test]
fn broken_lines_are_found() {
    let good = json!({
        "_aws": {"Timestamp": 1_790_000_040_000_u64, "CloudWatchMetrics": [{
            "Namespace": "SqsAutoRedrive",
            "Dimensions": [["FunctionName"]],
            "Metrics": [{"Name": "Held", "Unit": "Count"}],
        }]},
        "FunctionName": "redrive",
        "Held": 1,
    });
    let broken = |pointer: &str, value: Value| {
        let mut line = good.clone();
        *line.pointer_mut(pointer).unwrap() = value;
        line
    };
    let directive = |field: &str| format!("/_aws/CloudWatchMetrics/0/{field}");
    let long = "x".repeat(1025);
    let by_schema = [
        broken("", json!([])),
        broken("", json!({"Held": 1})),
        broken("/_aws", json!({"CloudWatchMetrics": []})),
        broken("/_aws", json!({"Timestamp": 1})),
        broken("/_aws/Timestamp", json!("2026-10-05T09:36:48Z")),
        broken("/_aws/Timestamp", json!(1.5)),
        broken("/_aws/CloudWatchMetrics", json!({})),
        broken(
            "/_aws/CloudWatchMetrics/0",
            json!({"Namespace": "n", "Metrics": []}),
        ),
        broken(&directive("Namespace"), json!("")),
        broken(&directive("Namespace"), json!(long)),
        broken(&directive("Dimensions"), json!([])),
        broken(&directive("Dimensions"), json!(["FunctionName"])),
        broken(&directive("Dimensions"), json!([[1]])),
        broken(&directive("Dimensions"), json!([vec!["FunctionName"; 31]])),
        broken(&directive("Metrics"), json!({"Name": "Held"})),
        broken(&directive("Metrics/0"), json!("Held")),
        broken(&directive("Metrics/0"), json!({"Unit": "Count"})),
        broken(&directive("Metrics/0/Name"), json!("")),
        broken(&directive("Metrics/0/Unit"), json!("count")),
        broken(&directive("Metrics/0/Unit"), json!("Messages")),
    ];
    let lines = [std::slice::from_ref(&good), &by_schema].concat();
    let faults = faults_by_schema(&lines);
    assert!(faults[0].is_empty(), "{:?}", faults[0]);
    for (line, faults) in lines.iter().zip(&faults).skip(1) {
        assert!(!faults.is_empty(), "{line:#}");
    }

    let held = json!({"Name": "Held", "Unit": "Count"});
    let by_words = [
        broken("/FunctionName", json!(1)),
        broken("/Held", json!("1")),
        broken("/Held", json!({"Held": 1})),
        broken("/Held", json!(vec![1; 101])),
        broken(&directive("Metrics/0/Name"), json!("Started")),
        broken(&directive("Metrics"), json!(vec![held; 101])),
        broken(&directive("Metrics/0"), json!({"Name": "Held", "Value": 1})),
        broken("/FunctionName", json!("x".repeat(300_000))),
    ];
    assert_eq!(faults_by_words(&good), [""; 0]);
    for line in by_words {
        assert!(!faults_by_words(&line).is_empty(), "{line:#}");
    }
}
