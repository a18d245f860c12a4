//! A whole account from one deployment: enrollment by tag, a policy per queue, sweeps of many DLQs.
//!
//! Where queues are redriven, SQS is LocalStack's and the tagging API MiniStack's. Where there are
//! more queues than these can handle, or time is short, the tests have servers of their own for
//! both, and a Lambda Runtime API with real deadlines.

use crate::support::function::{EmulatedFunction, sample};
use crate::support::http::unreachable_url;
use crate::support::many::{Behavior, ManyQueues, names};
use crate::support::queues::{Queue, Queues};
use crate::support::report::{counts, of, verdict};
use crate::support::runtime::Process;
use crate::support::tagging::{Tagging, tag};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const TAGGING_URL: &str = "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API";

/// An alarm on this DLQ goes off.
fn alarm(dlq: &str) -> String {
    sample("alarm-eventbridge.json", &[("orders-dlq", dlq)])
}

/// The schedule invokes the function.
fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// The function, with the queues of the tag `auto-redrive=<value>` enrolled. Every test uses a
/// value of its own, because all share one tagging API.
fn enrolling(value: &str, tagging: &Tagging, variables: &[(&str, &str)]) -> EmulatedFunction {
    let tag = format!("auto-redrive={value}");
    let ours = [
        (TAGGING_URL, tagging.url.as_str()),
        ("REDRIVE_ENROLL_TAG", &tag),
    ];
    EmulatedFunction::start(&[&ours, variables].concat())
}

/// A tagged DLQ with a dead letter in it, and its source queue.
async fn tagged(source: &str, value: &str, settings: &[(&str, &str)]) -> Queues {
    let queues = Queues::create(source).await;
    queues.dead_letter(1).await;
    let tags = [&[("auto-redrive", value)], settings].concat();
    tag([queues.dlq.name.clone()], &tags).await;
    queues
}

/// Asserts the outcome of this queue in the log, and returns the sentence on it.
#[track_caller]
fn assert_logged(
    function: &EmulatedFunction,
    queue: &Queue,
    outcome: &str,
    reason: &str,
) -> String {
    let lines = function.log_of(&queue.arn);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(verdict(&lines[0]), (outcome, reason), "{lines:#?}");
    lines[0]["message"].as_str().unwrap().to_owned()
}

/// How many queues of a report have this outcome for this reason.
fn count_of(report: &Value, outcome: &str, reason: &str) -> usize {
    let queues = report["queues"].as_array().unwrap().iter();
    queues
        .filter(|queue| verdict(queue) == (outcome, reason))
        .count()
}

/// Asserts that every one of `total` queues is in exactly one outcome.
#[track_caller]
fn assert_adds_up(report: &Value, total: usize) {
    let counts = report["counts"].as_object().unwrap().values();
    let sum: u64 = counts.map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(sum, total as u64, "{:#}", report["counts"]);
    let listed = report["queues"].as_array().unwrap();
    let arns: BTreeSet<&str> = listed
        .iter()
        .map(|queue| queue["queueArn"].as_str().unwrap())
        .collect();
    assert_eq!(arns.len(), listed.len(), "no queue is listed twice");
    // DLQs that are empty, and DLQs that no time was left for, are only counted.
    let unlisted = (total - listed.len()) as u64;
    let count = |outcome: &str| report["counts"][outcome].as_u64().unwrap();
    assert!(unlisted <= count("skipped") + count("deferred"));
}

/// The message of an invocation that fails with `RedriveIncomplete`.
#[track_caller]
fn incomplete(result: Result<Value, Value>) -> String {
    let error = result.expect_err("the invocation fails");
    assert_eq!(error["errorType"], "RedriveIncomplete", "{error:#}");
    error["errorMessage"].as_str().unwrap().to_owned()
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part} is not in: {text}");
}

// Enrollment by tag

#[tokio::test]
async fn of_250_tagged_dlqs_20_are_redriven_and_the_others_follow_with_the_next_sweep() {
    let full = stream::iter(0..30).map(async |n| {
        let queues = Queues::create(&format!("fleet-{n}")).await;
        queues.dead_letter(1).await;
        queues.dlq.name
    });
    let empty = stream::iter(0..220).map(async |n| Queue::create(&format!("quiet-{n}-dlq")).await);
    let mut dlqs: Vec<String> = full.buffer_unordered(4).collect().await;
    let empty: Vec<Queue> = empty.buffer_unordered(8).collect().await;
    dlqs.extend(empty.into_iter().map(|queue| queue.name));
    tag(dlqs, &[("auto-redrive", "many")]).await;
    let tagging = Tagging::of_ministack();
    let mut function = enrolling("many", &tagging, &[]);

    let first = function.invoke(&schedule()).unwrap();

    assert_eq!(tagging.asked().len(), 3, "three pages of 100");
    let expected = json!({"started": 20, "deferred": 10, "skipped": 220});
    assert_eq!(counts(&first), expected);
    assert_eq!(count_of(&first, "started", "ready"), 20);
    assert_eq!(count_of(&first, "deferred", "start-limit"), 10);
    assert_adds_up(&first, 250);
    assert_eq!(
        first["queues"].as_array().unwrap().len(),
        30,
        "empty DLQs are only counted"
    );

    let second = function.invoke(&schedule()).unwrap();

    assert_eq!(counts(&second), json!({"started": 10, "skipped": 240}));
    assert_adds_up(&second, 250);
    let started = |report: &Value| -> BTreeSet<String> {
        let queues = report["queues"].as_array().unwrap().iter();
        let started = queues.filter(|queue| queue["outcome"] == "started");
        started.map(|queue| queue["queueArn"].to_string()).collect()
    };
    let (first, second) = (started(&first), started(&second));
    assert!(first.is_disjoint(&second));
    for n in 0..30 {
        let source = format!("fleet-{n}");
        Queue::of(&source).wait_until_holds(1).await;
    }
}

#[tokio::test]
async fn tag_changes_the_rate_of_its_own_queue_alone() {
    let slow = tagged(
        "tagged-slow",
        "rate",
        &[("auto-redrive:max-messages-per-second", "7")],
    )
    .await;
    let usual = tagged("tagged-usual", "rate", &[]).await;
    let mut function = enrolling("rate", &Tagging::of_ministack(), &[]);

    let report = function.invoke(&schedule()).unwrap();

    assert_eq!(counts(&report), json!({"started": 2}));
    for (queues, rate) in [(&slow, 7), (&usual, 50)] {
        let entry = of(&report, &queues.dlq);
        assert_eq!(entry["task"]["maxMessagesPerSecond"], rate);
        let tasks = queues.dlq.tasks().await;
        assert_eq!(tasks[0].max_number_of_messages_per_second(), Some(rate));
    }
}

#[tokio::test]
async fn bad_tag_fails_its_own_queue_alone_and_says_what_is_accepted() {
    let bad = tagged("tagged-bad", "bad", &[("auto-redrive:cooldown", "5s")]).await;
    let unknown = tagged("tagged-typo", "bad", &[("auto-redrive:cooldwon", "1h")]).await;
    let good = tagged("tagged-good", "bad", &[("auto-redrive:cooldown", "1h")]).await;
    let mut function = enrolling("bad", &Tagging::of_ministack(), &[]);

    let message = incomplete(function.invoke(&schedule()));

    for (queues, named) in [
        (
            &bad,
            "tag `auto-redrive:cooldown` holds `5s`: a duration from 1m to 14days",
        ),
        (
            &unknown,
            "tag `auto-redrive:cooldwon` holds `1h`: there is no such setting",
        ),
    ] {
        assert_contains(&message, &format!("{} (invalid-policy)", queues.dlq.arn));
        let detail = assert_logged(&function, &queues.dlq, "failed", "invalid-policy");
        assert_contains(&detail.to_lowercase(), named);
        queues.dlq.assert_no_task().await;
        queues.dlq.assert_holds(1).await;
    }
    assert!(!message.contains(&good.dlq.arn), "{message}");
    assert_logged(&function, &good.dlq, "started", "ready");
    good.source.wait_until_holds(1).await;
}

#[tokio::test]
async fn tag_that_names_the_destination_of_another_account_fails_its_own_queue_alone() {
    let elsewhere = "arn:aws:sqs:us-east-1:999999999999:elsewhere";
    let foreign = tagged(
        "tagged-abroad",
        "abroad",
        &[("auto-redrive:destination-arn", elsewhere)],
    )
    .await;
    let good = tagged("tagged-location", "abroad", &[]).await;
    let mut function = enrolling("abroad", &Tagging::of_ministack(), &[]);

    let message = incomplete(function.invoke(&schedule()));

    assert_contains(&message, &format!("{} (invalid-policy)", foreign.dlq.arn));
    let detail = assert_logged(&function, &foreign.dlq, "failed", "invalid-policy");
    assert_contains(&detail, elsewhere);
    assert_contains(&detail, "account");
    foreign.dlq.assert_no_task().await;
    assert_logged(&function, &good.dlq, "started", "ready");
}

#[tokio::test]
async fn alarm_has_the_tags_of_its_own_queue_read_and_lists_no_others() {
    let named = tagged("tagged-named", "named", &[]).await;
    let untagged = Queues::create("untagged").await;
    untagged.dead_letter(1).await;
    let tagging = Tagging::of_ministack();
    let mut function = enrolling("named", &tagging, &[]);

    let report = function.invoke(&alarm(&named.dlq.name)).unwrap();

    assert_eq!(counts(&report), json!({"started": 1}));
    assert_eq!(verdict(of(&report, &named.dlq)), ("started", "ready"));
    let one_call = |queue: &Queue| json!([{"ResourceARNList": [queue.arn]}]);
    assert_eq!(json!(tagging.asked()), one_call(&named.dlq));

    let report = function.invoke(&alarm(&untagged.dlq.name)).unwrap();

    assert_eq!(counts(&report), json!({"skipped": 1}));
    let entry = of(&report, &untagged.dlq);
    assert_eq!(verdict(entry), ("skipped", "not-enrolled"));
    assert_eq!(entry.get("visible"), None, "it was not looked at");
    assert_eq!(json!(tagging.asked()), one_call(&untagged.dlq));
    untagged.dlq.assert_no_task().await;
}

#[tokio::test]
async fn tagged_queue_that_was_just_deleted_is_reported_and_fails_nothing() {
    let there = tagged("tagged-there", "gone", &[]).await;
    tag(["tagged-gone-dlq".to_owned()], &[("auto-redrive", "gone")]).await;
    let mut function = enrolling("gone", &Tagging::of_ministack(), &[]);

    let report = function.invoke(&schedule()).unwrap();

    assert_eq!(counts(&report), json!({"started": 1, "skipped": 1}));
    assert_eq!(verdict(of(&report, &there.dlq)), ("started", "ready"));
    let gone = of(&report, &Queue::of("tagged-gone-dlq"));
    assert_eq!(verdict(gone), ("skipped", "queue-not-found"));
}

// When tags cannot be read

/// Asserts that the queues of `REDRIVE_QUEUES` are held with this tagging API, because their tags may
/// pause them, and that the invocation fails with a message that contains all of `said`.
async fn assert_listed_are_held(source: &str, tagging_url: &str, said: &[&str]) {
    let listed = Queues::create(source).await;
    listed.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        (TAGGING_URL, tagging_url),
        ("REDRIVE_ENROLL_TAG", "auto-redrive"),
        ("REDRIVE_QUEUES", &listed.dlq.arn),
    ]);

    let message = incomplete(function.invoke(&schedule()));

    for part in said {
        assert_contains(&message, part);
    }
    assert!(!message.contains('\n'), "one line: {message}");
    assert_logged(&function, &listed.dlq, "held", "tags-unreadable");
    listed.dlq.wait_until_holds(1).await;
}

#[tokio::test]
async fn missing_permission_to_read_tags_is_named_and_listed_queues_are_held() {
    let why = "User: function is not authorized to perform: tag:GetResources";
    let tagging = Tagging::refusing(403, "AccessDeniedException", why);
    let said = ["enrollment by tag", "grant `tag:GetResources`", why];
    assert_listed_are_held("refused", &tagging.url, &said).await;
    assert_eq!(tagging.asked().len(), 1, "a retry would not help");
}

#[tokio::test]
async fn unreachable_tagging_api_is_reported_and_listed_queues_are_held() {
    let said = ["enrollment by tag", "tag:GetResources"];
    assert_listed_are_held("unreachable", &unreachable_url(), &said).await;
}

#[tokio::test]
async fn expired_paging_token_is_reported_and_listed_queues_are_held() {
    let many = (0..150).map(|n| format!("expired-{n}"));
    let tagging = Tagging::expiring(many, ("auto-redrive", ""));
    let said = ["enrollment by tag", "PaginationTokenExpired"];
    assert_listed_are_held("expired", &tagging.url, &said).await;
    assert_eq!(tagging.asked().len(), 2);
}

// Sweeps of many DLQs

/// A function that enrolls these queues of this SQS by tag.
fn sweeping(queues: &[String], sqs: &ManyQueues, variables: &[(&str, &str)]) -> Process {
    let tagging = Tagging::of(queues.iter().cloned(), ("auto-redrive", "enabled"));
    enrolled_by(&tagging, sqs, variables)
}

fn enrolled_by(tagging: &Tagging, sqs: &ManyQueues, variables: &[(&str, &str)]) -> Process {
    let ours = [
        (TAGGING_URL, tagging.url.as_str()),
        ("AWS_ENDPOINT_URL", sqs.url()),
        ("REDRIVE_ENROLL_TAG", "auto-redrive=enabled"),
        ("REDRIVE_SAMPLE", "0"),
    ];
    Process::start(&[&ours, variables].concat())
}

#[test]
fn tagging_api_that_throttles_makes_a_sweep_slow_and_loses_no_page() {
    let queues = names(150, 0);
    let sqs = ManyQueues::start(Behavior::default());
    // More than the SDK's usual three attempts.
    let enabled = ("auto-redrive", "enabled");
    let tagging = Tagging::throttling(queues.iter().cloned(), enabled, 6);

    let mut function = enrolled_by(&tagging, &sqs, &[]);
    let report = function
        .invoke(&schedule(), Duration::from_secs(60))
        .unwrap();

    assert_eq!(counts(&report), json!({"skipped": 149, "started": 1}));
    assert_eq!(tagging.asked().len(), 2 + 6);
}

#[test]
fn tagging_api_without_a_last_page_is_reported_and_what_it_listed_is_served() {
    let queues = names(3, 1);
    let sqs = ManyQueues::start(Behavior::default());
    let enabled = ("auto-redrive", "enabled");
    let tagging = Tagging::endless(queues.iter().cloned(), enabled, Duration::ZERO);

    let mut function = enrolled_by(&tagging, &sqs, &[]);
    let result = function.invoke(&schedule(), Duration::from_secs(60));

    let message = incomplete(result);
    assert_contains(&message, "enrollment by tag could not be read");
    assert_contains(
        &message,
        "`tag:GetResources` repeats its pages, or has more than 200",
    );
    assert_eq!(tagging.asked().len(), 200);
    let mut started = sqs.seen().started;
    started.sort();
    assert_eq!(started, queues);
}

#[test]
fn tagging_api_that_is_slow_without_end_leaves_time_for_what_it_listed() {
    let queues = names(3, 1);
    let sqs = ManyQueues::start(Behavior::default());
    let enabled = ("auto-redrive", "enabled");
    let tagging = Tagging::endless(queues.iter().cloned(), enabled, Duration::from_millis(500));

    let mut function = enrolled_by(&tagging, &sqs, &[]);
    let result = function.invoke(&schedule(), Duration::from_secs(10));

    let message = incomplete(result);
    assert_contains(&message, "`tag:GetResources` failed: no answer in time");
    let mut started = sqs.seen().started;
    started.sort();
    assert_eq!(started, queues);
}

#[test]
fn throttled_sweep_is_slow_and_fails_no_queue() {
    let queues = names(1000, 10);
    let sqs = ManyQueues::start(Behavior {
        calls_a_second: Some(100),
        ..Behavior::default()
    });
    let mut function = sweeping(&queues, &sqs, &[]);

    let report = function
        .invoke(&schedule(), Duration::from_secs(60))
        .unwrap();

    let expected = json!({"started": 20, "deferred": 80, "skipped": 900});
    assert_eq!(counts(&report), expected);
    assert_eq!(count_of(&report, "deferred", "start-limit"), 80);
    assert_adds_up(&report, 1000);
    let seen = sqs.seen();
    assert_ne!(seen.throttled, 0);
    assert!(seen.looks.values().all(|looks| *looks == 1));
    let deepest: BTreeSet<&String> = queues.iter().step_by(10).rev().take(20).collect();
    assert_eq!(seen.started.iter().collect::<BTreeSet<_>>(), deepest);
}

#[test]
fn throttled_sweep_that_runs_out_of_time_defers_the_rest() {
    let queues = names(1000, 20);
    let sqs = ManyQueues::start(Behavior {
        calls_a_second: Some(100),
        ..Behavior::default()
    });
    let mut function = sweeping(&queues, &sqs, &[]);

    let report = function
        .invoke(&schedule(), Duration::from_secs(4))
        .unwrap();

    assert_adds_up(&report, 1000);
    assert_eq!(report["counts"]["failed"], 0);
    let listed = count_of(&report, "deferred", "start-limit") as u64;
    assert!(
        report["counts"]["deferred"].as_u64().unwrap() > listed,
        "some were out of time"
    );
    assert_ne!(report["counts"]["skipped"], 0);
}

#[test]
fn sweeps_that_run_out_of_time_look_at_every_queue_in_the_end() {
    const TIME: Duration = Duration::from_secs(6);
    let queues = names(2000, 100);
    let sqs = ManyQueues::start(Behavior {
        latency: Duration::from_millis(600),
        ..Behavior::default()
    });
    let mut function = sweeping(&queues, &sqs, &[]);

    let mut invocations = 0;
    while sqs.seen().looks.len() < queues.len() {
        assert!(invocations < 40, "seen: {}", sqs.seen().looks.len());
        let report = function.invoke(&schedule(), TIME).unwrap();
        assert_adds_up(&report, 2000);
        assert_eq!(report["counts"]["failed"], 0);
        assert!(report["counts"]["deferred"].as_u64().unwrap() > 1000);
        invocations += 1;
    }
    assert!(invocations >= 4, "the server is slow");
}
