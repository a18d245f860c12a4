//! An AWS account that records every call: SQS, CloudWatch and the tagging API behind one URL, so
//! that no call is missed. It moves no messages; the test sets what a DLQ looks like.

use super::http::{Answer, Server};
use super::queues::queue_arn;
use super::tagging::assert_sqs_takes;
use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A recorded call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub operation: String,
    /// The parameters; null if the protocol is not JSON.
    pub question: Value,
}

/// The account.
pub struct Account {
    /// The URL of all its services.
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    dlqs: BTreeMap<String, Dlq>,
    alarms: Vec<String>,
    /// The state of all of them; OK if it is empty.
    alarm_state: &'static str,
    refuses_metrics: bool,
    /// The age of the oldest message of every DLQ, in seconds.
    oldest_age: Option<u64>,
    /// Whether SQS leaves out the handle of a task that it starts.
    hides_handles: bool,
    interceptor: Option<Arc<Interceptor>>,
    calls: Vec<Call>,
}

/// Answers some calls itself.
type Interceptor = dyn Fn(&Call) -> Option<Answer> + Send + Sync;

/// It has one source queue, which is named after it without `-dlq`.
#[derive(Default)]
struct Dlq {
    visible: u64,
    tags: Vec<(String, String)>,
    tasks: Vec<Value>,
}

impl Account {
    /// An account without queues and alarms.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| {
            let call = Call {
                operation: request.operation().to_owned(),
                question: request.json(),
            };
            // A connection that is opened early is no call.
            if call.operation.is_empty() {
                return Answer::error(404, "UnknownOperationException", "");
            }
            // Without the lock: a call that hangs keeps no other waiting.
            let interceptor = shared.lock().unwrap().interceptor.clone();
            let intercepted = interceptor.and_then(|answer| answer(&call));
            let mut state = shared.lock().unwrap();
            let answer = intercepted.unwrap_or_else(|| state.answer(&call));
            state.calls.push(call);
            answer
        });
        Self {
            url: server.url,
            state,
        }
    }

    /// Adds a DLQ with this many visible messages and these tags.
    pub fn add_dlq(&self, name: &str, visible: u64, tags: &[(&str, &str)]) {
        for (key, value) in tags {
            assert_sqs_takes(key, value);
        }
        let tags = tags.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let dlq = Dlq {
            visible,
            tags: tags.collect(),
            tasks: Vec::new(),
        };
        let mut state = self.state.lock().unwrap();
        state.dlqs.insert(queue_arn(name), dlq);
    }

    /// Adds an alarm in state OK.
    pub fn add_alarm(&self, name: &str) {
        self.state.lock().unwrap().alarms.push(name.to_owned());
    }

    /// Sets the state of all alarms from now on.
    pub fn alarms_are(&self, state: &'static str) {
        self.state.lock().unwrap().alarm_state = state;
    }

    /// Makes CloudWatch refuse to return metrics from now on.
    pub fn refuse_metrics(&self) {
        self.state.lock().unwrap().refuses_metrics = true;
    }

    /// Makes the oldest message of every DLQ this many seconds old. CloudWatch then has nothing but
    /// ages.
    pub fn oldest_messages_are(&self, seconds: u64) {
        self.state.lock().unwrap().oldest_age = Some(seconds);
    }

    /// Makes SQS leave out the handles of tasks that it starts from now on.
    pub fn hide_handles(&self) {
        self.state.lock().unwrap().hides_handles = true;
    }

    /// Answers calls in this way from now on, except where it returns `None`.
    pub fn intercept(&self, answer: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) {
        self.state.lock().unwrap().interceptor = Some(Arc::new(answer));
    }

    /// Sets the move tasks of a DLQ from now on, newest first.
    pub fn set_tasks(&self, name: &str, tasks: &[Value]) {
        let mut state = self.state.lock().unwrap();
        let dlq = state.dlqs.get_mut(&queue_arn(name)).unwrap();
        dlq.tasks = tasks.to_vec();
    }

    /// The calls since the last time this was asked.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }
}

/// A move task as SQS lists it: this many messages, started this long ago. The handle is the DLQ's
/// ARN.
pub fn task(dlq: &str, status: &str, size: u64, age: Duration) -> Value {
    let started_at = (SystemTime::now() - age).duration_since(UNIX_EPOCH);
    let mut task = json!({
        "SourceArn": queue_arn(dlq),
        "Status": status,
        "ApproximateNumberOfMessagesMoved": size,
        "ApproximateNumberOfMessagesToMove": size,
        "StartedTimestamp": u64::try_from(started_at.unwrap().as_millis()).unwrap(),
    });
    if status == "RUNNING" {
        task["TaskHandle"] = queue_arn(dlq).into();
    }
    if status == "FAILED" {
        task["FailureReason"] = "AccessDenied".into();
    }
    task
}

impl State {
    fn answer(&mut self, call: &Call) -> Answer {
        let arn = |field: &str| call.question[field].as_str().unwrap().to_owned();
        let answer = match call.operation.as_str() {
            "GetQueueAttributes" => {
                let url = arn("QueueUrl");
                let name = url.rsplit('/').next().unwrap();
                match self.attributes(name) {
                    Some(attributes) => json!({"Attributes": attributes}),
                    None => {
                        let code = "QueueDoesNotExist";
                        return Answer::error(400, code, "");
                    }
                }
            }
            "ListDeadLetterSourceQueues" => {
                let url = arn("QueueUrl");
                json!({"queueUrls": url.strip_suffix("-dlq").as_slice()})
            }
            "ListMessageMoveTasks" => json!({"Results": self.dlqs[&arn("SourceArn")].tasks}),
            "StartMessageMoveTask" if self.hides_handles => json!({}),
            "StartMessageMoveTask" => json!({"TaskHandle": arn("SourceArn")}),
            "CancelMessageMoveTask" => json!({"ApproximateNumberOfMessagesMoved": 0}),
            "GetResources" => {
                json!({"PaginationToken": "", "ResourceTagMappingList": self.tagged(&call.question)})
            }
            "DescribeAlarms" => return self.describe_alarms(),
            "GetMetricData" if self.refuses_metrics => {
                return Answer::cbor_error(403, "AccessDenied", "");
            }
            // A depth, and what the source handled.
            "GetMetricData" => return metrics(2 * self.dlqs.len(), self.oldest_age),
            // It is in the record, so the test fails on it.
            _ => return Answer::error(404, "UnknownOperationException", ""),
        };
        Answer::ok(answer)
    }

    /// All attributes that the function asks for, of a DLQ or of a source queue; `None` if there is
    /// no such queue.
    fn attributes(&self, name: &str) -> Option<Value> {
        let source_of = format!("{name}-dlq");
        let dlq_arn = queue_arn(&source_of);
        let visible = match self.dlqs.get(&queue_arn(name)) {
            Some(dlq) => dlq.visible,
            None => self.dlqs.get(&dlq_arn).map(|_| 0)?,
        };
        let mut attributes = json!({
            "ApproximateNumberOfMessages": visible.to_string(),
            "ApproximateNumberOfMessagesNotVisible": "0",
            "VisibilityTimeout": "30",
            "DelaySeconds": "0",
            "MessageRetentionPeriod": "1209600",
        });
        if self.dlqs.contains_key(&dlq_arn) {
            let policy = json!({"deadLetterTargetArn": dlq_arn, "maxReceiveCount": 3});
            attributes["RedrivePolicy"] = policy.to_string().into();
        }
        Some(attributes)
    }

    /// The queues that a call of the tagging API returns.
    fn tagged(&self, question: &Value) -> Vec<Value> {
        let is_asked_for = |arn: &String, dlq: &Dlq| match question["ResourceARNList"].as_array() {
            Some(arns) => arns.contains(&json!(arn)),
            None => question["TagFilters"]
                .as_array()
                .unwrap()
                .iter()
                .all(|filter| {
                    let values = filter["Values"].as_array();
                    let has = |(key, value): &(String, String)| {
                        filter["Key"] == **key
                            && values.is_none_or(|values| values.contains(&json!(value)))
                    };
                    dlq.tags.iter().any(has)
                }),
        };
        let found = self.dlqs.iter().filter(|(arn, dlq)| is_asked_for(arn, dlq));
        let resource = |(arn, dlq): (&String, &Dlq)| {
            let tags = dlq.tags.iter();
            let tags = tags.map(|(key, value)| json!({"Key": key, "Value": value}));
            json!({"ResourceARN": arn, "Tags": tags.collect::<Vec<_>>()})
        };
        found.map(resource).collect()
    }

    fn describe_alarms(&self) -> Answer {
        let mut encoder = Encoder::new(Vec::new());
        encoder.map(1).str("MetricAlarms").array(self.alarms.len());
        for name in &self.alarms {
            encoder.map(2).str("AlarmName").str(name);
            let state = self.alarm_state;
            encoder.str("StateValue");
            encoder.str(if state.is_empty() { "OK" } else { state });
        }
        Answer::cbor(encoder)
    }
}

/// This many metrics, with one datapoint of this value or none.
fn metrics(queues: usize, value: Option<u64>) -> Answer {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(1).str("MetricDataResults").array(queues);
    for n in 0..queues {
        encoder.map(if value.is_some() { 4 } else { 2 });
        encoder.str("Id").str(&format!("q{n}"));
        encoder.str("StatusCode").str("Complete");
        if let Some(value) = value {
            encoder.str("Timestamps").array(1);
            encoder.timestamp(&SystemTime::now().into());
            encoder.str("Values").array(1).double(value as f64);
        }
    }
    Answer::cbor(encoder)
}
