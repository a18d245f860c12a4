//! Limits: starts, time, throttling.

use super::*;

#[tokio::test]
async fn deepest_dlqs_start_first_up_to_the_limit() {
    let queues: Vec<QueueArn> = (0..6).map(|n| dlq(&format!("dlq-{n}"))).collect();
    let fake = queues
        .iter()
        .zip([3, 60, 10, 0, 25, 1])
        .fold(Fake::default(), |fake, (queue, depth)| {
            fake.with(queue, depth)
        });
    let report = fake.invoke(SWEEP).max_starts(3).report().await;
    let starts: Vec<String> = fake
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("Start"))
        .collect();
    assert_eq!(
        starts,
        [
            "StartMessageMoveTask dlq-1",
            "StartMessageMoveTask dlq-4",
            "StartMessageMoveTask dlq-2"
        ]
    );
    assert_eq!(
        outcomes(&report),
        [
            "deferred/start-limit",
            "started/ready",
            "started/ready",
            "skipped/empty",
            "started/ready",
            "deferred/start-limit"
        ]
    );
    // The deferred DLQs come next.
    for queue in &queues {
        fake.minute_passes(queue);
        fake.minute_passes(queue);
    }
    let report = fake.invoke(SWEEP).max_starts(3).report().await;
    assert_eq!(report["counts"]["started"], 2);
}

#[tokio::test]
async fn thousand_dlqs_are_swept_quickly_and_each_has_one_outcome() {
    let queues: Vec<QueueArn> = (0..1000).map(|n| dlq(&format!("dlq-{n:04}"))).collect();
    let fake = queues
        .iter()
        .enumerate()
        .fold(Fake::default(), |fake, (n, queue)| {
            fake.with(queue, u64::from(n % 10 == 0))
        });
    let begun = Instant::now();
    let report = fake.invoke(SWEEP).report().await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    let total: u64 = report["counts"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(total, 1000);
    assert_eq!(report["counts"]["started"], 20);
    assert_eq!(report["counts"]["deferred"], 80);
}

#[tokio::test]
async fn throttling_slows_a_sweep_but_does_not_fail_it() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default().with(&queue, 5).with_throttling(&queue, 1);
    let report = fake.invoke(SWEEP).report().await;
    assert_eq!(outcomes(&report), ["started/ready"]);

    let fake = Fake::default()
        .with(&queue, 5)
        .with_throttling(&queue, usize::MAX);
    let time_left = Duration::from_millis(500);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);

    let throttled = SqsError::Throttled("Rate exceeded".to_owned());
    let fake =
        Fake::default()
            .with(&queue, 5)
            .with_fault(&queue, "StartMessageMoveTask", throttled);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);
}

#[tokio::test]
async fn invocation_answers_before_its_deadline_and_defers_what_it_has_not_seen() {
    let (slow, fine) = (dlq("slow"), dlq("orders-dlq"));
    let fake = Fake::default()
        .with(&slow, 5)
        .with_latency(&slow, HOUR)
        .with(&fine, 5);
    let begun = Instant::now();
    let time_left = Duration::from_millis(500);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(outcomes(&report), ["started/ready", "deferred/out-of-time"]);
    assert!(begun.elapsed() < time_left, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn start_that_is_not_answered_in_time_is_deferred() {
    let queue = dlq("orders-dlq");
    let fake = Fake::default()
        .with(&queue, 5)
        .with_slow_start(&queue, HOUR);
    let begun = Instant::now();
    let time_left = Duration::from_secs(1);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);
    assert_eq!(report["queues"][0]["visible"], 5);
    assert!(begun.elapsed() < time_left, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn dlq_that_hangs_does_not_take_cloudwatchs_time() {
    let (hangs, filling) = (dlq("hangs"), dlq("filling"));
    let fake = Fake::default()
        .with(&hangs, 5)
        .with_latency(&hangs, HOUR)
        .with(&filling, 5);
    let past = task(&fake, "COMPLETED", 100, MINUTE * 20);
    let fake = fake
        .with_task(&filling, past)
        .with_depth(&filling, 4, MINUTE * 5);
    let time_left = Duration::from_millis(500);
    let report = fake.invoke(SWEEP).time_left(time_left).report().await;
    assert_eq!(
        outcomes(&report),
        ["skipped/still-filling", "deferred/out-of-time"]
    );
}

#[tokio::test]
async fn tagging_api_that_hangs_does_not_take_the_time_of_what_is_listed() {
    let own = dlq("orders-dlq");
    let abroad = "arn:aws:sqs:us-west-2:123456789012:payments-dlq";
    let abroad: QueueArn = abroad.parse().unwrap();
    let fake = Fake::default().with(&own, 5).with(&abroad, 5);
    let fake = fake.with_slow_tagging();
    let invoke = fake.invoke(SWEEP).by_tag().listing(&[&own, &abroad]);
    let answer = invoke.time_left(Duration::from_millis(600)).answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["held/tags-unreadable", "started/ready"]);
    let failure = answer.result().unwrap_err().to_string();
    assert!(
        failure.contains("`tag:GetResources` failed: no answer in time"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn sweeps_of_one_process_go_on_where_time_ran_out() {
    let queues: Vec<QueueArn> = (0..40).map(|n| dlq(&format!("dlq-{n:02}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 0)
            .with_latency(queue, Duration::from_millis(30))
    });
    let config = Config {
        limits: Limits {
            concurrency: 2,
            ..fake.config().limits
        },
        policy: without_samples(),
        ..fake.config()
    };
    let function = fake.function(config);
    let invocation = Invocation {
        time_left: Duration::from_millis(250),
        ..fake.invocation()
    };
    let mut looked_at = BTreeSet::new();
    for _ in 0..6 {
        let report = function.invoke(SWEEP, &invocation).await.unwrap().report;
        assert!(
            report.counts.deferred > 0,
            "one sweep cannot see all: {:?}",
            report.counts
        );
        let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
        looked_at.extend(seen.map(|queue| queue.queue_arn.clone()));
    }
    assert_eq!(looked_at.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn alarms_between_sweeps_do_not_move_where_the_next_sweep_begins() {
    let queues: Vec<QueueArn> = (0..12).map(|n| dlq(&format!("dlq-{n:02}"))).collect();
    let fake = queues.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 0)
            .with_latency(queue, Duration::from_millis(40))
    });
    let config = Config {
        limits: Limits {
            concurrency: 1,
            ..fake.config().limits
        },
        policy: without_samples(),
        ..fake.config()
    };
    let function = fake.function(config);
    let short = Invocation {
        time_left: Duration::from_millis(250),
        ..fake.invocation()
    };
    let named = r#"{"action": "redrive", "queues": ["dlq-00", "dlq-01", "dlq-02"]}"#;
    let mut seen_by_sweeps: Vec<String> = Vec::new();
    while seen_by_sweeps.len() < 12 {
        let report = function.invoke(SWEEP, &short).await.unwrap().report;
        let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
        let new: Vec<String> = seen.map(|queue| queue.queue_arn.clone()).collect();
        assert!(!new.is_empty());
        let again = new
            .iter()
            .filter(|arn| seen_by_sweeps.contains(arn))
            .count();
        assert!(
            again == 0 || seen_by_sweeps.len() + new.len() > 12,
            "a sweep went back: {new:?}"
        );
        seen_by_sweeps.extend(new);
        function.invoke(named, &fake.invocation()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn held_dlq_is_asked_about_again_after_thirty_minutes() {
    let queue = dlq("orders-dlq");
    for has_good_past in [false, true] {
        let fake = with_source(Fake::default(), &queue, 100);
        fake.oldest_age_is(&queue, HOUR);
        let good = task(&fake, "COMPLETED", 1000, 20 * HOUR);
        let back = |n| task(&fake, "COMPLETED", 100, n * HOUR);
        let back: Vec<MoveTask> = (1..=5).rev().map(back).collect();
        let past = has_good_past.then_some(good).into_iter().chain(back);
        let fake = past.fold(fake, |fake, task| fake.with_task(&queue, task));
        let function = fake.function(fake.config());
        let mut asked = Vec::new();
        for _ in 0..8 {
            let answer = function.invoke(SWEEP, &fake.invocation()).await.unwrap();
            let report = serde_json::to_value(answer.report).unwrap();
            assert_eq!(outcomes(&report), ["held/attempts-exhausted"]);
            let calls = fake.calls();
            let metrics = calls
                .iter()
                .filter(|call| call.starts_with("GetMetricData"));
            asked.push(metrics.count());
            (0..5).for_each(|_| _ = fake.minute_passes(&queue));
        }
        // Whether a redrive stayed away also depends on the age of the oldest message. The age is
        // read in any case, and not again before the message has a day left.
        let again = 1 + usize::from(has_good_past);
        assert_eq!(asked, [2, 0, 0, 0, 0, 0, again, 0]);
    }
}

/// A sample of 20 among this many messages.
fn past_sample(fake: &Fake, to_move: u64, ago: Duration) -> MoveTask {
    MoveTask {
        moved: 20,
        to_move: Some(to_move),
        max_messages_per_second: Some(1),
        ..task(fake, "CANCELLED", 20, ago)
    }
}

#[tokio::test(start_paused = true)]
async fn each_path_makes_only_the_calls_that_can_change_its_outcome() {
    const LOOK: &[&str] = &["GetQueueAttributes", "ListMessageMoveTasks"];
    const FACTS: &[&str] = &["ListDeadLetterSourceQueues", "GetQueueAttributes"];
    const METRICS: &[&str] = &["GetMetricData"];
    const START: &[&str] = &["StartMessageMoveTask"];
    let queue = dlq("orders-dlq");
    let ago = |minutes| minutes * MINUTE;
    let fake = Fake::default();
    let running = task(&fake, "RUNNING", 100, ago(2));
    let foreign = MoveTask {
        destination_arn: Some(dlq("elsewhere").to_string()),
        ..running.clone()
    };
    let back = past_sample(&fake, 1000, ago(10));
    // Without datapoints, the depth alone decides after 15 more minutes.
    let good = past_sample(&fake, 1000, ago(25));
    for (visible, past, outcome, calls) in [
        (0, None, "skipped/empty", &[&LOOK[..1]][..]),
        (40, None, "started/ready", &[LOOK, FACTS, START]),
        (900, Some(foreign), "skipped/task-active", &[LOOK]),
        (900, Some(running), "skipped/task-active", &[LOOK, FACTS]),
        (
            1000,
            Some(back),
            "skipped/cooling-down",
            &[LOOK, FACTS, METRICS],
        ),
        (
            980,
            Some(good),
            "started/ready",
            &[LOOK, FACTS, METRICS, METRICS, START],
        ),
    ] {
        let fake = with_source(Fake::default(), &queue, visible);
        let fake = past
            .into_iter()
            .fold(fake, |fake, task| fake.with_task(&queue, task));
        let report = fake.invoke(SWEEP).report().await;
        assert_eq!(outcomes(&report), [outcome], "{report:#}");
        let made = fake.calls();
        let made: Vec<&str> = made
            .iter()
            .filter_map(|call| call.split(' ').next())
            .collect();
        assert_eq!(made, calls.concat(), "{outcome}");
    }
}

/// A dry run starts nothing, so it would be ready in every sweep and starve the others.
#[tokio::test]
async fn dry_run_takes_no_place_under_the_limit_and_shows_every_dlq() {
    let dry: Vec<QueueArn> = (0..25).map(|n| dlq(&format!("a-dry-{n:02}"))).collect();
    let real: Vec<QueueArn> = (0..5).map(|n| dlq(&format!("b-real-{n}"))).collect();
    let fake = dry.iter().fold(Fake::default(), |fake, queue| {
        fake.with(queue, 1000)
            .with_tags(queue, &[("dry-run", "true")])
    });
    let fake = real.iter().fold(fake, |fake, queue| {
        fake.with(queue, 5).with_tags(queue, &[])
    });
    let report = fake.invoke(SWEEP).by_tag().max_starts(5).report().await;
    assert_eq!(report["counts"]["wouldStart"], 25);
    assert_eq!(report["counts"]["started"], 5);
    assert_eq!(report["counts"]["deferred"], 0);
    let policy = Policy {
        dry_run: true,
        ..Policy::default()
    };
    let report = fake.invoke(SWEEP).max_starts(1).policy(policy);
    let report = report.listing(&dry.iter().collect::<Vec<_>>()).report();
    assert_eq!(report.await["counts"]["wouldStart"], 25);
}

#[tokio::test(start_paused = true)]
async fn sweep_goes_on_behind_dlqs_that_hang() {
    for concurrency in [1, 4] {
        let hanging = (0..concurrency).map(|n| dlq(&format!("a-hangs-{n}")));
        let hanging: Vec<QueueArn> = hanging.collect();
        let good: Vec<QueueArn> = (0..36).map(|n| dlq(&format!("good-{n:02}"))).collect();
        let fake = hanging.iter().fold(Fake::default(), |fake, queue| {
            fake.with(queue, 5).with_latency(queue, HOUR)
        });
        let fake = good.iter().fold(fake, |fake, queue| {
            fake.with(queue, 0)
                .with_latency(queue, Duration::from_millis(100))
        });
        let mut config = fake.config();
        config.limits.concurrency = concurrency;
        let function = fake.function(config);
        let invocation = Invocation {
            time_left: Duration::from_secs(20),
            ..fake.invocation()
        };
        let mut looked_at = BTreeSet::new();
        for _ in 0..2 {
            let report = function.invoke(SWEEP, &invocation).await.unwrap().report;
            let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
            looked_at.extend(seen.map(|queue| queue.queue_arn.clone()));
        }
        assert_eq!(looked_at.len(), 36, "concurrency {concurrency}");
    }
}

/// Its task may run. The others were never asked for.
#[tokio::test(start_paused = true)]
async fn start_that_hangs_and_starts_that_were_never_sent_say_different_things() {
    let queues = ["a-hangs", "b-waits", "c-waits"].map(dlq);
    let fake = queues.iter().zip([9, 5, 5]);
    let fake = fake.fold(Fake::default(), |fake, (queue, depth)| {
        fake.with(queue, depth)
    });
    let fake = fake.with_slow_start(&queues[0], HOUR);
    let mut config = fake.config();
    config.limits.concurrency = 1;
    let function = fake.function(config);
    let answer = function.invoke(SWEEP, &fake.invocation()).await.unwrap();
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["deferred/out-of-time"; 3]);
    let detail = |n: usize| report["queues"][n]["detail"].as_str().unwrap().to_owned();
    assert!(detail(0).starts_with("SQS did not answer the start in time"));
    for n in [1, 2] {
        let said = "The invocation ran out of time before it asked SQS for a start";
        assert!(detail(n).starts_with(said), "{}", detail(n));
    }
}

/// SQS was asked for a start, and throttled it.
#[tokio::test(start_paused = true)]
async fn start_that_was_throttled_until_sqs_hung_says_that_it_was_throttled() {
    let queue = dlq("orders-dlq");
    let throttled = SqsError::Throttled("Rate exceeded".to_owned());
    let (list, hanging) = ("ListMessageMoveTasks orders-dlq", queue.clone());
    let fake = Fake::default()
        .with(&queue, 5)
        .with_fault(&queue, "StartMessageMoveTask", throttled)
        .before(list, |_| {})
        .before(list, move |fake| fake.latency_is(&hanging, HOUR));
    let report = fake.invoke(SWEEP).report().await;
    assert_eq!(outcomes(&report), ["deferred/out-of-time"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("SQS throttled the start"), "{detail}");
}

#[tokio::test]
async fn start_beyond_the_accounts_limit_is_deferred() {
    let queue = dlq("orders-dlq");
    let words = "TooManyTasks: the account has 100 active message move tasks, the maximum";
    let fake = Fake::default()
        .with(&queue, 5)
        .with_account_limit(&queue, words);
    let report = fake.invoke(SWEEP).report().await;
    assert_eq!(outcomes(&report), ["deferred/start-limit"]);
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{detail}");
}

const FORCE: &str = r#"{"action": "redrive", "queues": "all", "force": true}"#;

#[tokio::test]
async fn request_that_leaves_dlqs_over_fails_and_says_how_many() {
    let queues = ["a-dlq", "b-dlq", "c-dlq"].map(dlq);
    let aside =
        r#"{"action": "redrive", "destinationArn": "arn:aws:sqs:us-east-1:123456789012:aside"}"#;
    for request in [FORCE, aside] {
        let fake = queues
            .iter()
            .fold(Fake::default(), |fake, queue| fake.with(queue, 5));
        let failure = fake.invoke(request).max_starts(1).failure().await;
        assert_eq!(
            failure.to_string(),
            "the request is not done for 2 DLQs; send it again"
        );
        // A schedule comes again by itself.
        let report = fake.invoke(SWEEP).max_starts(1).report().await;
        assert_eq!(report["counts"]["deferred"], 1);
    }
}

/// A sweep comes again by itself, and then CloudWatch may answer.
#[tokio::test(start_paused = true)]
async fn request_that_leaves_a_dlq_in_doubt_fails_and_a_sweep_does_not() {
    let queue = dlq("orders-dlq");
    let fake = || with_source(Fake::default(), &queue, 100).with_unreadable_metrics(false);
    let request = r#"{"action": "redrive", "queues": ["orders-dlq"]}"#;
    let failure = fake().invoke(request).failure().await.to_string();
    assert_eq!(failure, "the request is not done for 1 DLQ; send it again");
    let report = fake().invoke(SWEEP).report().await;
    assert_eq!(outcomes(&report), ["skipped/metrics-unreadable"]);
    let report = fake().invoke(FORCE).report().await;
    assert_eq!(outcomes(&report), ["started/ready"]);
}

/// Lambda repeats a failed asynchronous request one minute and three minutes after it failed, and each
/// try may take all of the function's time.
#[tokio::test]
async fn forced_request_that_lambda_repeats_forces_nothing_twice() {
    let (good, denied) = (dlq("a-good"), dlq("b-denied"));
    for timeout in [1, 2, 5, 15] {
        let fault = SqsError::AccessDenied("no".to_owned());
        let fake = Fake::default().with(&good, 5).with(&denied, 5).with_fault(
            &denied,
            "StartMessageMoveTask",
            fault,
        );
        for pause in [0, timeout + 1, timeout + 2] {
            for _ in 0..pause {
                fake.minute_passes(&good);
            }
            // The consumer fails: everything is back.
            fake.counts_are(&good, 5, 0);
            let time_left = MINUTE * timeout;
            fake.invoke(FORCE).time_left(time_left).failure().await;
        }
        assert_eq!(fake.starts(&good).len(), 1, "{timeout} minutes");
    }
}
