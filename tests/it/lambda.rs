//! The whole function: the real binary, which gets its events as from Lambda, on real queues.
//!
//! SQS is LocalStack's, Lambda is cargo-lambda's emulator; `make setup` installs both.

use crate::support::function::{EmulatedFunction, sample};
use crate::support::local::servers;
use crate::support::proxy::Proxy;
use crate::support::queues::{Queue, Queues, queue_arn};
use crate::support::report::{counts, of, verdict};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// An alarm on this DLQ goes off.
fn alarm(dlq: &Queue) -> String {
    sample("alarm-eventbridge.json", &[("orders-dlq", &dlq.name)])
}

/// The schedule invokes the function.
fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// The message of an invocation that failed with this type of error.
#[track_caller]
fn failure(result: Result<Value, Value>, error_type: &str) -> String {
    let error = result.expect_err("the invocation fails");
    assert_eq!(error["errorType"], error_type, "{error:#}");
    let message = error["errorMessage"].as_str().unwrap().to_owned();
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part} is not in: {text}");
}

// Redrives

#[tokio::test]
async fn messages_go_back_to_their_source_queue() {
    let queues = Queues::create("back").await;
    let sent = queues.dead_letter(10).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_eq!(
        report["trigger"],
        json!({
            "kind": "alarm",
            "source": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:back-dlq-depth",
            "queues": ["back-dlq"],
        })
    );
    assert_eq!(report["dryRun"], false);
    assert_eq!(counts(&report), json!({"started": 1}));
    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(verdict(queue), ("started", "ready"));
    assert_eq!(
        (&queue["visible"], &queue["inFlight"]),
        (&json!(10), &json!(0))
    );
    assert_eq!(queue.get("lastTask"), None, "SQS had listed no task");
    assert!(!queue["task"]["handle"].as_str().unwrap().is_empty());
    assert_eq!(queue["task"]["maxMessagesPerSecond"], 50, "the default");
    assert_eq!(queue["task"].get("destinationArn"), None);

    queues.source.wait_until_holds(10).await;
    queues.dlq.wait_until_holds(0).await;
    assert_eq!(queues.source.take_all().await, sent);
}

#[tokio::test]
async fn destination_and_rate_are_those_of_the_configuration() {
    let queues = Queues::create("to-elsewhere").await;
    let destination = Queue::create("elsewhere").await;
    let sent = queues.dead_letter(5).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_DESTINATION_ARN", &destination.arn),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "200"),
    ]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"started": 1}));
    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(verdict(queue), ("started", "ready"));
    assert_eq!(queue["task"]["destinationArn"], destination.arn);
    assert_eq!(queue["task"]["maxMessagesPerSecond"], 200);

    destination.wait_until_holds(5).await;
    assert_eq!(destination.take_all().await, sent);
    queues.source.assert_holds(0).await;
    let tasks = queues.dlq.tasks().await;
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].destination_arn(), Some(destination.arn.as_str()));
    assert_eq!(tasks[0].max_number_of_messages_per_second(), Some(200));
}

#[tokio::test]
async fn rate_auto_leaves_the_rate_to_sqs() {
    let queues = Queues::create("own-pace").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "auto"),
    ]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(verdict(queue), ("started", "ready"));
    assert_eq!(queue["task"].get("maxMessagesPerSecond"), None);
    queues.source.wait_until_holds(1).await;
    let tasks = queues.dlq.tasks().await;
    assert_eq!(tasks[0].max_number_of_messages_per_second(), None);
}

#[tokio::test]
async fn active_task_means_no_start_not_even_by_force() {
    let queues = Queues::create("active").await;
    queues.dead_letter(8).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
        ("REDRIVE_SAMPLE", "0"),
    ]);
    let first = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_eq!(counts(&first), json!({"started": 1}));

    let forced = json!({"action": "redrive", "queues": "all", "force": true}).to_string();
    for event in [alarm(&queues.dlq), forced] {
        let report = function.invoke(&event).unwrap();
        assert_eq!(counts(&report), json!({"skipped": 1}));
        let queue = of(&report, &queues.dlq.arn);
        assert_eq!(verdict(queue), ("skipped", "task-active"));
        assert_eq!(queue["lastTask"]["status"], "RUNNING");
        assert_eq!(queue["lastTask"]["toMove"], 8);
        assert_eq!(queue.get("task"), None);
    }
    assert_eq!(queues.dlq.tasks().await.len(), 1);
}

#[tokio::test]
async fn of_many_concurrent_invocations_one_starts_and_none_fails() {
    let queues = Queues::create("raced").await;
    queues.dead_letter(8).await;
    let alarm = alarm(&queues.dlq);
    let variables = [
        ("REDRIVE_QUEUES", queues.dlq.arn.as_str()),
        // Slow, so that the task is still active when the last of them asks.
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
        ("REDRIVE_SAMPLE", "0"),
    ];
    // Functions that have answered once are warm, and so ask SQS at the same moment.
    let mut functions = [(); 4].map(|()| EmulatedFunction::start(&variables));
    for function in &mut functions {
        function.invoke(&sample("ignored-ok.json", &[])).unwrap();
    }

    let reports = std::thread::scope(|scope| {
        let alarm = &alarm;
        functions
            .each_mut()
            .map(|function| scope.spawn(move || function.invoke(alarm)))
            .map(|invocation| invocation.join().unwrap())
    });

    let mut verdicts = reports.map(|report| {
        let report = report.expect("to lose the race is no failure");
        let (outcome, reason) = verdict(of(&report, &queues.dlq.arn));
        format!("{outcome}/{reason}")
    });
    verdicts.sort();
    let lost = "skipped/task-active";
    assert_eq!(verdicts, [lost, lost, lost, "started/ready"]);
    assert_eq!(queues.dlq.tasks().await.len(), 1);
}

#[tokio::test]
async fn empty_dlq_is_left_alone() {
    let queues = Queues::create("empty").await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"skipped": 1}));
    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(verdict(queue), ("skipped", "empty"));
    assert_eq!(
        (&queue["visible"], &queue["inFlight"]),
        (&json!(0), &json!(0))
    );
    assert!(function.log_of(&queues.dlq.arn).is_empty());
    queues.dlq.assert_no_task().await;
}

#[tokio::test]
async fn dry_run_starts_nothing() {
    let queues = Queues::create("dry").await;
    queues.dead_letter(3).await;
    let mut deployed_dry = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_DRY_RUN", "true"),
    ]);
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);
    let dry_request = sample(
        "request-redrive-dry-run.json",
        &[("orders-dlq", &queues.dlq.name)],
    );

    for (report, kind) in [
        (deployed_dry.invoke(&alarm(&queues.dlq)).unwrap(), "alarm"),
        (function.invoke(&dry_request).unwrap(), "request"),
    ] {
        assert_eq!(report["trigger"]["kind"], kind);
        assert_eq!(report["dryRun"], true);
        assert_eq!(counts(&report), json!({"wouldStart": 1}));
        let queue = of(&report, &queues.dlq.arn);
        assert_eq!(verdict(queue), ("wouldStart", "ready"));
        assert_eq!(queue["visible"], 3);
        assert_eq!(queue.get("task"), None);
    }
    queues.dlq.assert_no_task().await;
    queues.dlq.assert_holds(3).await;
    queues.source.assert_holds(0).await;
}

#[tokio::test]
async fn request_cannot_lift_a_dry_run() {
    let queues = Queues::create("stays-dry").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_DRY_RUN", "true"),
    ]);

    let request = json!({"action": "redrive", "queues": "all", "dryRun": false, "force": true});
    let report = function.invoke(&request.to_string()).unwrap();

    assert_eq!(report["dryRun"], true);
    assert_eq!(counts(&report), json!({"wouldStart": 1}));
    queues.dlq.assert_no_task().await;
}

// Failures

#[tokio::test]
async fn missing_queue_stops_no_other_and_fails_the_invocation() {
    let queues = Queues::create("present").await;
    queues.dead_letter(2).await;
    let missing = queue_arn("missing-dlq");
    let mut function = EmulatedFunction::enrolling(&[&missing, &queues.dlq.arn]);

    let message = failure(function.invoke(&schedule()), "RedriveIncomplete");

    assert_contains(&message, &missing);
    assert_contains(&message, "queue-not-found");
    assert!(!message.contains(&queues.dlq.arn), "{message}");
    assert_eq!(
        verdict(&function.log_of(&queues.dlq.arn)[0]),
        ("started", "ready")
    );
    let of_missing = &function.log_of(&missing)[0];
    assert_eq!(verdict(of_missing), ("failed", "queue-not-found"));
    assert_eq!(of_missing["level"], "ERROR");
    queues.source.wait_until_holds(2).await;
}

#[tokio::test]
async fn messages_of_a_shared_dlq_go_each_to_its_own_source_queue() {
    let orders = Queues::create("shared-orders").await;
    let payments = orders.sharing_dlq("shared-payments").await;
    let of_orders = orders.dead_letter(3).await;
    let of_payments = payments.dead_letter(4).await;
    let mut function = EmulatedFunction::enrolling(&[&orders.dlq.arn]);

    let report = function.invoke(&alarm(&orders.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"started": 1}));
    assert_eq!(of(&report, &orders.dlq.arn)["visible"], 7);
    orders.source.wait_until_holds(3).await;
    payments.source.wait_until_holds(4).await;
    assert_eq!(orders.source.take_all().await, of_orders);
    assert_eq!(payments.source.take_all().await, of_payments);
    assert_eq!(orders.dlq.tasks().await.len(), 1, "one task is enough");
}

#[tokio::test]
async fn queue_that_is_no_dlq_fails_and_keeps_its_messages() {
    let queue = Queue::create("no-dlq").await;
    queue.send(&BTreeSet::from(["lost".to_owned()])).await;
    let mut function = EmulatedFunction::enrolling(&[&queue.arn]);

    let message = failure(function.invoke(&alarm(&queue)), "RedriveIncomplete");

    assert_contains(&message, &queue.arn);
    assert_contains(&message, "not-a-dead-letter-queue");
    let logged = &function.log_of(&queue.arn)[0];
    assert_eq!(verdict(logged), ("failed", "not-a-dead-letter-queue"));
    assert_eq!(logged["level"], "ERROR");
    queue.assert_holds(1).await;
    queue.assert_no_task().await;
}

#[tokio::test]
async fn missing_destination_fails_and_keeps_the_messages() {
    let queues = Queues::create("nowhere-to-go").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_DESTINATION_ARN", &queue_arn("nowhere")),
    ]);

    let message = failure(function.invoke(&alarm(&queues.dlq)), "RedriveIncomplete");

    assert_contains(&message, &queues.dlq.arn);
    assert_contains(&message, "destination-not-found");
    queues.dlq.assert_holds(1).await;
    queues.dlq.assert_no_task().await;
}

// Requests

#[tokio::test]
async fn message_that_falls_back_waits_for_the_cooldown_unless_forced() {
    let queues = Queues::create("cooling").await;
    queues.dead_letter(2).await;
    // A forced redrive keeps five minutes' distance from the one before.
    let sqs = Proxy::ageing(&servers().sqs_url, Duration::from_secs(6 * 60));
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("AWS_ENDPOINT_URL", &sqs.url),
    ]);
    let first = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_eq!(counts(&first), json!({"started": 1}));
    queues.dlq.wait_for_task().await;
    queues.fall(2).await;

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"skipped": 1}));
    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(verdict(queue), ("skipped", "cooling-down"));
    assert_eq!(queue.get("task"), None);
    let last = &queue["lastTask"];
    assert_eq!(last["status"], "COMPLETED");
    assert_eq!((&last["moved"], &last["toMove"]), (&json!(2), &json!(2)));
    assert_eq!(last.get("failureReason"), None);
    let started_at = last["startedAt"].as_str().unwrap();
    assert_eq!(started_at.find('T'), Some(10), "RFC 3339: {started_at}");
    assert!(started_at.ends_with('Z'), "RFC 3339: {started_at}");
    assert_eq!(queues.dlq.tasks().await.len(), 1);
    queues.dlq.assert_holds(2).await;

    // By name. (The emulator does not say which account the function is in; Lambda does.)
    let request = json!({
        "action": "redrive", "queues": [queues.dlq.name], "force": true, "maxMessagesPerSecond": 100
    });
    let report = function.invoke(&request.to_string()).unwrap();

    assert_eq!(report["trigger"]["kind"], "request");
    assert_eq!(counts(&report), json!({"started": 1}));
    let queue = of(&report, &queues.dlq.arn);
    assert_eq!(queue["task"]["maxMessagesPerSecond"], 100);
    assert_eq!(queue["lastTask"]["status"], "COMPLETED", "the one before");
    queues.source.wait_until_holds(2).await;
    let tasks = queues.dlq.tasks().await;
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].max_number_of_messages_per_second(), Some(100));
}

#[tokio::test]
async fn force_does_not_pass_the_kill_switch() {
    let queues = Queues::create("paused").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_PAUSED", "true"),
    ]);

    let request = json!({"action": "redrive", "queues": "all", "force": true});
    let report = function.invoke(&request.to_string()).unwrap();

    assert_eq!(counts(&report), json!({"held": 1}));
    assert_eq!(verdict(of(&report, &queues.dlq.arn)), ("held", "paused"));
    queues.dlq.assert_no_task().await;
}

#[tokio::test]
async fn forced_request_goes_to_its_own_destination() {
    let queues = Queues::create("by-request").await;
    let destination = Queue::create("requested").await;
    let sent = queues.dead_letter(2).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let request = sample(
        "request-redrive-force.json",
        &[
            (":orders-dlq\"", &format!(":{}\"", queues.dlq.name)),
            (":orders\"", &format!(":{}\"", destination.name)),
        ],
    );
    let report = function.invoke(&request).unwrap();

    assert_eq!(counts(&report), json!({"started": 1}));
    let task = &of(&report, &queues.dlq.arn)["task"];
    assert_eq!(task["destinationArn"], destination.arn);
    assert_eq!(task["maxMessagesPerSecond"], 10);
    destination.wait_until_holds(2).await;
    assert_eq!(destination.take_all().await, sent);
    queues.source.assert_holds(0).await;
}

#[tokio::test]
async fn invalid_request_is_rejected() {
    let queues = Queues::create("badly-asked").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    for (field, value) in [
        ("maxMessagesPerSecond", json!(0)),
        ("maxMessagesPerSecond", json!(501)),
        ("maxMessagesPerSecond", json!(2.5)),
        ("destinationArn", json!("orders")),
        ("queues", json!([])),
        ("forced", json!(true)),
        ("action", json!("purge")),
    ] {
        let mut request = json!({"action": "redrive", "queues": [queues.dlq.name], "force": true});
        request[field] = value.clone();
        let message = failure(function.invoke(&request.to_string()), "EventRejected");
        // serde's message names the value of `action`, not the field.
        let named = if field == "action" { "purge" } else { field };
        assert_contains(&message, named);
    }
    queues.dlq.assert_no_task().await;
    queues.dlq.assert_holds(1).await;
}

// Configuration

#[tokio::test]
async fn faulty_configuration_answers_every_invocation_with_all_faults() {
    let queues = Queues::create("misconfigured").await;
    queues.dead_letter(1).await;
    let topic = "arn:aws:sns:us-east-1:123456789012:alarms";
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &format!("{}, {topic}", queues.dlq.arn)),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "501"),
        ("REDRIVE_COOLDOWN", "5s"),
        ("REDRIVE_PAUSE", "true"),
    ]);

    for invocation in 1..=2 {
        let message = failure(function.invoke(&alarm(&queues.dlq)), "InvalidConfiguration");
        for part in [
            "`REDRIVE_QUEUES`",
            &format!("`{topic}`"),
            "`REDRIVE_MAX_MESSAGES_PER_SECOND`",
            "`501`",
            "from 1 to 500",
            "`REDRIVE_COOLDOWN`",
            "`5s`",
            "`REDRIVE_PAUSE`",
        ] {
            assert_contains(&message, part);
        }
        assert!(!message.contains(&queues.dlq.arn), "no fault: {message}");
        let mut logged = function.log();
        logged.retain(|line| line["level"] == "ERROR" && line["message"] == *message);
        assert_eq!(logged.len(), invocation, "each invocation logs it");
    }
    function.assert_alive();
    queues.dlq.assert_no_task().await;
    queues.dlq.assert_holds(1).await;
}

#[tokio::test]
async fn fifo_dlq_with_a_standard_destination_is_a_fault_of_the_configuration() {
    let dlq = Queue::create("invoices-dlq.fifo").await;
    dlq.send(&BTreeSet::from(["invoice".to_owned()])).await;
    let destination = Queue::create("invoices-elsewhere").await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &dlq.arn),
        ("REDRIVE_DESTINATION_ARN", &destination.arn),
    ]);

    let message = failure(function.invoke(&schedule()), "InvalidConfiguration");

    assert_contains(&message, "`REDRIVE_DESTINATION_ARN`");
    assert_contains(&message, "FIFO");
    dlq.assert_no_task().await;
    dlq.assert_holds(1).await;
}

// Events

#[tokio::test]
async fn unsupported_event_is_rejected_and_the_next_is_answered() {
    let queues = Queues::create("foreign-events").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);
    let five_megabytes = "x".repeat(5_000_000);
    let junk = vec![json!({"messageId": "junk", "body": queues.dlq.name}); 50_000];

    for event in [
        sample("rejected-empty-object.json", &[]),
        sample("rejected-null.json", &[]),
        sample(
            "rejected-free-text.json",
            &[("orders-dlq", &queues.dlq.name)],
        ),
        "[".repeat(200) + &"]".repeat(200),
        r#"{"Records":[{"body":""#.to_owned() + &"[".repeat(200) + r#""}]}"#,
        r#"{"detail":"#.repeat(200) + "1" + &"}".repeat(200),
        json!({"detail": five_megabytes}).to_string(),
        json!(five_megabytes).to_string(),
        json!({"Records": junk}).to_string(),
    ] {
        let message = failure(function.invoke(&event), "EventRejected");
        assert_contains(&message, "expected a schedule, a CloudWatch alarm");
        assert!(message.len() < 2000, "{} bytes", message.len());
    }
    function.assert_alive();
    queues.dlq.assert_no_task().await;

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();
    assert_eq!(counts(&report), json!({"started": 1}));
    queues.source.wait_until_holds(1).await;
}

#[tokio::test]
async fn request_in_an_envelope_is_rejected() {
    let queues = Queues::create("enveloped-request").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let event = sample("rejected-request-in-sns.json", &[]);
    failure(function.invoke(&event), "EventRejected");

    queues.dlq.assert_no_task().await;
}

#[tokio::test]
async fn function_mapped_onto_the_dlq_fails_and_starts_nothing() {
    let queues = Queues::create("mapped").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);
    let name = queues.dlq.name.as_str();

    let dead_letters = sample(
        "rejected-dead-letter-queue-mapped.json",
        &[("orders-dlq", name)],
    );
    // A readable alarm that was sent straight to the DLQ, so without the attribute of a dead
    // letter.
    let readable_alarm = sample(
        "alarm-eventbridge-sqs.json",
        &[("alarm-fanout", name), ("orders-dlq", name)],
    );
    for event in [dead_letters, readable_alarm] {
        let message = failure(function.invoke(&event), "EventRejected");
        assert_contains(&message, name);
        assert_contains(&message, "event source mapping");
    }
    queues.dlq.assert_no_task().await;
    queues.dlq.assert_holds(1).await;
}

#[tokio::test]
async fn unreadable_record_fails_the_invocation_after_the_others_were_handled() {
    let orders = Queues::create("batch-orders").await;
    let payments = Queues::create("batch-payments").await;
    orders.dead_letter(2).await;
    payments.dead_letter(3).await;
    let mut function = EmulatedFunction::enrolling(&[&orders.dlq.arn, &payments.dlq.arn]);

    let event = sample(
        "batch-partly-unreadable.json",
        &[
            ("orders-dlq", &orders.dlq.name),
            ("payments-dlq", &payments.dlq.name),
        ],
    );
    let message = failure(function.invoke(&event), "RedriveIncomplete");

    assert_contains(&message, "f680647c-ed7f-468d-a415-70ca4a970443");
    for readable in ["72198def", "f34cd823"] {
        assert!(!message.contains(readable), "{message}");
    }
    for queues in [&orders, &payments] {
        let logged = function.log_of(&queues.dlq.arn);
        assert_eq!(verdict(&logged[0]), ("started", "ready"));
    }
    orders.source.wait_until_holds(2).await;
    payments.source.wait_until_holds(3).await;
}

#[tokio::test]
async fn sweep_looks_at_every_enrolled_queue() {
    let one = Queues::create("swept-one").await;
    let two = Queues::create("swept-two").await;
    let empty = Queues::create("swept-empty").await;
    let other = Queues::create("unswept").await;
    for queues in [&one, &two, &other] {
        queues.dead_letter(1).await;
    }
    let mut function = EmulatedFunction::enrolling(&[&one.dlq.arn, &two.dlq.arn, &empty.dlq.arn]);

    let report = function.invoke(&schedule()).unwrap();

    assert_eq!(
        report["trigger"],
        json!({
            "kind": "schedule",
            "source": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/sqs-auto-redrive",
        })
    );
    assert_eq!(counts(&report), json!({"started": 2, "skipped": 1}));
    assert_eq!(report["queues"].as_array().unwrap().len(), 3);
    assert_eq!(verdict(of(&report, &one.dlq.arn)), ("started", "ready"));
    assert_eq!(verdict(of(&report, &two.dlq.arn)), ("started", "ready"));
    assert_eq!(verdict(of(&report, &empty.dlq.arn)), ("skipped", "empty"));
    one.source.wait_until_holds(1).await;
    two.source.wait_until_holds(1).await;
    other.dlq.assert_no_task().await;
}

#[tokio::test]
async fn composite_alarm_sweeps() {
    let queues = Queues::create("composite").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let event = sample("composite-eventbridge.json", &[]);
    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "alarm");
    assert_eq!(report["trigger"].get("queues"), None);
    assert_eq!(counts(&report), json!({"started": 1}));
    queues.source.wait_until_holds(1).await;
}

#[tokio::test]
async fn alarm_looks_only_at_the_dlq_it_names() {
    let named = Queues::create("named").await;
    let other = Queues::create("not-named").await;
    named.dead_letter(1).await;
    other.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&named.dlq.arn, &other.dlq.arn]);

    let report = function.invoke(&alarm(&named.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"started": 1}));
    assert_eq!(report["queues"].as_array().unwrap().len(), 1);
    assert_eq!(verdict(of(&report, &named.dlq.arn)), ("started", "ready"));
    named.source.wait_until_holds(1).await;
    other.dlq.assert_no_task().await;
    other.dlq.assert_holds(1).await;
}

#[tokio::test]
async fn queue_that_is_not_enrolled_is_not_touched() {
    let enrolled = Queues::create("enrolled").await;
    let other = Queues::create("not-enrolled").await;
    enrolled.dead_letter(1).await;
    other.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&enrolled.dlq.arn]);

    let alarm_on_both = sample(
        "alarm-eventbridge-metric-math.json",
        &[
            ("orders-dlq", &enrolled.dlq.name),
            ("payments-dlq", &other.dlq.name),
        ],
    );
    let report = function.invoke(&alarm_on_both).unwrap();

    assert_eq!(counts(&report), json!({"started": 1, "skipped": 1}));
    assert_eq!(
        verdict(of(&report, &enrolled.dlq.arn)),
        ("started", "ready")
    );
    let queue = of(&report, &other.dlq.arn);
    assert_eq!(verdict(queue), ("skipped", "not-enrolled"));
    assert_eq!(queue.get("visible"), None, "it was not looked at");
    enrolled.source.wait_until_holds(1).await;

    // Nor by a request, even by force.
    let request = json!({"action": "redrive", "queues": [other.dlq.arn], "force": true});
    let report = function.invoke(&request.to_string()).unwrap();

    assert_eq!(counts(&report), json!({"skipped": 1}));
    assert_eq!(
        verdict(of(&report, &other.dlq.arn)),
        ("skipped", "not-enrolled")
    );
    other.dlq.assert_no_task().await;
    other.dlq.assert_holds(1).await;
}

#[tokio::test]
async fn alarm_on_a_queue_of_the_same_name_in_another_account_touches_nothing() {
    let queues = Queues::create("namesake").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let event = sample(
        "alarm-eventbridge-other-account.json",
        &[("orders-dlq", &queues.dlq.name)],
    );
    let report = function.invoke(&event).unwrap();

    let theirs = "arn:aws:sqs:us-east-1:999999999999:namesake-dlq";
    assert_eq!(counts(&report), json!({"skipped": 1}));
    assert_eq!(verdict(of(&report, theirs)), ("skipped", "not-enrolled"));
    queues.dlq.assert_no_task().await;
}

#[tokio::test]
async fn alarm_that_calls_for_nothing_succeeds_and_says_why() {
    let queues = Queues::create("ignored").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::enrolling(&[&queues.dlq.arn]);

    let event = sample("ignored-ok.json", &[("orders-dlq", &queues.dlq.name)]);
    let report = function.invoke(&event).unwrap();

    assert_eq!(report["trigger"]["kind"], "ignored");
    assert_contains(report["trigger"]["why"].as_str().unwrap(), "OK");
    assert_eq!(counts(&report), json!({}));
    assert_eq!(report["queues"], json!([]));
    queues.dlq.assert_no_task().await;
}

// The log

#[tokio::test]
async fn log_has_a_line_for_each_queue_that_is_not_empty_a_summary_and_the_metrics() {
    let ready = Queues::create("logged-ready").await;
    let below = Queues::create("logged-below").await;
    let empty = Queues::create("logged-empty").await;
    ready.dead_letter(2).await;
    below.dead_letter(1).await;
    let dlqs = [&ready, &below, &empty].map(|queues| queues.dlq.arn.as_str());
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &dlqs.join(" ")),
        ("REDRIVE_MIN_MESSAGES", "2"),
    ]);

    let report = function.invoke(&schedule()).unwrap();

    assert_eq!(counts(&report), json!({"started": 1, "skipped": 2}));
    let (metrics, lines): (Vec<_>, Vec<_>) = function
        .log()
        .into_iter()
        .partition(|line| line.get("_aws").is_some());
    for line in &lines {
        let text = |name: &str| line[name].as_str().unwrap();
        assert_eq!(text("level"), "INFO", "{line:#}");
        assert!(!text("message").is_empty(), "{line:#}");
        let timestamp = text("timestamp");
        assert_eq!(timestamp.find('T'), Some(10), "RFC 3339: {timestamp}");
        assert!(timestamp.ends_with('Z'), "RFC 3339: {timestamp}");
    }
    assert_eq!(lines.len(), 3, "two queues and the summary: {lines:#?}");
    let of_ready = &function.log_of(&ready.dlq.arn)[0];
    assert_eq!(verdict(of_ready), ("started", "ready"));
    assert_eq!(of_ready["visible"], 2);
    assert_eq!(
        of_ready["task.handle"],
        of(&report, &ready.dlq.arn)["task"]["handle"],
        "{of_ready:#}"
    );
    let of_below = &function.log_of(&below.dlq.arn)[0];
    assert_eq!(verdict(of_below), ("skipped", "below-minimum"));
    let summary = &lines[2];
    assert_eq!(summary["trigger.kind"], "schedule");
    assert_eq!(
        (&summary["started"], &summary["skipped"]),
        (&json!(1), &json!(2))
    );
    assert!(summary["elapsed_ms"].is_u64(), "{summary:#}");

    assert_eq!(metrics.len(), 1, "one line per invocation");
    let directive = &metrics[0]["_aws"]["CloudWatchMetrics"][0];
    let names: Vec<&str> = directive["Metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["Name"].as_str().unwrap())
        .collect();
    for name in &names {
        assert!(metrics[0][name].is_u64(), "{name} has a value");
    }
    let value = |name: &str| {
        assert!(names.contains(&name), "{name} is a metric");
        metrics[0][name].as_u64().unwrap()
    };
    assert_eq!(metrics[0]["FunctionName"], function.name);
    assert_eq!(value("QueuesLookedAt"), 3);
    assert_eq!(value("Started"), 1);
    assert_eq!(value("Failed"), 0);
    assert_eq!(value("MessagesVisible"), 3);
}

#[tokio::test]
async fn log_level_trace_shows_what_info_shows() {
    let queues = Queues::create("chatty").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_PAUSED", "true"),
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
    ]);

    function.invoke(&alarm(&queues.dlq)).unwrap();

    let log = function.log();
    assert_eq!(log.len(), 3, "{log:#?}");
    assert_eq!(verdict(&log[0]), ("held", "paused"));
    assert_eq!(log[1]["message"], "invocation finished");
    assert!(log[2]["_aws"]["CloudWatchMetrics"].is_array());
    queues.dlq.assert_no_task().await;
}

#[tokio::test]
async fn log_level_warn_silences_what_is_normal_but_not_the_metrics() {
    let queues = Queues::create("quiet").await;
    queues.dead_letter(1).await;
    let mut function = EmulatedFunction::start(&[
        ("REDRIVE_QUEUES", &queues.dlq.arn),
        ("REDRIVE_PAUSED", "true"),
        ("AWS_LAMBDA_LOG_LEVEL", "WARN"),
    ]);

    let report = function.invoke(&alarm(&queues.dlq)).unwrap();

    assert_eq!(counts(&report), json!({"held": 1}));
    let log = function.log();
    assert_eq!(log.len(), 2, "{log:#?}");
    assert_eq!(log[0]["level"], "WARN");
    assert_eq!(verdict(&log[0]), ("held", "paused"));
    assert_eq!(log[1]["Held"], 1);
    assert!(log[1]["_aws"]["CloudWatchMetrics"].is_array());
    queues.dlq.assert_no_task().await;
}
