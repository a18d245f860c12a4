//! An SQS with many DLQs, with latency and throttling. It moves no messages: a DLQ's depth is in
//! its name, `dlq-<number>-d<depth>`. Each has one source queue, `<name of the DLQ>-source`.

use super::http::{Answer, Request, Server};
use super::queues::queue_arn;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The names of `count` DLQs. Every `nth` has messages, and later ones have more.
pub fn names(count: usize, nth: usize) -> Vec<String> {
    let depth = |n: usize| if n.is_multiple_of(nth) { n + 1 } else { 0 };
    (0..count)
        .map(|n| format!("dlq-{n}-d{}", depth(n)))
        .collect()
}

/// How it answers.
#[derive(Clone, Copy, Default)]
pub struct Behavior {
    /// How long every answer takes.
    pub latency: Duration,
    /// How many calls a second it accepts; it throttles all others. `None` means no limit.
    pub calls_a_second: Option<u32>,
}

/// The server.
pub struct ManyQueues {
    server: Server,
    seen: Arc<Mutex<Tally>>,
}

/// The calls so far.
#[derive(Clone, Default)]
pub struct Tally {
    /// Calls of each operation that were answered.
    pub calls: BTreeMap<String, usize>,
    /// Calls that were throttled.
    pub throttled: usize,
    /// How often the depth of each queue was asked.
    pub looks: BTreeMap<String, usize>,
    /// The DLQs whose redrives were started, in order.
    pub started: Vec<String>,
}

impl ManyQueues {
    /// Starts it.
    pub fn start(behavior: Behavior) -> Self {
        let seen = Arc::new(Mutex::new(Tally::default()));
        let (noted, bucket) = (Arc::clone(&seen), Mutex::new(Bucket::of(behavior)));
        let server = Server::start(move |request| {
            sleep(behavior.latency);
            match bucket.lock().unwrap().take() {
                true => answer(request, &mut noted.lock().unwrap()),
                false => throttle(&mut noted.lock().unwrap()),
            }
        });
        Self { server, seen }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// The calls so far.
    pub fn seen(&self) -> Tally {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(request: &Request, seen: &mut Tally) -> Answer {
    let operation = request.operation();
    if operation.is_empty() {
        return Answer::error(404, "UnknownOperationException", "");
    }
    *seen.calls.entry(operation.to_owned()).or_default() += 1;
    let question = request.json();
    let named = |field: &str, separator| {
        let text = question[field].as_str().unwrap();
        text.rsplit(separator).next().unwrap().to_owned()
    };
    let depth = |name: &str| name.rsplit_once("-d").unwrap().1.to_owned();
    match operation {
        "GetQueueAttributes" => {
            let name = named("QueueUrl", '/');
            let wanted = question["AttributeNames"].as_array().unwrap();
            if wanted.contains(&json!("RedrivePolicy")) {
                return facts(&name);
            }
            let depth = depth(&name);
            *seen.looks.entry(name).or_default() += 1;
            Answer::ok(json!({"Attributes": {
                "ApproximateNumberOfMessages": depth,
                "ApproximateNumberOfMessagesNotVisible": "0",
            }}))
        }
        "ListDeadLetterSourceQueues" => {
            let url = question["QueueUrl"].as_str().unwrap();
            Answer::ok(json!({"queueUrls": [format!("{url}-source")]}))
        }
        "ListMessageMoveTasks" => {
            let name = named("SourceArn", ':');
            let started = seen.started.contains(&name);
            let tasks = started.then(|| json!({"Status": "RUNNING", "TaskHandle": name}));
            Answer::ok(json!({"Results": Vec::from_iter(tasks)}))
        }
        "StartMessageMoveTask" => {
            let name = named("SourceArn", ':');
            assert_ne!(depth(&name), "0", "no redrive of an empty DLQ");
            assert!(!seen.started.contains(&name), "one task on each DLQ");
            seen.started.push(name.clone());
            Answer::ok(json!({"TaskHandle": name}))
        }
        _ => panic!("{operation}"),
    }
}

/// The facts about a DLQ or a source queue that fall time depends on.
fn facts(queue: &str) -> Answer {
    let mut attributes = json!({
        "VisibilityTimeout": "30",
        "DelaySeconds": "0",
        "MessageRetentionPeriod": "1209600",
    });
    if let Some(dlq) = queue.strip_suffix("-source") {
        let policy = json!({"deadLetterTargetArn": queue_arn(dlq), "maxReceiveCount": 3});
        attributes["RedrivePolicy"] = policy.to_string().into();
    }
    Answer::ok(json!({"Attributes": attributes}))
}

/// SQS has two codes for it.
fn throttle(seen: &mut Tally) -> Answer {
    seen.throttled += 1;
    if seen.throttled.is_multiple_of(2) {
        Answer::error(403, "RequestThrottled", "Request is throttled.")
    } else {
        Answer::error(400, "ThrottlingException", "Rate exceeded")
    }
}

/// The number of calls that are still allowed: those of one second can all be made in one moment.
struct Bucket {
    a_second: Option<f64>,
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    fn of(behavior: Behavior) -> Self {
        let a_second = behavior.calls_a_second.map(f64::from);
        Self {
            a_second,
            left: a_second.unwrap_or_default(),
            filled_at: Instant::now(),
        }
    }

    /// Whether another call is allowed now.
    fn take(&mut self) -> bool {
        let Some(a_second) = self.a_second else {
            return true;
        };
        let elapsed = self.filled_at.elapsed().as_secs_f64();
        self.filled_at = Instant::now();
        self.left = a_second.min(self.left + elapsed * a_second);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}
