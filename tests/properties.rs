//! What holds of every decision, under any policy and whatever was seen.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqs_auto_redrive::policy::{
    Brake, BrakeState, Decision, DepthHistory, Observation, Policy, Rate, decide, streak,
};
use sqs_auto_redrive::queue::{MoveTask, QueueArn, TaskStatus};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: u64 = 3600;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn queue(name: &str) -> QueueArn {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
        .parse()
        .unwrap()
}

/// Small numbers, where the rules meet, and a few that no queue has.
fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..200_u64, 1 => Just(1 << 53), 1 => Just(u64::MAX)]
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => (0..4 * 60_u64).prop_map(|minutes| Duration::from_secs(minutes * 60)),
        1 => (0..14 * 24_u64).prop_map(|hours| Duration::from_secs(hours * HOUR)),
    ]
}

prop_compose! {
    fn policies()(
        rate in option::of(1..=500_u64),
        min_messages in prop_oneof![3 => Just(1_u64), 1 => 1..300_u64],
        cooldown in durations(),
        quiet_period in durations(),
        patience in durations(),
        max_attempts in 1..=9_u32,
        attempt_window in durations(),
        destination in option::of(Just(queue("elsewhere"))),
        parking in option::of(Just(queue("parking"))),
        brakes in 0..3_usize,
        parks in prop::bool::weighted(0.9),
        paused in prop::bool::weighted(0.1),
        dry_run in any::<bool>(),
        forced in prop::bool::weighted(0.2),
    ) -> Policy {
        let policy = Policy {
            max_messages_per_second: rate.and_then(Rate::new),
            min_messages,
            cooldown,
            quiet_period,
            patience,
            max_attempts,
            attempt_window,
            destination,
            parking,
            parks,
            brake_alarms: (0..brakes).map(|n| format!("brake {n}")).collect(),
            paused,
            dry_run,
        };
        if forced { policy.forced() } else { policy }
    }
}

prop_compose! {
    /// Mostly tasks of the last days, some with times that cannot be.
    fn tasks()(
        status in prop_oneof![
            60 => Just("COMPLETED"), 10 => Just("FAILED"), 10 => Just("CANCELLED"),
            1 => Just("RUNNING"), 1 => Just("CANCELLING"), 1 => Just("PONDERING"),
        ],
        started_at in prop_oneof![
            1 => Just(None),
            1 => Just(Some(now() + Duration::from_secs(HOUR))),
            1 => Just(Some(UNIX_EPOCH + Duration::from_millis(u64::try_from(i64::MAX).unwrap()))),
            8 => (0..30 * HOUR).prop_map(|ago| Some(now() - Duration::from_secs(ago))),
        ],
        moved in counts(),
        to_move in option::of(counts()),
        destination_arn in option::of(prop_oneof![Just("parking"), Just("elsewhere")]),
    ) -> MoveTask {
        MoveTask {
            status: TaskStatus::from_sqs(Some(status)),
            handle: None,
            started_at,
            moved,
            to_move,
            destination_arn: destination_arn.map(|name| queue(name).to_string()),
            failure_reason: None,
        }
    }
}

prop_compose! {
    /// A message that comes back from every redrive, as many as there were hours.
    fn poison()(hours in 1..10_u64, minutes in 0..60_u64) -> Vec<MoveTask> {
        let ago = |hour| Duration::from_secs(hour * HOUR + minutes * 60);
        (1..=hours).map(|hour| MoveTask {
            status: TaskStatus::Completed,
            handle: None,
            started_at: Some(now() - ago(hour)),
            moved: 200,
            to_move: Some(200),
            destination_arn: None,
            failure_reason: None,
        }).collect()
    }
}

prop_compose! {
    fn observations()(
        visible in counts(),
        in_flight in counts(),
        tasks in prop_oneof![1 => vec(tasks(), 0..14), 2 => poison()],
        depth_history in option::weighted(0.8, prop_oneof![
            4 => counts().prop_map(DepthHistory::Fewest),
            1 => Just(DepthHistory::NoData),
            1 => Just(DepthHistory::Unreadable("access denied".to_owned())),
        ]),
        brakes in option::weighted(0.8, vec(prop_oneof![
            6 => Just(BrakeState::Off),
            1 => Just(BrakeState::On),
            1 => Just(BrakeState::Unknown("access denied".to_owned())),
        ], 0..4)),
    ) -> Observation {
        let brake = |(n, state)| Brake { alarm: format!("brake {n}"), state };
        Observation {
            visible,
            in_flight,
            tasks,
            depth_history,
            brakes: brakes.map(|states| states.into_iter().enumerate().map(brake).collect()),
        }
    }
}

/// Whether a redrive starts that does not go to the parking queue.
fn starts_back(policy: &Policy, seen: &Observation) -> bool {
    matches!(decide(policy, seen, now()), Decision::Start(start) if !start.parking)
}

fn starts(policy: &Policy, seen: &Observation) -> bool {
    matches!(decide(policy, seen, now()), Decision::Start(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_starts_while_a_safety_gate_is_shut(policy in policies(), seen in observations()) {
        let braked = policy.brake_alarms.iter().any(|alarm| {
            !seen.brakes.iter().flatten().any(|brake| brake.alarm == *alarm && brake.state == BrakeState::Off)
        });
        let active = seen.tasks.iter().any(|task| task.status.is_active());
        if seen.visible == 0 || active || policy.paused || braked {
            prop_assert!(!starts(&policy, &seen));
        }
    }

    #[test]
    fn start_has_the_rate_and_the_destination_of_the_policy(policy in policies(), seen in observations()) {
        if let Decision::Start(start) = decide(&policy, &seen, now()) {
            prop_assert!(start.max_messages_per_second.is_none_or(|rate| (1..=500).contains(&rate.get())));
            prop_assert_eq!(start.max_messages_per_second, policy.max_messages_per_second);
            let destination = if start.parking { &policy.parking } else { &policy.destination };
            prop_assert_eq!(&start.destination, destination);
        }
    }

    #[test]
    fn same_facts_come_to_the_same_decision(policy in policies(), seen in observations()) {
        prop_assert_eq!(decide(&policy, &seen, now()), decide(&policy, &seen, now()));
    }

    #[test]
    fn stricter_policy_never_starts_what_a_laxer_one_does_not(
        policy in policies(), seen in observations(), longer in durations(), more in 0..300_u64, fewer in 0..9_u32,
    ) {
        let stricter = [
            Policy { cooldown: policy.cooldown + longer, ..policy.clone() },
            Policy { min_messages: policy.min_messages + more, ..policy.clone() },
            Policy { max_attempts: policy.max_attempts.saturating_sub(fewer).max(1), ..policy.clone() },
            Policy { brake_alarms: [policy.brake_alarms.clone(), vec!["brake 3".to_owned()]].concat(), ..policy.clone() },
            Policy { paused: true, ..policy.clone() },
        ];
        for stricter in stricter {
            prop_assert!(starts_back(&policy, &seen) || !starts_back(&stricter, &seen), "{stricter:?}");
        }
    }

    #[test]
    fn unknown_history_never_starts_what_the_worst_history_would_keep_back(policy in policies(), seen in observations()) {
        let unknown = Observation { depth_history: None, brakes: None, ..seen.clone() };
        let answered = Observation {
            depth_history: Some(DepthHistory::NoData),
            brakes: Some(policy.brake_alarms.iter().map(|alarm| Brake { alarm: alarm.clone(), state: BrakeState::Off }).collect()),
            ..seen
        };
        prop_assert!(!starts(&policy, &unknown) || starts(&policy, &answered));
        // Every question has an answer that ends it.
        prop_assert!(!matches!(decide(&policy, &answered, now()), Decision::Ask(_)));
    }

    #[test]
    fn streak_counts_no_more_than_there_are_tasks(policy in policies(), seen in observations()) {
        prop_assert!(streak(&policy, &seen, now()) as usize <= seen.tasks.len());
    }

    #[test]
    fn dry_run_decides_as_the_real_run_does(policy in policies(), seen in observations()) {
        let dry_run = Policy { dry_run: !policy.dry_run, ..policy.clone() };
        prop_assert_eq!(decide(&policy, &seen, now()), decide(&dry_run, &seen, now()));
    }
}

/// A generator that never starts anything would prove nothing.
#[test]
fn random_facts_reach_every_kind_of_decision() {
    let mut runner = TestRunner::deterministic();
    let facts = (policies(), observations());
    let mut decisions = Vec::new();
    for _ in 0..4000 {
        let (policy, seen) = facts.new_tree(&mut runner).unwrap().current();
        decisions.push(decide(&policy, &seen, now()));
    }
    let count =
        |kind: fn(&Decision) -> bool| decisions.iter().filter(|decision| kind(decision)).count();
    let counts = [
        count(|decision| matches!(decision, Decision::Start(start) if !start.parking)),
        count(|decision| matches!(decision, Decision::Start(start) if start.parking)),
        count(|decision| matches!(decision, Decision::Skip(_))),
        count(|decision| matches!(decision, Decision::Hold(_))),
        count(|decision| matches!(decision, Decision::Ask(_))),
    ];
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}
