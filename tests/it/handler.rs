//! The whole function except for Lambda's runtime, over the fake: the calls that it makes, their
//! order, and the report.

mod attempts;
mod brakes;
mod cancel;
mod draws;
mod enrollment;
mod events;
mod expiry;
mod interleaved;
mod limits;
mod listing;
mod redrive;
mod report;
mod sample;
mod sizes;

use crate::support::fake::{Fake, LostAnswer, MINUTE, dlq};
use serde_json::{Value, json};
use sqs_auto_redrive::config::{Config, Limits};
use sqs_auto_redrive::fall::{Fall, FallTime};
use sqs_auto_redrive::handler::{Invocation, InvocationError};
use sqs_auto_redrive::observation::{BrakeState, Observation};
use sqs_auto_redrive::outcome::{Failed, Outcome};
use sqs_auto_redrive::policy::Policy;
use sqs_auto_redrive::queue::{MoveTask, QueueArn, TaskStatus};
use sqs_auto_redrive::sqs::SqsError;
use sqs_auto_redrive::tagging::TaggingError;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SWEEP: &str = include_str!("../../events/schedule-eventbridge-rule.json");
const ALARM: &str = include_str!("../../events/alarm-eventbridge.json");
const CANCEL: &str = r#"{"action": "cancel"}"#;
const HOUR: Duration = Duration::from_secs(3600);

/// Outcome and reason of each queue of a report, in its order.
fn outcomes(report: &Value) -> Vec<String> {
    let text = |queue: &Value, field: &str| queue[field].as_str().unwrap().to_owned();
    report["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| format!("{}/{}", text(queue, "outcome"), text(queue, "reason")))
        .collect()
}

/// A task of the past.
fn task(fake: &Fake, status: &str, size: u64, ago: Duration) -> MoveTask {
    MoveTask {
        status: TaskStatus::from_sqs(Some(status)),
        handle: (status == "RUNNING").then(|| "handle".to_owned()),
        started_at: Some(fake.now() - ago),
        moved: size,
        to_move: Some(size),
        destination_arn: None,
        max_messages_per_second: Some(50),
        failure_reason: None,
    }
}

/// A fake with one DLQ that has messages and this past task.
fn with_past(queue: &QueueArn, visible: u64, status: &str, ago: Duration) -> Fake {
    let fake = Fake::default().with(queue, visible);
    let task = task(&fake, status, visible, ago);
    fake.with_task(queue, task)
}

/// A DLQ with this many messages, and a source queue whose fall time is 150 seconds.
fn with_source(fake: Fake, queue: &QueueArn, visible: u64) -> Fake {
    let source = dlq(&format!("{}-source", queue.name()));
    fake.with(queue, visible)
        .with_source(&source, queue, Duration::from_secs(30), 3)
}

/// The policy until samples came.
fn without_samples() -> Policy {
    Policy {
        sample: Duration::ZERO,
        ..Policy::default()
    }
}

fn braked(alarm: &str) -> Policy {
    Policy {
        brake_alarms: vec![alarm.to_owned()],
        ..Policy::default()
    }
}
