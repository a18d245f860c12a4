use super::*;
use crate::metrics::{Metrics, Readings};
use crate::queue::Depth;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn fall() -> Fall {
    Fall {
        time: MINUTE * 4,
        consumed: Vec::new(),
    }
}

fn task(status: &str, moved: u64, to_move: Option<u64>, ago: Duration) -> MoveTask {
    MoveTask {
        status: TaskStatus::from_sqs(Some(status)),
        handle: None,
        started_at: Some(now() - ago),
        moved,
        to_move,
        destination_arn: None,
        max_messages_per_second: Some(50),
        failure_reason: None,
    }
}

fn sample(moved: u64, to_move: u64, ago: Duration) -> MoveTask {
    MoveTask {
        max_messages_per_second: Some(1),
        ..task("CANCELLED", moved, Some(to_move), ago)
    }
}

fn seen(visible: u64, in_flight: u64, tasks: &[MoveTask]) -> Observation {
    Observation {
        depth: Depth { visible, in_flight },
        tasks: tasks.to_vec(),
        fall_time: Some(FallTime::Known(fall())),
        ..Observation::default()
    }
}

/// The verdict on the newest task, and how many of its messages came back.
fn newest(seen: &Observation) -> (Verdict, u64) {
    let judged = verdicts(&Policy::default(), seen, Some(&fall()), now());
    (judged[0].verdict, judged[0].came_back)
}

#[test]
fn more_than_half_in_the_dlq_again_came_back() {
    let all = task("COMPLETED", 100, Some(100), HOUR);
    for (visible, in_flight, verdict) in [
        (50, 0, Verdict::StayedAway),
        (51, 0, Verdict::CameBack),
        (0, 51, Verdict::CameBack),
        (25, 25, Verdict::StayedAway),
    ] {
        let seen = seen(visible, in_flight, std::slice::from_ref(&all));
        assert_eq!(newest(&seen), (verdict, visible + in_flight));
    }
}

#[test]
fn of_a_canceled_task_what_it_left_does_not_count() {
    for (visible, moved, expected) in [
        (980, 20, (Verdict::StayedAway, 0)),
        (990, 20, (Verdict::StayedAway, 10)),
        (991, 20, (Verdict::CameBack, 11)),
        (1000, 14, (Verdict::CameBack, 14)),
        (980, 14, (Verdict::StayedAway, 0)),
        (1000, 0, (Verdict::CameBack, 1)),
        (999, 0, (Verdict::StayedAway, 0)),
        (5000, 20, (Verdict::CameBack, 20)),
    ] {
        let seen = seen(visible, 0, &[sample(moved, 1000, HOUR)]);
        assert_eq!(newest(&seen), expected, "{visible} visible, {moved} moved");
    }
}

#[test]
fn canceled_task_without_a_count_of_messages_to_move_came_back() {
    let seen = seen(1, 0, &[task("CANCELLED", 20, None, HOUR)]);
    assert_eq!(newest(&seen).0, Verdict::CameBack);
}

#[test]
fn count_of_moved_messages_that_lags_does_not_matter_to_a_completed_task() {
    let seen = seen(51, 0, &[task("COMPLETED", 0, Some(100), HOUR)]);
    assert_eq!(newest(&seen).0, Verdict::CameBack);
}

#[test]
fn failed_task_came_back_even_with_nothing_to_move() {
    for to_move in [None, Some(0), Some(100)] {
        let seen = seen(1, 0, &[task("FAILED", 0, to_move, HOUR)]);
        assert_eq!(newest(&seen).0, Verdict::CameBack, "{to_move:?}");
    }
}

#[test]
fn running_foreign_and_forgotten_tasks_have_no_verdict() {
    let running = task("RUNNING", 10, Some(100), MINUTE);
    let foreign = MoveTask {
        destination_arn: Some("arn:aws:sqs:eu-west-1:123456789012:else".to_owned()),
        ..task("COMPLETED", 100, Some(100), HOUR)
    };
    let forgotten = task("COMPLETED", 100, Some(100), HOUR * 25);
    let nothing = task("COMPLETED", 0, Some(0), HOUR);
    let uncounted = task("COMPLETED", 0, None, HOUR);
    let canceled = task("CANCELLED", 0, Some(0), HOUR);
    let tasks = [running, foreign, nothing, uncounted, canceled, forgotten];
    let seen = seen(100, 0, &tasks);
    assert_eq!(
        verdicts(&Policy::default(), &seen, Some(&fall()), now()),
        []
    );
}

#[test]
fn older_task_is_judged_by_what_the_next_newer_one_met() {
    let tasks = [
        task("COMPLETED", 30, Some(30), HOUR),
        task("COMPLETED", 100, Some(100), HOUR * 2),
    ];
    let seen = seen(0, 0, &tasks);
    let judged = verdicts(&Policy::default(), &seen, Some(&fall()), now());
    assert_eq!(judged[1].verdict, Verdict::StayedAway);
    assert_eq!(judged[1].came_back, 30);
}

#[test]
fn tasks_count_for_as_long_as_all_attempts_take() {
    let slow = Observation {
        fall_time: Some(FallTime::Long(HOUR * 8)),
        ..seen(1, 0, &[task("COMPLETED", 1, Some(1), HOUR * 47)])
    };
    assert_eq!(verdicts(&Policy::default(), &slow, None, now()).len(), 1);
    let unsampled = Policy {
        sample: Duration::ZERO,
        ..Policy::default()
    };
    assert_eq!(verdicts(&unsampled, &slow, None, now()), []);
    let slow = seen(1, 0, &[task("COMPLETED", 1, Some(1), HOUR * 47)]);
    assert_eq!(verdicts(&Policy::default(), &slow, None, now()).len(), 0);
}

const PARKING: &str = "arn:aws:sqs:eu-west-1:123456789012:parking";

fn with_parking() -> Policy {
    Policy {
        parking: Some(PARKING.parse().unwrap()),
        ..Policy::default()
    }
}

fn parked(status: &str, ago: Duration) -> MoveTask {
    MoveTask {
        destination_arn: Some(PARKING.to_owned()),
        ..task(status, 100, Some(100), ago)
    }
}

#[test]
fn task_to_the_parking_queue_has_no_verdict_and_a_completed_one_ends_the_past() {
    let ours = |ago| task("COMPLETED", 100, Some(100), ago);
    for (status, count) in [("FAILED", 2), ("CANCELLED", 2), ("COMPLETED", 1)] {
        let tasks = [ours(HOUR), parked(status, HOUR * 2), ours(HOUR * 3)];
        let seen = seen(100, 0, &tasks);
        let judged = verdicts(&with_parking(), &seen, Some(&fall()), now());
        assert_eq!(judged.len(), count, "{status}");
    }
}

#[test]
fn parking_has_failed_if_its_last_two_tasks_did_with_no_redrive_between_them() {
    let foreign = |status| MoveTask {
        destination_arn: Some("arn:aws:sqs:eu-west-1:123456789012:else".to_owned()),
        ..task(status, 100, Some(100), HOUR)
    };
    let ours = || task("FAILED", 100, Some(100), HOUR);
    let of = |status| parked(status, HOUR);
    for (tasks, has_failed) in [
        (vec![of("FAILED"), of("FAILED")], true),
        (vec![of("FAILED")], false),
        (vec![of("FAILED"), of("COMPLETED")], false),
        (vec![of("COMPLETED"), of("FAILED")], false),
        (vec![of("FAILED"), foreign("COMPLETED"), of("FAILED")], true),
        (vec![foreign("FAILED"), of("FAILED")], false),
        (vec![of("FAILED"), ours(), of("FAILED")], false),
        (vec![of("CANCELLED"), of("FAILED"), of("FAILED")], true),
        (vec![of("RUNNING"), of("FAILED"), of("FAILED")], true),
        (vec![of("FAILED"), parked("FAILED", HOUR * 25)], false),
    ] {
        let seen = seen(100, 0, &tasks);
        let failed = failed_parking(&with_parking(), &seen, now());
        assert_eq!(failed.is_some(), has_failed, "{tasks:#?}");
    }
}

// What to ask CloudWatch.

fn query(policy: &Policy, seen: &Observation) -> MetricsQuery {
    let dlq = "arn:aws:sqs:eu-west-1:123456789012:orders-dlq";
    metrics_query(policy, seen, &dlq.parse().unwrap(), now())
}

/// How long before now something is.
fn ago(time: SystemTime) -> Duration {
    now().duration_since(time).unwrap()
}

#[test]
fn without_samples_only_the_depth_within_the_quiet_period_is_asked_for() {
    let unsampled = Policy {
        sample: Duration::ZERO,
        ..Policy::default()
    };
    let known = seen(100, 0, &[task("COMPLETED", 100, Some(100), HOUR)]);
    let unknown = Observation {
        fall_time: None,
        ..known.clone()
    };
    for (policy, seen) in [(&unsampled, &known), (&Policy::default(), &unknown)] {
        let query = query(policy, seen);
        assert_eq!((query.consumed, query.tasks), (vec![], vec![]));
        assert_eq!(ago(query.from), policy.quiet_period + METRICS_DELAY);
        assert!(!query.shows_dips);
    }
}

#[test]
fn metrics_are_asked_for_from_a_quiet_period_before_the_oldest_task_and_for_an_hour_at_least() {
    let policy = Policy::default();
    let asked_from =
        |policy: &Policy, tasks: &[MoveTask]| ago(query(policy, &seen(5, 0, tasks)).from);
    let of = |ago| task("COMPLETED", 100, Some(100), ago);
    assert_eq!(asked_from(&policy, &[]), HOUR + METRICS_DELAY);
    assert_eq!(asked_from(&policy, &[of(MINUTE)]), HOUR + METRICS_DELAY);
    let before = policy.quiet_period + MINUTE * 5;
    let two = [of(HOUR * 2), of(HOUR * 3)];
    assert_eq!(asked_from(&policy, &two), HOUR * 3 + before);
    let patient = Policy {
        quiet_period: HOUR * 4,
        ..policy
    };
    assert_eq!(asked_from(&patient, &[]), HOUR * 4 + METRICS_DELAY);
}

#[test]
fn each_task_of_ours_is_asked_about_until_the_next_one_began() {
    let foreign = MoveTask {
        destination_arn: Some("arn:aws:sqs:eu-west-1:123456789012:else".to_owned()),
        ..task("COMPLETED", 100, Some(100), HOUR)
    };
    let tasks = [
        foreign,
        sample(20, 1000, HOUR * 2),
        task("COMPLETED", 30, Some(30), HOUR * 3),
        task("COMPLETED", 100, Some(100), HOUR * 30),
    ];
    let asked = query(&Policy::default(), &seen(5, 0, &tasks)).tasks;
    let asked = asked.iter();
    let asked = asked.map(|it| (ago(it.started), ago(it.until), it.calm_depth, it.calm_for));
    let of_sample = (HOUR * 2, HOUR, 990, MINUTE * 30);
    let of_few = (HOUR * 3, HOUR * 2, 15, MINUTE);
    assert_eq!(asked.collect::<Vec<_>>(), [of_sample, of_few]);
}

#[test]
fn dips_matter_only_after_whole_redrives_of_few() {
    let few = || task("COMPLETED", 40, Some(40), HOUR);
    for (tasks, shows_dips) in [
        (vec![], false),
        (vec![few()], true),
        (vec![few(), few()], true),
        (vec![task("COMPLETED", 41, Some(41), HOUR)], false),
        (vec![few(), sample(20, 30, HOUR)], false),
    ] {
        let query = query(&Policy::default(), &seen(5, 0, &tasks));
        assert_eq!(query.shows_dips, shows_dips, "{tasks:#?}");
    }
}

/// A redrive of 100 an hour ago, 100 in the DLQ now, and these readings.
fn doubtful(readings: TaskReadings) -> Observation {
    let all = Readings {
        tasks: vec![readings],
        ..Readings::default()
    };
    Observation {
        metrics: Some(Metrics::Read(all)),
        ..seen(100, 0, &[task("COMPLETED", 100, Some(100), HOUR)])
    }
}

fn readings() -> TaskReadings {
    TaskReadings {
        started: now() - HOUR,
        first_handled: Some(now() - HOUR + MINUTE),
        last_handled: Some(now()),
        handled_until: Some(now()),
        calm_since: None,
        gained_before: 0,
        handled_before: 0,
    }
}

#[test]
fn new_messages_after_a_calm_half_hour_are_not_returned_ones() {
    // The consumer handled something after a minute; failing messages were back four minutes later.
    let back_by = now() - HOUR + MINUTE * 5;
    let calm = |since| {
        newest(&doubtful(TaskReadings {
            calm_since: Some(since),
            ..readings()
        }))
        .0
    };
    assert_eq!(calm(back_by), Verdict::StayedAway);
    assert_eq!(calm(back_by - MINUTE), Verdict::CameBack);
    let silent = TaskReadings {
        first_handled: None,
        calm_since: Some(now()),
        ..readings()
    };
    assert_eq!(
        newest(&doubtful(silent)).0,
        Verdict::CameBack,
        "nobody tried them"
    );
}

#[test]
fn failed_task_came_back_however_calm_its_dlq_was() {
    let mut seen = doubtful(TaskReadings {
        calm_since: Some(now() - MINUTE * 50),
        ..readings()
    });
    assert_eq!(newest(&seen).0, Verdict::StayedAway);
    seen.tasks[0].status = TaskStatus::Failed;
    assert_eq!(newest(&seen).0, Verdict::CameBack);
}

#[test]
fn few_new_messages_after_a_whole_redrive_of_few_need_no_calm_half_hour() {
    // After the fall time of four minutes, two more for what the estimate may be off by.
    let back_by = now() - HOUR + MINUTE * 5 + SLACK;
    let one_each = |calm_since| {
        let readings = TaskReadings {
            calm_since: Some(calm_since),
            ..readings()
        };
        let metrics = doubtful(readings).metrics;
        let redrive = task("COMPLETED", 1, Some(1), HOUR);
        let seen = Observation {
            metrics,
            ..seen(1, 0, &[redrive])
        };
        newest(&seen).0
    };
    assert_eq!(one_each(back_by), Verdict::StayedAway);
    let too_early = back_by - Duration::from_secs(1);
    assert_eq!(one_each(too_early), Verdict::CameBack);
}

#[test]
fn few_returning_messages_among_many_new_ones_are_unclear() {
    let arriving = |gained_before, handled_before| {
        newest(&doubtful(TaskReadings {
            gained_before,
            handled_before,
            ..readings()
        }))
        .0
    };
    // Of ten minutes, six are a fall time and two minutes: 85 gained are 51, and half of 100 is 50.
    assert_eq!(arriving(85, 85 * 19), Verdict::Unclear);
    assert_eq!(arriving(83, 83 * 19), Verdict::CameBack, "it would show");
    assert_eq!(
        arriving(85, 85 * 17),
        Verdict::CameBack,
        "the consumer is not well"
    );
}

#[test]
fn streak_counts_what_came_back_up_to_the_first_whole_redrive_that_stayed_away() {
    let policy = Policy::default();
    let judged = |verdict, task: &MoveTask| Judged {
        task: Box::leak(Box::new(task.clone())),
        verdict,
        came_back: 0,
    };
    let (all, one) = (task("COMPLETED", 9, Some(9), HOUR), sample(9, 99, HOUR));
    let failed = task("FAILED", 0, None, HOUR);
    use Verdict::{CameBack, StayedAway, Unclear};
    let length = |judged: &[Judged]| streak(&policy, judged, 9).length;
    let back = judged(CameBack, &all);
    assert_eq!(length(&[back, judged(Unclear, &all), back]), 2);
    assert_eq!(length(&[back, judged(StayedAway, &one), back]), 2);
    assert_eq!(length(&[back, judged(StayedAway, &all), back]), 1);
    let only_failed = [judged(CameBack, &failed), judged(CameBack, &failed)];
    assert!(streak(&policy, &only_failed, 9).only_failed);
    assert!(!streak(&policy, &[only_failed[0], back], 9).only_failed);
    assert!(!streak(&policy, &[back, only_failed[0]], 9).only_failed);
    assert!(!streak(&policy, &[], 9).only_failed);
    assert!(streak(&policy, &[judged(CameBack, &one), back], 9).sent_a_tenth);
    assert!(!streak(&policy, &[judged(CameBack, &one), only_failed[0]], 9).sent_a_tenth);
}

#[test]
fn canceled_redrives_count_together_and_any_other_by_itself() {
    let canceled = task("CANCELLED", 60, Some(100), HOUR);
    let completed = task("COMPLETED", 100, Some(100), HOUR * 2);
    let back = |task: &MoveTask| Judged {
        task: Box::leak(Box::new(task.clone())),
        verdict: Verdict::CameBack,
        came_back: 0,
    };
    let sent_a_tenth = |tasks: [&MoveTask; 2], in_dlq| {
        streak(&Policy::default(), &tasks.map(back), in_dlq).sent_a_tenth
    };
    for tasks in [[&canceled, &completed], [&completed, &canceled]] {
        assert!(!sent_a_tenth(tasks, 1_500));
        assert!(sent_a_tenth(tasks, 1_000));
    }
    assert!(sent_a_tenth([&canceled, &canceled], 1_200));
    assert!(!sent_a_tenth([&canceled, &canceled], 1_210));
}

#[test]
fn end_of_a_task_is_estimated_from_its_pace() {
    let lasted = |task: MoveTask| {
        let ended = end(&Policy::default(), &task).unwrap();
        ended
            .duration_since(task.started_at.unwrap())
            .unwrap()
            .as_secs()
    };
    let at = |pace| MoveTask {
        max_messages_per_second: pace,
        ..task("COMPLETED", 1000, Some(1000), HOUR)
    };
    assert_eq!(lasted(at(Some(50))), 20);
    assert_eq!(lasted(at(Some(10))), 100);
    assert_eq!(lasted(at(Some(5))), 400, "twice that below ten a second");
    assert_eq!(lasted(at(None)), 4);
    assert_eq!(lasted(sample(20, 1000, HOUR)), 50);
}

/// 100,000 messages at one a second take 28 hours.
#[test]
fn task_longer_than_the_window_counts_for_a_window_after_its_end() {
    let long = |ago| MoveTask {
        max_messages_per_second: Some(10),
        ..task("COMPLETED", 1_000_000, Some(1_000_000), ago)
    };
    let lasted = Duration::from_secs(100_000);
    let day = HOUR * 24;
    assert!(lasted > day);
    for (ago, counts) in [(lasted + day, true), (lasted + day + MINUTE, false)] {
        let seen = seen(1_000_000, 0, &[long(ago)]);
        let judged = verdicts(&Policy::default(), &seen, None, now());
        assert_eq!(judged.len(), usize::from(counts), "{ago:?}");
    }
}

/// The largest count that SQS's API can hold puts the end of the task near the end of time.
#[test]
fn count_without_bounds_does_not_overflow_the_time_of_settling() {
    let since_epoch = 1_800_000_000_u64;
    for less in [0, since_epoch, since_epoch + 100, since_epoch + 300] {
        for pace in [Some(1), Some(2), None] {
            let largest = u64::try_from(i64::MAX).unwrap() - less;
            let task = MoveTask {
                max_messages_per_second: pace,
                ..task("CANCELLED", largest, Some(largest), Duration::ZERO)
            };
            let judged = Judged {
                task: &task,
                verdict: Verdict::CameBack,
                came_back: 0,
            };
            let tasks = std::slice::from_ref(&task);
            let policy = Policy::default();
            let at = settled(&policy, &seen(1, 0, tasks), &judged, &fall());
            let latest = now() + HOUR * 37 + fall().time + SLACK;
            assert!(
                matches!(at, Some(Settled::At(at)) if at <= latest),
                "{at:?}"
            );
        }
    }
}
