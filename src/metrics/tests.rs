use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn at(minute: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + MINUTE * minute as u32
}

/// A question at minute 120, about one task that started in minute 60 and is judged until now.
fn query() -> MetricsQuery {
    MetricsQuery {
        dlq: "arn:aws:sqs:eu-west-1:123456789012:orders-dlq"
            .parse()
            .unwrap(),
        consumed: Vec::new(),
        from: at(0),
        now: at(120),
        quiet_period: MINUTE * 10,
        shows_dips: false,
        tasks: vec![TaskSpan {
            started: at(60),
            until: at(120),
            calm_depth: 10,
            calm_for: MINUTE * 30,
        }],
    }
}

/// Reads depths, each from a minute on until the next.
fn read_depths(query: MetricsQuery, depths: &[(u64, u64)]) -> Readings {
    let mut reading = Reading::new(query);
    for minute in 0..120 {
        if let Some((_, depth)) = depths.iter().rev().find(|(from, _)| *from <= minute) {
            reading.depth(at(minute), *depth);
        }
    }
    reading.finish()
}

#[test]
fn lowest_depth_is_of_the_quiet_period_and_the_last_hour() {
    let readings = read_depths(
        query(),
        &[(0, 9), (50, 1), (57, 3), (58, 7), (108, 20), (115, 8)],
    );
    assert_eq!(readings.fewest, Some(8));
    assert_eq!(
        readings.fewest_in_hour,
        Some(7),
        "and the two minutes of delay"
    );
    assert_eq!(Reading::new(query()).finish(), {
        let nothing = Readings::default();
        let tasks = query().tasks.iter().map(TaskReadings::nothing).collect();
        Readings { tasks, ..nothing }
    });
}

#[test]
fn calm_is_thirty_minutes_without_a_break_after_the_start() {
    let calm = |depths: &[(u64, u64)]| read_depths(query(), depths).tasks[0].calm_since;
    assert_eq!(calm(&[(60, 10)]), Some(at(90)));
    assert_eq!(calm(&[(60, 11)]), None);
    assert_eq!(calm(&[(60, 10), (89, 11)]), None, "29 minutes");
    assert_eq!(calm(&[(60, 10), (90, 11)]), Some(at(60)));
    assert_eq!(
        calm(&[(60, 10), (75, 11), (76, 10), (105, 11)]),
        None,
        "a break"
    );
    assert_eq!(
        calm(&[(0, 10), (70, 11)]),
        None,
        "before the start does not count"
    );
}

#[test]
fn calm_ends_where_the_next_task_starts() {
    let mut query = query();
    query.tasks[0].until = at(85);
    assert_eq!(read_depths(query, &[(60, 0)]).tasks[0].calm_since, None);
}

#[test]
fn gain_before_the_start_is_of_the_quiet_period() {
    let depths = [(0, 0), (49, 2), (50, 5), (52, 4), (59, 30), (60, 90)];
    assert_eq!(read_depths(query(), &depths).tasks[0].gained_before, 26);
    assert_eq!(
        read_depths(query(), &[(0, 50), (55, 20)]).tasks[0].gained_before,
        0
    );
}

#[test]
fn handled_messages_are_added_over_the_sources_and_distinguished_by_time() {
    let mut reading = Reading::new(query());
    for (minute, handled) in [
        (49, 1),
        (50, 2),
        (59, 4),
        (60, 0),
        (65, 8),
        (65, 16),
        (70, 32),
        (115, 64),
    ] {
        reading.handled(at(minute), handled);
    }
    let readings = reading.finish();
    assert_eq!(readings.handled, 64);
    let task = &readings.tasks[0];
    assert_eq!(task.handled_before, 2 + 4);
    assert_eq!(task.first_handled, Some(at(65)));
    assert_eq!(task.last_handled, Some(at(116)));
    assert!(task.handled_until.is_some());
}

#[test]
fn period_in_which_the_task_started_may_hold_what_it_brought() {
    let mut query = query();
    query.tasks[0].started = at(60) + MINUTE / 2;
    let mut reading = Reading::new(query);
    reading.handled(at(60), 3);
    let task = &reading.finish().tasks[0];
    assert_eq!(
        task.first_handled,
        Some(at(60) + MINUTE / 2),
        "not before the start"
    );
}

#[test]
fn silence_and_zero_are_distinguished() {
    let mut reading = Reading::new(query());
    reading.handled(at(59), 5);
    assert!(
        reading.finish().tasks[0].handled_until.is_none(),
        "before the start"
    );
    let mut reading = Reading::new(query());
    reading.handled(at(61), 0);
    let task = &reading.finish().tasks[0];
    assert!(task.handled_until.is_some());
    assert_eq!(task.first_handled, None);
}

#[test]
fn period_is_a_minute_for_less_than_three_hours() {
    let from = |ago: Duration| MetricsQuery {
        from: at(120) - ago,
        ..query()
    };
    assert_eq!(from(MINUTE * 179).period(), MINUTE);
    assert_eq!(from(MINUTE * 180).period(), MINUTE * 5);
}

/// With five-minute datapoints, growth and handled messages must be of the same time.
#[test]
fn long_datapoint_at_the_start_of_the_window_counts() {
    let mut long = query();
    long.from = at(0) - MINUTE * 120;
    let mut reading = Reading::new(long);
    for minute in (90..120).step_by(5) {
        reading.depth(at(minute), minute);
    }
    assert_eq!(
        reading.finish().fewest,
        Some(105),
        "12 minutes ago and one period"
    );
}

/// A redrive of few messages needs a calm minute only, and a long datapoint would hide it.
#[test]
fn long_datapoint_with_a_dip_is_calm() {
    let mut dips = query();
    dips.from = at(0) - MINUTE * 120;
    dips.shows_dips = true;
    dips.tasks[0].calm_for = MINUTE * 3;
    let mut reading = Reading::new(dips);
    for (minute, lowest) in [(60, 0), (65, 10), (70, 11)] {
        reading.depth(at(minute), lowest);
    }
    assert_eq!(reading.finish().tasks[0].calm_since, Some(at(65)));
}
