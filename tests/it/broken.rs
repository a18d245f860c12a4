//! What once broke the function, each with its input, on the wire where AWS answers. The function is the
//! real binary; SQS, CloudWatch and the tagging API are a scripted account.

use crate::support::account::{Account, Call, task};
use crate::support::function::sample;
use crate::support::http::Answer;
use crate::support::queues::queue_arn;
use crate::support::report::{of, verdict};
use crate::support::runtime::Process;
use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

const TIME: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DLQ: &str = "orders-dlq";
/// The alarm of `events/brake-alarm.json`.
const BRAKE: &str = "orders consumer is down";
const FORCE: &str = r#"{"action": "redrive", "queues": "all", "force": true}"#;
const CANCEL: &str = r#"{"action": "cancel", "queues": "all"}"#;
const BY_TAG: (&str, &str) = ("REDRIVE_ENROLL_TAG", "auto-redrive");
const ENROLLED: (&str, &str) = ("auto-redrive", "enabled");

fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

fn brake_event() -> String {
    sample("brake-alarm.json", &[])
}

/// The function with this account for every service.
fn function(account: &Account, variables: &[(&str, &str)]) -> Process {
    let ours = [("AWS_ENDPOINT_URL", account.url.as_str())];
    Process::start(&[&ours, variables].concat())
}

/// The function with these DLQs listed, too.
fn listing(account: &Account, dlqs: &[&str], variables: &[(&str, &str)]) -> Process {
    let arns: Vec<String> = dlqs.iter().map(|dlq| queue_arn(dlq)).collect();
    let arns = arns.join(",");
    function(
        account,
        &[&[("REDRIVE_QUEUES", arns.as_str())], variables].concat(),
    )
}

/// An account with this DLQ and these past tasks, newest first.
fn with_past(visible: u64, tasks: &[Value]) -> Account {
    let account = Account::start();
    account.add_dlq(DLQ, visible, &[]);
    account.set_tasks(DLQ, tasks);
    account
}

/// What a sweep says about a DLQ of this account, as `outcome/reason`, its detail and its streak.
fn sweep(account: &Account, variables: &[(&str, &str)]) -> (String, String, u64) {
    let report = listing(account, &[DLQ], variables).invoke(&schedule(), TIME);
    read(&report.unwrap())
}

fn read(report: &Value) -> (String, String, u64) {
    let queue = of(report, &queue_arn(DLQ));
    let (outcome, reason) = verdict(queue);
    (
        format!("{outcome}/{reason}"),
        queue["detail"].as_str().unwrap().to_owned(),
        queue["streak"].as_u64().unwrap_or_default(),
    )
}

/// What the report says about a DLQ.
fn outcome(report: &Value, dlq: &str) -> String {
    let (outcome, reason) = verdict(of(report, &queue_arn(dlq)));
    format!("{outcome}/{reason}")
}

/// The message of an invocation that fails because something is not done.
#[track_caller]
fn incomplete(result: Result<Value, Value>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error["errorType"], "RedriveIncomplete", "{error}");
    error["errorMessage"].as_str().unwrap().to_owned()
}

/// The parameters of every call of this operation since the last time anyone asked.
fn questions(account: &Account, operation: &str) -> Vec<Value> {
    let calls = account.calls().into_iter();
    let calls = calls.filter(|call| call.operation == operation);
    calls.map(|call| call.question).collect()
}

fn starts(account: &Account) -> Vec<Value> {
    questions(account, "StartMessageMoveTask")
}

/// A task that moved its messages to another queue.
fn to(dlq: &str, mut task: Value) -> Value {
    task["DestinationArn"] = queue_arn(dlq).into();
    task
}

/// Whether a call is about this queue.
fn is_about(call: &Call, queue: &str) -> bool {
    let texts = [&call.question["QueueUrl"], &call.question["SourceArn"]];
    let names = texts.into_iter().filter_map(Value::as_str);
    let mut names = names.filter_map(|text| text.rsplit(['/', ':']).next());
    names.any(|name| name == queue)
}

/// The states of alarms, as `DescribeAlarms` answers.
fn alarms(states: &[(&str, &str)]) -> Answer {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(1).str("MetricAlarms").array(states.len());
    for (name, state) in states {
        encoder.map(2).str("AlarmName").str(name);
        encoder.str("StateValue").str(state);
    }
    Answer::cbor(encoder)
}

/// What CloudWatch knows of the last day: a DLQ that was empty until this many letters came some minutes
/// ago, and a consumer that handles a message every five minutes.
fn empty_until(minutes_ago: u32, letters: f64) -> Answer {
    let now = SystemTime::now();
    let minutes = (1..24 * 12).map(|n| n * 5);
    let depth = |ago: u32| if ago < minutes_ago { letters } else { 0.0 };
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(1).str("MetricDataResults").array(2);
    for id in ["q0", "q1"] {
        encoder.map(4).str("Id").str(id);
        encoder.str("StatusCode").str("Complete");
        encoder.str("Timestamps").array(minutes.len());
        for ago in minutes.clone() {
            encoder.timestamp(&(now - ago * MINUTE).into());
        }
        encoder.str("Values").array(minutes.len());
        for ago in minutes.clone() {
            encoder.double(if id == "q0" { depth(ago) } else { 1.0 });
        }
    }
    Answer::cbor(encoder)
}

// Decisions

#[test]
fn transient_letters_hours_apart_are_no_streak_and_are_never_held() {
    let letters: Vec<Value> = (1..=5)
        .map(|n| task(DLQ, "COMPLETED", 1, 4 * n * HOUR))
        .collect();
    let hundred = vec![task(DLQ, "COMPLETED", 100, 4 * HOUR)];
    for (visible, past) in [(1, &letters), (3, &hundred)] {
        // Growth is no reason to hold a DLQ that was empty within the hour, and ends with the quiet period.
        for (minutes_ago, expected) in [(2, "skipped/still-filling"), (16, "started/ready")] {
            let account = with_past(visible, past);
            account.intercept(move |call| {
                (call.operation == "GetMetricData")
                    .then(|| empty_until(minutes_ago, visible as f64))
            });
            let (outcome, detail, streak) = sweep(&account, &[]);
            assert_eq!((outcome.as_str(), streak), (expected, 0), "{detail}");
        }
    }
    // Without the depth history, the same letters look like one that came back each time.
    let (outcome, _, streak) = sweep(&with_past(1, &letters), &[]);
    assert_eq!((outcome.as_str(), streak), ("held/attempts-exhausted", 5));
}

#[test]
fn start_that_was_throttled_while_a_brake_went_on_is_held() {
    let account = with_past(5, &[]);
    account.add_alarm(BRAKE);
    let begun = Instant::now();
    account.intercept(move |call| {
        let is_throttled = begun.elapsed() < Duration::from_secs(8);
        let is_start = call.operation == "StartMessageMoveTask";
        (is_start && is_throttled)
            .then(|| Answer::error(400, "ThrottlingException", "Rate exceeded"))
    });
    let brake = [("REDRIVE_BRAKE_ALARMS", BRAKE)];
    let function = listing(&account, &[DLQ], &brake);
    function.send(&schedule(), TIME);
    sleep(Duration::from_secs(2));
    account.alarms_are("ALARM");
    let report = loop {
        sleep(Duration::from_millis(50));
        if let Some(result) = function.answered() {
            break result.unwrap();
        }
        assert!(begun.elapsed() < TIME);
    };
    let (outcome, detail, _) = read(&report);
    assert_eq!(outcome, "held/braked", "{detail}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it does not wait on"
    );
}

#[test]
fn sweep_cancels_a_task_that_runs_under_a_brake_in_alarm_although_no_event_says_so() {
    let account = with_past(5, &[task(DLQ, "RUNNING", 50, HOUR)]);
    account.add_alarm(BRAKE);
    account.alarms_are("ALARM");
    let (outcome, detail, _) = sweep(&account, &[("REDRIVE_BRAKE_ALARMS", BRAKE)]);
    assert_eq!(outcome, "cancelled/braked", "{detail}");
    assert_eq!(questions(&account, "CancelMessageMoveTask").len(), 1);
}

#[test]
fn cancel_that_finds_nothing_says_that_an_invocation_under_way_may_still_start() {
    let account = with_past(5, &[]);
    let report = listing(&account, &[DLQ], &[]).invoke(CANCEL, TIME).unwrap();
    let (outcome, detail, _) = read(&report);
    assert_eq!(outcome, "skipped/nothing-to-cancel");
    assert!(
        detail.contains("another invocation may be about to start one"),
        "{detail}"
    );
}

/// Five redrives of an hour ago and before that all came back.
fn fruitless(status: &str) -> Vec<Value> {
    (1..=5).map(|n| task(DLQ, status, 9, n * HOUR)).collect()
}

const PARKING: &str = "parking";

fn parking() -> String {
    queue_arn(PARKING)
}

#[test]
fn parking_that_was_canceled_or_failed_once_is_tried_again_and_nothing_goes_to_the_consumer() {
    for status in ["CANCELLED", "FAILED"] {
        let parked = to(PARKING, task(DLQ, status, 9, 30 * MINUTE));
        let account = with_past(9, &[vec![parked], fruitless("COMPLETED")].concat());
        let (outcome, detail, streak) = sweep(&account, &[("REDRIVE_PARKING_ARN", &parking())]);
        assert_eq!(outcome, "started/parking", "{status}: {detail}");
        assert_eq!(streak, 5);
        assert_eq!(starts(&account)[0]["DestinationArn"], parking());
    }
}

#[test]
fn parking_that_failed_twice_is_held() {
    let failed = |ago| to(PARKING, task(DLQ, "FAILED", 9, ago));
    let parked = vec![failed(30 * MINUTE), failed(50 * MINUTE)];
    let account = with_past(9, &[parked, fruitless("COMPLETED")].concat());
    let (outcome, detail, _) = sweep(&account, &[("REDRIVE_PARKING_ARN", &parking())]);
    assert_eq!(outcome, "held/attempts-exhausted", "{detail}");
    assert_eq!(starts(&account), [] as [Value; 0]);
}

#[test]
fn failed_tasks_without_a_count_exhaust_the_attempts_and_are_not_parked() {
    for to_move in [None, Some(0)] {
        let failed = (1..=10).map(|n| {
            let mut failed = task(DLQ, "FAILED", 0, n * 16 * MINUTE);
            let failed_task = failed.as_object_mut().unwrap();
            failed_task.remove("ApproximateNumberOfMessagesToMove");
            if let Some(to_move) = to_move {
                failed["ApproximateNumberOfMessagesToMove"] = json!(to_move);
            }
            failed
        });
        let account = with_past(9, &failed.collect::<Vec<_>>());
        let (outcome, detail, _) = sweep(&account, &[("REDRIVE_PARKING_ARN", &parking())]);
        assert_eq!(outcome, "held/attempts-exhausted", "{to_move:?}");
        assert!(
            detail.contains("nothing reached the consumer") && detail.contains("AccessDenied"),
            "{detail}"
        );
        assert_eq!(starts(&account), [] as [Value; 0]);
    }
}

#[test]
fn missing_permission_holds_messages_and_parks_none() {
    let account = with_past(9, &fruitless("FAILED"));
    let (outcome, detail, streak) = sweep(&account, &[("REDRIVE_PARKING_ARN", &parking())]);
    assert_eq!((outcome.as_str(), streak), ("held/attempts-exhausted", 5));
    assert!(detail.contains("grant `sqs:ReceiveMessage`"), "{detail}");
    assert_eq!(starts(&account), [] as [Value; 0]);
}

#[test]
fn dlqs_in_dry_run_take_no_place_of_those_that_start() {
    let account = Account::start();
    for n in 0..25 {
        let dry = [ENROLLED, ("auto-redrive:dry-run", "true")];
        account.add_dlq(&format!("dry-{n}-dlq"), 1000, &dry);
    }
    for n in 0..2 {
        account.add_dlq(&format!("real-{n}-dlq"), 5, &[ENROLLED]);
    }
    let mut function = function(&account, &[BY_TAG, ("REDRIVE_MAX_STARTS", "2")]);
    let report = function.invoke(&schedule(), TIME).unwrap();
    let counts = ["wouldStart", "started", "deferred"].map(|name| &report["counts"][name]);
    assert_eq!(counts, [25, 2, 0], "{report:#}");
    assert_eq!(starts(&account).len(), 2);
}

#[test]
fn brakes_of_the_tag_and_of_the_environment_both_hold() {
    for (of_tag, of_all, expected) in [
        ("OK", "ALARM", "held/braked"),
        ("ALARM", "OK", "held/braked"),
        ("OK", "OK", "started/ready"),
    ] {
        let account = Account::start();
        account.add_dlq(DLQ, 5, &[ENROLLED, ("auto-redrive:brake-alarms", "own")]);
        account.intercept(move |call| {
            let is_it = call.operation == "DescribeAlarms";
            is_it.then(|| alarms(&[("own", of_tag), ("global", of_all)]))
        });
        let mut function = function(&account, &[BY_TAG, ("REDRIVE_BRAKE_ALARMS", "global")]);
        let report = function.invoke(&schedule(), TIME).unwrap();
        assert_eq!(outcome(&report, DLQ), expected, "{of_tag} and {of_all}");
    }
}

#[test]
fn listed_dlq_is_held_while_its_tags_cannot_be_read_even_by_force() {
    let account = Account::start();
    account.add_dlq(DLQ, 5, &[("auto-redrive:paused", "true")]);
    let mut function = listing(&account, &[DLQ], &[BY_TAG]);
    // It bears no enroll tag. Its pause counts anyway.
    let (report, _) = function.invoke_and_log(&schedule(), TIME);
    assert_eq!(outcome(&report.unwrap(), DLQ), "held/paused");

    account.intercept(|call| {
        let is_it = call.operation == "GetResources";
        is_it.then(|| Answer::error(400, "InvalidParameterException", "no"))
    });
    for event in [schedule().as_str(), FORCE] {
        let (result, log) = function.invoke_and_log(event, TIME);
        let message = incomplete(result);
        assert!(message.contains("enrollment by tag"), "{message}");
        let line = log.iter().rfind(|line| line["queue.arn"] == queue_arn(DLQ));
        assert_eq!(verdict(line.unwrap()), ("held", "tags-unreadable"));
    }
    assert_eq!(starts(&account), [] as [Value; 0]);
}

/// Its look was long ago, because another DLQ was slow.
#[test]
fn dlq_that_another_invocation_redrove_since_the_look_is_not_redriven_again() {
    let account = Account::start();
    account.add_dlq("a-dlq", 5, &[]);
    account.add_dlq("slow-dlq", 5, &[]);
    let lists = AtomicUsize::new(0);
    account.intercept(move |call| {
        if is_about(call, "slow-dlq") {
            sleep(Duration::from_secs(3));
        }
        let is_list = call.operation == "ListMessageMoveTasks" && is_about(call, "a-dlq");
        if !is_list || lists.fetch_add(1, Ordering::Relaxed) == 0 {
            return None;
        }
        let done = task("a-dlq", "COMPLETED", 5, Duration::from_secs(2));
        Some(Answer::ok(json!({"Results": [done]})))
    });
    let off = [("REDRIVE_SAMPLE", "0")];
    let mut function = listing(&account, &["a-dlq", "slow-dlq"], &off);
    let report = function.invoke(&schedule(), TIME).unwrap();
    assert_eq!(outcome(&report, "a-dlq"), "skipped/task-active");
    let started = starts(&account);
    let slow = json!(queue_arn("slow-dlq"));
    assert!(started.iter().all(|start| start["SourceArn"] == slow));
}

#[test]
fn task_that_ran_longer_than_the_window_still_counts() {
    let slow = task(DLQ, "COMPLETED", 100_000, 30 * HOUR);
    let mut slow = slow;
    slow["MaxNumberOfMessagesPerSecond"] = json!(1);
    let account = with_past(100_000, &[slow]);
    let slow_pace = [
        ("REDRIVE_SAMPLE", "0"),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
    ];
    let (_, detail, streak) = sweep(&account, &slow_pace);
    assert_eq!(streak, 1, "{detail}");
}

// Requests

/// Lambda repeats it one minute after it failed, and two minutes after that.
#[test]
fn forced_request_that_lambda_repeats_starts_nothing_twice() {
    let account = Account::start();
    account.add_dlq("good-dlq", 5, &[]);
    account.add_dlq("denied-dlq", 5, &[]);
    account.intercept(|call| {
        let is_it = call.operation == "StartMessageMoveTask" && is_about(call, "denied-dlq");
        is_it.then(|| Answer::error(403, "AccessDenied", "not authorized"))
    });
    let mut function = listing(&account, &["good-dlq", "denied-dlq"], &[]);
    for ago in [None, Some(MINUTE + TIME), Some(3 * MINUTE + 2 * TIME)] {
        // All of its messages are back.
        let tasks = ago.map(|ago| task("good-dlq", "COMPLETED", 5, ago));
        account.set_tasks("good-dlq", &Vec::from_iter(tasks));
        let message = incomplete(function.invoke(FORCE, TIME));
        let expected = format!("1 DLQ failed: {} (access-denied)", queue_arn("denied-dlq"));
        assert_eq!(message, expected);
    }
    let starts = starts(&account);
    let good = starts.iter();
    let good = good.filter(|start| start["SourceArn"] == queue_arn("good-dlq"));
    assert_eq!(good.count(), 1);
}

#[test]
fn request_that_leaves_dlqs_over_fails_and_says_how_many() {
    let dlqs = ["a-dlq", "b-dlq", "c-dlq"];
    let aside = json!({"action": "redrive", "destinationArn": queue_arn("aside")}).to_string();
    for request in [FORCE, &aside] {
        let account = Account::start();
        for dlq in dlqs {
            account.add_dlq(dlq, 5, &[]);
            let past = (1..=5).map(|n| task(dlq, "COMPLETED", 5, n * HOUR));
            account.set_tasks(dlq, &past.collect::<Vec<_>>());
        }
        let mut function = listing(&account, &dlqs, &[("REDRIVE_MAX_STARTS", "1")]);
        let message = incomplete(function.invoke(request, TIME));
        assert_eq!(message, "the request is not done for 2 DLQs; send it again");
        assert_eq!(starts(&account).len(), 1);
    }
}

/// The tagging API lists a deleted queue for hours.
#[test]
fn cancel_of_a_tagged_queue_that_is_gone_succeeds() {
    let account = Account::start();
    account.add_dlq("gone-dlq", 0, &[ENROLLED]);
    account.add_dlq(DLQ, 5, &[ENROLLED]);
    account.set_tasks(DLQ, &[task(DLQ, "RUNNING", 5, MINUTE)]);
    account.add_alarm(BRAKE);
    account.alarms_are("ALARM");
    account.intercept(|call| {
        let words = "The resource that you specified for the SourceArn parameter doesn't exist.";
        is_about(call, "gone-dlq").then(|| Answer::error(404, "ResourceNotFoundException", words))
    });
    let mut function = function(&account, &[BY_TAG, ("REDRIVE_BRAKE_ALARMS", BRAKE)]);
    for (event, expected) in [
        (CANCEL, "cancelled/requested"),
        (brake_event().as_str(), "cancelled/braked"),
    ] {
        let report = function.invoke(event, TIME).unwrap();
        assert_eq!(outcome(&report, "gone-dlq"), "skipped/queue-not-found");
        assert_eq!(outcome(&report, DLQ), expected);
    }
}

#[test]
fn mistyped_dry_run_tag_keeps_a_cancel_from_canceling() {
    let account = Account::start();
    account.add_dlq(DLQ, 5, &[ENROLLED, ("auto-redrive:dry-run", "yes")]);
    account.set_tasks(DLQ, &[task(DLQ, "RUNNING", 5, MINUTE)]);
    account.add_alarm(BRAKE);
    account.alarms_are("ALARM");
    let mut function = function(&account, &[BY_TAG, ("REDRIVE_BRAKE_ALARMS", BRAKE)]);
    for (event, expected) in [
        (CANCEL, "wouldCancel/requested"),
        (brake_event().as_str(), "wouldCancel/braked"),
    ] {
        let report = function.invoke(event, TIME).unwrap();
        assert_eq!(outcome(&report, DLQ), expected);
    }
    assert_eq!(questions(&account, "CancelMessageMoveTask").len(), 0);
}

// Reports

#[test]
fn own_task_is_reported_before_anyone_is_blamed_for_messages_in_flight() {
    let account = with_past(0, &[task(DLQ, "RUNNING", 9, MINUTE)]);
    account.intercept(|call| {
        let names = call.question["AttributeNames"].as_array()?;
        let is_depth = names.contains(&json!("ApproximateNumberOfMessages"));
        is_depth.then(|| {
            Answer::ok(json!({"Attributes": {
                "ApproximateNumberOfMessages": "0",
                "ApproximateNumberOfMessagesNotVisible": "9",
                "MessageRetentionPeriod": "1209600",
            }}))
        })
    });
    let (outcome, _, streak) = sweep(&account, &[]);
    assert_eq!(outcome, "skipped/task-active");
    assert_eq!(streak, 0, "a task that runs has not come back");
}

#[test]
fn task_of_unknown_status_or_too_old_to_run_is_held_so_that_a_person_hears_of_it() {
    for stuck in [
        task(DLQ, "PONDERING", 9, MINUTE),
        task(DLQ, "RUNNING", 9, 38 * HOUR),
    ] {
        let account = with_past(9, &[stuck]);
        let (outcome, detail, _) = sweep(&account, &[]);
        assert_eq!(outcome, "held/task-active", "{detail}");
    }
}

/// SQS takes the start. The connection ends before the answer, so the SDK sends the start again.
fn loses_the_answer_to_a_start(account: &Account, then: fn() -> Answer) {
    let asked = AtomicUsize::new(0);
    let before = SystemTime::now();
    account.intercept(move |call| match call.operation.as_str() {
        "StartMessageMoveTask" => {
            let nth = asked.fetch_add(1, Ordering::Relaxed);
            Some(match nth {
                0 => Answer {
                    is_cut: true,
                    ..Answer::ok(json!({"TaskHandle": "the-handle"}))
                },
                _ => then(),
            })
        }
        "ListMessageMoveTasks" if asked.load(Ordering::Relaxed) > 0 => {
            let age = before.elapsed().unwrap();
            let mut own = task(DLQ, "RUNNING", 5, age);
            own["TaskHandle"] = json!("the-handle");
            own["MaxNumberOfMessagesPerSecond"] = json!(50);
            Some(Answer::ok(json!({"Results": [own]})))
        }
        _ => None,
    });
}

#[test]
fn start_whose_answer_is_lost_is_reported_as_started_and_is_one_start() {
    let refused = || {
        let words = "There is already a task running. Only one active task is allowed for a source queue arn at a given time.";
        Answer::error(400, "InvalidParameterValue", words)
    };
    let cut = || Answer {
        is_cut: true,
        ..Answer::ok(json!({"TaskHandle": "the-handle"}))
    };
    for then in [refused as fn() -> Answer, cut] {
        let account = with_past(5, &[]);
        loses_the_answer_to_a_start(&account, then);
        let mut function = listing(&account, &[DLQ], &[("REDRIVE_SAMPLE", "0")]);
        let (result, log) = function.invoke_and_log(&schedule(), TIME);
        let report = result.unwrap();
        let (outcome, detail, _) = read(&report);
        assert_eq!(outcome, "started/ready", "{detail}");
        let task = &of(&report, &queue_arn(DLQ))["task"];
        assert_eq!(task["handle"], "the-handle");
        let metrics = log.last().unwrap();
        let counted = ["Started", "MessagesRedriven"].map(|name| &metrics[name]);
        assert_eq!(counted, [1, 5], "{metrics}");
    }
}

#[test]
fn start_that_was_never_sent_says_so() {
    let account = Account::start();
    account.add_dlq("a-dlq", 9, &[]);
    account.add_dlq("b-dlq", 5, &[]);
    account.intercept(|call| {
        if call.operation == "StartMessageMoveTask" {
            sleep(Duration::from_secs(30));
        }
        None
    });
    let one = [("REDRIVE_CONCURRENCY", "1"), ("REDRIVE_SAMPLE", "0")];
    let mut function = listing(&account, &["a-dlq", "b-dlq"], &one);
    let report = function.invoke(&schedule(), Duration::from_secs(6));
    let report = report.unwrap();
    for (dlq, said) in [
        ("a-dlq", "SQS did not answer the start in time"),
        (
            "b-dlq",
            "The invocation ran out of time before it asked SQS for a start",
        ),
    ] {
        assert_eq!(outcome(&report, dlq), "deferred/out-of-time");
        let detail = of(&report, &queue_arn(dlq))["detail"].as_str().unwrap();
        assert!(detail.starts_with(said), "{detail}");
    }
}

#[test]
fn sweep_goes_on_behind_dlqs_that_hang() {
    let account = Account::start();
    let good = (0..20).map(|n| format!("good-{n:02}-dlq"));
    let good: Vec<String> = good.collect();
    for dlq in ["a-hangs-dlq", "b-hangs-dlq"] {
        account.add_dlq(dlq, 5, &[ENROLLED]);
    }
    for dlq in &good {
        account.add_dlq(dlq, 0, &[ENROLLED]);
    }
    account.intercept(|call| {
        if ["a-hangs-dlq", "b-hangs-dlq"]
            .iter()
            .any(|dlq| is_about(call, dlq))
        {
            sleep(Duration::from_secs(30));
        }
        None
    });
    let mut function = function(&account, &[BY_TAG, ("REDRIVE_CONCURRENCY", "2")]);
    // The first sweep begins anywhere, and one of them may begin among the DLQs that hang.
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let report = function.invoke(&schedule(), Duration::from_secs(5));
        let report = report.unwrap();
        let queues = report["queues"].as_array().unwrap().iter();
        let new = queues.filter(|queue| verdict(queue) == ("skipped", "empty"));
        seen.extend(new.map(|queue| queue["queueArn"].to_string()));
    }
    assert_eq!(seen.len(), good.len(), "{seen:?}");
}

/// A call asks for at most a hundred alarms.
#[test]
fn brakes_whose_states_came_in_time_count_although_others_did_not() {
    let account = Account::start();
    for n in 0..101 {
        let brake = format!("brake {n:03}");
        let tags = [ENROLLED, ("auto-redrive:brake-alarms", brake.as_str())];
        account.add_dlq(&format!("dlq-{n:03}-dlq"), 5, &tags);
    }
    let asked = AtomicUsize::new(0);
    let names: Vec<String> = (0..101).map(|n| format!("brake {n:03}")).collect();
    account.intercept(move |call| {
        if call.operation != "DescribeAlarms" {
            return None;
        }
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            sleep(Duration::from_secs(30));
        }
        let states: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "OK")).collect();
        Some(alarms(&states))
    });
    let many = [
        BY_TAG,
        ("REDRIVE_MAX_STARTS", "100"),
        ("REDRIVE_SAMPLE", "0"),
    ];
    let mut function = function(&account, &many);
    let report = function
        .invoke(&schedule(), Duration::from_secs(15))
        .unwrap();
    // Which of the two calls hangs is chance: one is for a hundred brakes, the other for one.
    let count = |outcome: &str| report["counts"][outcome].as_u64().unwrap();
    let (held, started) = (count("held"), count("started"));
    assert!(
        [(1, 100), (100, 1)].contains(&(held, started)),
        "{report:#}"
    );
}

/// The report is lost if the invocation fails, and a large report only counts what there was nothing to do
/// about.
#[test]
fn log_of_a_failed_cancel_counts_the_dlqs_that_have_no_line() {
    let account = Account::start();
    let dlqs: Vec<String> = (0..101).map(|n| format!("dlq-{n:03}-dlq")).collect();
    for dlq in &dlqs {
        account.add_dlq(dlq, 5, &[ENROLLED]);
    }
    account.set_tasks(&dlqs[7], &[task(&dlqs[7], "RUNNING", 5, MINUTE)]);
    account.intercept(|call| {
        let is_it = call.operation == "CancelMessageMoveTask";
        is_it.then(|| Answer::error(403, "AccessDenied", "not authorized"))
    });
    let logged = [BY_TAG, ("AWS_LAMBDA_LOG_LEVEL", "INFO")];
    let (result, log) = function(&account, &logged).invoke_and_log(CANCEL, TIME);
    let message = incomplete(result);
    assert!(message.starts_with("1 DLQ failed: "), "{message}");
    let lines = log.iter().filter(|line| line["queue.arn"].is_string());
    assert_eq!(lines.count(), 1);
    let summary = log
        .iter()
        .find(|line| line["message"] == "invocation finished");
    let summary = summary.unwrap();
    let counts = ["skipped", "failed", "unlisted.nothing_to_cancel"];
    assert_eq!(
        counts.map(|name| &summary[name]),
        [100, 1, 100],
        "{summary}"
    );
}

// Input

#[test]
fn event_of_a_function_url_is_rejected_whatever_its_body() {
    let account = with_past(5, &[]);
    let mut function = listing(&account, &[DLQ], &[("REDRIVE_BRAKE_ALARMS", BRAKE)]);
    let mut event: Value =
        serde_json::from_str(&sample("rejected-function-url.json", &[])).unwrap();
    for body in [
        sample("alarm-eventbridge.json", &[]),
        brake_event(),
        FORCE.to_owned(),
    ] {
        event["body"] = body.into();
        let error = function.invoke(&event.to_string(), TIME).unwrap_err();
        assert_eq!(error["errorType"], "EventRejected", "{error}");
    }
    assert!(account.calls().is_empty());
}

#[test]
fn impossible_queue_name_in_a_math_alarm_does_not_silence_the_other() {
    let account = with_past(5, &[]);
    let event = sample("alarm-eventbridge-metric-math.json", &[]);
    let mut event: Value = serde_json::from_str(&event).unwrap();
    let metrics = event["detail"]["configuration"]["metrics"].as_array_mut();
    let mut names = [json!("no queue"), json!(DLQ)].into_iter();
    for metric in metrics.unwrap() {
        let dimensions = metric.pointer_mut("/metricStat/metric/dimensions/QueueName");
        if let Some(name) = dimensions {
            *name = names.next().unwrap_or(json!(DLQ));
        }
    }
    let mut function = listing(&account, &[DLQ], &[]);
    let report = function.invoke(&event.to_string(), TIME).unwrap();
    assert_eq!(outcome(&report, DLQ), "started/ready");
}

#[test]
fn contributor_of_another_account_wakes_no_own_queue() {
    let account = with_past(5, &[]);
    let mut event: Value =
        serde_json::from_str(&sample("contributor-eventbridge.json", &[])).unwrap();
    let attributes = event
        .pointer_mut("/detail/alarmContributor/attributes")
        .unwrap();
    attributes["AWS.AccountId"] = json!("210987654321");
    let mut function = listing(&account, &[DLQ], &[]);
    let report = function.invoke(&event.to_string(), TIME).unwrap();
    assert_eq!(report["counts"]["started"], 0, "{report:#}");
    assert!(account.calls().is_empty());
}

// Configuration

#[test]
fn destination_of_another_partition_is_a_fault_even_if_it_is_the_dlq_itself() {
    let account = with_past(5, &[]);
    let elsewhere = queue_arn(DLQ).replace("arn:aws:", "arn:aws-cn:");
    let variables = [("REDRIVE_DESTINATION_ARN", elsewhere.as_str())];
    let mut function = listing(&account, &[DLQ], &variables);
    let error = function.invoke(&schedule(), TIME).unwrap_err();
    assert_eq!(error["errorType"], "InvalidConfiguration", "{error}");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.contains("partition"), "{message}");
    assert!(account.calls().is_empty());
}

#[test]
fn attempts_that_are_never_exhausted_are_refused_or_said() {
    let account = with_past(5, &[]);
    let ignored = sample("ignored-ok.json", &[]);
    let nine = ("REDRIVE_MAX_ATTEMPTS", "9");
    let (result, log) = listing(&account, &[DLQ], &[nine]).invoke_and_log(&ignored, TIME);
    assert!(result.is_ok(), "{result:?}");
    let warnings = log.iter().filter(|line| line["level"] == "WARN");
    let warnings: Vec<String> = warnings.map(|line| line["message"].to_string()).collect();
    let said = "at most 5 attempts count, not 9";
    assert!(
        warnings.len() == 1 && warnings[0].contains(said),
        "{warnings:?}"
    );

    let refused = |variables: &[(&str, &str)]| {
        let mut function = listing(&account, &[DLQ], variables);
        let error = function.invoke(&ignored, TIME).unwrap_err();
        assert_eq!(error["errorType"], "InvalidConfiguration", "{error}");
        error["errorMessage"].as_str().unwrap().to_owned()
    };
    let message = refused(&[nine, ("REDRIVE_SAMPLE", "20")]);
    assert!(message.contains("`REDRIVE_MAX_ATTEMPTS`"), "{message}");
    let message = refused(&[("REDRIVE_SCHEDULE", "rate(5 hours)")]);
    assert!(message.contains("`REDRIVE_SCHEDULE`"), "{message}");
}
