use super::*;

#[test]
fn rate_is_1_to_500() {
    for (rate, valid) in [
        (0, false),
        (1, true),
        (500, true),
        (501, false),
        (u64::MAX, false),
    ] {
        assert_eq!(Rate::new(rate).is_some(), valid, "{rate}");
    }
}

#[test]
fn destination_must_be_another_queue_of_the_same_type_partition_account_and_region() {
    let arn = |text: &str| text.parse::<QueueArn>().unwrap();
    let dlq = arn("arn:aws:sqs:eu-west-1:123456789012:orders-dlq");
    let check = |destination: &str| check_destination(&dlq, &arn(destination));
    assert_eq!(
        check("arn:aws:sqs:eu-west-1:123456789012:elsewhere"),
        Ok(())
    );
    assert!(matches!(
        check(dlq.as_str()),
        Err(DestinationError::Itself(_))
    ));
    assert!(matches!(
        check("arn:aws:sqs:eu-west-1:123456789012:orders.fifo"),
        Err(DestinationError::OtherType { .. })
    ));
    for elsewhere in [
        "arn:aws:sqs:eu-west-2:123456789012:orders",
        "arn:aws:sqs:eu-west-1:210987654321:orders",
        "arn:aws-cn:sqs:eu-west-1:123456789012:orders",
        // The DLQ itself, in another partition.
        "arn:aws-cn:sqs:eu-west-1:123456789012:orders-dlq",
    ] {
        assert!(matches!(
            check(elsewhere),
            Err(DestinationError::Elsewhere { .. })
        ));
    }
}

#[test]
fn sample_is_off_or_runs_10_to_30_seconds() {
    for (seconds, valid) in [
        (0, true),
        (1, false),
        (9, false),
        (10, true),
        (30, true),
        (31, false),
        (u64::MAX, false),
    ] {
        let expected = valid.then_some(Duration::from_secs(seconds));
        assert_eq!(sample_time(seconds), expected, "{seconds}");
    }
}

#[test]
fn more_than_five_attempts_count_as_five_with_a_sample_and_more_than_eight_as_eight_without() {
    let with = |sample, max_attempts| Policy {
        sample: Duration::from_secs(sample),
        max_attempts,
        ..Policy::default()
    };
    for (sample, attempts, count) in [
        (20, 5, 5),
        (20, 6, 5),
        (10, 9, 5),
        (0, 8, 8),
        (0, 9, 8),
        (20, 1, 1),
    ] {
        let policy = with(sample, attempts);
        assert_eq!(policy.too_many_attempts().is_some(), attempts != count);
        assert_eq!(policy.with_attempts_that_fit(), with(sample, count));
    }
    let forced = with(20, 9).forced(Duration::from_secs(120));
    assert_eq!(forced.clone().with_attempts_that_fit(), forced);
}

#[test]
fn schedule_slower_than_the_window_divided_by_the_attempts_is_a_contradiction() {
    const HOUR: u64 = 3600;
    for (schedule, max_attempts, sample, is_too_slow) in [
        (None, 5, 20, false),
        (Some(300), 5, 20, false),
        (Some(24 * HOUR / 5), 5, 20, false),
        (Some(24 * HOUR / 5 + 1), 5, 20, true),
        // With a sample, five count.
        (Some(4 * HOUR), 9, 20, false),
        (Some(4 * HOUR), 6, 0, false),
        (Some(4 * HOUR), 7, 0, true),
        (Some(24 * HOUR), 1, 20, false),
        (Some(u64::MAX), 1, 20, true),
    ] {
        let policy = Policy {
            schedule: schedule.map(Duration::from_secs),
            max_attempts,
            sample: Duration::from_secs(sample),
            ..Policy::default()
        };
        let found = policy.contradictions();
        let slow = |it: &PolicyError| matches!(it, PolicyError::ScheduleTooSlow { .. });
        assert_eq!(
            found.iter().any(slow),
            is_too_slow,
            "{schedule:?} {max_attempts}"
        );
    }
}
