//! An account of AWS that keeps a record of every call: SQS, CloudWatch and the tagging API behind one
//! address, so that no call goes unseen. It moves nothing; what a DLQ looks like is for the test to say.

use super::queues::queue_arn;
use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A call, as it came.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub operation: String,
    /// What was asked; null where the protocol is not JSON.
    pub question: Value,
}

/// The account.
pub struct Account {
    /// Where all of its services answer.
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    dlqs: BTreeMap<String, Dlq>,
    alarms: Vec<String>,
    refuses_metrics: bool,
    calls: Vec<Call>,
}

#[derive(Default)]
struct Dlq {
    visible: u64,
    tags: Vec<(String, String)>,
    tasks: Vec<Value>,
}

impl Account {
    /// An account without queues and alarms.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let state = Arc::clone(&shared);
                // A client that goes away in the middle is none of our business.
                thread::spawn(move || serve(connection.ok()?, &state));
            }
        });
        Self { url, state }
    }

    /// A DLQ with so many visible messages and these tags.
    pub fn add_dlq(&self, name: &str, visible: u64, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let dlq = Dlq {
            visible,
            tags: tags.collect(),
            tasks: Vec::new(),
        };
        let mut state = self.state.lock().unwrap();
        state.dlqs.insert(queue_arn(name), dlq);
    }

    /// An alarm in state OK.
    pub fn add_alarm(&self, name: &str) {
        self.state.lock().unwrap().alarms.push(name.to_owned());
    }

    /// CloudWatch gives no metrics from now on.
    pub fn refuse_metrics(&self) {
        self.state.lock().unwrap().refuses_metrics = true;
    }

    /// The move tasks of a DLQ from now on, newest first.
    pub fn set_tasks(&self, name: &str, tasks: &[Value]) {
        let mut state = self.state.lock().unwrap();
        let dlq = state.dlqs.get_mut(&queue_arn(name)).unwrap();
        dlq.tasks = tasks.to_vec();
    }

    /// The calls so far; forgotten once told.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }
}

/// A move task as SQS lists it: this many messages, started so long ago. The handle is the DLQ's ARN.
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

/// Status, content type and body.
type Answer = (u16, &'static str, Vec<u8>);

/// Answers each request of a connection; `None` when that has come to its end.
fn serve(connection: TcpStream, state: &Mutex<State>) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut requests = BufReader::new(connection.try_clone().ok()?);
    let mut answers = connection;
    loop {
        let call = read(&mut requests)?;
        let (status, content_type, body) = {
            let mut state = state.lock().unwrap();
            let answer = state.answer(&call);
            state.calls.push(call);
            answer
        };
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: {content_type}\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        answers
            .write_all(&[head.into_bytes(), body].concat())
            .ok()?;
    }
}

fn read(requests: &mut impl BufRead) -> Option<Call> {
    let mut line = || {
        let mut line = String::new();
        let read = requests.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let target = line()?;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or("0", String::as_str);
    let mut body = vec![0; length.parse().ok()?];
    requests.read_exact(&mut body).ok()?;
    // JSON protocols name the operation in a header, the CBOR one in the path.
    let (_, operation) = match headers.get("x-amz-target") {
        Some(target) => target.split_once('.')?,
        None => {
            let path = target.split(' ').nth(1)?.strip_prefix("/service/")?;
            path.split_once("/operation/")?
        }
    };
    Some(Call {
        operation: operation.to_owned(),
        question: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

impl State {
    fn answer(&mut self, call: &Call) -> Answer {
        let arn = |field: &str| call.question[field].as_str().unwrap().to_owned();
        let answer = match call.operation.as_str() {
            "GetQueueAttributes" => {
                let url = arn("QueueUrl");
                let name = url.rsplit('/').next().unwrap();
                match self.dlqs.get(&queue_arn(name)) {
                    Some(dlq) => json!({"Attributes": {
                        "ApproximateNumberOfMessages": dlq.visible.to_string(),
                        "ApproximateNumberOfMessagesNotVisible": "0",
                    }}),
                    None => {
                        let code = "com.amazonaws.sqs#QueueDoesNotExist";
                        return (400, JSON, json!({"__type": code}).to_string().into());
                    }
                }
            }
            "ListMessageMoveTasks" => json!({"Results": self.dlqs[&arn("SourceArn")].tasks}),
            "StartMessageMoveTask" => json!({"TaskHandle": arn("SourceArn")}),
            "CancelMessageMoveTask" => json!({"ApproximateNumberOfMessagesMoved": 0}),
            "GetResources" => {
                json!({"PaginationToken": "", "ResourceTagMappingList": self.tagged(&call.question)})
            }
            "DescribeAlarms" => return (200, CBOR, self.describe_alarms()),
            "GetMetricData" if self.refuses_metrics => return (403, CBOR, access_denied()),
            "GetMetricData" => return (200, CBOR, no_datapoints(self.dlqs.len())),
            // It is in the record; the test says what is wrong with it.
            _ => return (404, JSON, b"{}".to_vec()),
        };
        (200, JSON, answer.to_string().into_bytes())
    }

    /// The queues that a question of the tagging API is about.
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

    /// In CBOR (RFC 8949), as are the other two of CloudWatch.
    fn describe_alarms(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        encoder.map(1).str("MetricAlarms").array(self.alarms.len());
        for name in &self.alarms {
            encoder.map(2).str("AlarmName").str(name);
            encoder.str("StateValue").str("OK");
        }
        encoder.into_writer()
    }
}

const JSON: &str = "application/x-amz-json-1.0";
const CBOR: &str = "application/cbor";

/// Nothing was seen of so many queues.
fn no_datapoints(queues: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(1).str("MetricDataResults").array(queues);
    for n in 0..queues {
        encoder.map(2).str("Id").str(&format!("q{n}"));
        encoder.str("StatusCode").str("Complete");
    }
    encoder.into_writer()
}

fn access_denied() -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encoder.map(1).str("__type").str("AccessDenied");
    encoder.into_writer()
}
