//! Every call ends, whatever keeps it waiting, and every invocation ends before Lambda's deadline.
//!
//! `src/setup.rs` has the timeouts of a connection (2 s) and of an attempt (5 s). Lambda's
//! deadline, which is real here, bounds all attempts together. The servers are the tests' own.

use crate::support::function::sample;
use crate::support::hang::{Hang, Place};
use crate::support::http::{Answer, Server};
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use serde_json::{Value, json};
use std::ops::Range;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TAGGING_URL: &str = "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API";
const CLOUDWATCH_URL: &str = "AWS_ENDPOINT_URL_CLOUDWATCH";

/// Enough time that the deadline does not matter.
const LONG: Duration = Duration::from_secs(60);

/// How long three attempts take, with the pauses between them, if each hangs here. There are some
/// seconds more for a slow machine, but the ranges do not overlap.
fn three_attempts(place: Place) -> Range<Duration> {
    let seconds = match place {
        // 3 × 2 s, and two pauses of a second at most.
        Place::Connect => 6..14,
        // 3 × 5 s, and the pauses.
        Place::Answer | Place::Body => 15..30,
    };
    Duration::from_secs(seconds.start)..Duration::from_secs(seconds.end)
}

/// SQS with one DLQ that has messages and was redriven hours ago. It never answers this operation.
fn sqs(silent_on: &'static str) -> Server {
    Server::start(move |request| {
        let operation = request.operation();
        if operation == silent_on {
            sleep(Duration::from_secs(600));
        }
        match operation {
            "GetQueueAttributes" => Answer::ok(json!({"Attributes": {
                "ApproximateNumberOfMessages": "5",
                "ApproximateNumberOfMessagesNotVisible": "0",
            }})),
            "ListMessageMoveTasks" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let task = |status, ago: u64| {
                    json!({
                        "Status": status, "TaskHandle": "handle",
                        "StartedTimestamp": now.as_millis() as u64 - ago * 3_600_000,
                        "ApproximateNumberOfMessagesMoved": 20,
                        "ApproximateNumberOfMessagesToMove": 20,
                    })
                };
                let status = match silent_on {
                    "CancelMessageMoveTask" => "RUNNING",
                    _ => "COMPLETED",
                };
                Answer::ok(json!({"Results": [task(status, 5)]}))
            }
            "StartMessageMoveTask" => Answer::ok(json!({"TaskHandle": "handle"})),
            "ListDeadLetterSourceQueues" => Answer::ok(json!({"queueUrls": []})),
            "" => Answer::error(404, "UnknownOperationException", ""),
            other => panic!("{other}"),
        }
    })
}

/// The function, with a DLQ of its SQS enrolled.
fn function(sqs_url: &str, variables: &[(&str, &str)]) -> Process {
    let arn = queue_arn("orders-dlq");
    let ours = [
        ("REDRIVE_QUEUES", arn.as_str()),
        ("REDRIVE_QUIET_PERIOD", "0"),
        ("REDRIVE_SAMPLE", "0"),
        ("AWS_ENDPOINT_URL", sqs_url),
        ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
    ];
    let mut function = Process::start(&[&ours, variables].concat());
    // A process that is still starting would use time of the first invocation.
    let (report, _) = function.invoke_and_log(&sample("ignored-ok.json", &[]), LONG);
    report.expect("it has started");
    function
}

fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// The outcome of the DLQ, and how long the invocation took. Panics if the function misses its
/// deadline.
#[track_caller]
fn outcome(function: &mut Process, event: &str, time: Duration) -> (String, Duration) {
    let begun = Instant::now();
    let (_, log) = function.invoke_and_log(event, time);
    let took = begun.elapsed();
    let arn = queue_arn("orders-dlq");
    let lines: Vec<&Value> = log.iter().filter(|line| line["queue.arn"] == arn).collect();
    assert_eq!(lines.len(), 1, "{log:#?}");
    let text = |name: &str| lines[0][name].as_str().unwrap();
    (format!("{}/{}", text("outcome"), text("reason")), took)
}

/// Runs this for all concurrently: they only wait.
fn for_each<T: Copy + Send>(all: &[T], run: impl Fn(T) + Sync) {
    let run = &run;
    thread::scope(|scope| {
        for one in all {
            let one = *one;
            scope.spawn(move || run(one));
        }
    });
}

const PLACES: [Place; 3] = [Place::Connect, Place::Answer, Place::Body];

#[test]
fn sqs_that_hangs_fails_the_dlq_after_three_attempts() {
    for_each(&PLACES, |place| {
        let sqs = Hang::at(place);
        let mut function = function(&sqs.url, &[]);

        let (outcome, took) = outcome(&mut function, &schedule(), LONG);

        assert_eq!(outcome, "failed/service-error", "{place:?}");
        assert!(three_attempts(place).contains(&took), "{place:?}: {took:?}");
    });
}

#[test]
fn every_call_to_sqs_ends() {
    let cancel = json!({"action": "cancel", "queues": "all"}).to_string();
    let calls = [
        ("GetQueueAttributes", &schedule()),
        ("ListMessageMoveTasks", &schedule()),
        ("StartMessageMoveTask", &schedule()),
        ("CancelMessageMoveTask", &cancel),
    ];
    for_each(&calls, |(operation, event)| {
        let sqs = sqs(operation);
        let mut function = function(&sqs.url, &[]);

        let (outcome, took) = outcome(&mut function, event, LONG);

        assert_eq!(outcome, "failed/service-error", "{operation}");
        let three_attempts = three_attempts(Place::Answer);
        assert!(three_attempts.contains(&took), "{operation}: {took:?}");
    });
}

#[test]
fn cloudwatch_that_hangs_is_asked_three_times() {
    let questions = [
        // Without the state of the brakes nothing starts; without a depth history the redrive
        // starts.
        ("REDRIVE_BRAKE_ALARMS", "brake", "held/brake-unknown"),
        ("REDRIVE_QUIET_PERIOD", "10m", "started/ready"),
    ];
    for_each(&questions, |(variable, value, expected)| {
        for_each(&PLACES, |place| {
            let (sqs, cloudwatch) = (sqs(""), Hang::at(place));
            let variables = [(variable, value), (CLOUDWATCH_URL, &cloudwatch.url)];
            let mut function = function(&sqs.url, &variables);

            let (outcome, took) = outcome(&mut function, &schedule(), LONG);

            assert_eq!(outcome, expected, "{variable} {place:?}");
            let three_attempts = three_attempts(place);
            assert!(
                three_attempts.contains(&took),
                "{variable} {place:?}: {took:?}"
            );
        });
    });
}

#[test]
fn tagging_api_that_hangs_is_asked_again_until_half_of_the_look_is_over() {
    const TIME: Duration = Duration::from_secs(30);
    for_each(&PLACES, |place| {
        let (sqs, tagging) = (sqs(""), Hang::at(place));
        let variables = [
            ("REDRIVE_ENROLL_TAG", "auto-redrive"),
            (TAGGING_URL, &tagging.url),
        ];
        let mut function = function(&sqs.url, &variables);

        // The listed DLQ is looked at anyway.
        let (outcome, took) = outcome(&mut function, &schedule(), TIME);

        assert_eq!(outcome, "held/tags-unreadable", "{place:?}");
        // Ten of the thirty seconds are kept for the starts; half of the rest is ten.
        let seconds = took.as_secs();
        assert!((10..19).contains(&seconds), "{place:?}: {took:?}");
        // An attempt of five seconds leaves time for a second one, but not for a third.
        let attempts = tagging.taken();
        assert_eq!(
            attempts,
            if place == Place::Connect { 0 } else { 2 },
            "{place:?}"
        );
    });
}

/// In a VPC without an endpoint, no connection to the service opens.
#[test]
fn function_in_a_vpc_without_an_endpoint_ends_in_time_and_names_the_service_and_the_endpoint() {
    let brake = sample("brake-alarm.json", &[]);
    let brakes = ("REDRIVE_BRAKE_ALARMS", "orders consumer is down");
    let (tag, redrive) = (("REDRIVE_ENROLL_TAG", "auto-redrive"), schedule());
    let cases = [
        ("AWS_ENDPOINT_URL_SQS", brakes, &redrive, "SQS", "`sqs`"),
        (
            CLOUDWATCH_URL,
            brakes,
            &redrive,
            "CloudWatch",
            "`monitoring`",
        ),
        (
            CLOUDWATCH_URL,
            ("REDRIVE_QUIET_PERIOD", "10m"),
            &redrive,
            "CloudWatch",
            "`monitoring`",
        ),
        (TAGGING_URL, tag, &redrive, "the tagging API", "`tagging`"),
    ];
    for_each(&cases, |(url, setting, event, service, endpoint)| {
        let (sqs, missing) = (sqs(""), Hang::at(Place::Connect));
        let mut function = function(&sqs.url, &[setting, (url, &missing.url)]);
        let begun = Instant::now();
        let (_, log) = function.invoke_and_log(event, LONG);
        assert!(
            begun.elapsed() < LONG / 2,
            "{service}: {:?}",
            begun.elapsed()
        );
        let lines = log.iter().filter_map(|line| line["message"].as_str());
        let hint = format!("in a VPC the endpoint for {service} ({endpoint})");
        let hints = lines.filter(|line| line.contains(&hint)).count();
        assert!(hints >= 1, "{hint}: {log:#?}");
    });

    // The event of a brake that cannot be read counts, after three attempts.
    let (sqs, missing) = (sqs(""), Hang::at(Place::Connect));
    let variables = [brakes, (CLOUDWATCH_URL, missing.url.as_str())];
    let mut function = function(&sqs.url, &variables);
    let (outcome, took) = outcome(&mut function, &brake, LONG);
    assert_eq!(outcome, "skipped/nothing-to-cancel");
    assert!(three_attempts(Place::Connect).contains(&took), "{took:?}");
}

#[test]
fn few_messages_do_not_wait_for_source_facts() {
    for_each(&[LONG, LITTLE[0], LITTLE[1]], |time| {
        let sqs = sqs("ListDeadLetterSourceQueues");
        let mut function = function(&sqs.url, &[("REDRIVE_SAMPLE", "10")]);
        let (outcome, took) = outcome(&mut function, &schedule(), time);
        assert_eq!(outcome, "started/ready", "{time:?}");
        assert!(took < three_attempts(Place::Answer).end, "{took:?}");
    });
}

/// Less time than a single attempt has.
const LITTLE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(2)];

#[test]
fn whatever_hangs_the_invocation_ends_before_its_deadline() {
    let cancel = json!({"action": "cancel", "queues": "all"}).to_string();
    let redrive = schedule();
    let calls = [
        ("GetQueueAttributes", &redrive, "deferred/out-of-time"),
        ("ListMessageMoveTasks", &redrive, "deferred/out-of-time"),
        // The next look shows whether it took effect.
        ("StartMessageMoveTask", &redrive, "deferred/out-of-time"),
        // No later event would cancel it. The invocation fails so that Lambda retries it.
        ("CancelMessageMoveTask", &cancel, "failed/out-of-time"),
    ];
    for_each(&LITTLE, |time| {
        for_each(&calls, |(operation, event, expected)| {
            let sqs = sqs(operation);
            let mut function = function(&sqs.url, &[]);
            let (outcome, _) = outcome(&mut function, event, time);
            assert_eq!(outcome, expected, "{operation} {time:?}");
        });
        for_each(&PLACES, |place| {
            let hang = Hang::at(place);
            let mut function = function(&hang.url, &[]);
            let (outcome, _) = outcome(&mut function, &redrive, time);
            assert_eq!(outcome, "deferred/out-of-time", "{place:?} {time:?}");
        });
        for_each(&PLACES, |place| {
            let (sqs, hang) = (sqs(""), Hang::at(place));
            let tags = [
                ("REDRIVE_ENROLL_TAG", "auto-redrive"),
                (TAGGING_URL, &hang.url),
            ];
            let mut function = function(&sqs.url, &tags);
            let (outcome, _) = outcome(&mut function, &redrive, time);
            assert_eq!(outcome, "held/tags-unreadable", "{place:?} {time:?}");
        });
        // One after the other: the depth history, the brakes.
        for_each(&PLACES, |place| {
            let (sqs, hang) = (sqs(""), Hang::at(place));
            let variables = [
                ("REDRIVE_QUIET_PERIOD", "10m"),
                ("REDRIVE_BRAKE_ALARMS", "brake"),
                (CLOUDWATCH_URL, &hang.url),
            ];
            let mut function = function(&sqs.url, &variables);
            let (outcome, _) = outcome(&mut function, &redrive, time);
            assert_eq!(outcome, "held/brake-unknown", "{place:?} {time:?}");
        });
    });
}

#[test]
fn invocation_whose_deadline_has_passed_ends_immediately() {
    let sqs = sqs("GetQueueAttributes");
    let function = function(&sqs.url, &[]);

    function.send(&schedule(), Duration::ZERO);

    let begun = Instant::now();
    let report = loop {
        if let Some(report) = function.answered() {
            break report.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "it waits");
        sleep(Duration::from_millis(10));
    };
    assert_eq!(report["counts"]["deferred"], 1, "{report:#}");
}
