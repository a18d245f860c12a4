//! Held DLQs whose messages SQS deletes before a person acts.

use super::*;
use crate::support::fake::RETENTION;

fn paused() -> Policy {
    Policy {
        paused: true,
        ..Policy::default()
    }
}

/// What the function says about a DLQ that is held under this policy, and its metric `ExpiringSoon`.
/// The oldest message has this much of the retention left.
async fn held(fake: &Fake, policy: Policy, left: Duration) -> (String, u64) {
    let queue = dlq("orders-dlq");
    fake.oldest_age_is(&queue, RETENTION - left);
    let invoke = fake.invoke(SWEEP).listing(&[&queue]).policy(policy);
    let report = invoke.answer().await.report;
    let metrics: Value = serde_json::from_str(&report.metrics("redrive", fake.now())).unwrap();
    let expiring = metrics["ExpiringSoon"].as_u64().unwrap();
    (report.queues[0].detail.clone(), expiring)
}

#[test]
fn any_known_fall_time_is_subtracted_from_the_time_that_is_left() {
    let left = |fall_time| {
        let seen = Observation {
            retention: Some(HOUR * 96),
            fall_time: Some(fall_time),
            ..Observation::default()
        };
        seen.expires_in(HOUR * 30)
    };
    let known = Fall {
        time: MINUTE,
        consumed: Vec::new(),
    };
    assert_eq!(left(FallTime::Known(known)), Some(HOUR * 66 - MINUTE));
    assert_eq!(left(FallTime::Long(HOUR * 60)), Some(HOUR * 6));
    assert_eq!(left(FallTime::Unknown(String::new())), Some(HOUR * 66));
}

#[tokio::test]
async fn held_dlq_whose_oldest_message_expires_within_a_day_says_so() {
    let fake = Fake::default().with(&dlq("orders-dlq"), 5);
    let (detail, expiring) = held(&fake, paused(), 20 * HOUR + MINUTE / 2).await;
    let said = "the kill switch is on; SQS deletes its oldest message within 20h, perhaps earlier, because the retention of a standard queue counts from the first send";
    assert!(detail.starts_with(said), "{detail}");
    assert_eq!(expiring, 1);

    let (detail, expiring) = held(&fake, paused(), MINUTE / 2).await;
    assert!(
        detail.contains("deletes its oldest messages now"),
        "{detail}"
    );
    assert_eq!(expiring, 1);

    let (detail, expiring) = held(&fake, paused(), 24 * HOUR).await;
    assert_eq!((detail.as_str(), expiring), ("the kill switch is on", 0));
}

/// A message was in its source queue for about a fall time before it came to the DLQ.
#[tokio::test(start_paused = true)]
async fn warning_comes_a_fall_time_earlier_where_the_fall_time_is_known() {
    let queue = dlq("orders-dlq");
    let fake = with_source(Fake::default(), &queue, 100).with_alarm("down", BrakeState::On);
    let fall_time = Duration::from_secs(150);
    for (left, expected) in [
        (24 * HOUR + fall_time - MINUTE, 1),
        (24 * HOUR + fall_time, 0),
    ] {
        let (detail, expiring) = held(&fake, braked("down"), left).await;
        assert_eq!(expiring, expected, "{detail}");
    }
}

/// In which of the minutes 0, 5, 10, … 60 CloudWatch is asked for the age of a held DLQ's oldest
/// message, which has this much of the retention left; `None` if CloudWatch does not know it.
async fn asked(left: Option<Duration>) -> Vec<u32> {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    let config = Config {
        policy: paused(),
        ..fake.config()
    };
    let function = fake.function(config);
    let mut asked = Vec::new();
    for minute in (0..=60).step_by(5) {
        if let Some(left) = left {
            fake.oldest_age_is(&queue, RETENTION - left + minute * MINUTE);
        }
        let answer = function.invoke(SWEEP, &fake.invocation()).await.unwrap();
        let said = answer.report.queues[0].detail.contains("SQS deletes");
        let is_soon = left.is_some_and(|left| left < 24 * HOUR + minute * MINUTE);
        assert_eq!(said, is_soon, "{minute}");
        if fake
            .calls()
            .iter()
            .any(|call| call == "GetMetricData orders-dlq (age)")
        {
            asked.push(minute);
        }
        (0..5).for_each(|_| {
            fake.minute_passes(&queue);
        });
    }
    asked
}

#[tokio::test]
async fn age_is_asked_every_30_minutes_and_not_before_a_day_is_left() {
    assert_eq!(asked(Some(20 * HOUR)).await, [0, 30, 60]);
    assert_eq!(asked(None).await, [0, 30, 60], "the age cannot be read");
    assert_eq!(asked(Some(24 * HOUR + 40 * MINUTE)).await, [0, 40]);
    assert_eq!(asked(Some(48 * HOUR)).await, [0]);
}

#[tokio::test]
async fn age_of_a_dlq_that_is_not_held_is_not_asked() {
    let queue = dlq("orders-dlq");
    for (visible, policy, outcome) in [
        (0, paused(), "skipped/empty"),
        (5, Policy::default(), "started/ready"),
        (
            5,
            Policy {
                min_messages: 9,
                ..paused()
            },
            "skipped/below-minimum",
        ),
    ] {
        let fake = Fake::default().with(&queue, visible);
        fake.oldest_age_is(&queue, RETENTION - HOUR);
        let report = fake.invoke(SWEEP).policy(policy).report().await;
        assert_eq!(outcomes(&report), [outcome]);
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(!detail.contains("deletes"), "{detail}");
        let calls = fake.calls();
        assert!(
            calls.iter().all(|call| !call.ends_with("(age)")),
            "{calls:?}"
        );
    }
}
