//! The rules where sampling applies: it is on, the fall time is known, and CloudWatch may be read.

use super::*;
use crate::fall::Fall;
use crate::metrics::TaskReadings;

const FALL: Duration = Duration::from_secs(240);

fn fall() -> Fall {
    Fall {
        time: FALL,
        consumed: vec![orders()],
    }
}

fn orders() -> QueueArn {
    "arn:aws:sqs:eu-west-1:123456789012:orders".parse().unwrap()
}

/// A task that SQS listed as CANCELLED: a sample of which it counted `moved` messages.
fn sample(moved: u64, to_move: u64, ago: Duration) -> MoveTask {
    MoveTask {
        moved,
        to_move: Some(to_move),
        max_messages_per_second: Some(1),
        ..with_status("CANCELLED", task(0, ago))
    }
}

fn running(task: MoveTask) -> MoveTask {
    MoveTask {
        handle: Some("handle".to_owned()),
        ..with_status("RUNNING", task)
    }
}

/// The readings around a task whose consumer handled something a minute after the start.
fn consumed(task: &MoveTask) -> TaskReadings {
    let started = task.started_at.unwrap();
    TaskReadings {
        started,
        first_handled: Some(started + MINUTE),
        last_handled: Some(now()),
        handled_until: Some(now()),
        calm_since: None,
        gained_before: 0,
        handled_before: 1000,
    }
}

/// A DLQ with known fall time, these tasks, and a consumer that handled something of each.
fn known(visible: u64, tasks: impl IntoIterator<Item = MoveTask>) -> Observation {
    let tasks: Vec<MoveTask> = tasks.into_iter().collect();
    let readings = Readings {
        fewest: Some(visible),
        fewest_in_hour: Some(visible),
        handled: 1000,
        tasks: tasks.iter().map(consumed).collect(),
    };
    Observation {
        fall_time: Some(FallTime::Known(fall())),
        metrics: Some(Metrics::Read(readings)),
        ..seen(visible, tasks)
    }
}

fn with_readings(change: impl FnOnce(&mut Readings), mut seen: Observation) -> Observation {
    match &mut seen.metrics {
        Some(Metrics::Read(readings)) => change(readings),
        other => panic!("{other:?}"),
    }
    seen
}

fn with_metrics(metrics: Option<Metrics>, seen: Observation) -> Observation {
    Observation { metrics, ..seen }
}

/// A sample that nobody has tried.
pub(super) fn not_consumed() -> Observation {
    let seen = known(980, [sample(20, 1000, MINUTE * 30)]);
    with_readings(|readings| readings.tasks[0].first_handled = None, seen)
}

/// A DLQ about which CloudWatch fails.
pub(super) fn metrics_failed() -> Observation {
    let failed = Some(Metrics::Failed("timeout".to_owned()));
    with_metrics(failed, known(1000, []))
}

/// A redrive that came back, or did not.
pub(super) fn cannot_be_told() -> Observation {
    let seen = known(100, [task(100, HOUR)]);
    with_readings(
        |readings| {
            readings.tasks[0].gained_before = 200;
            readings.tasks[0].handled_before = 10_000;
        },
        seen,
    )
}

#[track_caller]
fn starts_for(purpose: Purpose, decision: Decision) -> Start {
    let start = starts(decision);
    assert_eq!(start.purpose, purpose);
    start
}

// What starts.

#[test]
fn first_redrive_of_many_messages_is_a_sample_at_one_a_second() {
    let start = starts_for(Purpose::Sample, decide_by_default(&known(1000, [])));
    assert_eq!(start.max_messages_per_second, Rate::new(1));
}

#[test]
fn few_messages_all_go() {
    starts_for(Purpose::All, decide_by_default(&known(40, [])));
    starts_for(Purpose::Sample, decide_by_default(&known(41, [])));
}

#[test]
fn all_go_without_samples_an_unknown_fall_time_or_the_permission_to_read_metrics() {
    let off = Policy {
        sample: Duration::ZERO,
        ..Policy::default()
    };
    starts_for(Purpose::All, decide_now(&off, &known(1000, [])));
    for fall_time in [
        FallTime::Unknown("why".to_owned()),
        FallTime::Long(HOUR * 2),
    ] {
        let unknown = Observation {
            fall_time: Some(fall_time),
            ..known(1000, [])
        };
        starts_for(Purpose::All, decide_by_default(&unknown));
    }
    let denied = Some(Metrics::Denied("no".to_owned()));
    let denied = with_metrics(denied, known(1000, []));
    starts_for(Purpose::All, decide_by_default(&denied));
}

#[test]
fn rest_follows_a_sample_that_stayed_away_without_a_cooldown_or_a_minimum() {
    let policy = Policy {
        min_messages: 2000,
        ..Policy::default()
    };
    let stayed = known(980, [sample(20, 1000, MINUTE * 8)]);
    let start = starts_for(Purpose::Rest, decide_now(&policy, &stayed));
    assert_eq!(start.max_messages_per_second, Rate::new(50));
}

#[test]
fn growth_does_not_hold_back_the_rest() {
    let stayed = known(980, [sample(20, 1000, MINUTE * 8)]);
    let growing = with_readings(
        |readings| (readings.fewest, readings.handled) = (Some(0), 0),
        stayed,
    );
    starts_for(Purpose::Rest, decide_by_default(&growing));
}

#[test]
fn sample_follows_a_sample_that_came_back() {
    let came_back = known(1000, [sample(20, 1000, MINUTE * 16)]);
    starts_for(Purpose::Sample, decide_by_default(&came_back));
}

#[test]
fn last_try_sends_all_if_nothing_sent_all_before() {
    let samples = |n: u32| (1..=n).map(|k| sample(20, 1000, HOUR * (2 * k + 1)));
    starts_for(Purpose::Sample, decide_by_default(&known(1000, samples(3))));
    starts_for(Purpose::All, decide_by_default(&known(1000, samples(4))));
    let all = task(1000, HOUR * 11);
    let tried = known(1000, samples(3).chain([all]));
    starts_for(Purpose::Sample, decide_by_default(&tried));
}

#[test]
fn no_dlq_is_held_or_parked_before_it_was_sent_whole_once() {
    let samples = (1..=5).map(|k| sample(20, 1000, HOUR * (3 + k)));
    let seen = known(1000, samples);
    starts_for(Purpose::All, decide_by_default(&seen));
    starts_for(Purpose::All, decide_now(&with_parking(), &seen));
    let samples = (1..=4).map(|k| sample(20, 1000, HOUR * (2 * k + 1)));
    let tried = known(1000, [task(1000, HOUR * 2)].into_iter().chain(samples));
    assert_eq!(
        decide_by_default(&tried),
        Decision::Hold(Hold::AttemptsExhausted { streak: 5 })
    );
    starts_for(Purpose::Parking, decide_now(&with_parking(), &tried));
}

#[test]
fn force_sends_all_but_not_while_lambda_may_repeat_a_request_that_started_more_than_a_sample() {
    let forced = Policy::default().forced(Duration::from_secs(30));
    let after = |task| decide_now(&forced, &known(1000, [task]));
    cools_for(MINUTE, after(task(1000, MINUTE * 4)));
    starts_for(Purpose::All, after(task(1000, MINUTE * 5)));
    starts_for(Purpose::All, after(sample(20, 1000, MINUTE)));
}

#[test]
fn rest_is_slower_if_a_whole_redrive_came_back_although_its_sample_stayed_away() {
    let overrun = |pace| {
        let all = MoveTask {
            max_messages_per_second: pace,
            ..task(980, HOUR)
        };
        let before = sample(20, 1000, HOUR * 2);
        let now = sample(20, 1000, MINUTE * 10);
        let start = decide_by_default(&known(980, [now, all, before]));
        starts_for(Purpose::Rest, start).max_messages_per_second
    };
    assert_eq!(overrun(Some(50)), Rate::new(10));
    assert_eq!(overrun(Some(5)), Rate::new(2));
    assert_eq!(overrun(None), Rate::new(50));
}

#[test]
fn rest_has_the_usual_pace_unless_a_whole_redrive_came_back_right_after_a_good_sample() {
    let newest = || sample(20, 1000, MINUTE * 10);
    let good = |ago| sample(20, 1000, ago);
    // Its messages were in the DLQ again when the next task started.
    let bad = |ago| sample(20, 980, ago);
    let whole = |size, ago| MoveTask {
        max_messages_per_second: Some(50),
        ..task(size, ago)
    };
    for (older, expected) in [
        (vec![whole(980, HOUR), good(HOUR * 2)], 10),
        // The redrive stayed away: few were left at the next start.
        (vec![whole(5000, HOUR), good(HOUR * 2)], 50),
        // The sample before it came back, too.
        (vec![whole(980, HOUR), bad(HOUR * 2)], 50),
        // What came back is a sample.
        (vec![bad(HOUR), good(HOUR * 2)], 50),
        (vec![whole(5000, HOUR), bad(HOUR * 2)], 50),
    ] {
        let tasks = [vec![newest()], older].concat();
        let start = decide_by_default(&known(980, tasks.clone()));
        let pace = starts_for(Purpose::Rest, start).max_messages_per_second;
        assert_eq!(pace, Rate::new(expected), "{tasks:#?}");
    }
}

#[test]
fn rest_follows_a_sample_of_which_less_than_half_came_back() {
    for (visible, purpose) in [(985, Purpose::Rest), (990, Purpose::Rest)] {
        let sampled = known(visible, [sample(20, 1000, MINUTE * 10)]);
        starts_for(purpose, decide_by_default(&sampled));
    }
}

#[test]
fn task_that_had_nothing_to_move_takes_no_rest_from_a_good_sample() {
    let nothing = task(0, MINUTE * 20);
    let tasks = [nothing, sample(20, 1000, MINUTE * 40)];
    starts_for(Purpose::Rest, decide_by_default(&known(980, tasks)));
}

#[test]
fn cooldown_counts_after_a_task_at_the_sample_pace_where_sampling_does_not_apply() {
    let tasks = [sample(20, 1000, MINUTE * 5)];
    cools_for(MINUTE * 10, decide_by_default(&seen(980, tasks)));
}

// Active tasks.

#[test]
fn brake_in_alarm_cancels_a_running_task_also_while_paused() {
    let paused = Policy {
        paused: true,
        ..with_brakes_set()
    };
    let active = known(500, [running(task(1000, MINUTE * 3))]);
    for policy in [with_brakes_set(), paused] {
        assert_eq!(decide(&policy, &active, now()), Err(Question::Brakes));
        let braked = with_brake(BrakeState::On, active.clone());
        let alarm = "consumer is down".to_owned();
        assert_eq!(
            decide_now(&policy, &braked),
            Decision::Cancel(Cause::Braked(alarm))
        );
        for state in [BrakeState::Off, BrakeState::Unknown("no answer".to_owned())] {
            let seen = with_brake(state, active.clone());
            assert_eq!(decide_now(&policy, &seen), Decision::Skip(Skip::TaskActive));
        }
    }
}

#[test]
fn brake_in_alarm_cancels_where_sampling_does_not_apply_too() {
    let active = seen(500, [running(task(1000, MINUTE * 3))]);
    let braked = with_brake(BrakeState::On, active);
    assert!(matches!(
        decide_now(&with_brakes_set(), &braked),
        Decision::Cancel(Cause::Braked(_))
    ));
}

#[test]
fn sample_whose_time_is_over_is_canceled() {
    let after = |seconds, to_move| {
        let running = running(sample(20, to_move, Duration::from_secs(seconds)));
        decide_by_default(&known(1000, [running]))
    };
    assert_eq!(after(141, 1000), Decision::Cancel(Cause::SampleOver));
    assert_eq!(after(140, 1000), Decision::Skip(Skip::TaskActive));
    assert_eq!(after(141, 40), Decision::Skip(Skip::TaskActive), "few");
}

#[test]
fn task_of_a_person_is_canceled_for_a_brake_only() {
    let elsewhere = "arn:aws:sqs:eu-west-1:123456789012:elsewhere".to_owned();
    let foreign = |task: MoveTask| MoveTask {
        destination_arn: Some(elsewhere.clone()),
        ..running(task)
    };
    for task in [sample(20, 1000, HOUR), task(1000, HOUR)] {
        let seen = known(1000, [foreign(task)]);
        assert_eq!(decide_by_default(&seen), Decision::Skip(Skip::TaskActive));
        let braked = with_brake(BrakeState::On, seen);
        assert!(matches!(
            decide_now(&with_brakes_set(), &braked),
            Decision::Cancel(Cause::Braked(_))
        ));
    }
}

#[test]
fn redrive_whose_messages_come_back_is_canceled() {
    let moving = |moved, visible, ago| {
        let task = MoveTask {
            moved,
            ..running(task(1000, ago))
        };
        decide_by_default(&known(visible, [task]))
    };
    let late = MINUTE * 7;
    assert_eq!(moving(400, 801, late), Decision::Cancel(Cause::Bouncing));
    assert_eq!(moving(400, 800, late), Decision::Skip(Skip::TaskActive));
    for (moved, expected) in [
        (39, Decision::Skip(Skip::TaskActive)),
        (40, Decision::Cancel(Cause::Bouncing)),
    ] {
        assert_eq!(moving(moved, 1000, late), expected, "39 are few");
    }
    assert_eq!(
        moving(400, 801, MINUTE * 6),
        Decision::Skip(Skip::TaskActive)
    );
}

#[test]
fn redrive_that_nobody_consumes_is_canceled() {
    let moving = |silent: Duration| {
        let task = MoveTask {
            moved: 400,
            ..running(task(1000, MINUTE * 30))
        };
        let seen = known(600, [task]);
        with_readings(
            |readings| readings.tasks[0].last_handled = Some(now() - silent),
            seen,
        )
    };
    let silent = moving(MINUTE * 6);
    assert_eq!(
        decide_by_default(&silent),
        Decision::Cancel(Cause::Bouncing)
    );
    let busy = moving(MINUTE * 5);
    assert_eq!(decide_by_default(&busy), Decision::Skip(Skip::TaskActive));
    // A gap in the datapoints is a doubt.
    let until = |until| with_readings(|it| it.tasks[0].handled_until = until, silent.clone());
    let late = until(Some(now() - MINUTE * 2));
    assert_eq!(decide_by_default(&late), Decision::Skip(Skip::TaskActive));
    let no_data = until(None);
    assert_eq!(
        decide_by_default(&no_data),
        Decision::Skip(Skip::TaskActive)
    );
}

#[test]
fn task_that_runs_too_long_or_has_an_unknown_status_is_held() {
    let status = |decision| match decision {
        Decision::Hold(Hold::TaskStuck { status }) => status,
        other => panic!("{other:?}"),
    };
    let old = seen(5, [running(task(1000, HOUR * 37 + MINUTE))]);
    assert_eq!(status(decide_by_default(&old)), "RUNNING");
    let unknown = seen(5, [with_status("PONDERING", task(1000, MINUTE))]);
    assert_eq!(status(decide_by_default(&unknown)), "PONDERING");
    let running = seen(5, [running(task(1000, HOUR * 37))]);
    assert_eq!(
        decide_by_default(&running),
        Decision::Skip(Skip::TaskActive)
    );
}

#[test]
fn task_that_is_still_being_canceled_after_the_longest_run_is_held() {
    let canceled = |age| seen(5, [with_status("CANCELLING", task(1000, age))]);
    let stuck = Hold::TaskStuck {
        status: "CANCELLING".to_owned(),
    };
    let old = canceled(HOUR * 37 + MINUTE);
    assert_eq!(decide_by_default(&old), Decision::Hold(stuck));
    let recent = canceled(HOUR * 37);
    assert_eq!(decide_by_default(&recent), Decision::Skip(Skip::TaskActive));
}

#[test]
fn active_task_is_reported_before_messages_in_flight() {
    let in_flight = Observation {
        depth: Depth {
            visible: 0,
            in_flight: 9,
        },
        ..seen(0, [running(task(9, MINUTE))])
    };
    assert_eq!(
        decide_by_default(&in_flight),
        Decision::Skip(Skip::TaskActive)
    );
}

// Settled or not.

#[test]
fn sample_is_settled_a_fall_time_after_its_end_and_after_something_was_handled() {
    // Its end: 50 s after its start. Then the fall time and two minutes.
    let settled = Duration::from_secs(50 + 240 + 120);
    let after = |ago: Duration, handled: Duration| {
        let seen = known(980, [sample(20, 1000, ago)]);
        let started = seen.tasks[0].started_at.unwrap();
        with_readings(
            |readings| readings.tasks[0].first_handled = Some(started + handled),
            seen,
        )
    };
    let second = Duration::from_secs(1);
    cools_for(
        second,
        decide_by_default(&after(settled - second, MINUTE / 2)),
    );
    starts_for(
        Purpose::Rest,
        decide_by_default(&after(settled, MINUTE / 2)),
    );
    cools_for(
        MINUTE * 2,
        decide_by_default(&after(settled, MINUTE * 3 - MINUTE / 6)),
    );
}

#[test]
fn time_is_over_before_metrics_are_asked_for() {
    let hot = with_metrics(None, known(980, [sample(20, 1000, MINUTE)]));
    assert!(matches!(
        decide_by_default(&hot),
        Decision::Skip(Skip::CoolingDown { .. })
    ));
    let settled = with_metrics(None, known(980, [sample(20, 1000, MINUTE * 8)]));
    assert_eq!(
        decide(&Policy::default(), &settled, now()),
        Err(Question::Metrics)
    );
}

#[test]
fn redrive_that_nobody_consumed_is_no_success() {
    let silent = |ago| {
        let seen = known(980, [sample(20, 1000, ago)]);
        with_readings(|readings| readings.tasks[0].first_handled = None, seen)
    };
    let decision = decide_by_default(&silent(MINUTE * 30));
    assert_eq!(decision, Decision::Skip(Skip::NotConsumed));
    let decision = decide_by_default(&silent(HOUR * 12));
    assert_eq!(decision, Decision::Hold(Hold::NotConsumed));
}

#[test]
fn consumer_without_datapoints_gets_fifteen_more_minutes() {
    let cold = |ago| {
        let seen = known(980, [sample(20, 1000, ago)]);
        with_readings(
            |readings| {
                readings.tasks[0].first_handled = None;
                readings.tasks[0].handled_until = None;
            },
            seen,
        )
    };
    let settled = Duration::from_secs(50 + 240 + 120 + 15 * 60);
    cools_for(MINUTE, decide_by_default(&cold(settled - MINUTE)));
    starts_for(Purpose::Rest, decide_by_default(&cold(settled)));
}

#[test]
fn redrive_that_came_back_needs_no_consumer_that_handles() {
    let silent = known(1000, [sample(20, 1000, MINUTE * 20)]);
    let silent = with_readings(|readings| readings.tasks[0].first_handled = None, silent);
    starts_for(Purpose::Sample, decide_by_default(&silent));
}

// Doubt.

#[test]
fn more_than_few_messages_wait_while_cloudwatch_fails() {
    let failed = |visible, tasks: &[MoveTask]| {
        let failed = Some(Metrics::Failed("timeout".to_owned()));
        with_metrics(failed, known(visible, tasks.to_vec()))
    };
    let why = "timeout".to_owned();
    assert_eq!(
        decide_by_default(&failed(41, &[])),
        Decision::Skip(Skip::MetricsUnreadable { why: why.clone() })
    );
    starts_for(Purpose::All, decide_by_default(&failed(40, &[])));
    let old = [task(20, HOUR * 12)];
    assert_eq!(
        decide_by_default(&failed(41, &old)),
        Decision::Hold(Hold::MetricsUnreadable { why })
    );
}

#[test]
fn more_than_few_messages_wait_while_sqs_does_not_show_the_fall_time() {
    let failed = |visible, tasks: &[MoveTask]| Observation {
        fall_time: Some(FallTime::Failed("timeout".to_owned())),
        ..known(visible, tasks.to_vec())
    };
    let why = "timeout".to_owned();
    let skip = Decision::Skip(Skip::MetricsUnreadable { why: why.clone() });
    assert_eq!(decide_by_default(&failed(41, &[])), skip);
    assert_eq!(decide_by_default(&failed(41, &[task(41, HOUR)])), skip);
    starts_for(Purpose::All, decide_by_default(&failed(40, &[])));
    let old = [task(41, HOUR * 13)];
    let hold = Decision::Hold(Hold::MetricsUnreadable { why });
    assert_eq!(decide_by_default(&failed(41, &old)), hold);
}

#[test]
fn metrics_that_fail_do_not_matter_where_sampling_does_not_apply() {
    for metrics in [None, Some(Metrics::Failed("timeout".to_owned()))] {
        let seen = with_metrics(metrics, seen(41, []));
        starts_for(Purpose::All, decide_by_default(&seen));
    }
}

// What is asked, and in which order: each question costs a call.

fn asked(seen: &Observation) -> Question {
    decide(&with_brakes_set(), seen, now()).unwrap_err()
}

#[test]
fn metrics_of_many_messages_are_asked_for_before_anything_starts() {
    let unasked = with_metrics(None, known(41, []));
    assert_eq!(asked(&unasked), Question::Metrics);
    let few = with_metrics(None, known(40, []));
    assert_eq!(asked(&few), Question::Brakes);
}

#[test]
fn metrics_of_few_messages_are_asked_for_where_a_task_has_a_verdict() {
    let past = |status| [with_status(status, task(30, HOUR * 2))];
    let unasked = with_metrics(None, known(30, past("COMPLETED")));
    assert_eq!(asked(&unasked), Question::Metrics);
    let unsampled = Policy {
        quiet_period: Duration::ZERO,
        ..with_brakes_set()
    };
    let unknown = with_metrics(None, seen(30, past("COMPLETED")));
    let question = decide(&unsampled, &unknown, now()).unwrap_err();
    assert_eq!(question, Question::Brakes, "nothing depends on them");
}

#[test]
fn age_of_the_oldest_message_is_asked_for_only_if_a_task_stayed_away() {
    for (visible, expected) in [(10, Question::OldestMessage), (30, Question::Brakes)] {
        let unasked = Observation {
            retention: Some(HOUR * 24 * 14),
            ..known(visible, [task(30, HOUR * 2)])
        };
        assert_eq!(asked(&unasked), expected, "{visible} of 30");
    }
}

// What a report says about the past.

#[test]
fn report_has_the_verdict_on_the_newest_task_once_it_is_settled() {
    let verdict = |policy: &Policy, seen| {
        let last = facts(policy, &seen, now()).last_verdict;
        last.map(|it| (it.stayed_away, it.came_back))
    };
    let sampled = Policy::default();
    // A whole redrive of 20 at 50 a second is settled a fall time and two minutes after its end.
    let of_20 = |visible, ago| known(visible, [task(20, ago)]);
    let settled = MINUTE * 7 + MINUTE;
    assert_eq!(verdict(&sampled, of_20(5, settled)), Some((true, 5)));
    assert_eq!(verdict(&sampled, of_20(20, settled)), Some((false, 20)));
    assert_eq!(verdict(&sampled, of_20(5, MINUTE * 6)), None);
    let newer = parked(task(5, MINUTE));
    let beside = known(5, [newer, task(20, HOUR)]);
    assert_eq!(verdict(&sampled, beside), None, "it is not the newest");

    let without = Policy {
        sample: Duration::ZERO,
        ..Policy::default()
    };
    let cooldown = without.cooldown;
    assert_eq!(verdict(&without, of_20(20, cooldown)), Some((false, 20)));
    assert_eq!(verdict(&without, of_20(20, cooldown - MINUTE)), None);
}

#[test]
fn unclear_verdict_waits_for_the_patience_and_then_all_messages_go() {
    let unclear = |visible, ago| {
        let seen = known(visible, [task(60, ago)]);
        with_readings(
            |readings| {
                readings.tasks[0].gained_before = 200;
                readings.tasks[0].handled_before = 10_000;
            },
            seen,
        )
    };
    assert_eq!(
        decide_by_default(&unclear(41, HOUR)),
        Decision::Skip(Skip::CannotBeTold)
    );
    starts_for(Purpose::All, decide_by_default(&unclear(41, HOUR * 12)));
    starts_for(Purpose::All, decide_by_default(&unclear(40, HOUR)));
}

#[test]
fn growth_counts_from_a_twentieth_of_what_the_consumer_handles() {
    let growing = |fewest, handled| {
        let seen = known(100, [task(1000, MINUTE * 20)]);
        with_readings(
            |readings| {
                readings.fewest = Some(fewest);
                readings.fewest_in_hour = Some(fewest);
                readings.handled = handled;
            },
            seen,
        )
    };
    assert_eq!(
        decide_by_default(&growing(50, 949)),
        Decision::Skip(Skip::StillFilling { fewest: 50 })
    );
    starts_for(Purpose::Sample, decide_by_default(&growing(50, 950)));
}

#[test]
fn growth_for_an_hour_is_held_unless_the_dlq_was_empty_in_it() {
    let growing = |in_hour| {
        let seen = known(100, [task(1000, HOUR * 2)]);
        with_readings(
            |readings| {
                readings.fewest = Some(50);
                readings.fewest_in_hour = Some(in_hour);
                readings.handled = 0;
            },
            seen,
        )
    };
    let fewest = 50;
    assert_eq!(
        decide_by_default(&growing(10)),
        Decision::Hold(Hold::StillFilling { fewest })
    );
    assert_eq!(
        decide_by_default(&growing(0)),
        Decision::Skip(Skip::StillFilling { fewest })
    );
}

#[test]
fn streak_of_failed_tasks_is_held_with_the_reason_and_never_parked() {
    let failed = |ago| MoveTask {
        moved: 0,
        to_move: None,
        failure_reason: Some("AccessDenied".to_owned()),
        ..with_status("FAILED", task(0, ago))
    };
    let tasks = (1..=5).map(|k| failed(HOUR * k));
    for seen in [seen(5, tasks.clone()), known(500, tasks)] {
        for policy in [Policy::default(), with_parking()] {
            let reason = "AccessDenied".to_owned();
            assert_eq!(
                decide_now(&policy, &seen),
                Decision::Hold(Hold::TasksFailed { streak: 5, reason })
            );
        }
    }
}

#[test]
fn parking_that_failed_or_was_canceled_does_not_end_the_streak() {
    let exhausted = (2..=6).map(|k| task(100, HOUR * k));
    let parking = |status, ago| parked(with_status(status, task(100, ago)));
    for status in ["FAILED", "CANCELLED"] {
        let tasks = [parking(status, HOUR)].into_iter().chain(exhausted.clone());
        starts_for(
            Purpose::Parking,
            decide_now(&with_parking(), &seen(100, tasks)),
        );
    }
    let failed = MoveTask {
        failure_reason: Some("KMS".to_owned()),
        ..parking("FAILED", MINUTE * 30)
    };
    let twice = [failed, parking("FAILED", HOUR)]
        .into_iter()
        .chain(exhausted);
    let reason = "KMS".to_owned();
    assert_eq!(
        decide_now(&with_parking(), &seen(100, twice)),
        Decision::Hold(Hold::ParkingFailed { reason })
    );
}

#[test]
fn expiring_messages_are_no_success() {
    let expiring = |age: Duration| Observation {
        retention: Some(HOUR * 24),
        oldest_age: Some(Some(age)),
        ..known(980, [sample(20, 1000, MINUTE * 20)])
    };
    starts_for(Purpose::Rest, decide_by_default(&expiring(HOUR * 23)));
    let late = HOUR * 24 - MINUTE * 13;
    starts_for(Purpose::Sample, decide_by_default(&expiring(late)));
}

// What an attack on these rules found.

#[test]
fn old_sample_is_no_license_for_a_new_incident() {
    // It stayed away, since the DLQ was calm for hours; what is there now is new.
    let excused = known(50_000, [sample(20, 60, HOUR * 6)]);
    let calm = |readings: &mut Readings| readings.tasks[0].calm_since = Some(now() - HOUR * 2);
    let seen = with_readings(calm, excused);
    starts_for(Purpose::Sample, decide_by_default(&seen));
}

#[test]
fn sample_before_another_task_is_no_license() {
    let by_hand = MoveTask {
        destination_arn: Some("arn:aws:sqs:eu-west-1:123456789012:else".to_owned()),
        ..task(980, HOUR)
    };
    let seen = known(900, [by_hand, sample(20, 1000, HOUR * 2)]);
    starts_for(Purpose::Sample, decide_by_default(&seen));
}

#[test]
fn last_tries_that_are_canceled_on_the_way_exhaust_the_attempts_together() {
    let canceled = |ago| MoveTask {
        moved: 6000,
        ..with_status("CANCELLED", task(100_000, ago))
    };
    let samples = (6..=9).map(|k| sample(20, 100_000, HOUR * k));
    let once = [canceled(HOUR * 5)].into_iter().chain(samples.clone());
    starts_for(Purpose::All, decide_by_default(&known(100_000, once)));
    let twice = [canceled(HOUR * 5), canceled(HOUR * 5 + MINUTE)];
    let twice = twice.into_iter().chain(samples);
    assert_eq!(
        decide_by_default(&known(100_000, twice)),
        Decision::Hold(Hold::AttemptsExhausted { streak: 6 })
    );
}

#[test]
fn sample_that_sqs_did_not_count_came_back() {
    let uncounted = MoveTask {
        to_move: None,
        ..sample(0, 0, MINUTE * 10)
    };
    assert!(matches!(
        decide_by_default(&known(1000, [uncounted])),
        Decision::Skip(Skip::CoolingDown { .. })
    ));
}

#[test]
fn running_task_without_a_count_is_no_bouncing_one_but_may_be_an_abandoned_sample() {
    let uncounted = |task: MoveTask| MoveTask {
        to_move: None,
        ..running(task)
    };
    let healthy = uncounted(MoveTask {
        moved: 5000,
        ..task(0, MINUTE * 20)
    });
    let decision = decide_by_default(&known(90_000, [healthy]));
    assert_eq!(decision, Decision::Skip(Skip::TaskActive));
    let abandoned = uncounted(sample(0, 0, MINUTE * 20));
    let decision = decide_by_default(&known(90_000, [abandoned]));
    assert_eq!(decision, Decision::Cancel(Cause::SampleOver));
}

#[test]
fn sample_that_ran_too_long_is_judged_later() {
    // 3,600 messages took an hour: the last of them may be back an hour and a fall time after the start.
    let long = known(0, [sample(3600, 50_000, MINUTE * 62)]);
    let seen = Observation {
        depth: Depth {
            visible: 46_400,
            in_flight: 0,
        },
        ..long
    };
    cools_for(MINUTE * 4, decide_by_default(&seen));
}

#[test]
fn parking_that_failed_twice_is_held_whatever_else_the_list_has_room_for() {
    let failed = |ago| MoveTask {
        failure_reason: Some("KMS".to_owned()),
        ..parked(with_status("FAILED", task(100, ago)))
    };
    let tasks = [failed(MINUTE * 30), failed(HOUR), task(100, HOUR * 2)];
    assert!(matches!(
        decide_now(&with_parking(), &known(100, tasks)),
        Decision::Hold(Hold::ParkingFailed { .. })
    ));
}

#[test]
fn task_without_a_start_time_counts_as_started_now() {
    let timeless = MoveTask {
        started_at: None,
        ..sample(20, 1000, HOUR)
    };
    assert!(matches!(
        decide_by_default(&Observation {
            tasks: vec![timeless],
            ..known(980, [])
        }),
        Decision::Skip(Skip::CoolingDown { .. })
    ));
}
