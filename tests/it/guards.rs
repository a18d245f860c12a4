//! The guards of the whole function: on real queues and real move tasks, with real alarms and
//! metrics.
//!
//! SQS is LocalStack's, CloudWatch MiniStack's. Where no time has to pass, the function is the real
//! binary under cargo-lambda's emulator; where hours have to pass, it is [`InProcess`].

use aws_config::retry::RetryConfig;
use aws_sdk_cloudwatch::types::StateValue;
use serde_json::{Value, json};
use sqs_auto_redrive::cloudwatch::CloudWatchClients;
use sqs_auto_redrive::config::Config;
use sqs_auto_redrive::queue::Location;

use crate::support::cloudwatch::{Alarm, refusing_url, saw};
use crate::support::function::{EmulatedFunction, sample};
use crate::support::hang::{Hang, Place};
use crate::support::http::unreachable_url;
use crate::support::local::{ACCOUNT, REGION, sdk, servers};
use crate::support::proxy::Proxy;
use crate::support::queues::{Queue, Queues};
use crate::support::report::of;
use sqs_auto_redrive::handler::{self, Invocation};
use sqs_auto_redrive::report::Report;
use sqs_auto_redrive::sqs::SqsClients;
use sqs_auto_redrive::tagging::TaggingClient;
use std::time::{Duration, Instant, SystemTime};

const MINUTE: Duration = Duration::from_secs(60);

/// The function without a process of its own, so that the test sets the time.
struct InProcess(handler::Function<SqsClients, CloudWatchClients, TaggingClient>);

impl InProcess {
    fn start(variables: &[(&str, &str)]) -> Self {
        Self::watching(&servers().cloudwatch_url, variables)
    }

    /// Starts the function with another CloudWatch.
    fn watching(cloudwatch_url: &str, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| (name.to_string(), value.to_string()));
        let config = Config::from_vars(variables).unwrap();
        let regions = || [REGION.to_owned()];
        let sdk_config = |url| {
            let adaptive = RetryConfig::adaptive();
            sdk(url).into_builder().retry_config(adaptive).build()
        };
        let sqs = SqsClients::new(&sdk_config(&servers().sqs_url), regions());
        let cloudwatch = CloudWatchClients::new(&sdk_config(cloudwatch_url), regions());
        let tagging = TaggingClient::new(&sdk_config(cloudwatch_url));
        let region = REGION.to_owned();
        Self(handler::Function::new(
            config, region, sqs, cloudwatch, tagging,
        ))
    }

    /// Invokes the function as if this much more time had passed.
    async fn later(&self, wait: Duration, event: &str) -> Value {
        serde_json::to_value(self.report(wait, MINUTE, event).await).unwrap()
    }

    async fn report(&self, wait: Duration, time_left: Duration, event: &str) -> Report {
        let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:sqs-auto-redrive");
        let invocation = Invocation {
            location: Location::new(&arn, REGION),
            now: SystemTime::now() + wait,
            time_left,
        };
        let answer = self.0.invoke(event, &invocation).await.unwrap();
        assert!(answer.unreadable.is_empty());
        answer.report
    }
}

/// An alarm on this DLQ goes off.
fn alarm(dlq: &Queue) -> String {
    sample("alarm-eventbridge.json", &[("orders-dlq", &dlq.name)])
}

/// The schedule invokes the function.
fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// A request about this DLQ, with further fields.
fn request(action: &str, dlq: &Queue, further: Value) -> String {
    let mut request = json!({"action": action, "queues": [dlq.name]});
    let further = further.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(further);
    request.to_string()
}

/// A forced request.
fn forced(dlq: &Queue) -> String {
    request("redrive", dlq, json!({"force": true}))
}

/// Asserts the outcome of this DLQ and its reason, and returns its entry in the report.
#[track_caller]
fn assert_verdict<'a>(report: &'a Value, dlq: &Queue, outcome: &str, reason: &str) -> &'a Value {
    let queue = of(report, dlq);
    let verdict = (queue["outcome"].as_str(), queue["reason"].as_str());
    assert_eq!(verdict, (Some(outcome), Some(reason)), "{report:#}");
    assert_ne!(report["counts"][outcome], 0, "{report:#}");
    queue
}

/// Asserts that the report's sentence on a DLQ contains this.
#[track_caller]
fn assert_detail(queue: &Value, part: &str) {
    let detail = queue["detail"].as_str().unwrap();
    assert!(detail.contains(part), "{part} is not in: {detail}");
}

/// A redrive has started; all of its messages fail again.
async fn all_come_back(queues: &Queues, count: usize) {
    queues.dlq.wait_for_task().await;
    queues.fall(count).await;
    queues.dlq.assert_holds(count).await;
}

/// Waits until the newest task of a DLQ has this status.
async fn wait_for_status(dlq: &Queue, status: &str) {
    for _ in 0..600 {
        let tasks = dlq.tasks().await;
        if tasks.first().and_then(|task| task.status()) == Some(status) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the newest task is not {status}: {:?}", dlq.tasks().await);
}

/// Starts a redrive that runs longer than a test takes: 40 messages, one a second.
async fn running(name: &str, variables: &[(&str, &str)]) -> (Queues, EmulatedFunction) {
    let queues = Queues::create(name).await;
    queues.dead_letter(40).await;
    let ours = [
        ("REDRIVE_QUEUES", queues.dlq.arn.as_str()),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
        ("REDRIVE_SAMPLE", "0"),
    ];
    let mut function = EmulatedFunction::start(&[&ours, variables].concat());
    let report = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_verdict(&report, &queues.dlq, "started", "ready");
    wait_for_status(&queues.dlq, "RUNNING").await;
    (queues, function)
}

/// Asserts that the running redrive of [`running`] was canceled midway.
async fn assert_canceled_midway(queues: &Queues) {
    wait_for_status(&queues.dlq, "CANCELLED").await;
    assert_eq!(queues.dlq.tasks().await.len(), 1);
    let left = queues.dlq.depth().await.visible;
    let moved = queues.source.depth().await.visible;
    assert!(left > 0, "not all messages were moved");
    assert_eq!(left + moved, 40, "what was moved stays moved");
}

// Giving up, and parking what keeps coming back

#[tokio::test]
async fn poison_messages_are_redriven_until_the_attempts_are_exhausted() {
    let queues = Queues::create("poison").await;
    queues.dead_letter(3).await;
    let dlq = &queues.dlq;
    let function = InProcess::start(&[("REDRIVE_QUEUES", &dlq.arn), ("REDRIVE_MAX_ATTEMPTS", "2")]);

    let report = function.later(Duration::ZERO, &alarm(dlq)).await;
    assert_verdict(&report, dlq, "started", "ready");
    all_come_back(&queues, 3).await;

    let report = function.later(20 * MINUTE, &alarm(dlq)).await;
    let queue = assert_verdict(&report, dlq, "started", "ready");
    assert_eq!(queue["streak"], 1);
    all_come_back(&queues, 3).await;

    for wait in [20 * MINUTE, 5 * 60 * MINUTE] {
        let report = function.later(wait, &alarm(dlq)).await;
        let queue = assert_verdict(&report, dlq, "held", "attempts-exhausted");
        assert_eq!(queue["streak"], 2);
        assert_eq!(queue["lastTask"]["status"], "COMPLETED");
    }
    dlq.assert_holds(3).await;
    assert_eq!(dlq.tasks().await.len(), 2);

    // A forced start keeps five minutes' distance: Lambda repeats requests that failed.
    let report = function.later(4 * MINUTE, &forced(dlq)).await;
    assert_verdict(&report, dlq, "skipped", "cooling-down");
    let report = function.later(6 * MINUTE, &forced(dlq)).await;
    assert_verdict(&report, dlq, "started", "ready");
    queues.source.wait_until_holds(3).await;
}

#[tokio::test]
async fn every_fruitless_redrive_but_the_first_doubles_the_wait() {
    let queues = Queues::create("backoff").await;
    queues.dead_letter(2).await;
    let dlq = &queues.dlq;
    let function = InProcess::start(&[("REDRIVE_QUEUES", &dlq.arn)]);

    for (streak, too_early, late_enough) in [
        (0, None, 0),
        (1, Some(14), 16),
        (2, Some(29), 31),
        (3, Some(59), 61),
    ] {
        if let Some(minutes) = too_early {
            let report = function.later(minutes * MINUTE, &alarm(dlq)).await;
            let queue = assert_verdict(&report, dlq, "skipped", "cooling-down");
            assert_eq!(queue["streak"], streak);
        }
        let report = function.later(late_enough * MINUTE, &alarm(dlq)).await;
        assert_verdict(&report, dlq, "started", "ready");
        all_come_back(&queues, 2).await;
    }
}

#[tokio::test]
async fn messages_that_keep_coming_back_are_parked() {
    let queues = Queues::create("parked").await;
    let sent = queues.dead_letter(3).await;
    let parking = Queue::create("parking").await;
    let dlq = &queues.dlq;
    let function = InProcess::start(&[
        ("REDRIVE_QUEUES", &dlq.arn),
        ("REDRIVE_MAX_ATTEMPTS", "1"),
        ("REDRIVE_PARKING_ARN", &parking.arn),
    ]);
    let report = function.later(Duration::ZERO, &alarm(dlq)).await;
    assert_verdict(&report, dlq, "started", "ready");
    all_come_back(&queues, 3).await;

    // Even while the DLQ grows.
    let now = SystemTime::now();
    saw(&dlq.name, [(now + 15 * MINUTE, 1), (now + 19 * MINUTE, 3)]).await;
    let report = function.later(20 * MINUTE, &alarm(dlq)).await;
    let queue = assert_verdict(&report, dlq, "started", "parking");
    assert_eq!(queue["streak"], 1);
    assert_eq!(queue["task"]["destinationArn"], parking.arn);
    parking.wait_until_holds(3).await;
    dlq.wait_for_task().await;
    dlq.assert_holds(0).await;
    queues.source.assert_holds(0).await;
    assert_eq!(parking.take_all().await, sent);

    // Messages that arrive now are new, and get their attempts.
    queues.dead_letter(2).await;
    let report = function.later(40 * MINUTE, &alarm(dlq)).await;
    let queue = assert_verdict(&report, dlq, "started", "ready");
    assert_eq!(queue["streak"], 0);
    assert_eq!(queue["lastTask"]["destinationArn"], parking.arn);
    assert_eq!(queue["task"].get("destinationArn"), None);
    queues.source.wait_until_holds(2).await;
    parking.assert_holds(0).await;
}

#[tokio::test]
async fn brake_keeps_from_parking_too() {
    let queues = Queues::create("parking-braked").await;
    queues.dead_letter(1).await;
    let parking = Queue::create("parking-of-braked").await;
    let brake = Alarm::create("parking braked").await;
    let dlq = &queues.dlq;
    let function = InProcess::start(&[
        ("REDRIVE_QUEUES", &dlq.arn),
        ("REDRIVE_MAX_ATTEMPTS", "1"),
        ("REDRIVE_PARKING_ARN", &parking.arn),
        ("REDRIVE_BRAKE_ALARMS", &brake.name),
    ]);
    function.later(Duration::ZERO, &alarm(dlq)).await;
    all_come_back(&queues, 1).await;

    brake.becomes(StateValue::Alarm).await;
    let report = function.later(20 * MINUTE, &alarm(dlq)).await;
    assert_verdict(&report, dlq, "held", "braked");
    dlq.assert_holds(1).await;

    brake.becomes(StateValue::Ok).await;
    let report = function.later(20 * MINUTE, &alarm(dlq)).await;
    assert_verdict(&report, dlq, "started", "parking");
    parking.wait_until_holds(1).await;
}

// Canceling

#[tokio::test]
async fn request_cancels_the_running_task() {
    let (queues, mut function) = running("cancelled", &[]).await;
    let dlq = &queues.dlq;

    let cancel = |further| request("cancel", dlq, further);
    let report = function.invoke(&cancel(json!({"dryRun": true}))).unwrap();
    assert_eq!(report["dryRun"], true);
    let queue = assert_verdict(&report, dlq, "wouldCancel", "requested");
    assert_eq!(queue["lastTask"]["status"], "RUNNING");
    wait_for_status(dlq, "RUNNING").await;

    let report = function.invoke(&cancel(json!({}))).unwrap();
    assert_eq!(report["trigger"]["kind"], "request");
    assert_eq!(report["trigger"]["queues"], json!([dlq.name]));
    let queue = assert_verdict(&report, dlq, "cancelled", "requested");
    assert!(queue["task"]["handle"].is_string(), "{queue:#}");
    assert_canceled_midway(&queues).await;

    let report = function.invoke(&cancel(json!({}))).unwrap();
    let queue = assert_verdict(&report, dlq, "skipped", "nothing-to-cancel");
    assert_eq!(queue["lastTask"]["status"], "CANCELLED");
    wait_for_status(dlq, "CANCELLED").await;
}

#[tokio::test]
async fn dlq_without_a_running_task_has_nothing_to_cancel() {
    let fresh = Queues::create("never-redriven").await;
    let done = Queues::create("redriven").await;
    done.dead_letter(1).await;
    let dlqs = [&fresh, &done].map(|queues| queues.dlq.arn.as_str());
    let mut function = EmulatedFunction::enrolling(&dlqs);
    function.invoke(&alarm(&done.dlq)).unwrap();
    done.dlq.wait_for_task().await;

    let request = json!({"action": "cancel", "queues": "all"}).to_string();
    let report = function.invoke(&request).unwrap();

    assert_verdict(&report, &fresh.dlq, "skipped", "nothing-to-cancel");
    let queue = assert_verdict(&report, &done.dlq, "skipped", "nothing-to-cancel");
    assert_eq!(queue["lastTask"]["status"], "COMPLETED");
    wait_for_status(&done.dlq, "COMPLETED").await;
}

// Brakes: the state of their alarms

#[tokio::test]
async fn nothing_starts_while_a_brake_is_in_alarm() {
    let queues = Queues::create("braked").await;
    queues.dead_letter(2).await;
    let off = Alarm::create("braked: never off").await;
    let brake = Alarm::in_alarm("braked: 5xx of the orders API (prod)").await;
    let dlq = &queues.dlq;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &dlq.arn),
        (
            "REDRIVE_BRAKE_ALARMS",
            &format!("{}, {}", off.name, brake.name),
        ),
    ]);

    // Not even by force: this gate is never skipped.
    for event in [alarm(dlq), schedule(), forced(dlq)] {
        let report = function.invoke(&event).unwrap();
        let queue = assert_verdict(&report, dlq, "held", "braked");
        assert_detail(queue, &brake.name);
    }
    dlq.assert_no_task().await;
    dlq.assert_holds(2).await;

    brake.becomes(StateValue::Ok).await;
    let report = function.invoke(&schedule()).unwrap();
    assert_verdict(&report, dlq, "started", "ready");
    queues.source.wait_until_holds(2).await;
}

#[tokio::test]
async fn brake_without_data_does_not_brake() {
    let queues = Queues::create("brake-without-data").await;
    queues.dead_letter(1).await;
    let brake = Alarm::create("brake without data").await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_BRAKE_ALARMS", &brake.name),
    ]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_verdict(&report, &queues.dlq, "started", "ready");
    queues.source.wait_until_holds(1).await;
}

#[tokio::test]
async fn brake_that_does_not_exist_holds() {
    let queues = Queues::create("brake-missing").await;
    queues.dead_letter(1).await;
    let there = Alarm::create("there").await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        (
            "REDRIVE_BRAKE_ALARMS",
            &format!("{}, not there", there.name),
        ),
    ]);

    for event in [alarm(&queues.dlq), forced(&queues.dlq)] {
        let report = function.invoke(&event).unwrap();
        let queue = assert_verdict(&report, &queues.dlq, "held", "brake-unknown");
        assert_detail(queue, "not there");
        assert_detail(queue, "no such alarm");
    }
    queues.dlq.assert_no_task().await;

    // The brake that can be read says more than the one that cannot.
    there.becomes(StateValue::Alarm).await;
    let report = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_verdict(&report, &queues.dlq, "held", "braked");
}

#[tokio::test]
async fn composite_alarm_brakes() {
    let queues = Queues::create("brake-composite").await;
    queues.dead_letter(1).await;
    let child = Alarm::in_alarm("child of a composite").await;
    child.composite("orders are in trouble").await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_BRAKE_ALARMS", "orders are in trouble"),
    ]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_verdict(&report, &queues.dlq, "held", "braked");
    queues.dlq.assert_no_task().await;

    child.becomes(StateValue::Ok).await;
    let report = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_verdict(&report, &queues.dlq, "started", "ready");
    queues.source.wait_until_holds(1).await;
}

#[tokio::test]
async fn brake_that_cannot_be_read_holds() {
    let queues = Queues::create("brake-unreadable").await;
    queues.dead_letter(1).await;
    let dlq = &queues.dlq;

    for (url, why) in [
        (unreachable_url(), ""),
        (
            refusing_url(),
            "not authorized to perform: cloudwatch:DescribeAlarms",
        ),
    ] {
        let begun = Instant::now();
        let mut function = EmulatedFunction::start(&[
            ("REDRIVE_QUEUES", &dlq.arn),
            ("REDRIVE_BRAKE_ALARMS", "brake out of reach"),
            ("AWS_ENDPOINT_URL_CLOUDWATCH", &url),
        ]);
        let report = function.invoke(&alarm(dlq)).unwrap();
        let queue = assert_verdict(&report, dlq, "held", "brake-unknown");
        assert_detail(queue, "brake out of reach");
        assert_detail(queue, why);
        assert!(begun.elapsed() < MINUTE / 2, "{:?}", begun.elapsed());
    }
    dlq.assert_no_task().await;
    dlq.assert_holds(1).await;
}

#[tokio::test]
async fn brake_that_is_not_read_in_time_holds() {
    let queues = Queues::create("brake-silent").await;
    queues.dead_letter(1).await;
    let function = InProcess::watching(
        &Hang::at(Place::Answer).url,
        &[
            ("REDRIVE_QUEUES", &queues.dlq.arn),
            ("REDRIVE_BRAKE_ALARMS", "silent brake"),
        ],
    );

    let begun = Instant::now();
    let time_left = Duration::from_secs(3);
    let report = function
        .report(Duration::ZERO, time_left, &schedule())
        .await;

    assert!(begun.elapsed() < time_left, "{:?}", begun.elapsed());
    let report = serde_json::to_value(report).unwrap();
    let queue = assert_verdict(&report, &queues.dlq, "held", "brake-unknown");
    assert_detail(queue, "silent brake");
    queues.dlq.assert_no_task().await;
}

// Brakes: the events of their alarms

/// A brake alarm's state change, as EventBridge brings it.
fn brake_event(sample_name: &str, alarm_in_it: &str, brake: &str) -> String {
    sample(sample_name, &[(alarm_in_it, brake)])
}

/// Asserts that this event, of a brake of this name, cancels the running task once this alarm goes
/// off.
async fn assert_cancels(name: &str, alarm: &Alarm, brake: &str, event: String) {
    let (queues, mut function) = running(name, &[("REDRIVE_BRAKE_ALARMS", brake)]).await;
    alarm.becomes(StateValue::Alarm).await;

    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "brake", "{report:#}");
    let arn = format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{brake}");
    assert_eq!(report["trigger"]["source"], arn);
    let queue = assert_verdict(&report, &queues.dlq, "cancelled", "braked");
    assert_eq!(queue["lastTask"]["status"], "RUNNING");
    assert_canceled_midway(&queues).await;
}

#[tokio::test]
async fn brake_that_goes_off_cancels_the_running_task() {
    let brake = "goes off: brake";
    let alarm = Alarm::create(brake).await;
    let event = brake_event(
        "ignored-other-service.json",
        "orders-consumer-errors",
        brake,
    );
    assert_cancels("brake-goes-off", &alarm, brake, event).await;
}

/// EventBridge replays an archive: the event is three days old, and the brake is in OK now.
#[tokio::test]
async fn replayed_event_of_a_brake_that_is_not_in_alarm_now_cancels_nothing() {
    let brake = Alarm::in_alarm("replayed: brake").await;
    brake.becomes(StateValue::Ok).await;
    let (queues, mut function) =
        running("brake-replayed", &[("REDRIVE_BRAKE_ALARMS", &brake.name)]).await;

    let event = brake_event(
        "brake-alarm-replayed.json",
        "orders consumer is down",
        &brake.name,
    );
    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "ignored", "{report:#}");
    let why = report["trigger"]["why"].as_str().unwrap();
    assert!(why.ends_with("it is not in ALARM now"), "{why}");
    assert_eq!(report["queues"], json!([]));
    wait_for_status(&queues.dlq, "RUNNING").await;

    brake.becomes(StateValue::Alarm).await;
    let report = function.invoke(&event).unwrap();
    assert_verdict(&report, &queues.dlq, "cancelled", "braked");
    assert_canceled_midway(&queues).await;
}

/// In doubt the event is right: a missing permission must not take the brake away.
#[tokio::test]
async fn event_of_a_brake_that_cannot_be_read_cancels_the_running_task() {
    let (queues, _) = running("brake-event-unreadable", &[]).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_BRAKE_ALARMS", "unreadable: brake"),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", &refusing_url()),
    ]);
    let event = brake_event(
        "brake-alarm.json",
        "orders consumer is down",
        "unreadable: brake",
    );
    let report = function.invoke(&event).unwrap();
    assert_verdict(&report, &queues.dlq, "cancelled", "braked");
    assert_canceled_midway(&queues).await;
}

#[tokio::test]
async fn brake_cancels_through_sns_and_sqs() {
    let brake = "through SNS and SQS: brake";
    let alarm = Alarm::create(brake).await;
    let event = sample(
        "alarm-sns-sqs.json",
        &[
            ("orders-dlq-depth", brake),
            ("AWS/SQS", "AWS/Lambda"),
            ("QueueName", "FunctionName"),
        ],
    );
    assert_cancels("brake-through-sns-and-sqs", &alarm, brake, event).await;
}

#[tokio::test]
async fn brake_cancels_by_its_own_lambda_action() {
    let brake = "by Lambda action: brake";
    let alarm = Alarm::create(brake).await;
    let event = sample(
        "alarm-lambda-action.json",
        &[
            ("orders-dlq-depth", brake),
            ("AWS/SQS", "AWS/Lambda"),
            ("QueueName", "FunctionName"),
        ],
    );
    assert_cancels("brake-by-lambda-action", &alarm, brake, event).await;
}

#[tokio::test]
async fn brake_cancels_even_while_its_actions_are_suppressed() {
    let brake = "suppressed: brake";
    let child = Alarm::create("child of a suppressed brake").await;
    child.composite(brake).await;
    let event = brake_event("ignored-suppressed.json", "orders-dlq-ready", brake);
    assert_cancels("brake-suppressed", &child, brake, event).await;
}

#[tokio::test]
async fn dry_run_cancels_nothing_for_a_brake() {
    let brake = Alarm::in_alarm("dry: brake").await;
    let (queues, _) = running("brake-dry", &[]).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_BRAKE_ALARMS", &brake.name),
        ("REDRIVE_DRY_RUN", "true"),
    ]);

    let event = brake_event(
        "ignored-other-service.json",
        "orders-consumer-errors",
        &brake.name,
    );
    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "brake");
    assert_verdict(&report, &queues.dlq, "wouldCancel", "braked");
    wait_for_status(&queues.dlq, "RUNNING").await;
}

#[tokio::test]
async fn brake_that_returns_to_ok_sweeps() {
    let brake = Alarm::in_alarm("returns to OK: brake").await;
    let one = Queues::create("brake-ok-one").await;
    let two = Queues::create("brake-ok-two").await;
    for queues in [&one, &two] {
        queues.dead_letter(1).await;
    }
    let mut function = EmulatedFunction::start(&[
        (
            "REDRIVE_QUEUES",
            &format!("{} {}", one.dlq.arn, two.dlq.arn),
        ),
        ("REDRIVE_BRAKE_ALARMS", &brake.name),
    ]);
    let event = brake_event("ignored-ok.json", "orders-dlq-depth", &brake.name);

    // The event is late: the brake has gone off again.
    let report = function.invoke(&event).unwrap();
    assert_eq!(report["trigger"]["kind"], "brake");
    assert_eq!(report["counts"]["held"], 2);

    brake.becomes(StateValue::Ok).await;
    let report = function.invoke(&event).unwrap();
    assert_eq!(report["trigger"]["kind"], "brake");
    assert_eq!(report["trigger"].get("queues"), None);
    for queues in [&one, &two] {
        assert_verdict(&report, &queues.dlq, "started", "ready");
        queues.source.wait_until_holds(1).await;
    }
}

#[tokio::test]
async fn brake_that_has_no_data_any_more_calls_for_nothing() {
    let brake = Alarm::create("no data any more: brake").await;
    let (queues, mut function) =
        running("brake-no-data", &[("REDRIVE_BRAKE_ALARMS", &brake.name)]).await;

    let event = brake_event(
        "ignored-insufficient-data.json",
        "orders-dlq-depth",
        &brake.name,
    );
    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "ignored");
    assert_eq!(report["queues"], json!([]));
    wait_for_status(&queues.dlq, "RUNNING").await;
}

#[tokio::test]
async fn alarm_that_is_no_brake_cancels_nothing() {
    let brake = Alarm::create("some other brake").await;
    let (queues, _) = running("no-brake", &[]).await;
    let function = InProcess::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_BRAKE_ALARMS", &brake.name),
    ]);

    let name = ("orders-consumer-errors", brake.name.as_str());
    for namesake in [
        sample("ignored-other-service.json", &[]),
        sample(
            "ignored-other-service.json",
            &[name, (ACCOUNT, "999999999999")],
        ),
        sample("ignored-other-service.json", &[name, (REGION, "eu-west-1")]),
    ] {
        let report = function.later(Duration::ZERO, &namesake).await;
        assert_eq!(report["trigger"]["kind"], "ignored", "{report:#}");
        assert_eq!(report["queues"], json!([]));
    }
    wait_for_status(&queues.dlq, "RUNNING").await;
}

// Waiting out an outage

/// A DLQ whose redriven messages all came back, and the function that redrove them.
async fn came_back(
    name: &str,
    cloudwatch_url: &str,
    variables: &[(&str, &str)],
) -> (Queues, InProcess) {
    let queues = Queues::create(name).await;
    queues.dead_letter(3).await;
    let ours = [("REDRIVE_QUEUES", queues.dlq.arn.as_str())];
    let function = InProcess::watching(cloudwatch_url, &[&ours, variables].concat());
    let report = function.later(Duration::ZERO, &alarm(&queues.dlq)).await;
    assert_verdict(&report, &queues.dlq, "started", "ready");
    all_come_back(&queues, 3).await;
    (queues, function)
}

#[tokio::test]
async fn dlq_that_still_grows_waits_and_in_the_end_wants_a_human() {
    let (queues, function) = came_back("growing", &servers().cloudwatch_url, &[]).await;
    let dlq = &queues.dlq;
    let now = SystemTime::now();
    saw(&dlq.name, [(now + 15 * MINUTE, 2), (now + 19 * MINUTE, 3)]).await;
    saw(&dlq.name, [(now + 60 * MINUTE, 1), (now + 64 * MINUTE, 3)]).await;

    let report = function.later(20 * MINUTE, &schedule()).await;
    let queue = assert_verdict(&report, dlq, "skipped", "still-filling");
    assert_eq!(
        (&queue["visible"], &queue["streak"]),
        (&json!(3), &json!(1))
    );

    let report = function.later(65 * MINUTE, &schedule()).await;
    assert_verdict(&report, dlq, "held", "still-filling");
    assert_eq!(dlq.tasks().await.len(), 1);
    dlq.assert_holds(3).await;

    // It has grown before, and is quiet now.
    let report = function.later(35 * MINUTE, &schedule()).await;
    assert_verdict(&report, dlq, "started", "ready");
    queues.source.wait_until_holds(3).await;
}

#[tokio::test]
async fn dlq_of_constant_depth_is_redriven() {
    let (queues, function) = came_back("constant", &servers().cloudwatch_url, &[]).await;
    let now = SystemTime::now();
    saw(
        &queues.dlq.name,
        (8..20).map(|minute| (now + minute * MINUTE, 3)),
    )
    .await;
    // Another DLQ that grows does not matter.
    saw("constant-not-dlq", [(now + 15 * MINUTE, 1)]).await;

    let report = function.later(20 * MINUTE, &schedule()).await;

    assert_verdict(&report, &queues.dlq, "started", "ready");
    queues.source.wait_until_holds(3).await;
}

#[tokio::test]
async fn patience_has_an_end() {
    let url = &servers().cloudwatch_url;
    let (queues, function) = came_back("impatient", url, &[("REDRIVE_PATIENCE", "30m")]).await;
    let now = SystemTime::now();
    saw(
        &queues.dlq.name,
        [(now + 25 * MINUTE, 1), (now + 30 * MINUTE, 1)],
    )
    .await;

    let report = function.later(29 * MINUTE, &schedule()).await;
    assert_verdict(&report, &queues.dlq, "skipped", "still-filling");

    let report = function.later(31 * MINUTE, &schedule()).await;
    assert_verdict(&report, &queues.dlq, "started", "ready");
    queues.source.wait_until_holds(3).await;
}

#[tokio::test]
async fn forced_request_does_not_wait_for_a_growing_dlq() {
    let (queues, function) = came_back("growing-forced", &servers().cloudwatch_url, &[]).await;
    saw(&queues.dlq.name, [(SystemTime::now() + 19 * MINUTE, 1)]).await;

    let report = function.later(20 * MINUTE, &forced(&queues.dlq)).await;

    assert_verdict(&report, &queues.dlq, "started", "ready");
    queues.source.wait_until_holds(3).await;
}

/// Asserts that a DLQ is redriven although this CloudWatch does not return its depth history, and
/// returns its entry in the report.
async fn assert_started_unread(name: &str, cloudwatch_url: &str, time_left: Duration) -> Value {
    let (queues, function) = came_back(name, cloudwatch_url, &[]).await;
    let begun = Instant::now();

    let report = function.report(20 * MINUTE, time_left, &schedule()).await;

    assert!(begun.elapsed() < time_left, "{:?}", begun.elapsed());
    let metrics = report.metrics("function", SystemTime::now());
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(metrics["DepthHistoryUnreadable"], 1);
    let report = serde_json::to_value(report).unwrap();
    let queue = assert_verdict(&report, &queues.dlq, "started", "ready");
    assert_detail(queue, "metrics could not be read");
    queues.source.wait_until_holds(3).await;
    queue.clone()
}

#[tokio::test]
async fn depth_history_out_of_reach_keeps_nothing_from_starting() {
    assert_started_unread("depth-unreachable", &unreachable_url(), MINUTE / 2).await;
}

#[tokio::test]
async fn depth_history_that_is_refused_keeps_nothing_from_starting() {
    let queue = assert_started_unread("depth-refused", &refusing_url(), MINUTE / 2).await;
    assert_detail(
        &queue,
        "not authorized to perform: cloudwatch:GetMetricData",
    );
}

#[tokio::test]
async fn depth_history_that_is_not_read_in_time_keeps_nothing_from_starting() {
    assert_started_unread(
        "depth-silent",
        &Hang::at(Place::Answer).url,
        Duration::from_secs(4),
    )
    .await;
}

// Calls

#[tokio::test]
async fn brakes_are_read_once_and_only_if_something_would_start() {
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let brakes = [
        Alarm::create("counted one").await,
        Alarm::create("counted two").await,
    ];
    let mut all = Vec::new();
    for n in 1..=3 {
        let queues = Queues::create(&format!("counted-brakes-{n}")).await;
        all.push(queues);
    }
    let dlqs: Vec<&str> = all.iter().map(|queues| queues.dlq.arn.as_str()).collect();
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &dlqs.join(" ")),
        (
            "REDRIVE_BRAKE_ALARMS",
            &brakes.map(|brake| brake.name).join(","),
        ),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", &cloudwatch.url),
    ]);
    let calls = || {
        let operations = ["DescribeAlarms", "GetMetricData"];
        operations.map(|operation| cloudwatch.seen().calls_of(operation))
    };

    let report = function.invoke(&schedule()).unwrap();
    assert_eq!(report["counts"]["skipped"], 3, "all are empty");
    assert_eq!(calls(), [0, 0]);

    for queues in &all {
        queues.dead_letter(1).await;
    }
    let report = function.invoke(&schedule()).unwrap();
    assert_eq!(report["counts"]["started"], 3);
    assert_eq!(calls(), [1, 0]);

    for queues in &all {
        all_come_back(queues, 1).await;
    }
    let report = function.invoke(&schedule()).unwrap();
    assert_eq!(report["counts"]["skipped"], 3, "all are cooling down");
    assert_eq!(calls(), [1, 0]);
}

#[tokio::test]
async fn depth_histories_are_read_once_for_all_that_get_so_far() {
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let brake = Alarm::create("counted with depths").await;
    let mut all = Vec::new();
    for n in 1..=4 {
        let queues = Queues::create(&format!("counted-depths-{n}")).await;
        queues.dead_letter(1).await;
        all.push(queues);
    }
    let (fresh, tried) = all.split_last().unwrap();
    let dlqs: Vec<&str> = all.iter().map(|queues| queues.dlq.arn.as_str()).collect();
    let function = InProcess::watching(
        &cloudwatch.url,
        &[
            ("REDRIVE_QUEUES", &dlqs.join(" ")),
            ("REDRIVE_BRAKE_ALARMS", &brake.name),
        ],
    );
    let calls = || {
        let operations = ["DescribeAlarms", "GetMetricData"];
        operations.map(|operation| cloudwatch.seen().calls_of(operation))
    };
    for (n, queues) in (1..).zip(tried) {
        function.later(Duration::ZERO, &alarm(&queues.dlq)).await;
        assert_eq!(calls(), [n, 0], "a first redrive asks for no depth history");
        all_come_back(queues, 1).await;
    }
    let grows = &tried[1].dlq;
    tried[1].dead_letter(1).await;
    saw(&grows.name, [(SystemTime::now() + 19 * MINUTE, 1)]).await;

    let report = function.later(20 * MINUTE, &schedule()).await;

    assert_eq!(calls(), [4, 1]);
    assert_verdict(&report, grows, "skipped", "still-filling");
    for queues in [&tried[0], &tried[2], fresh] {
        assert_verdict(&report, &queues.dlq, "started", "ready");
        queues.source.wait_until_holds(1).await;
    }
}

#[tokio::test]
async fn without_samples_a_quiet_period_of_zero_asks_for_no_metrics() {
    let cloudwatch = Proxy::start(&servers().cloudwatch_url);
    let off = [("REDRIVE_QUIET_PERIOD", "0s"), ("REDRIVE_SAMPLE", "0")];
    let (queues, function) = came_back("never-quiet", &cloudwatch.url, &off).await;
    saw(&queues.dlq.name, [(SystemTime::now() + 19 * MINUTE, 1)]).await;

    let report = function.later(20 * MINUTE, &schedule()).await;

    assert_verdict(&report, &queues.dlq, "started", "ready");
    assert_eq!(cloudwatch.seen().calls_of("GetMetricData"), 0);
    queues.source.wait_until_holds(3).await;
}
