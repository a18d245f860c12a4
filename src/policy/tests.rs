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
fn destination_must_be_another_queue_of_the_same_type_account_and_region() {
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
    ] {
        assert!(matches!(
            check(elsewhere),
            Err(DestinationError::Elsewhere { .. })
        ));
    }
}
