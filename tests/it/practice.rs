//! What people met in practice, on the wire where AWS answers.

use crate::support::account::Account;
use crate::support::function::sample;
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use serde_json::Value;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(60);

fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// The function with this DLQ enrolled, and this account for every service.
fn function(account: &Account, dlq: &str, variables: &[(&str, &str)]) -> Process {
    let arn = queue_arn(dlq);
    let ours = [
        ("REDRIVE_QUEUES", arn.as_str()),
        ("AWS_ENDPOINT_URL", &account.url),
    ];
    Process::start(&[&ours, variables].concat())
}

#[test]
fn start_that_sqs_answers_without_a_handle_is_one_start_and_the_report_says_so() {
    let account = Account::start();
    account.add_dlq("orders-dlq", 3, &[]);
    account.hide_handles();
    let report = function(&account, "orders-dlq", &[]).invoke(&schedule(), TIME);
    let report = report.unwrap();
    assert_eq!(report["counts"]["started"], 1, "{report:#}");
    let queue = &report["queues"][0];
    assert_eq!(queue["task"].get("handle"), None::<&Value>, "{report:#}");
    let detail = queue["detail"].as_str().unwrap();
    assert!(
        detail.contains("SQS returned no handle for the task"),
        "{detail}"
    );
    let calls = account.calls();
    let starts = calls
        .iter()
        .filter(|call| call.operation == "StartMessageMoveTask");
    assert_eq!(starts.count(), 1);
}
