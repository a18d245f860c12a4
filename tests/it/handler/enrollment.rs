//! Enrollment by list and by tag, and the policy that tags set.

use super::*;

#[tokio::test]
async fn queue_that_is_not_enrolled_takes_no_call() {
    let (enrolled, named) = (dlq("payments-dlq"), dlq("orders-dlq"));
    let fake = Fake::default().with(&enrolled, 5).with(&named, 5);
    let report = fake.invoke(ALARM).listing(&[&enrolled]).report().await;
    assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    assert_eq!(report["queues"][0]["queueArn"], named.as_str());
    assert_eq!(report["trigger"]["queues"], json!(["orders-dlq"]));
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn queue_of_the_same_name_in_another_account_or_region_is_not_enrolled() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5);
    for elsewhere in [
        ALARM.replace("123456789012", "210987654321"),
        ALARM.replace("us-east-1", "us-east-2"),
    ] {
        let report = fake.invoke(&elsewhere).report().await;
        assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    }
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn sweep_looks_at_what_is_listed_and_what_is_tagged() {
    let (listed, both, by_tag, neither) = (
        dlq("a-listed"),
        dlq("b-both"),
        dlq("c-tagged"),
        dlq("d-neither"),
    );
    let queues = [&listed, &both, &by_tag, &neither];
    let fake = queues
        .iter()
        .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
    let fake = fake.with_tags(&both, &[]).with_tags(&by_tag, &[]);
    let report = fake
        .invoke(SWEEP)
        .by_tag()
        .listing(&[&listed, &both])
        .report()
        .await;
    assert_eq!(
        outcomes(&report),
        ["started/ready", "started/ready", "started/ready"]
    );
    let asked: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("GetResources"))
        .collect();
    assert_eq!(asked, ["GetResources", "GetResources a-listed"]);
    assert!(fake.starts(&neither).is_empty());
}

#[tokio::test]
async fn alarm_asks_for_the_tags_of_the_queue_it_names_and_of_no_other() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    let fake = Fake::default()
        .with(&orders, 5)
        .with(&payments, 5)
        .with_tags(&orders, &[]);
    let report = fake.invoke(ALARM).by_tag().report().await;
    assert_eq!(outcomes(&report), ["started/ready"]);
    assert_eq!(fake.calls()[0], "GetResources orders-dlq");

    let fake = Fake::default().with(&orders, 5).with_tags(&payments, &[]);
    let contributor = include_str!("../../../events/contributor-eventbridge.json");
    let report = fake.invoke(contributor).by_tag().report().await;
    assert_eq!(outcomes(&report), ["skipped/not-enrolled"]);
    assert_eq!(fake.calls(), ["GetResources orders-dlq"]);
}

/// This bounds what one alarm for a fleet starts: one redrive for each DLQ that goes into ALARM.
#[tokio::test]
async fn contributor_starts_a_redrive_of_its_own_dlq_alone() {
    let (orders, payments) = (dlq("orders-dlq"), dlq("payments-dlq"));
    for contributor in [
        include_str!("../../../events/contributor-eventbridge.json"),
        include_str!("../../../events/contributor-lambda-action.json"),
        include_str!("../../../events/contributor-sns.json"),
    ] {
        let fake = Fake::default()
            .with(&orders, 5)
            .with_tags(&orders, &[])
            .with(&payments, 5)
            .with_tags(&payments, &[]);
        let report = fake.invoke(contributor).by_tag().report().await;
        assert_eq!(outcomes(&report), ["started/ready"]);
        assert_eq!(fake.starts(&orders).len(), 1);
        let others = fake.calls();
        let others = others.iter().filter(|call| call.contains("payments"));
        assert_eq!(others.count(), 0);
    }
}

#[tokio::test]
async fn event_that_calls_for_nothing_asks_for_no_tags() {
    let fake = Fake::default();
    fake.invoke(include_str!("../../../events/ignored-ok.json"))
        .by_tag()
        .report()
        .await;
    assert_eq!(fake.calls(), [""; 0]);
}

#[tokio::test]
async fn tags_of_a_queue_say_its_policy() {
    let (slow, patient, paused) = (dlq("a-slow"), dlq("b-patient"), dlq("c-paused"));
    let fake = Fake::default()
        .with(&slow, 5)
        .with_tags(
            &slow,
            &[
                ("max-messages-per-second", "7"),
                ("destination-arn", dlq("elsewhere").as_str()),
            ],
        )
        .with(&patient, 5)
        .with_tags(&patient, &[("min-messages", "6")])
        .with(&paused, 5)
        .with_tags(&paused, &[("paused", "true")]);
    let report = fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(
        outcomes(&report),
        ["started/ready", "skipped/below-minimum", "held/paused"]
    );
    assert_eq!(report["queues"][0]["task"]["maxMessagesPerSecond"], 7);
    assert_eq!(
        report["queues"][0]["task"]["destinationArn"],
        dlq("elsewhere").as_str()
    );
}

#[tokio::test]
async fn request_goes_before_the_tags_of_a_queue() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_tags(
        &queue,
        &[("max-messages-per-second", "7"), ("min-messages", "6")],
    );
    let request = r#"{"action": "redrive", "force": true, "maxMessagesPerSecond": 8}"#;
    let report = fake.invoke(request).by_tag().report().await;
    assert_eq!(report["queues"][0]["task"]["maxMessagesPerSecond"], 8);
}

#[tokio::test]
async fn bad_tag_fails_its_queue_alone_and_says_what_is_accepted() {
    let (bad, fine) = (dlq("bad"), dlq("fine"));
    for (settings, faults) in [
        (
            vec![("cooldown", "5s")],
            vec!["`auto-redrive:cooldown` holds `5s`: a duration from 1m to 14days"],
        ),
        (
            vec![("cooldwn", "15m")],
            vec!["`auto-redrive:cooldwn` holds `15m`: there is no such setting"],
        ),
        (
            vec![("cooldown", "5s"), ("max-messages-per-second", "501")],
            vec![
                "`auto-redrive:cooldown` holds `5s`",
                "`auto-redrive:max-messages-per-second` holds `501`: a whole number from 1 to 500",
            ],
        ),
        (
            vec![("cooldown", "25h")],
            vec!["do not fit into the attempt window"],
        ),
        (
            vec![(
                "destination-arn",
                "arn:aws:sqs:us-east-1:210987654321:orders",
            )],
            vec!["not in the partition, account and region"],
        ),
        (
            vec![("parking-arn", "arn:aws:sqs:us-east-1:123456789012:fine")],
            vec!["is itself an enrolled DLQ"],
        ),
    ] {
        let fake = Fake::default()
            .with(&bad, 5)
            .with_tags(&bad, &settings)
            .with(&fine, 5)
            .with_tags(&fine, &[]);
        let answer = fake.invoke(SWEEP).by_tag().answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(
            outcomes(&report),
            ["failed/invalid-policy", "started/ready"]
        );
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        assert!(
            faults.iter().all(|fault| detail.contains(fault)),
            "{detail}"
        );
        assert!(
            answer
                .result()
                .unwrap_err()
                .to_string()
                .contains("bad (invalid-policy)")
        );
        assert!(fake.calls().iter().all(|call| !call.ends_with(" bad")));
    }
}

#[tokio::test]
async fn tag_can_add_a_pause_or_a_dry_run_but_not_lift_one() {
    let queue = dlq("orders-dlq");
    let paused = Policy {
        paused: true,
        ..Policy::default()
    };
    let dry_run = Policy {
        dry_run: true,
        ..Policy::default()
    };
    for (policy, tag, outcome) in [
        (paused.clone(), ("paused", "false"), "held/paused"),
        (dry_run, ("dry-run", "false"), "wouldStart/ready"),
        (Policy::default(), ("paused", "true"), "held/paused"),
        (Policy::default(), ("dry-run", "true"), "wouldStart/ready"),
    ] {
        let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[tag]);
        let report = fake.invoke(SWEEP).by_tag().policy(policy).report().await;
        assert_eq!(outcomes(&report), [outcome], "{tag:?}");
        assert!(fake.starts(&queue).is_empty());
    }
}

#[tokio::test]
async fn alarm_sees_that_a_destination_is_itself_enrolled_by_tag() {
    let (queue, other) = (dlq("orders-dlq"), dlq("other-dlq"));
    let to_other = [("destination-arn", other.as_str())];
    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &to_other)
        .with_tags(&other, &[]);
    let failure = fake.invoke(ALARM).by_tag().failure().await;
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert_eq!(
        fake.calls(),
        ["GetResources orders-dlq", "GetResources other-dlq"]
    );

    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &[])
        .with_tags(&other, &[]);
    let by_environment = Policy {
        parking: Some(other.clone()),
        ..Policy::default()
    };
    let invoke = fake.invoke(ALARM).by_tag().policy(by_environment);
    let failure = invoke.failure().await;
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert_eq!(fake.calls(), ["GetResources orders-dlq,other-dlq"]);

    let request =
        json!({"action": "redrive", "queues": ["orders-dlq"], "destinationArn": other.as_str()});
    let failure = fake.invoke(&request.to_string()).by_tag().failure().await;
    assert!(
        failure.to_string().contains("orders-dlq (invalid-policy)"),
        "{failure}"
    );
    assert!(fake.starts(&queue).is_empty());
}

#[tokio::test]
async fn fault_of_a_destination_names_its_tag() {
    let queue = dlq("orders-dlq");
    let elsewhere = "arn:aws:sqs:us-east-1:210987654321:orders";
    let fake = Fake::default()
        .with(&queue, 5)
        .with_tags(&queue, &[("destination-arn", elsewhere)]);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    let detail = &answer.report.queues[0].detail;
    let blame = format!("tag `auto-redrive:destination-arn` holds `{elsewhere}`: ");
    assert!(
        detail.starts_with(&blame) && detail.contains("not in the partition, account and region"),
        "{detail}"
    );
}

#[tokio::test]
async fn tagged_queue_that_was_just_deleted_is_reported_but_no_failure() {
    let (deleted, fine) = (dlq("deleted"), dlq("fine"));
    let fake = Fake::default()
        .with_tags(&deleted, &[])
        .with(&fine, 5)
        .with_tags(&fine, &[]);
    let report = fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(
        outcomes(&report),
        ["skipped/queue-not-found", "started/ready"]
    );
    let failure = fake
        .invoke(SWEEP)
        .by_tag()
        .listing(&[&deleted])
        .failure()
        .await;
    assert!(
        failure.to_string().contains("deleted (queue-not-found)"),
        "a listed one is a failure: {failure}"
    );
}

/// SQS answers a missing permission and a wrong region with the same words as a deleted queue.
#[tokio::test]
async fn tagged_queue_that_sqs_does_not_find_is_reported_in_its_words_with_both_causes() {
    let queue = dlq("orders-dlq");
    let words = "The specified queue does not exist or you do not have access to it.";
    let fake = Fake::default().with(&queue, 5).with_tags(&queue, &[]);
    let fault = SqsError::QueueNotFound(words.to_owned());
    let fake = fake.with_fault(&queue, "GetQueueAttributes", fault);
    let report = fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(outcomes(&report), ["skipped/queue-not-found"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    for part in [words, "it was deleted recently", "has no access to it"] {
        assert!(detail.contains(part), "{detail}");
    }

    let answer = fake.invoke(SWEEP).answer().await;
    let listed = &answer.report.queues[0].detail;
    assert!(listed.contains(words), "{listed}");
}

#[tokio::test]
async fn listed_dlqs_are_held_while_their_tags_cannot_be_read() {
    let (listed, named) = (dlq("listed"), dlq("orders-dlq"));
    let refused = TaggingError::AccessDenied(
        "User: … is not authorized to perform: tag:GetResources".to_owned(),
    );
    let expired =
        TaggingError::Service("PaginationTokenExpiredException: The token has expired.".to_owned());
    for (fault, said, reason) in [
        (refused, "grant `tag:GetResources`", "access-denied"),
        (expired, "PaginationTokenExpired", "service-error"),
    ] {
        let fake = Fake::default()
            .with(&listed, 5)
            .with(&named, 5)
            .with_tags(&named, &[])
            .with_tagging_fault(fault);
        let failure = fake
            .invoke(SWEEP)
            .by_tag()
            .listing(&[&listed])
            .failure()
            .await
            .to_string();
        assert!(failure.contains(said), "{failure}");
        assert!(fake.starts(&listed).is_empty());

        let failure = fake
            .invoke(ALARM)
            .by_tag()
            .listing(&[&listed])
            .failure()
            .await
            .to_string();
        assert!(
            failure.contains(&format!("orders-dlq ({reason})")),
            "{failure}"
        );
        assert!(fake.starts(&named).is_empty());
    }
}

/// A DLQ of another region has no tags that the function could read.
#[tokio::test]
async fn dlq_whose_tags_cannot_be_read_says_so_and_one_of_another_region_is_redriven() {
    let (own, empty) = (dlq("a-orders-dlq"), dlq("b-empty-dlq"));
    let abroad: QueueArn = "arn:aws:sqs:us-west-2:123456789012:c-orders-dlq"
        .parse()
        .unwrap();
    let fault = TaggingError::Service("InternalServiceException: try again".to_owned());
    let fake = Fake::default()
        .with(&own, 5)
        .with(&empty, 0)
        .with(&abroad, 5)
        .with_tagging_fault(fault);
    let sweep = fake.invoke(SWEEP).by_tag();
    let answer = sweep.listing(&[&own, &empty, &abroad]).answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(
        outcomes(&report),
        ["held/tags-unreadable", "skipped/empty", "started/ready"]
    );
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("The DLQ's tags cannot be read, and they may pause it: ")
            && detail.contains("InternalServiceException"),
        "{detail}"
    );
}

#[tokio::test]
async fn force_does_not_pass_unreadable_tags() {
    let listed = dlq("orders-dlq");
    let fault = TaggingError::Service("InternalServiceException: try again".to_owned());
    let fake = Fake::default().with(&listed, 5).with_tagging_fault(fault);
    let request = r#"{"action": "redrive", "force": true}"#;
    let answer = fake.invoke(request).by_tag().listing(&[&listed]);
    let report = serde_json::to_value(&answer.answer().await.report).unwrap();
    assert_eq!(outcomes(&report), ["held/tags-unreadable"]);
}

/// Without its tags it is unknown what its redrives look like. A brake stops them anyway.
#[tokio::test]
async fn task_of_a_dlq_with_unreadable_tags_is_canceled_for_a_brake_alone() {
    let queue = dlq("orders-dlq");
    let fault = TaggingError::Service("InternalServiceException: try again".to_owned());
    for (brake, expected) in [
        (BrakeState::On, "cancelled/braked"),
        (BrakeState::Off, "skipped/task-active"),
    ] {
        let fake = Fake::default();
        let sample = MoveTask {
            max_messages_per_second: Some(1),
            ..task(&fake, "RUNNING", 90, HOUR)
        };
        let fake = fake
            .with(&queue, 90)
            .with_task(&queue, sample)
            .with_alarm("down", brake)
            .with_tagging_fault(fault.clone());
        let sweep = fake.invoke(SWEEP).by_tag().listing(&[&queue]);
        let policy = Policy {
            brake_alarms: vec!["down".to_owned()],
            ..Policy::default()
        };
        let answer = sweep.policy(policy).answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(outcomes(&report), [expected]);
    }
}

#[tokio::test]
async fn listed_dlq_follows_its_tags_also_without_the_enroll_tag() {
    let (paused, dry, other) = (dlq("a-paused"), dlq("b-dry"), dlq("c-not-listed"));
    let fake = Fake::default()
        .with(&paused, 5)
        .with_settings(&paused, &[("paused", "true")])
        .with(&dry, 5)
        .with_settings(&dry, &[("dry-run", "true")])
        .with(&other, 5)
        .with_settings(&other, &[("min-messages", "1")]);
    for event in [
        SWEEP,
        r#"{"action": "redrive", "queues": ["a-paused", "b-dry"]}"#,
    ] {
        let invoke = fake.invoke(event).by_tag().listing(&[&paused, &dry]);
        let report = invoke.report().await;
        assert_eq!(outcomes(&report), ["held/paused", "wouldStart/ready"]);
    }
    assert!(fake.starts(&dry).is_empty() && fake.starts(&other).is_empty());
}
