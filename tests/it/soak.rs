//! Many invocations of one warm process, to find leaks.
//!
//! `SOAK_INVOCATIONS` sets their number, and `SOAK_BINARY` the binary, if it is not the one that
//! the tests are built with: `make soak` runs 100,000 of the release build. AWS and Lambda's
//! Runtime API are light servers of this test. Every event of `events/` is sent in turn, with
//! answers of every kind; one call in fifty fails.

use crate::support::function::sample;
use crate::support::http::{Answer, Request, Server};
use crate::support::local::project_file;
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than any invocation here takes.
const TIME: Duration = Duration::from_secs(60);

/// Every event there is a sample of.
fn events() -> Vec<(String, String)> {
    let files = fs::read_dir(project_file("events")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    assert!(names.len() > 40, "{names:?}");
    let event = |name: String| {
        let event = sample(&name, &[]);
        (name, event)
    };
    names.into_iter().map(event).collect()
}

// AWS

/// SQS, CloudWatch and the tagging API in one. An answer depends on the number of the call, so that
/// all kinds take turns; no state is kept.
fn aws() -> Server {
    let calls = Mutex::new(0_u64);
    Server::start(move |request| {
        let n = {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        fault(n).unwrap_or_else(|| match request.is_cbor() {
            true => cloudwatch(request, n),
            false => sqs_or_tags(request, n),
        })
    })
}

/// One call in fifty fails immediately. Failures that the SDK retries take up to a second each, so
/// there are fewer of them.
fn fault(n: u64) -> Option<Answer> {
    let expired = "The security token included in the request is expired";
    match n % 2003 {
        7 => Some(Answer::error(500, "InternalError", "Something went wrong.")),
        1013 => Some(Answer {
            is_cut: true,
            ..Answer::ok("{\"Results\": []}")
        }),
        2000 if n.is_multiple_of(10) => {
            Some(Answer::error(400, "ThrottlingException", "Rate exceeded"))
        }
        rest => match rest % 149 {
            3 => Some(Answer::error(403, "ExpiredTokenException", expired)),
            53 => Some(Answer::error(
                403,
                "AccessDenied",
                "User: f is not authorized to perform: sqs:x",
            )),
            103 => Some(Answer::ok("<html>Something went wrong.</html>")),
            _ => None,
        },
    }
}

fn sqs_or_tags(request: &Request, n: u64) -> Answer {
    let question = request.json();
    match request.operation() {
        "GetQueueAttributes" => Answer::ok(json!({"Attributes": {
            "ApproximateNumberOfMessages": (n % 5 * 7).to_string(),
            "ApproximateNumberOfMessagesNotVisible": (n % 3).to_string(),
        }})),
        "ListMessageMoveTasks" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let ago = |minutes: u64| now.as_millis() as u64 - minutes * 60_000;
            let task = |status, minutes| {
                json!({
                    "Status": status, "StartedTimestamp": ago(minutes), "TaskHandle": "handle",
                    "ApproximateNumberOfMessagesMoved": 20, "ApproximateNumberOfMessagesToMove": 20,
                })
            };
            let tasks = match n / 3 % 6 {
                0 => vec![],
                1 => vec![task("RUNNING", 1)],
                2 => vec![task("COMPLETED", 1)],
                3 => vec![task("FAILED", 300)],
                4 => vec![task("COMPLETED", 200), task("COMPLETED", 500)],
                _ => (2..12).map(|n| task("COMPLETED", n * 60)).collect(),
            };
            Answer::ok(json!({"Results": tasks}))
        }
        "ListDeadLetterSourceQueues" => Answer::ok(json!({"queueUrls": []})),
        "StartMessageMoveTask" if n.is_multiple_of(4) => {
            let message = "There is already a task running.";
            Answer::error(400, "InvalidParameterValue", message)
        }
        "StartMessageMoveTask" => Answer::ok(json!({"TaskHandle": "handle"})),
        "CancelMessageMoveTask" if n.is_multiple_of(2) => {
            Answer::error(404, "ResourceNotFoundException", "Task does not exist.")
        }
        "CancelMessageMoveTask" => Answer::ok(json!({"ApproximateNumberOfMessagesMoved": 1})),
        "GetResources" => {
            let tags = json!([{"Key": "auto-redrive", "Value": "enabled"}]);
            let tagged = ["orders-dlq", "invoices-dlq.fifo"];
            let tagged = tagged.map(|name| json!({"ResourceARN": queue_arn(name), "Tags": tags}));
            let asked = question["ResourceARNList"].as_array();
            let is_asked =
                |queue: &&Value| asked.is_none_or(|all| all.contains(&queue["ResourceARN"]));
            let tagged: Vec<&Value> = tagged.iter().filter(is_asked).collect();
            Answer::ok(json!({"PaginationToken": "", "ResourceTagMappingList": tagged}))
        }
        // A connection that is opened early.
        "" => Answer::error(404, "UnknownOperationException", ""),
        other => panic!("{other}"),
    }
}

fn cloudwatch(request: &Request, n: u64) -> Answer {
    let mut body = Encoder::new(Vec::new());
    match request.operation() {
        "DescribeAlarms" => {
            let state = if n.is_multiple_of(8) { "ALARM" } else { "OK" };
            body.begin_map().str("MetricAlarms").begin_array();
            body.begin_map();
            body.str("AlarmName").str("orders consumer is down");
            body.str("StateValue").str(state);
            body.end().end().end();
        }
        "GetMetricData" => {
            body.begin_map().str("MetricDataResults").begin_array();
            body.begin_map();
            body.str("Id").str("q0");
            body.str("StatusCode").str("Complete");
            body.str("Timestamps").begin_array();
            body.timestamp(&SystemTime::now().into()).end();
            body.str("Values").begin_array();
            body.double((n % 30) as f64).end();
            body.end().end().end();
        }
        other => panic!("{other}"),
    }
    Answer::cbor(body)
}

// Results

/// Checks the result of an invocation, whatever AWS answered. Returns its outcomes.
fn check(name: &str, result: &Result<Value, Value>) -> BTreeMap<String, u64> {
    let what = || format!("{name}: {result:#?}");
    match result {
        Ok(report) => {
            assert!(!name.starts_with("rejected-"), "{}", what());
            let ignored = report["trigger"]["kind"] == "ignored";
            // The event of a brake is ignored unless the brake is in ALARM now.
            let is_expected = ignored == name.starts_with("ignored-");
            assert!(is_expected || name.starts_with("brake-alarm"), "{}", what());
            let counts = report["counts"].as_object().unwrap().iter();
            let counts: BTreeMap<String, u64> = counts
                .map(|(outcome, n)| (outcome.clone(), n.as_u64().unwrap()))
                .collect();
            let listed = report["queues"].as_array().unwrap().len() as u64;
            assert_eq!(counts.values().sum::<u64>(), listed, "{}", what());
            counts
        }
        Err(error) if error["errorType"] == "EventRejected" => {
            assert!(name.starts_with("rejected-"), "{}", what());
            [("rejected".to_owned(), 1)].into()
        }
        Err(error) => {
            assert_eq!(error["errorType"], "RedriveIncomplete", "{}", what());
            [("incomplete".to_owned(), 1)].into()
        }
    }
}

// Measurements

/// What Linux reports about a process.
struct LinuxProcess(u32);

impl LinuxProcess {
    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0)
    }

    /// Its peak memory since [`Self::forget_peak`], in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(self.file("status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn forget_peak(&self) {
        fs::write(self.file("clear_refs"), "5").unwrap();
    }

    /// The CPU time it has used so far, to the hundredth of a second that Linux reports.
    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(self.file("stat")).unwrap();
        // The name before it, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// How many files and connections it has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(self.file("fd")).unwrap().count()
    }
}

/// What a tenth of all invocations used.
#[derive(Debug)]
struct Tenth {
    peak_kib: u64,
    most_descriptors: usize,
    processor_time: Duration,
    /// Of the invocations that call AWS.
    median: Duration,
    /// Of the others. It shows how busy the shared machine is.
    least_median: Duration,
}

impl Tenth {
    /// How many times longer an invocation takes if it calls AWS.
    fn relative_median(&self) -> f64 {
        self.median.as_secs_f64() / self.least_median.as_secs_f64()
    }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

#[test]
fn warm_process_takes_no_more_in_the_end_than_in_the_beginning() {
    let invocations: usize = match std::env::var("SOAK_INVOCATIONS") {
        Ok(number) => number.parse().expect("SOAK_INVOCATIONS is a number"),
        Err(_) => 3000,
    };
    assert!(invocations >= 1000, "too few invocations");
    let aws = aws();
    let dlqs = ["orders-dlq", "payments-dlq", "archive-dlq"]
        .map(queue_arn)
        .join(" ");
    let binary = std::env::var("SOAK_BINARY");
    let binary = binary
        .as_deref()
        .unwrap_or(env!("CARGO_BIN_EXE_sqs-auto-redrive"));
    let variables = [
        ("REDRIVE_QUEUES", dlqs.as_str()),
        ("REDRIVE_ENROLL_TAG", "auto-redrive"),
        ("REDRIVE_BRAKE_ALARMS", "orders consumer is down"),
        ("AWS_ENDPOINT_URL", &aws.url),
    ];
    let mut function = Process::start_binary(Path::new(binary), &variables);
    let process = LinuxProcess(function.id());
    let events = events();

    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut tenths = Vec::new();
    let mut events = events.iter().cycle();
    for _ in 0..10 {
        process.forget_peak();
        let before = process.processor_time();
        let (mut most_descriptors, mut took, mut least) = (0, Vec::new(), Vec::new());
        for n in 0..invocations / 10 {
            let (name, event) = events.next().unwrap();
            let begun = Instant::now();
            let result = function.invoke(event, TIME);
            match name.starts_with("ignored-") || name.starts_with("rejected-") {
                true => least.push(begun.elapsed()),
                false => took.push(begun.elapsed()),
            }
            for (outcome, n) in check(name, &result) {
                *outcomes.entry(outcome).or_default() += n;
            }
            if n.is_multiple_of(20) {
                most_descriptors = most_descriptors.max(process.descriptors());
                function.forget_log();
            }
        }
        let tenth = Tenth {
            peak_kib: process.peak(),
            most_descriptors,
            processor_time: process.processor_time() - before,
            median: median(took),
            least_median: median(least),
        };
        println!("{tenth:?}");
        tenths.push(tenth);
    }

    println!("{outcomes:?}");
    for outcome in [
        "started",
        "skipped",
        "held",
        "cancelled",
        "rejected",
        "incomplete",
    ] {
        let count = outcomes.get(outcome).copied().unwrap_or_default();
        assert!(count > 0, "{outcome} happens: {outcomes:?}");
    }
    // The first tenth fills pools and caches.
    let (second, last) = (&tenths[1], &tenths[9]);
    assert!(
        last.peak_kib * 100 <= second.peak_kib * 105,
        "memory: {tenths:#?}"
    );
    assert!(
        last.most_descriptors <= second.most_descriptors + 3,
        "descriptors: {tenths:#?}"
    );
    let more = last.processor_time.as_secs_f64() / second.processor_time.as_secs_f64();
    assert!(more < 1.3, "processor time: {tenths:#?}");
    let longer = last.relative_median() / second.relative_median();
    assert!(longer < 2.0, "latency: {tenths:#?}");
}

/// SQS with a RUNNING task on every DLQ, and a CloudWatch that refuses to answer. It counts the cancels.
fn sqs_under_attack(cancels: Arc<Mutex<usize>>) -> Server {
    Server::start(move |request| match request.operation() {
        "ListMessageMoveTasks" => Answer::ok(json!({"Results": [
            {"Status": "RUNNING", "TaskHandle": "handle", "StartedTimestamp": 1},
        ]})),
        "CancelMessageMoveTask" => {
            *cancels.lock().unwrap() += 1;
            Answer::ok(json!({"ApproximateNumberOfMessagesMoved": 1}))
        }
        _ => Answer::error(400, "AccessDenied", "no"),
    })
}

/// The brake alarm of `events/brake-alarm.json` and nine messages of a hostile sender, in one batch of SQS.
fn brake_among_hostile_messages() -> String {
    let hostile = serde_json::to_string(&vec![1; 125_000]).unwrap();
    let brake = sample("brake-alarm.json", &[]);
    let bodies = (0..9).map(|_| hostile.clone()).chain([brake]);
    let record = |(n, body): (usize, String)| {
        json!({
            "messageId": format!("message-{n}"), "body": body, "attributes": {},
            "eventSource": "aws:sqs", "eventSourceARN": queue_arn("alarms"),
        })
    };
    let records: Vec<Value> = bodies.enumerate().map(record).collect();
    json!({"Records": records}).to_string()
}

#[test]
fn brake_among_hostile_messages_is_acted_on_and_the_peak_stays_below_64_mib() {
    let cancels = Arc::new(Mutex::new(0));
    let sqs = sqs_under_attack(Arc::clone(&cancels));
    let mut function = Process::start(&[
        ("AWS_ENDPOINT_URL", sqs.url.as_str()),
        ("REDRIVE_QUEUES", &queue_arn("orders-dlq")),
        ("REDRIVE_BRAKE_ALARMS", "orders consumer is down"),
    ]);
    let event = brake_among_hostile_messages();
    assert!(event.len() > 9 * 250_000, "{}", event.len());
    let message = function.invoke(&event, TIME).unwrap_err();
    let message = message["errorMessage"].as_str().unwrap();
    assert!(
        message.starts_with("9 records could not be read: record `message-0`: "),
        "{message}"
    );
    assert_eq!(*cancels.lock().unwrap(), 1);
    let peak = LinuxProcess(function.id()).peak();
    assert!(peak < 64 * 1024, "{peak} KiB");
}
