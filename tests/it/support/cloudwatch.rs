//! CloudWatch, and what may stand where it should be.

use super::local::{sdk, servers};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, MetricDatum, StateValue};
use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

/// An alarm in the local CloudWatch.
pub struct Alarm {
    /// Its name.
    pub name: String,
    client: Client,
}

impl Alarm {
    /// Makes an alarm on the errors of a consumer; its state is INSUFFICIENT_DATA. Every test takes
    /// names of its own, since all share one CloudWatch.
    pub async fn create(name: &str) -> Self {
        let client = client();
        let request = client.put_metric_alarm().alarm_name(name);
        let request = request
            .namespace("AWS/Lambda")
            .metric_name("Errors")
            .statistic(aws_sdk_cloudwatch::types::Statistic::Sum)
            .period(60)
            .evaluation_periods(1)
            .threshold(1.0)
            .comparison_operator(ComparisonOperator::GreaterThanOrEqualToThreshold);
        request.send().await.unwrap();
        let name = name.to_owned();
        Self { name, client }
    }

    /// Makes an alarm that is in ALARM.
    pub async fn in_alarm(name: &str) -> Self {
        let alarm = Self::create(name).await;
        alarm.becomes(StateValue::Alarm).await;
        alarm
    }

    /// Makes a composite alarm of this name, which is in ALARM while this alarm is.
    pub async fn composite(&self, name: &str) {
        let rule = format!("ALARM(\"{}\")", self.name);
        let request = self.client.put_composite_alarm().alarm_name(name);
        request.alarm_rule(rule).send().await.unwrap();
    }

    /// Changes its state.
    pub async fn becomes(&self, state: StateValue) {
        let request = self.client.set_alarm_state().alarm_name(&self.name);
        let request = request.state_value(state).state_reason("a test says so");
        request.send().await.unwrap();
    }
}

/// Has CloudWatch see this many visible messages in a queue at each of these times.
pub async fn saw(queue: &str, depths: impl IntoIterator<Item = (SystemTime, u32)>) {
    let dimension = Dimension::builder().name("QueueName").value(queue).build();
    let data = depths.into_iter().map(|(time, depth)| {
        MetricDatum::builder()
            .metric_name("ApproximateNumberOfMessagesVisible")
            .dimensions(dimension.clone())
            .timestamp(time.into())
            .value(depth.into())
            .build()
    });
    let request = client().put_metric_data().namespace("AWS/SQS");
    let request = request.set_metric_data(Some(data.collect()));
    request.send().await.unwrap();
}

fn client() -> Client {
    Client::new(&sdk(&servers().cloudwatch_url))
}

/// The way to the local CloudWatch, with someone who counts the calls.
pub struct Counter {
    /// Where CloudWatch answers.
    pub url: String,
    /// What was sent on each connection.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Counter {
    /// Counts from now on.
    pub fn start() -> Self {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::clone(&sent);
        let url = listen(move |function| {
            let address = servers().cloudwatch_url.trim_start_matches("http://");
            let cloudwatch = TcpStream::connect(address).unwrap();
            let number = {
                let mut connections = connections.lock().unwrap();
                connections.push(Vec::new());
                connections.len() - 1
            };
            let (mut answers, mut to_function) = (clone(&cloudwatch), clone(&function));
            thread::spawn(move || copy(&mut answers, &mut to_function));
            pass_on(function, cloudwatch, |bytes| {
                connections.lock().unwrap()[number].extend_from_slice(bytes);
            });
        });
        Self { url, sent }
    }

    /// How many calls of this operation there were.
    pub fn calls(&self, operation: &str) -> usize {
        let request_line = format!("/operation/{operation} HTTP/1.1\r\n");
        let sent = self.sent.lock().unwrap();
        let of_connection = |sent: &Vec<u8>| {
            let text = String::from_utf8_lossy(sent);
            text.matches(&request_line).count()
        };
        sent.iter().map(of_connection).sum()
    }
}

/// Where no one listens.
pub fn unreachable_url() -> String {
    let (listener, url) = bind();
    drop(listener);
    url
}

/// Where connections are taken and nothing is ever answered.
pub fn silent_url() -> String {
    listen(|mut function| {
        let _ = function.read_to_end(&mut Vec::new());
    })
}

/// Where every call is refused, as by CloudWatch when a permission is missing.
pub fn refusing_url() -> String {
    listen(|function| {
        let mut requests = BufReader::new(clone(&function));
        let mut function = function;
        while let Some(operation) = read_request(&mut requests) {
            let message =
                format!("User: function is not authorized to perform: cloudwatch:{operation}");
            let body = cbor_map(&[("__type", "AccessDenied"), ("message", &message)]);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\ncontent-length: {length}\r\n\r\n"
            );
            let answer = [head.into_bytes(), body].concat();
            if function.write_all(&answer).is_err() {
                break;
            }
        }
    })
}

/// Reads one request, and returns the name of its operation; `None` at the end of the connection.
fn read_request(requests: &mut impl BufRead) -> Option<String> {
    let (mut request_line, mut length) = (String::new(), 0);
    requests.read_line(&mut request_line).ok()?;
    let (_, operation) = request_line.split_once("/operation/")?;
    loop {
        let mut header = String::new();
        requests.read_line(&mut header).ok()?;
        match header.trim().split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
        }
    }
    requests.read_exact(&mut vec![0; length]).ok()?;
    Some(operation.split(' ').next()?.to_owned())
}

/// A map of short texts, in CBOR (RFC 8949).
fn cbor_map(entries: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[0x78, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let mut bytes = vec![0xA0 + u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        bytes.extend([text(key), text(value)].concat());
    }
    bytes
}

/// Serves each connection in a thread of its own, as long as the tests last; returns where.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let (listener, url) = bind();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(connection.unwrap()));
        }
    });
    url
}

fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().unwrap()
}

/// Passes on all that comes, and shows it.
fn pass_on(mut from: TcpStream, mut to: TcpStream, show: impl Fn(&[u8])) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        show(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Its answers end then, too.
    let _ = to.shutdown(Shutdown::Both);
}
