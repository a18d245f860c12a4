//! Each rule of the decision has a test, named as a sentence. Sampling does not apply here;
//! `sampling` has the tests where it does.

mod sampling;

use super::*;
use crate::metrics::Readings;
use crate::outcome::{Outcome, Skipped};
use crate::queue::Depth;
use std::time::UNIX_EPOCH;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A task that COMPLETED and moved all of its `size` messages, `ago`.
fn task(size: u64, ago: Duration) -> MoveTask {
    MoveTask {
        status: TaskStatus::Completed,
        handle: None,
        started_at: Some(now() - ago),
        moved: size,
        to_move: Some(size),
        destination_arn: None,
        max_messages_per_second: Some(50),
        failure_reason: None,
    }
}

fn with_status(status: &str, task: MoveTask) -> MoveTask {
    MoveTask {
        status: TaskStatus::from_sqs(Some(status)),
        ..task
    }
}

fn parked(task: MoveTask) -> MoveTask {
    MoveTask {
        destination_arn: Some(parking().to_string()),
        ..task
    }
}

fn parking() -> QueueArn {
    "arn:aws:sqs:eu-west-1:123456789012:parking"
        .parse()
        .unwrap()
}

/// A DLQ with this many visible messages and these tasks, newest first.
fn seen(visible: u64, tasks: impl IntoIterator<Item = MoveTask>) -> Observation {
    Observation {
        depth: Depth {
            visible,
            in_flight: 0,
        },
        tasks: tasks.into_iter().collect(),
        fall_time: Some(FallTime::Unknown("no queue uses it".to_owned())),
        metrics: Some(Metrics::Read(Readings::default())),
        ..Observation::default()
    }
}

fn with_fewest(fewest: u64, seen: Observation) -> Observation {
    Observation {
        metrics: Some(Metrics::Read(Readings {
            fewest: Some(fewest),
            ..Readings::default()
        })),
        ..seen
    }
}

fn with_brake(state: BrakeState, seen: Observation) -> Observation {
    let alarm = "consumer is down".to_owned();
    Observation {
        brakes: Some(vec![Brake { alarm, state }]),
        ..seen
    }
}

fn with_brakes_set() -> Policy {
    Policy {
        brake_alarms: vec!["consumer is down".to_owned()],
        ..Policy::default()
    }
}

fn with_parking() -> Policy {
    Policy {
        parking: Some(parking()),
        ..Policy::default()
    }
}

fn decide_now(policy: &Policy, seen: &Observation) -> Decision {
    decide(policy, seen, now()).expect("every question is answered")
}

fn decide_by_default(seen: &Observation) -> Decision {
    decide_now(&Policy::default(), seen)
}

fn starts(decision: Decision) -> Start {
    match decision {
        Decision::Start(start) => start,
        other => panic!("expected a start, got {other:?}"),
    }
}

#[track_caller]
fn cools_for(remaining: Duration, decision: Decision) {
    assert_eq!(decision, Decision::Skip(Skip::CoolingDown { remaining }));
}

/// Sizes of redrives that all came back, newest first, past every cooldown.
fn all_came_back(n: u32) -> Observation {
    seen(100, (1..=n).map(|k| task(100, HOUR * (2 * k + 1))))
}

/// The README's table of gates lists the gates in order: each DLQ here passes all gates before the
/// gate that stops it.
#[test]
fn gates_are_asked_in_the_order_of_the_readme() {
    let paused = Policy {
        paused: true,
        ..Policy::default()
    };
    let fewer = Policy {
        min_messages: 10,
        ..Policy::default()
    };
    let unread = Policy {
        unread_tags: Some("throttled".to_owned()),
        ..Policy::default()
    };
    let in_flight = Observation {
        depth: Depth {
            visible: 0,
            in_flight: 3,
        },
        ..seen(0, [])
    };
    let running = with_status("RUNNING", task(5, HOUR));
    let unknown = BrakeState::Unknown("no answer".to_owned());
    let default = Policy::default;
    let mut codes = vec![Vec::new(); GATES.len()];
    for (policy, seen) in [
        (default(), seen(0, [])),
        (default(), seen(5, [running])),
        (default(), in_flight),
        (fewer, seen(5, [])),
        (paused, seen(5, [])),
        (unread, seen(5, [])),
        (default(), seen(5, [task(100, MINUTE * 10)])),
        (default(), sampling::not_consumed()),
        (default(), sampling::metrics_failed()),
        (default(), all_came_back(5)),
        (default(), seen(9, [task(9, MINUTE * 20), task(9, HOUR)])),
        (default(), sampling::cannot_be_told()),
        (default(), with_fewest(4, seen(5, [task(100, MINUTE * 20)]))),
        (with_brakes_set(), with_brake(BrakeState::On, seen(5, []))),
        (with_brakes_set(), with_brake(unknown, seen(5, []))),
    ] {
        let answers = GATES.iter().map(|gate| {
            let case = Case {
                policy: &policy,
                seen: &seen,
                now: now(),
            };
            (gate.ask)(&case)
        });
        let answers: Vec<Answer> = answers.collect();
        let n = answers
            .iter()
            .position(|answer| matches!(answer, Ok(Some(_))))
            .unwrap();
        let decision = decide_now(&policy, &seen);
        assert_eq!(answers[n], Ok(Some(decision.clone())));
        codes[n].push(match decision {
            Decision::Skip(skip) => Outcome::Skipped(Skipped::Gate(skip)),
            Decision::Hold(hold) => Outcome::Held(hold),
            other => panic!("{other:?}"),
        });
    }
    let codes = codes.iter().map(|gate| {
        let codes = gate.iter().map(|outcome| outcome.reason().code());
        codes.collect::<Vec<_>>()
    });
    let (_, table) = include_str!("../../README.md")
        .split_once("<!-- gates -->")
        .unwrap();
    let (table, _) = table.split_once("<!-- /gates -->").unwrap();
    let first_cells = table
        .lines()
        .skip(3)
        .filter_map(|row| row.split('|').nth(1));
    let explained = first_cells.map(|cell| cell.split('`').skip(1).step_by(2).collect());
    assert_eq!(
        codes.collect::<Vec<_>>(),
        explained.collect::<Vec<Vec<&str>>>()
    );
}

#[test]
fn first_dead_letters_are_redriven_immediately() {
    let start = starts(decide_by_default(&seen(5, [])));
    assert_eq!(
        start,
        Start {
            destination: None,
            max_messages_per_second: Rate::new(50),
            purpose: Purpose::All
        }
    );
}

#[test]
fn start_goes_where_and_as_fast_as_the_policy_says() {
    let policy = Policy {
        destination: Some(parking()),
        max_messages_per_second: None,
        ..Policy::default()
    };
    let start = starts(decide_now(&policy, &seen(5, [])));
    assert_eq!(start.destination, Some(parking()));
    assert_eq!(start.max_messages_per_second, None);
}

#[test]
fn empty_means_no_start() {
    assert_eq!(decide_by_default(&seen(0, [])), Decision::Skip(Skip::Empty));
}

#[test]
fn messages_in_flight_only_means_no_start() {
    let in_flight = Observation {
        depth: Depth {
            visible: 0,
            in_flight: 3,
        },
        ..seen(0, [])
    };
    assert_eq!(
        decide_by_default(&in_flight),
        Decision::Skip(Skip::InFlightOnly)
    );
}

#[test]
fn messages_in_flight_beside_visible_ones_do_not_matter() {
    starts(decide_by_default(&Observation {
        depth: Depth {
            visible: 5,
            in_flight: 3,
        },
        ..seen(5, [])
    }));
}

#[test]
fn fewer_messages_than_the_minimum_mean_no_start() {
    let policy = Policy {
        min_messages: 10,
        ..Policy::default()
    };
    assert_eq!(
        decide_now(&policy, &seen(9, [])),
        Decision::Skip(Skip::BelowMinimum { minimum: 10 })
    );
    starts(decide_now(&policy, &seen(10, [])));
}

#[test]
fn active_task_means_no_start() {
    for status in ["RUNNING", "CANCELLING"] {
        let active = with_status(status, task(100, HOUR * 9));
        let behind_another = [task(100, HOUR * 8), active.clone()];
        for tasks in [vec![active], behind_another.to_vec()] {
            assert_eq!(
                decide_by_default(&seen(5, tasks)),
                Decision::Skip(Skip::TaskActive),
                "{status}"
            );
        }
    }
}

#[test]
fn kill_switch_means_no_start() {
    let policy = Policy {
        paused: true,
        ..Policy::default()
    };
    assert_eq!(
        decide_now(&policy, &seen(5, [])),
        Decision::Hold(Hold::Paused)
    );
}

#[test]
fn newest_task_within_the_cooldown_means_no_start() {
    let after = |ago| decide_by_default(&seen(5, [task(100, ago)]));
    cools_for(MINUTE * 15, after(Duration::ZERO));
    cools_for(
        Duration::from_secs(1),
        after(MINUTE * 15 - Duration::from_secs(1)),
    );
    starts(after(MINUTE * 15));
}

#[test]
fn start_time_that_is_missing_or_in_the_future_counts_as_now() {
    let missing = MoveTask {
        started_at: None,
        ..task(100, HOUR)
    };
    let future = MoveTask {
        started_at: Some(now() + HOUR),
        ..task(100, HOUR)
    };
    for task in [missing, future] {
        cools_for(MINUTE * 15, decide_by_default(&seen(5, [task])));
    }
}

#[test]
fn exhausted_attempts_mean_no_start_until_a_person_acts() {
    starts(decide_by_default(&all_came_back(4)));
    assert_eq!(
        decide_by_default(&all_came_back(5)),
        Decision::Hold(Hold::AttemptsExhausted { streak: 5 })
    );
}

#[test]
fn exhausted_attempts_go_to_the_parking_queue_if_there_is_one() {
    let start = starts(decide_now(&with_parking(), &all_came_back(5)));
    assert_eq!(start.purpose, Purpose::Parking);
    assert_eq!(start.destination, Some(parking()));
}

/// Its messages go to the destination of the request, whatever became of those sent to the parking queue.
#[test]
fn redrive_that_may_not_be_parked_is_not_held_because_parking_failed() {
    let failed = |ago| parked(with_status("FAILED", task(100, ago)));
    let seen = seen(100, [failed(HOUR), failed(HOUR * 2)]);
    let held = decide_now(&with_parking(), &seen);
    assert!(matches!(held, Decision::Hold(Hold::ParkingFailed { .. })));
    let elsewhere = Policy {
        may_park: false,
        ..with_parking()
    };
    starts(decide_now(&elsewhere, &seen));
    let forced = with_parking().forced(Duration::from_secs(120));
    starts(decide_now(&forced, &seen));
}

#[test]
fn parking_passes_backoff_and_growth() {
    let just_cool = seen(100, (0..5).map(|k| task(100, MINUTE * 15 * (k + 1))));
    let start = starts(decide_now(&with_parking(), &with_fewest(0, just_cool)));
    assert_eq!(start.purpose, Purpose::Parking);
}

#[test]
fn parking_waits_for_the_first_cooldown() {
    let hot = seen(100, (0..5).map(|k| task(100, MINUTE * 14 * (k + 1))));
    cools_for(MINUTE, decide_now(&with_parking(), &hot));
}

#[test]
fn parking_obeys_the_brake() {
    let policy = Policy {
        parking: Some(parking()),
        ..with_brakes_set()
    };
    assert_eq!(
        decide(&policy, &all_came_back(5), now()),
        Err(Question::Brakes)
    );
    assert!(matches!(
        decide_now(&policy, &with_brake(BrakeState::On, all_came_back(5))),
        Decision::Hold(Hold::Braked { .. })
    ));
}

#[test]
fn cooldown_doubles_from_the_second_fruitless_redrive_on() {
    // The newest started 16 minutes ago: past the first cooldown.
    for (streak, wait) in [(1, 15), (2, 30), (3, 60), (4, 120)] {
        let tasks = (0..streak).map(|k| task(100, MINUTE * 16 + HOUR * k));
        let decision = decide_by_default(&seen(100, tasks));
        match streak {
            1 => drop(starts(decision)),
            _ => cools_for(MINUTE * (wait - 16), decision),
        }
    }
}

#[test]
fn cooldown_grows_only_while_all_attempts_still_fit_into_the_window() {
    // Doubled, the fourth wait would be 8 hours; a sixth of the window is 4.
    let policy = Policy {
        cooldown: HOUR,
        ..Policy::default()
    };
    let tasks = (0..4).map(|k| task(100, HOUR * 3 + MINUTE * k));
    cools_for(HOUR, decide_now(&policy, &seen(100, tasks)));
}

#[test]
fn poison_exhausts_its_attempts_under_every_policy_without_contradiction() {
    for (cooldown, attempts, window) in [
        (15, 5, 24),
        (15, 9, 24),
        (120, 5, 24),
        (240, 5, 24),
        (1, 1, 1),
        (144, 9, 24),
    ] {
        let policy = Policy {
            cooldown: MINUTE * cooldown,
            max_attempts: attempts,
            attempt_window: HOUR * window,
            ..Policy::default()
        };
        assert_eq!(
            policy.contradictions(),
            [],
            "{cooldown} min, {attempts} attempts"
        );
        // The same messages come back every time; we look every five minutes.
        let mut starts: Vec<SystemTime> = Vec::new();
        let held = (0..60 * window / 5 + 60).any(|look| {
            let now = now() + MINUTE * 5 * look;
            let tasks = starts.iter().rev().take(10).map(|start| MoveTask {
                started_at: Some(*start),
                ..task(100, Duration::ZERO)
            });
            match decide(&policy, &seen(100, tasks), now).unwrap() {
                Decision::Start(_) => starts.push(now),
                Decision::Hold(Hold::AttemptsExhausted { .. }) => return true,
                _ => {}
            }
            false
        });
        assert!(
            held,
            "{cooldown} min, {attempts} attempts: {} starts",
            starts.len()
        );
        assert_eq!(starts.len(), attempts as usize);
    }
}

#[test]
fn growth_within_the_quiet_period_means_no_start() {
    let after = |ago, fewest| decide_by_default(&with_fewest(fewest, seen(10, [task(1000, ago)])));
    assert_eq!(
        after(MINUTE * 20, 9),
        Decision::Skip(Skip::StillFilling { fewest: 9 })
    );
    starts(after(MINUTE * 20, 10));
    starts(after(MINUTE * 20, 11));
}

#[test]
fn growth_for_over_an_hour_is_held_for_a_person() {
    let after = |ago| decide_by_default(&with_fewest(9, seen(10, [task(1000, ago)])));
    assert_eq!(
        after(HOUR),
        Decision::Skip(Skip::StillFilling { fewest: 9 })
    );
    assert_eq!(
        after(HOUR + Duration::from_secs(1)),
        Decision::Hold(Hold::StillFilling { fewest: 9 })
    );
}

#[test]
fn growth_does_not_delay_the_first_redrive_of_an_episode() {
    starts(decide_by_default(&with_fewest(0, seen(10, []))));
    let long_ago = with_fewest(0, seen(10, [task(1000, HOUR * 25)]));
    starts(decide_by_default(&long_ago));
}

#[test]
fn growth_ignores_a_redrive_before_the_window_however_long_the_patience() {
    let policy = Policy {
        patience: HOUR * 48,
        ..Policy::default()
    };
    let after = |ago| decide_now(&policy, &with_fewest(0, seen(10, [task(1000, ago)])));
    assert!(matches!(
        after(HOUR * 24),
        Decision::Hold(Hold::StillFilling { .. })
    ));
    starts(after(HOUR * 24 + Duration::from_secs(1)));
}

#[test]
fn patience_with_growth_has_an_end() {
    let after = |ago| decide_by_default(&with_fewest(0, seen(10, [task(1000, ago)])));
    assert!(matches!(
        after(HOUR * 12 - Duration::from_secs(1)),
        Decision::Hold(Hold::StillFilling { .. })
    ));
    starts(after(HOUR * 12));
}

#[test]
fn growth_does_not_matter_without_a_quiet_period() {
    let policy = Policy {
        quiet_period: Duration::ZERO,
        ..Policy::default()
    };
    let growing = with_fewest(0, seen(10, [task(1000, MINUTE * 20)]));
    starts(decide_now(&policy, &growing));
}

#[test]
fn growth_that_cloudwatch_does_not_know_stops_nothing() {
    for metrics in [
        Metrics::Read(Readings::default()),
        Metrics::Denied("access denied".to_owned()),
        Metrics::Failed("timeout".to_owned()),
    ] {
        starts(decide_by_default(&Observation {
            metrics: Some(metrics),
            ..seen(10, [task(1000, MINUTE * 20)])
        }));
    }
}

#[test]
fn metrics_are_asked_for_only_when_all_before_it_agree() {
    let not_asked = |seen| Observation {
        metrics: None,
        ..seen
    };
    let tried = not_asked(seen(10, [task(1000, MINUTE * 20)]));
    assert_eq!(
        decide(&Policy::default(), &tried, now()),
        Err(Question::Metrics)
    );
    starts(decide_by_default(&not_asked(seen(10, []))));
    let hot = not_asked(seen(10, [task(1000, MINUTE)]));
    cools_for(MINUTE * 14, decide_by_default(&hot));
}

#[test]
fn brake_in_alarm_means_no_start() {
    assert_eq!(
        decide_now(&with_brakes_set(), &with_brake(BrakeState::On, seen(5, []))),
        Decision::Hold(Hold::Braked {
            alarm: "consumer is down".to_owned()
        })
    );
}

#[test]
fn brake_of_unknown_state_means_no_start() {
    let why = "there is no such alarm".to_owned();
    let unknown = with_brake(BrakeState::Unknown(why.clone()), seen(5, []));
    let alarm = "consumer is down".to_owned();
    assert_eq!(
        decide_now(&with_brakes_set(), &unknown),
        Decision::Hold(Hold::BrakeUnknown { alarm, why })
    );
}

#[test]
fn brake_that_the_answer_left_out_means_no_start() {
    let left_out = Observation {
        brakes: Some(Vec::new()),
        ..seen(5, [])
    };
    assert!(matches!(
        decide_now(&with_brakes_set(), &left_out),
        Decision::Hold(Hold::BrakeUnknown { .. })
    ));
}

#[test]
fn brake_in_alarm_goes_before_one_of_unknown_state() {
    let policy = Policy {
        brake_alarms: vec!["gone".to_owned(), "down".to_owned()],
        ..Policy::default()
    };
    let brake = |alarm: &str, state| Brake {
        alarm: alarm.to_owned(),
        state,
    };
    let both = Observation {
        brakes: Some(vec![
            brake("gone", BrakeState::Unknown(String::new())),
            brake("down", BrakeState::On),
        ]),
        ..seen(5, [])
    };
    assert_eq!(
        decide_now(&policy, &both),
        Decision::Hold(Hold::Braked {
            alarm: "down".to_owned()
        })
    );
}

#[test]
fn brake_that_is_off_lets_pass() {
    starts(decide_now(
        &with_brakes_set(),
        &with_brake(BrakeState::Off, seen(5, [])),
    ));
}

#[test]
fn brakes_are_asked_for_only_when_all_before_it_agree() {
    assert_eq!(
        decide(&with_brakes_set(), &seen(5, []), now()),
        Err(Question::Brakes)
    );
    starts(decide_by_default(&seen(5, [])));
    let still_filling = with_fewest(0, seen(10, [task(1000, MINUTE * 20)]));
    assert!(matches!(
        decide_now(&with_brakes_set(), &still_filling),
        Decision::Skip(Skip::StillFilling { .. })
    ));
}

#[test]
fn force_passes_minimum_cooldown_exhaustion_and_growth() {
    let policy = Policy {
        min_messages: 1000,
        ..with_parking()
    };
    let hot_and_growing = with_fewest(0, seen(10, (0..9).map(|k| task(10, MINUTE * (8 + k)))));
    let start = starts(decide_now(
        &policy.forced(Duration::from_secs(120)),
        &hot_and_growing,
    ));
    assert_eq!(
        start.purpose,
        Purpose::All,
        "forced messages go where they came from"
    );
}

#[test]
fn force_passes_no_other_gate() {
    let in_flight = Observation {
        depth: Depth {
            visible: 0,
            in_flight: 3,
        },
        ..seen(0, [])
    };
    let running = seen(5, [with_status("RUNNING", task(1, HOUR))]);
    let paused = Policy {
        paused: true,
        ..Policy::default()
    };
    let braked = with_brake(BrakeState::On, seen(5, []));
    for (policy, seen) in [
        (Policy::default(), &seen(0, [])),
        (Policy::default(), &in_flight),
        (Policy::default(), &running),
        (paused, &seen(5, [])),
        (with_brakes_set(), &braked),
    ] {
        let decision = decide_now(&policy.clone().forced(Duration::from_secs(120)), seen);
        assert!(
            matches!(decision, Decision::Skip(_) | Decision::Hold(_)),
            "{decision:?}"
        );
        assert_eq!(decision, decide_now(&policy, seen));
    }
}

#[test]
fn streak_is_the_number_of_redrives_in_a_row_that_came_back() {
    let cancelled = |task| with_status("CANCELLED", task);
    let failed = |task| with_status("FAILED", task);
    let t = |size, hours| task(size, HOUR * hours);
    let lagging = |size, hours| MoveTask {
        moved: 0,
        ..t(size, hours)
    };
    let only_moved = |size, hours| MoveTask {
        to_move: None,
        ..t(size, hours)
    };
    let rows: Vec<(&str, u32, Observation)> = vec![
        ("no task at all is no streak", 0, seen(97, [])),
        (
            "100 → 98 → 97 with 97 now is a streak of 3",
            3,
            seen(97, [t(97, 1), t(98, 2), t(100, 3)]),
        ),
        (
            "100 → 40 → 3 with 3 now is a streak of 1",
            1,
            seen(3, [t(3, 1), t(40, 2), t(100, 3)]),
        ),
        (
            "a redrive of which nothing came back is none",
            0,
            seen(0, [t(100, 1)]),
        ),
        (
            "half came back is not yet fruitless",
            0,
            seen(50, [t(100, 1)]),
        ),
        ("more than half came back is", 1, seen(51, [t(100, 1)])),
        ("a single message that came back is", 1, seen(1, [t(1, 1)])),
        (
            "what is in flight came back too",
            1,
            Observation {
                depth: Depth {
                    visible: 1,
                    in_flight: 50,
                },
                ..seen(1, [t(100, 1)])
            },
        ),
        (
            "a good redrive ends the row",
            1,
            seen(100, [t(100, 1), t(300, 2), t(300, 3)]),
        ),
        (
            "FAILED is fruitless though nothing came back",
            1,
            seen(0, [failed(t(100, 1))]),
        ),
        (
            "FAILED continues the row",
            3,
            seen(100, [t(100, 1), failed(t(100, 2)), t(100, 3)]),
        ),
        (
            "CANCELLED is never fruitless",
            0,
            seen(100, [cancelled(t(100, 1))]),
        ),
        (
            "CANCELLED breaks no row",
            2,
            seen(100, [t(100, 1), cancelled(t(100, 2)), t(100, 3)]),
        ),
        (
            "what a CANCELLED task was about had come back",
            1,
            seen(0, [cancelled(t(90, 1)), t(100, 2)]),
        ),
        (
            "a COMPLETED task that says 0 moved had as many as it was to move",
            1,
            seen(100, [lagging(100, 1)]),
        ),
        (
            "without toMove a task had as many as it moved",
            1,
            seen(100, [only_moved(100, 1)]),
        ),
        (
            "a task that had nothing to move is not counted",
            0,
            seen(100, [t(0, 1)]),
        ),
        (
            "nor does it break the row",
            2,
            seen(100, [t(100, 1), t(0, 2), t(100, 3)]),
        ),
        (
            "a task before the window is not counted",
            1,
            seen(100, [t(100, 1), t(100, 25)]),
        ),
        (
            "one at the window's edge is",
            2,
            seen(100, [t(100, 1), t(100, 24)]),
        ),
        (
            "a start time that is missing counts as now",
            1,
            seen(
                100,
                [MoveTask {
                    started_at: None,
                    ..t(100, 30)
                }],
            ),
        ),
        (
            "ten tasks may all count",
            10,
            seen(100, (1..=10).map(|hour| t(100, hour))),
        ),
        (
            "so may more than SQS lists",
            12,
            seen(100, (1..=12).map(|hour| t(100, hour))),
        ),
        (
            "counts beyond 2⁵³ do not overflow",
            2,
            Observation {
                depth: Depth {
                    visible: u64::MAX,
                    in_flight: u64::MAX,
                },
                ..seen(u64::MAX, [t(u64::MAX, 1), t(u64::MAX, 2)])
            },
        ),
    ];
    for (sentence, streak_expected, seen) in rows {
        assert_eq!(
            facts(&Policy::default(), &seen, now()).streak,
            streak_expected,
            "{sentence}"
        );
    }
}

#[test]
fn a_task_to_the_parking_queue_ends_the_streak() {
    let tasks = [
        task(100, HOUR),
        parked(task(100, HOUR * 2)),
        task(100, HOUR * 3),
    ];
    let seen = seen(100, tasks);
    assert_eq!(facts(&with_parking(), &seen, now()).streak, 1);
    assert_eq!(
        facts(&Policy::default(), &seen, now()).streak,
        2,
        "elsewhere it was started by a person, and is passed over"
    );
}
