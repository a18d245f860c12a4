//! Attempts that are exhausted, as the report says it: who holds the messages, and who parks them.

use super::*;

/// A task that FAILED before it moved or counted anything.
fn failed(fake: &Fake, reason: &str, ago: Duration) -> MoveTask {
    MoveTask {
        moved: 0,
        to_move: None,
        failure_reason: Some(reason.to_owned()),
        ..task(fake, "FAILED", 0, ago)
    }
}

fn parked(task: MoveTask) -> MoveTask {
    MoveTask {
        destination_arn: Some(dlq("parking").to_string()),
        ..task
    }
}

fn with_parking() -> Policy {
    Policy {
        parking: Some(dlq("parking")),
        ..Policy::default()
    }
}

/// What an alarm brings for a DLQ with 100 messages and these tasks, oldest first. `has_source` says
/// whether samples apply. The destinations are those of the tasks it started.
struct Answer {
    outcome: String,
    detail: String,
    destinations: Vec<Option<String>>,
}

async fn answer(tasks: &[MoveTask], policy: Policy, has_source: bool) -> Answer {
    let queue = dlq("orders-dlq");
    let mut fake = Fake::default().with(&queue, 100);
    if has_source {
        fake = fake.with_source(&dlq("orders"), &queue, Duration::from_secs(30), 3);
    }
    for task in tasks {
        fake = fake.with_task(&queue, task.clone());
    }
    let invoke = fake.invoke(ALARM).listing(&[&queue]).policy(policy);
    let report = invoke.report().await;
    let starts = fake.starts(&queue).split_off(tasks.len());
    Answer {
        outcome: outcomes(&report).concat(),
        detail: report["queues"][0]["detail"].as_str().unwrap().to_owned(),
        destinations: starts.into_iter().map(|(_, to)| to).collect(),
    }
}

#[tokio::test]
async fn tasks_that_all_failed_are_held_with_the_reason_and_never_parked() {
    let fake = Fake::default();
    for (count, policy) in [
        (10, Policy::default()),
        (5, Policy::default()),
        (10, with_parking()),
        (5, with_parking()),
    ] {
        let ages = (1..=count).rev().map(|k| HOUR * k);
        let tasks: Vec<MoveTask> = ages.map(|ago| failed(&fake, "AccessDenied", ago)).collect();
        for has_source in [false, true] {
            let answer = answer(&tasks, policy.clone(), has_source).await;
            assert_eq!(answer.outcome, "held/attempts-exhausted");
            let said = format!(
                "he last {count} move tasks failed, so nothing reached the consumer: `AccessDenied`"
            );
            assert!(answer.detail.contains(&said), "{}", answer.detail);
            assert!(answer.destinations.is_empty(), "nothing starts");
        }
    }
}

#[tokio::test]
async fn parking_is_tried_again_until_it_failed_twice() {
    let fake = Fake::default();
    let canceled = parked(task(&fake, "CANCELLED", 100, HOUR));
    let failed_once = parked(failed(&fake, "KmsThrottled", HOUR));
    let failed_again = parked(failed(&fake, "KmsAccessDenied", MINUTE * 30));
    let parks = "100 visible messages to move to arn:aws:sqs:us-east-1:123456789012:parking,";
    let holds = "last two move tasks to the parking queue failed: `KmsAccessDenied`; correct the cause, then send a request with `force`";
    let to_parking = [Some(dlq("parking").to_string())];
    for (parkings, outcome, detail, destinations) in [
        (
            [].as_slice(),
            "started/parking",
            parks,
            to_parking.as_slice(),
        ),
        (
            std::slice::from_ref(&canceled),
            "started/parking",
            parks,
            &to_parking,
        ),
        (
            std::slice::from_ref(&failed_once),
            "started/parking",
            parks,
            &to_parking,
        ),
        (
            &[failed_once.clone(), failed_again],
            "held/attempts-exhausted",
            holds,
            &[],
        ),
    ] {
        let came_back = (2..=6)
            .rev()
            .map(|k| task(&fake, "COMPLETED", 100, HOUR * k));
        let tasks: Vec<MoveTask> = came_back.chain(parkings.iter().cloned()).collect();
        for has_source in [false, true] {
            let answer = answer(&tasks, with_parking(), has_source).await;
            assert_eq!(answer.outcome, outcome, "{}", answer.detail);
            assert!(answer.detail.contains(detail), "{}", answer.detail);
            let reasons = answer.detail.matches("KmsAccessDenied").count();
            assert!(reasons <= 1, "{}", answer.detail);
            assert_eq!(answer.destinations, destinations);
        }
    }
}

/// Nine attempts count as five beside a sample. A request without a sample does not count as one with
/// eight attempts.
#[tokio::test]
async fn request_without_a_sample_gets_no_more_attempts() {
    let queue = dlq("orders-dlq");
    let policy = Policy {
        max_attempts: 9,
        ..Policy::default()
    };
    let request = r#"{"action": "redrive", "sample": 0}"#;
    for event in [SWEEP, request] {
        let mut fake = with_source(Fake::default(), &queue, 5);
        for hours in (3..8).rev() {
            let past = task(&fake, "COMPLETED", 5, HOUR * hours);
            fake = fake.with_task(&queue, past);
        }
        let report = fake.invoke(event).policy(policy.clone()).report().await;
        assert_eq!(outcomes(&report), ["held/attempts-exhausted"], "{event}");
    }
}
