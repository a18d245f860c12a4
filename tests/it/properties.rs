//! Rules that hold for every decision, under any policy and any observation, and for every event,
//! however hostile.

use crate::fuzz;
use crate::fuzz::event::{WORLDS, World};
use crate::fuzz::text::{assert_reads_well, assert_report_reads_well};
use crate::support::fake::Fake;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Value, json};
use sqs_auto_redrive::decision::{Decision, Hold, Purpose, decide, facts};
use sqs_auto_redrive::event::{self, Selection, Trigger};
use sqs_auto_redrive::fall::{Fall, FallTime};
use sqs_auto_redrive::handler::Invocation;
use sqs_auto_redrive::metrics::{Metrics, Readings, TaskReadings};
use sqs_auto_redrive::observation::{Brake, BrakeState, Observation, Question};
use sqs_auto_redrive::plan::{Kind, plan};
use sqs_auto_redrive::policy::{Policy, Rate};
use sqs_auto_redrive::queue::{Depth, MoveTask, QueueArn, TaskStatus};
use sqs_auto_redrive::verdict::{self, Verdict};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
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

// Random policies and observations

/// Small numbers, around the limits of the rules, and a few that occur on no real queue.
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
        may_park in prop::bool::weighted(0.9),
        paused in prop::bool::weighted(0.1),
        dry_run in any::<bool>(),
        sample in prop_oneof![1 => Just(0_u64), 3 => 10..=30_u64],
        forced in prop::bool::weighted(0.1),
        unread_tags in option::weighted(0.05, Just("throttled".to_owned())),
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
            may_park,
            brake_alarms: (0..brakes).map(|n| format!("brake {n}")).collect(),
            paused,
            dry_run,
            sample: Duration::from_secs(sample),
            forced: false,
            schedule: None,
            unread_tags,
        };
        if forced { policy.forced(Duration::from_secs(120)) } else { policy }
    }
}

prop_compose! {
    /// Mostly tasks of the last days, some with impossible times.
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
        pace in prop_oneof![2 => Just(Some(1)), 2 => Just(Some(50)), 1 => Just(Some(5)), 1 => Just(None)],
    ) -> MoveTask {
        MoveTask {
            status: TaskStatus::from_sqs(Some(status)),
            handle: None,
            started_at,
            moved,
            to_move,
            destination_arn: destination_arn.map(|name| queue(name).to_string()),
            max_messages_per_second: pace,
            failure_reason: None,
        }
    }
}

prop_compose! {
    /// One redrive an hour of messages that all came back.
    fn poison()(hours in 1..10_u64, minutes in 0..60_u64) -> Vec<MoveTask> {
        let ago = |hour| Duration::from_secs(hour * HOUR + minutes * 60);
        (1..=hours).map(|hour| MoveTask {
            status: TaskStatus::Completed,
            handle: None,
            started_at: Some(now() - ago(hour)),
            moved: 200,
            to_move: Some(200),
            destination_arn: None,
            max_messages_per_second: Some(50),
            failure_reason: None,
        }).collect()
    }
}

prop_compose! {
    /// A sample some time ago, of a DLQ that is now about as deep, or somewhat less.
    fn sampled()(moved in 0..27_u64, to_move in 30..400_u64, minutes in 1..200_u64, older in vec(tasks(), 0..6)) -> Vec<MoveTask> {
        let sample = MoveTask {
            status: TaskStatus::Cancelled,
            handle: None,
            started_at: Some(now() - Duration::from_secs(minutes * 60)),
            moved,
            to_move: Some(to_move),
            destination_arn: None,
            max_messages_per_second: Some(1),
            failure_reason: None,
        };
        [vec![sample], older].concat()
    }
}

fn fall_times() -> impl Strategy<Value = FallTime> {
    let known = (1..3600_u64).prop_map(|seconds| {
        FallTime::Known(Fall {
            time: Duration::from_secs(seconds),
            consumed: vec![queue("orders")],
        })
    });
    prop_oneof![
        6 => known,
        1 => (3601..100_000_u64).prop_map(|seconds| FallTime::Long(Duration::from_secs(seconds))),
        1 => Just(FallTime::Unknown("no source".to_owned())),
    ]
}

/// When a task's messages were first and last handled, and whether that is known. When its DLQ was
/// calm. What its DLQ gained before, and what its consumer handled before.
type Minutes = (Option<u64>, u64, bool, Option<u64>, u64, u64);

prop_compose! {
    /// What CloudWatch knows about a task, in minutes after its start.
    fn task_readings()(
        first in option::weighted(0.8, 0..60_u64),
        last in 0..120_u64,
        has_handled_data in prop::bool::weighted(0.8),
        calm in option::weighted(0.4, 0..200_u64),
        gained_before in 0..300_u64,
        handled_before in 0..3000_u64,
    ) -> Minutes {
        (first, last, has_handled_data || first.is_some(), calm, gained_before, handled_before)
    }
}

prop_compose! {
    fn observations()(
        visible in counts(),
        in_flight in prop_oneof![3 => Just(0), 1 => counts()],
        tasks in prop_oneof![1 => vec(tasks(), 0..14), 2 => poison(), 2 => sampled()],
        fall_time in option::weighted(0.9, fall_times()),
        fewest in option::weighted(0.8, counts()),
        fewest_in_hour in option::weighted(0.8, counts()),
        handled in counts(),
        readings in vec(task_readings(), 14),
        metrics in 0..10_u8,
        retention in option::of(1..400_u64),
        oldest_age in option::weighted(0.9, option::of(0..400_u64)),
        brakes in option::weighted(0.8, vec(prop_oneof![
            6 => Just(BrakeState::Off),
            1 => Just(BrakeState::On),
            1 => Just(BrakeState::Unknown("access denied".to_owned())),
        ], 0..4)),
    ) -> Observation {
        let brake = |(n, state)| Brake { alarm: format!("brake {n}"), state };
        let of_task = |(task, it): (&MoveTask, &Minutes)| {
            let (first, last, has_handled_data, calm, gained_before, handled_before) = *it;
            let started = task.started_at?;
            let after = |minutes| started.checked_add(Duration::from_secs(minutes * 60));
            Some(TaskReadings {
                started,
                first_handled: first.and_then(after),
                last_handled: first.and_then(|first| after(first + last)),
                handled_until: has_handled_data.then(now),
                calm_since: calm.and_then(after),
                gained_before,
                handled_before,
            })
        };
        let all = tasks.iter().zip(&readings).filter_map(of_task).collect();
        Observation {
            depth: Depth { visible, in_flight },
            fall_time,
            metrics: match metrics {
                0 => None,
                1 => Some(Metrics::Denied("access denied".to_owned())),
                2 => Some(Metrics::Failed("timeout".to_owned())),
                3 => Some(Metrics::NotAsked),
                _ => Some(Metrics::Read(Readings { fewest, fewest_in_hour, handled, tasks: all })),
            },
            retention: retention.map(|hours| Duration::from_secs(hours * HOUR)),
            oldest_age: oldest_age.map(|age| age.map(|hours| Duration::from_secs(hours * HOUR))),
            tasks,
            brakes: brakes.map(|states| states.into_iter().enumerate().map(brake).collect()),
        }
    }
}

// Decisions

/// What starts, if anything.
fn started(policy: &Policy, seen: &Observation) -> Option<Purpose> {
    match decide(policy, seen, now()) {
        Ok(Decision::Start(start)) => Some(start.purpose),
        _ => None,
    }
}

/// Whether more than a few messages go back to their consumer.
fn starts_many(policy: &Policy, seen: &Observation) -> bool {
    let is_many = seen.depth.visible > 2 * policy.sample.as_secs();
    matches!(started(policy, seen), Some(Purpose::All | Purpose::Rest)) && is_many
}

fn starts(policy: &Policy, seen: &Observation) -> bool {
    started(policy, seen).is_some()
}

/// A policy that the configuration would accept.
fn is_sound(policy: &Policy) -> bool {
    policy.contradictions().is_empty() && policy.attempt_window > Duration::from_secs(60)
}

/// `cases` random cases. To repeat them, set `PROPTEST_RNG_SEED` to the seed that a failure prints.
fn seeded(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => fastrand::u64(..),
    };
    eprintln!("PROPTEST_RNG_SEED={seed}");
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..config
    }
}

proptest! {
    #![proptest_config(seeded(1000))]

    #[test]
    fn nothing_starts_while_a_safety_gate_is_shut(policy in policies(), seen in observations()) {
        let braked = policy.brake_alarms.iter().any(|alarm| {
            !seen.brakes.iter().flatten().any(|brake| brake.alarm == *alarm && brake.state == BrakeState::Off)
        });
        let active = seen.tasks.iter().any(|task| task.status.is_active());
        let unread = policy.unread_tags.is_some();
        if seen.depth.visible == 0 || active || policy.paused || unread || braked {
            prop_assert!(!starts(&policy, &seen));
        }
    }

    #[test]
    fn start_has_the_rate_and_the_destination_of_the_policy(policy in policies(), seen in observations()) {
        if let Ok(Decision::Start(start)) = decide(&policy, &seen, now()) {
            let (rate, most) = (start.max_messages_per_second, policy.max_messages_per_second);
            match start.purpose {
                Purpose::Sample => prop_assert_eq!(rate, Rate::new(1)),
                // An overrun consumer gets a slower rest.
                Purpose::Rest => prop_assert!(rate == most || rate.is_some_and(|rate| rate.get() >= 2 && most.is_none_or(|most| rate <= most))),
                Purpose::All | Purpose::Parking => prop_assert_eq!(rate, most),
            }
            let destination = if start.purpose == Purpose::Parking { &policy.parking } else { &policy.destination };
            prop_assert_eq!(&start.destination, destination);
        }
    }

    #[test]
    fn more_than_few_go_only_after_a_sample_that_stayed_away_or_where_no_sample_helps(
        policy in policies(), seen in observations(),
    ) {
        if !starts_many(&policy, &seen) {
            return Ok(());
        }
        let Some(FallTime::Known(fall)) = &seen.fall_time else {
            return Ok(());
        };
        if policy.forced || policy.sample.is_zero() || matches!(seen.metrics, Some(Metrics::Denied(_))) {
            return Ok(());
        }
        let judged = verdict::verdicts(&policy, &seen, Some(fall), now());
        let newest = judged.first().map(|newest| (newest.verdict, newest.task.max_messages_per_second));
        let streak = verdict::streak(&policy, &judged, seen.depth.total());
        let may_go = match newest {
            Some((Verdict::StayedAway, Some(1))) if started(&policy, &seen) == Some(Purpose::Rest) => true,
            Some((Verdict::Unclear, _)) => judged[0].task.age(now()) >= policy.patience,
            // The last try.
            _ => streak.length + 1 >= policy.max_attempts && !streak.sent_a_tenth,
        };
        prop_assert!(may_go, "{newest:?} {streak:?}");
    }

    #[test]
    fn denied_cloudwatch_starts_nothing_that_the_policy_without_samples_would_not(policy in policies(), seen in observations()) {
        let denied = Observation { metrics: Some(Metrics::Denied("not authorized".to_owned())), ..seen };
        let without = Policy { sample: Duration::ZERO, ..policy.clone() };
        if starts_many(&policy, &denied) {
            prop_assert!(starts_many(&without, &denied));
        }
    }

    #[test]
    fn sqs_that_does_not_show_the_fall_time_never_starts_many(policy in policies(), seen in observations()) {
        let failed = Observation { fall_time: Some(FallTime::Failed("timeout".to_owned())), ..seen };
        prop_assert!(policy.sample.is_zero() || policy.forced || !starts_many(&policy, &failed));
    }

    #[test]
    fn dlq_whose_tasks_all_failed_is_never_parked(policy in policies(), seen in observations()) {
        let failed = |task: &MoveTask| MoveTask { status: TaskStatus::Failed, ..task.clone() };
        let seen = Observation { tasks: seen.tasks.iter().map(failed).collect(), ..seen };
        prop_assert_ne!(started(&policy, &seen), Some(Purpose::Parking));
    }

    #[test]
    fn brake_in_alarm_never_leaves_a_running_task_alone(policy in policies(), seen in observations()) {
        let brakes = policy.brake_alarms.iter().map(|alarm| Brake { alarm: alarm.clone(), state: BrakeState::On });
        let seen = Observation { brakes: Some(brakes.collect()), ..seen };
        let newest_active = seen.tasks.iter().find(|task| task.status.is_active());
        let is_running = newest_active.is_some_and(|task| task.status == TaskStatus::Running);
        if is_running && !policy.brake_alarms.is_empty() && !seen.depth.is_empty() {
            prop_assert!(matches!(decide(&policy, &seen, now()), Ok(Decision::Cancel(_))));
        }
    }

    #[test]
    fn only_a_brake_cancels_tasks_that_are_not_ours(policy in policies(), seen in observations()) {
        use sqs_auto_redrive::plan::Cause;
        if let Ok(Decision::Cancel(cause)) = decide(&policy, &seen, now())
            && !matches!(cause, Cause::Braked(_))
        {
            let active = seen.tasks.iter().find(|task| task.status.is_active()).unwrap();
            let is_to = |queue: &Option<QueueArn>| active.destination_arn == queue.as_ref().map(QueueArn::to_string);
            prop_assert!(is_to(&policy.destination) || (policy.parking.is_some() && is_to(&policy.parking)));
        }
    }

    #[test]
    fn same_facts_lead_to_the_same_decision(policy in policies(), seen in observations()) {
        prop_assert_eq!(decide(&policy, &seen, now()), decide(&policy, &seen, now()));
    }

    #[test]
    fn stricter_policy_never_starts_many_where_a_laxer_one_starts_nothing(
        policy in policies(), seen in observations(), longer in durations(), more in 0..300_u64, fewer in 0..9_u32,
    ) {
        let stricter = [
            Policy { cooldown: policy.cooldown + longer, ..policy.clone() },
            Policy { min_messages: policy.min_messages + more, ..policy.clone() },
            Policy { max_attempts: policy.max_attempts.saturating_sub(fewer).max(1), ..policy.clone() },
            Policy { brake_alarms: [policy.brake_alarms.clone(), vec!["brake 3".to_owned()]].concat(), ..policy.clone() },
            Policy { paused: true, ..policy.clone() },
        ];
        for stricter in stricter.into_iter().filter(|stricter| is_sound(&policy) && is_sound(stricter)) {
            prop_assert!(starts(&policy, &seen) || !starts_many(&stricter, &seen), "{stricter:?}");
        }
    }

    #[test]
    fn metrics_that_fail_never_start_many_where_metrics_that_answer_start_nothing(policy in policies(), seen in observations()) {
        let failed = Observation { metrics: Some(Metrics::Failed("timeout".to_owned())), ..seen.clone() };
        let applies = !policy.sample.is_zero() && matches!(seen.fall_time, Some(FallTime::Known(_)));
        if applies {
            prop_assert!(!starts_many(&policy, &failed), "they wait");
        }
    }

    #[test]
    fn unknown_fall_time_starts_nothing_that_the_policy_without_samples_would_not(policy in policies(), seen in observations()) {
        let unknown = Observation { fall_time: Some(FallTime::Unknown("no source".to_owned())), ..seen.clone() };
        let without = Policy { sample: Duration::ZERO, ..policy.clone() };
        let decision = decide(&policy, &unknown, now());
        prop_assert_eq!(decision, decide(&without, &unknown, now()));
    }

    #[test]
    fn with_all_answers_no_question_is_left(policy in policies(), seen in observations()) {
        let unknown = Observation { fall_time: None, metrics: None, oldest_age: None, brakes: None, ..seen.clone() };
        let brakes = policy.brake_alarms.iter().map(|alarm| Brake { alarm: alarm.clone(), state: BrakeState::Off });
        let answered = Observation {
            fall_time: seen.fall_time.or(Some(FallTime::Unknown("no source".to_owned()))),
            metrics: seen.metrics.or(Some(Metrics::NotAsked)),
            oldest_age: seen.oldest_age.or(Some(None)),
            brakes: Some(brakes.collect()),
            ..seen
        };
        prop_assert!(decide(&policy, &answered, now()).is_ok());
        // Each question is asked once: its answer is there from then on.
        let mut asked = Vec::new();
        let mut seen = unknown;
        while let Err(question) = decide(&policy, &seen, now()) {
            prop_assert!(!asked.contains(&question), "{question:?} again");
            asked.push(question);
            match question {
                Question::FallTime => seen.fall_time = answered.fall_time.clone(),
                Question::Metrics => seen.metrics = answered.metrics.clone(),
                Question::OldestMessage => seen.oldest_age = answered.oldest_age,
                Question::Brakes => seen.brakes = answered.brakes.clone(),
            }
        }
        // A missing permission shows only after a call to CloudWatch; until then the DLQ waits
        // longer.
        if !matches!(answered.metrics, Some(Metrics::Denied(_))) {
            // An answer that came too early to be asked for may show that the DLQ need not wait.
            let action = |decision| match decision {
                Ok(Decision::Skip(_) | Decision::Hold(_)) => None,
                other => Some(other),
            };
            let (asked, known) = (decide(&policy, &seen, now()), decide(&policy, &answered, now()));
            if let Some(asked) = action(asked) {
                prop_assert_eq!(Some(asked), action(known));
            }
        }
    }

    #[test]
    fn streak_counts_no_more_than_there_are_tasks(policy in policies(), seen in observations()) {
        prop_assert!(facts(&policy, &seen, now()).streak as usize <= seen.tasks.len());
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
    for _ in 0..10_000 {
        let (policy, seen) = facts.new_tree(&mut runner).unwrap().current();
        decisions.push(decide(&policy, &seen, now()));
    }
    let count = |kind: fn(&Result<Decision, Question>) -> bool| {
        decisions.iter().filter(|decision| kind(decision)).count()
    };
    let purpose = |purpose| {
        let is_it = |decision: &&Result<Decision, Question>| matches!(decision, Ok(Decision::Start(start)) if start.purpose == purpose);
        decisions.iter().filter(is_it).count()
    };
    let counts = [
        purpose(Purpose::Sample),
        purpose(Purpose::Rest),
        purpose(Purpose::All),
        purpose(Purpose::Parking),
        count(|decision| matches!(decision, Ok(Decision::Skip(_)))),
        count(|decision| matches!(decision, Ok(Decision::Hold(Hold::AttemptsExhausted { .. })))),
        count(|decision| matches!(decision, Ok(Decision::Hold(_)))),
        count(|decision| matches!(decision, Ok(Decision::Cancel(_)))),
        count(|decision| matches!(decision, Err(Question::FallTime))),
        count(|decision| matches!(decision, Err(Question::Metrics))),
        count(|decision| matches!(decision, Err(Question::Brakes))),
    ];
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}

// Random events

/// The samples of `events/`.
static SAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let samples = files
        .iter()
        .filter(|file| file.extension() == Some("json".as_ref()));
    samples
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect()
});

/// A value that may or may not make sense where it is put.
fn strange_values() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "ALARM",
        "OK",
        "orders-dlq",
        "tagged-dlq",
        "stranger-dlq",
        "orders consumer is down",
        "redrive",
        "cancel",
        "all",
        "AWS/SQS",
    ]);
    prop_oneof![
        6 => words.prop_map(Value::from),
        4 => queue_names().prop_map(|name| Value::from(queue(name).to_string())),
        4 => queue_names().prop_map(|name| json!([name])),
        4 => hostile_texts().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(json!(null)),
        1 => hostile_texts().prop_map(|text| json!({text.clone(): [text]})),
    ]
}

/// Queues that are enrolled in one of the setups, destinations, and other queues.
fn queue_names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "orders-dlq",
        "tagged-dlq",
        "paused-dlq",
        "mistyped-dlq",
        "invoices-dlq.fifo",
        "stranger-dlq",
        "elsewhere",
        "refunds",
        "parking",
    ])
}

/// Texts that would forge a line of the log, or hide one.
fn hostile_texts() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just("\n".to_owned()),
        Just("\r\nERROR forged".to_owned()),
        Just("\u{1b}[2K".to_owned()),
        Just("\u{85}\u{2028}\u{2029}".to_owned()),
        Just("\u{202e}\u{2066}".to_owned()),
        Just("x".repeat(300)),
        any::<String>(),
    ];
    vec(pieces, 1..4).prop_map(|pieces| pieces.concat())
}

prop_compose! {
    /// A request, or a sample with a few of its values replaced, in a few envelopes.
    fn events()(
        sample in prop_oneof![
            2 => (0..SAMPLES.len()).prop_map(|n| SAMPLES[n].clone()),
            1 => requests(),
        ],
        changes in vec((any::<prop::sample::Index>(), strange_values()), 0..3),
        envelopes in prop_oneof![3 => Just(Vec::new()), 1 => vec(0..4_u8, 1..5)],
    ) -> String {
        let mut event = sample;
        for (place, value) in changes {
            let places = pointers(&event);
            let place: &String = place.get(&places);
            *event.pointer_mut(place).unwrap() = value;
        }
        for envelope in envelopes {
            let text = event.to_string();
            event = match envelope {
                0 => json!({"Records": [{"messageId": "m", "body": text}]}),
                1 => json!({"Records": [{"Sns": {"Type": "Notification", "Message": text}}]}),
                2 => json!({"Type": "Notification", "Message": text}),
                _ => json!([event, {"messageId": "broken\n", "body": "{"}]),
            };
        }
        event.to_string()
    }
}

prop_compose! {
    fn requests()(
        action in prop_oneof![3 => Just("redrive"), 1 => Just("cancel")],
        queues in option::of(vec(queue_names(), 1..4)),
        destination in option::of(queue_names()),
        rate in option::of(0..502_u64),
        force in any::<bool>(),
        dry_run in prop::bool::weighted(0.2),
    ) -> Value {
        let mut request = json!({"action": action, "force": force, "dryRun": dry_run});
        if let Some(queues) = queues {
            request["queues"] = json!(queues);
        }
        if let Some(destination) = destination {
            request["destinationArn"] = queue(destination).to_string().into();
        }
        if let Some(rate) = rate {
            request["maxMessagesPerSecond"] = rate.into();
        }
        request
    }
}

/// Every place in a value, as JSON pointers; the value itself is the first.
fn pointers(value: &Value) -> Vec<String> {
    let below: Vec<(String, &Value)> = match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, item)| (n.to_string(), item))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        _ => Vec::new(),
    };
    let below = below.into_iter().flat_map(|(name, value)| {
        let below = pointers(value).into_iter();
        below.map(move |rest| format!("/{name}{rest}"))
    });
    std::iter::once(String::new()).chain(below).collect()
}

// What an event makes the function do

/// Everything an event made the function start: the DLQ, and where its messages go.
type Starts = Vec<(QueueArn, Option<String>)>;

/// Invokes the whole function in a setup where every queue has messages, and checks its calls and
/// its texts.
fn take(payload: &str, world: &World) -> Starts {
    const NAMES: [&str; 10] = [
        "orders-dlq",
        "payments-dlq",
        "invoices-dlq.fifo",
        "tagged-dlq",
        "paused-dlq",
        "mistyped-dlq",
        "stranger-dlq",
        "elsewhere",
        "refunds",
        "parking",
    ];
    let all = NAMES.map(queue);
    let fake = all
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
    let fake = world.tags.found.iter().fold(fake, |fake, tagged| {
        let settings = tagged.settings.iter();
        let settings: Vec<(&str, &str)> = settings
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        fake.with_any_tags(&tagged.dlq, &settings)
    });
    let brakes = world.config.policy.brake_alarms.iter();
    let fake = brakes.fold(fake, |fake, alarm| fake.with_alarm(alarm, BrakeState::Off));
    let invocation = Invocation {
        location: world.location.clone(),
        ..fake.invocation()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let function = fake.function(world.config.clone());
    match runtime.block_on(function.invoke(payload, &invocation)) {
        Ok(answer) => {
            assert_report_reads_well(&answer.report, 3000);
            if let Err(failure) = answer.result() {
                assert_reads_well(&failure.to_string(), 5000);
            }
        }
        Err(failure) => {
            assert_reads_well(&failure.to_string(), 3000);
            let reads_only = |call: &String| {
                ["GetResources", "DescribeAlarms"]
                    .iter()
                    .any(|it| call.starts_with(it))
            };
            assert!(fake.calls().iter().all(reads_only));
        }
    }

    let tagged = world.tags.found.iter().map(|tagged| &tagged.dlq);
    let enrolled: BTreeSet<&QueueArn> = world.config.queues.iter().chain(tagged).collect();
    let names: BTreeSet<&str> = enrolled.iter().map(|dlq| dlq.name()).collect();
    for call in fake.calls() {
        let (operation, about) = call.split_once(' ').unwrap_or((&call, ""));
        let is_about_a_queue = !matches!(
            operation,
            "GetResources" | "DescribeAlarms" | "GetMetricData"
        );
        // The function only reads the facts of a destination.
        let is_destination = |queue: &str| {
            let configured = enrolled.iter().flat_map(|dlq| configured(world, dlq));
            let mut destinations = configured.chain(requested(payload)).flatten();
            destinations.any(|arn| arn.rsplit(':').next() == Some(queue))
        };
        let is_fine = match about.strip_suffix(" (facts)") {
            Some(queue) => names.contains(queue) || is_destination(queue),
            None => !is_about_a_queue || names.contains(about),
        };
        assert!(is_fine, "{call}");
    }
    let mut starts = Starts::new();
    for dlq in &all {
        for (_, destination) in fake.starts(dlq) {
            assert!(enrolled.contains(dlq), "{dlq} is not enrolled");
            starts.push((dlq.clone(), destination));
        }
    }
    starts
}

/// The destinations that the environment and the tags set for a DLQ.
fn configured(world: &World, dlq: &QueueArn) -> Vec<Option<String>> {
    let tagged = world.tags.found.iter().filter(|tagged| tagged.dlq == *dlq);
    let settings = tagged.flat_map(|tagged| &tagged.settings);
    let of_tags = settings
        .filter(|(name, _)| name == "destination-arn")
        .map(|(_, value)| Some(value.clone()));
    let policy = &world.config.policy;
    let of_environment = policy.destination.as_ref().map(QueueArn::to_string);
    of_tags.chain([of_environment]).collect()
}

/// The destination of a request; `None` if the event is not a request.
fn requested(payload: &str) -> Option<Option<String>> {
    let event = event::parse(payload).ok()?;
    match &event.triggers[..] {
        [Trigger::Request(request)] => Some(request.destination.as_ref().map(QueueArn::to_string)),
        _ => None,
    }
}

proptest! {
    #![proptest_config(seeded(300))]

    #[test]
    fn no_event_enrolls_a_queue_or_chooses_a_destination_or_breaks_a_line(payload in events()) {
        fuzz::event::check(payload.as_bytes());
        for world in &*WORLDS {
            for (dlq, destination) in take(&payload, world) {
                let is_requested = requested(&payload).flatten().is_some_and(|wanted| destination == Some(wanted));
                prop_assert!(is_requested || configured(world, &dlq).contains(&destination), "{dlq} to {destination:?}");
                prop_assert!(!world.config.policy.paused && !world.config.policy.dry_run);
            }
        }
    }

    #[test]
    fn no_environment_and_no_tag_breaks_a_rule(
        pairs in vec((prop::sample::select(fuzz::config::names()), settings()), 0..8),
    ) {
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        fuzz::config::check(pairs.join("\0").as_bytes());
    }
}

/// Values of settings: some right, some out of range, some hostile.
fn settings() -> impl Strategy<Value = String> {
    let values = vec![
        "true", "FALSE", "auto", "1", "9", "500", "501", "60s", "15m", "1h 30m", "14d", "redrive",
        "k=v", "a, b", "",
    ];
    prop_oneof![
        6 => prop::sample::select(values).prop_map(str::to_owned),
        3 => queue_names().prop_map(|name| queue(name).to_string()),
        1 => hostile_texts(),
    ]
}

/// A generator of events that are all rejected would prove nothing.
#[test]
fn random_events_reach_every_kind_of_trigger_and_every_kind_of_start() {
    let mut runner = TestRunner::deterministic();
    let mut seen = [0; 8];
    for _ in 0..1000 {
        let payload = events().new_tree(&mut runner).unwrap().current();
        let Ok(event) = event::parse(&payload) else {
            seen[0] += 1;
            continue;
        };
        seen[1] += usize::from(!event.unreadable.is_empty());
        for trigger in event.triggers {
            let plan = plan(vec![trigger], &[], &[], &WORLDS[0].location);
            seen[match (plan.kind, plan.selection) {
                (Kind::Request, _) => 4,
                (Kind::Ignored, _) => 5,
                (_, Selection::All) => 2,
                (_, Selection::Named(_)) => 3,
            }] += 1;
        }
        let asked = requested(&payload).flatten();
        for (_, destination) in take(&payload, &WORLDS[0]) {
            seen[if asked.is_some() && asked == destination {
                6
            } else {
                7
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count >= 10), "{seen:?}");
}

// The corpus of the fuzzer

#[test]
fn every_input_of_the_fuzzers_corpus_keeps_the_rules() {
    for (target, check) in [
        ("event", fuzz::event::check as fn(&[u8])),
        ("config", fuzz::config::check),
    ] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let mut files = 0;
        for file in std::fs::read_dir(corpus).unwrap() {
            check(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files >= 20, "{target}: {files}");
    }
}
