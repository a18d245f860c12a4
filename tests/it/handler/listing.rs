//! A sweep by tag looks at the DLQs of a page while the next page is asked for.

use super::*;
use sqs_auto_redrive::config::EnrollTag;

const SECOND: Duration = Duration::from_secs(1);

/// Tagged DLQs with these depths, `dlq-000` and so on, two on a page. A page takes a second.
fn paged(depths: &[u64]) -> (Vec<QueueArn>, Fake) {
    let queues = (0..depths.len()).map(|n| dlq(&format!("dlq-{n:03}")));
    let queues: Vec<QueueArn> = queues.collect();
    let fake = queues.iter().zip(depths);
    let fake = fake.fold(Fake::default(), |fake, (queue, depth)| {
        fake.with(queue, *depth).with_tags(queue, &[])
    });
    (queues, fake.with_pages(2, SECOND))
}

/// The configuration of a function that enrolls by tag.
fn by_tag(fake: &Fake) -> Config {
    Config {
        queues: Vec::new(),
        enroll_tag: Some(EnrollTag {
            key: "auto-redrive".to_owned(),
            value: Some("enabled".to_owned()),
        }),
        ..fake.config()
    }
}

/// The calls before the list was complete.
fn calls_while_listing(fake: &Fake) -> Vec<String> {
    let mut calls = fake.calls();
    let last = calls.iter().rposition(|call| call == "GetResources");
    calls.truncate(last.unwrap());
    calls
}

#[tokio::test(start_paused = true)]
async fn queues_of_a_page_are_looked_at_while_the_next_page_is_asked_for() {
    let (queues, fake) = paged(&[0, 5, 0, 0, 0]);
    let fake = queues
        .iter()
        .fold(fake, |fake, queue| fake.with_latency(queue, SECOND / 4));
    let begun = tokio::time::Instant::now();
    fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(
        calls_while_listing(&fake),
        [
            "GetResources",
            "GetResources",
            "GetQueueAttributes dlq-000",
            "GetQueueAttributes dlq-001",
            "ListMessageMoveTasks dlq-001",
        ]
    );
    // Three pages, then the look at the last queue, the source queues of the full one, and its start.
    let took = begun.elapsed().as_millis();
    assert!((3750..3800).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_the_list_is_complete_and_then_the_deepest_dlq_starts_first() {
    let (queues, fake) = paged(&[5, 10, 15, 20, 25, 30]);
    let invoke = fake.invoke(SWEEP).by_tag().max_starts(2);
    let report = invoke.report().await;
    let early = calls_while_listing(&fake);
    assert!(early.len() > 3 && early.iter().all(|call| !call.starts_with("Start")));
    let started = queues.iter().filter(|queue| !fake.starts(queue).is_empty());
    assert_eq!(started.collect::<Vec<_>>(), [&queues[4], &queues[5]]);
    assert_eq!(report["counts"]["deferred"], 4);
}

#[tokio::test(start_paused = true)]
async fn destination_that_a_later_page_shows_to_be_enrolled_fails_its_dlq() {
    let (queues, fake) = paged(&[5, 5, 5, 5, 5]);
    let to_last = [("destination-arn", queues[4].as_str())];
    let fake = fake.with_tags(&queues[0], &to_last);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report)[0], "failed/invalid-policy");
    let detail = report["queues"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("is itself an enrolled DLQ"), "{detail}");
    assert!(fake.starts(&queues[0]).is_empty());
    assert_eq!(report["counts"]["started"], 4);
}

#[tokio::test(start_paused = true)]
async fn empty_dlq_whose_destination_a_later_page_shows_to_be_enrolled_is_not_merely_skipped() {
    let (queues, fake) = paged(&[0, 5, 5, 5, 5]);
    let to_last = [("destination-arn", queues[4].as_str())];
    let fake = fake.with_tags(&queues[0], &to_last);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report)[0], "failed/invalid-policy");
}

#[tokio::test(start_paused = true)]
async fn queue_without_the_enroll_tag_is_not_looked_at_while_listing() {
    let (queues, fake) = paged(&[5, 5, 5]);
    let fake = fake.with_settings(&queues[0], &[("min-messages", "1")]);
    fake.invoke(SWEEP).by_tag().report().await;
    let calls = fake.calls();
    assert!(calls.contains(&"GetQueueAttributes dlq-001".to_owned()));
    assert!(calls.iter().all(|call| !call.ends_with(" dlq-000")));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_at_while_listing_if_a_tagged_dlq_may_have_delivered_the_event() {
    let (queues, fake) = paged(&[5, 5, 5, 5, 5]);
    let batch = json!({"Records": [{
        "messageId": "1",
        "receiptHandle": "handle",
        "body": SWEEP,
        "attributes": {},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": queues[4].as_str(),
        "awsRegion": "us-east-1",
    }]});
    let failure = fake.invoke(&batch.to_string()).by_tag().failure().await;
    assert!(matches!(failure, InvocationError::Event(_)), "{failure}");
    assert_eq!(fake.calls(), ["GetResources"; 3]);
}

#[tokio::test(start_paused = true)]
async fn cancel_of_all_looks_at_no_depth_while_listing() {
    let (_, fake) = paged(&[5, 5, 5]);
    let cancel = r#"{"action": "cancel", "queues": "all"}"#;
    fake.invoke(cancel).by_tag().report().await;
    let calls = fake.calls();
    assert!(
        calls.iter().all(|call| !call.starts_with("GetQueue")),
        "{calls:?}"
    );
}

// Lists that break off

#[tokio::test(start_paused = true)]
async fn list_that_breaks_off_serves_what_was_found_and_says_how_many_pages_there_were() {
    let expired = "PaginationTokenExpiredException: The token has expired.".to_owned();
    for (pages, said) in [(1, "it listed 1 page,"), (2, "it listed 2 pages,")] {
        let (queues, fake) = paged(&[5; 6]);
        let fault = TaggingError::Service(expired.clone());
        let fake = fake.with_tagging_fault_after(pages, fault);
        let answer = fake.invoke(SWEEP).by_tag().answer().await;
        assert_eq!(answer.report.counts.started, 2 * pages as u64);
        let started = queues.iter().filter(|queue| !fake.starts(queue).is_empty());
        assert!(started.eq(&queues[..2 * pages]));
        let failure = answer.result().unwrap_err().to_string();
        for part in ["enrollment by tag could not be read", &expired, said] {
            assert!(failure.contains(part), "{failure}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn list_that_takes_too_long_serves_what_was_found() {
    let (queues, fake) = paged(&[0; 6]);
    let fake = fake.with_pages(2, 15 * SECOND);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    assert_eq!(answer.report.counts.skipped, 4);
    assert!(fake.seen().iter().eq(&queues[..4]));
    let failure = answer.result().unwrap_err().to_string();
    let said = "no answer in time; check the function's network";
    assert!(
        failure.contains(said) && failure.contains("it listed 2 pages,"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn list_that_fails_immediately_speaks_of_no_page() {
    let (_, fake) = paged(&[5; 3]);
    let fault = TaggingError::AccessDenied("no".to_owned());
    let fake = fake.with_tagging_fault(fault);
    let failure = fake.invoke(SWEEP).by_tag().failure().await.to_string();
    assert!(failure.contains("grant `tag:GetResources`"), "{failure}");
    assert!(!failure.contains("page"), "{failure}");
}

/// It may be on one of the pages that did not come.
#[tokio::test(start_paused = true)]
async fn dlq_whose_destination_may_be_enrolled_is_held_while_the_list_is_not_complete() {
    let elsewhere = dlq("elsewhere");
    for setting in ["destination-arn", "parking-arn"] {
        let (queues, fake) = paged(&[5; 4]);
        let fake = fake.with_tags(&queues[0], &[(setting, elsewhere.as_str())]);
        let fault = TaggingError::Service("InternalServiceException: try again".to_owned());
        let fake = fake.with_tagging_fault_after(1, fault);
        let answer = fake.invoke(SWEEP).by_tag().answer().await;
        let report = serde_json::to_value(&answer.report).unwrap();
        assert_eq!(
            outcomes(&report),
            ["held/tags-unreadable", "started/ready"],
            "{setting}"
        );
        let detail = report["queues"][0]["detail"].as_str().unwrap();
        let said = format!("The tags of `{elsewhere}`, which may itself be an enrolled DLQ,");
        assert!(detail.starts_with(&said), "{detail}");
    }
    // A destination on a page that came is known.
    let (queues, fake) = paged(&[5; 4]);
    let fake = fake
        .with_tags(&queues[0], &[("destination-arn", queues[1].as_str())])
        .with_settings(&queues[1], &[]);
    let fault = TaggingError::Service("InternalServiceException: try again".to_owned());
    let fake = fake.with_tagging_fault_after(1, fault);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    let report = serde_json::to_value(&answer.report).unwrap();
    assert_eq!(outcomes(&report), ["started/ready"]);
}

#[tokio::test(start_paused = true)]
async fn pages_without_end_are_read_up_to_a_limit_and_their_queues_are_served() {
    let (_, fake) = paged(&[0; 250]);
    let fake = fake.with_pages(1, Duration::ZERO);
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    assert_eq!(answer.report.counts.skipped, 200);
    let failure = answer.result().unwrap_err().to_string();
    let said = "has more than 200; before that it listed 200 pages,";
    assert!(failure.contains(said), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn page_that_comes_again_ends_the_list() {
    let (_, fake) = paged(&[0; 6]);
    let fake = fake.with_repeated_pages();
    let answer = fake.invoke(SWEEP).by_tag().answer().await;
    assert_eq!(answer.report.counts.skipped, 6);
    let failure = answer.result().unwrap_err().to_string();
    let said = "`tag:GetResources` repeats its pages";
    assert!(failure.contains(said), "{failure}");
    let lists = fake.calls();
    let lists = lists.iter().filter(|call| *call == "GetResources");
    assert_eq!(lists.count(), 4);
}

/// A queue may move to a later page while the pages are read.
#[tokio::test(start_paused = true)]
async fn queue_that_is_listed_twice_is_looked_at_once_and_ends_nothing() {
    let (queues, fake) = paged(&[0; 5]);
    let fake = fake.with_overlapping_pages();
    let report = fake.invoke(SWEEP).by_tag().report().await;
    assert_eq!(report["counts"]["skipped"], 5);
    let calls = fake.calls();
    for queue in &queues {
        let look = format!("GetQueueAttributes {}", queue.name());
        assert_eq!(calls.iter().filter(|call| **call == look).count(), 1);
    }
}

// Sweeps without time for all

/// Sweeps 400 tagged DLQs, every `nth` of them full, until SQS has answered about each of them.
/// Returns the number of sweeps. SQS and the tagging API take a quarter of a second, and a sweep has three.
async fn sweeps_to_see_all(nth: usize, policy: Policy) -> usize {
    let queues = (0..400).map(|n| dlq(&format!("dlq-{n:03}")));
    let queues: Vec<QueueArn> = queues.collect();
    let is_full = |n: usize| n.is_multiple_of(nth);
    let fake = queues.iter().enumerate();
    let fake = fake.fold(Fake::default(), |fake, (n, queue)| {
        fake.with(queue, if is_full(n) { 1000 } else { 0 })
            .with_tags(queue, &[])
            .with_latency(queue, SECOND / 4)
    });
    let fake = fake.with_pages(100, SECOND / 4);
    let function = fake.function(Config {
        policy,
        ..by_tag(&fake)
    });
    let invocation = Invocation {
        time_left: 3 * SECOND,
        ..fake.invocation()
    };
    let mut with_tasks: BTreeSet<String> = BTreeSet::new();
    for sweeps in 1..=20 {
        let begun = tokio::time::Instant::now();
        let report = function.invoke(SWEEP, &invocation).await.unwrap().report;
        let took = begun.elapsed();
        assert!(took < invocation.time_left, "{took:?}");
        let counts = serde_json::to_value(report.counts).unwrap();
        let counts = counts.as_object().unwrap().values();
        assert_eq!(counts.map(|n| n.as_u64().unwrap()).sum::<u64>(), 400);
        let seen = report.queues.iter().filter(|queue| queue.visible.is_some());
        with_tasks.extend(seen.map(|queue| queue.queue_arn.clone()));
        if fake.seen().len() == 400 && with_tasks.len() == (0..400).filter(|n| is_full(*n)).count()
        {
            return sweeps;
        }
    }
    panic!("20 sweeps saw {}", fake.seen().len());
}

#[tokio::test(start_paused = true)]
async fn ten_short_sweeps_see_all_of_400_tagged_dlqs() {
    for policy in [Policy::default(), without_samples()] {
        for (nth, most) in [(1000, 3), (10, 4), (5, 4), (2, 5), (1, 6)] {
            let sweeps = sweeps_to_see_all(nth, policy.clone()).await;
            assert!(sweeps <= most, "every {nth}th full: {sweeps} sweeps");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tagged_dlqs_that_hang_keep_no_others_waiting() {
    let (queues, fake) = paged(&[0; 200]);
    let fake = queues[..64]
        .iter()
        .fold(fake, |fake, queue| fake.with_latency(queue, 24 * HOUR));
    let fake = fake.with_pages(100, SECOND);
    let function = fake.function(by_tag(&fake));
    for seen in [0, 136] {
        function.invoke(SWEEP, &fake.invocation()).await.unwrap();
        assert_eq!(fake.seen().len(), seen);
    }
}

#[tokio::test(start_paused = true)]
async fn cancel_of_all_does_not_change_which_dlqs_a_sweep_looks_at_first() {
    let (queues, fake) = paged(&[0; 400]);
    let fake = queues
        .iter()
        .fold(fake, |fake, queue| fake.with_latency(queue, SECOND / 4));
    let fake = fake.with_pages(100, SECOND / 4);
    let function = fake.function(by_tag(&fake));
    let short = Invocation {
        time_left: 2 * SECOND,
        ..fake.invocation()
    };
    function.invoke(SWEEP, &short).await.unwrap();
    let first = fake.seen().len();
    let cancel = r#"{"action": "cancel", "queues": "all"}"#;
    function.invoke(cancel, &fake.invocation()).await.unwrap();
    function.invoke(SWEEP, &short).await.unwrap();
    let both = fake.seen().len();
    assert!(0 < first && first < both, "{first}, then {both}");
}
