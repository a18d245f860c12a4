//! Reads reports, and the lines of a log.

use super::queues::Queue;
use serde_json::{Value, json};
use sqs_auto_redrive::outcome::Findings;
use sqs_auto_redrive::plan::plan;
use sqs_auto_redrive::queue::Location;
use sqs_auto_redrive::report::Report;

/// The report of an invocation that concerned no queue.
pub fn of_nothing() -> Report {
    let plan = plan(Vec::new(), &[], &[], &Location::new("", "us-east-1"));
    Report::new(&plan, false, Findings::default())
}

/// The entry of this queue in a report.
#[track_caller]
pub fn of<'a>(report: &'a Value, queue: &(impl AsRef<str> + ?Sized)) -> &'a Value {
    let arn = queue.as_ref();
    let queues = report["queues"].as_array().unwrap();
    let mut of_it = queues.iter().filter(|entry| entry["queueArn"] == arn);
    match (of_it.next(), of_it.next()) {
        (Some(entry), None) => entry,
        _ => panic!("{arn} is not once in {report:#}"),
    }
}

/// A queue is known by its ARN.
impl AsRef<str> for Queue {
    fn as_ref(&self) -> &str {
        &self.arn
    }
}

/// The outcome and the reason of a queue, in a report or in a line of the log.
pub fn verdict(queue: &Value) -> (&str, &str) {
    let text = |name: &str| queue[name].as_str().unwrap_or_default();
    (text("outcome"), text("reason"))
}

/// The outcomes that were counted at least once.
pub fn counts(report: &Value) -> Value {
    let mut counts = report["counts"].clone();
    counts
        .as_object_mut()
        .unwrap()
        .retain(|_, n| *n != json!(0));
    counts
}
