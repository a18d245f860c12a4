//! A local SQS (AWS JSON 1.0), tagging API (AWS JSON 1.1) and CloudWatch (RPC v2 with CBOR) with the operations that a
//! sweep needs. They run on 127.0.0.1 in a separate thread. Their only state is a tally of the calls. Every call is checked. A wrong call gets an
//! error response and is recorded.

use crate::cloudwatch;
use crate::fleet::{ACCOUNT, Fleet, Judgement, TAG, task_handle};
use crate::signature;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The calls since the last [`Aws::take`]. Connections, handshakes and `most_in_flight` count from the process's start.
#[derive(Clone, Default)]
pub struct Tally {
    pub connections: u64,
    pub most_in_flight: u64,
    /// TLS handshakes that the peer did not finish, because it no longer needed the connection or waited too long. They
    /// do not count as calls.
    pub handshakes_given_up: u64,
    /// Signed requests without an operation, by which a peer opens its connection early. They do not count as calls.
    pub openings: u64,
    in_flight: u64,
    /// Calls per queue: GetQueueAttributes, ListMessageMoveTasks, StartMessageMoveTask.
    looks: Vec<u32>,
    lists: Vec<u32>,
    starts: Vec<u32>,
    cancels: Vec<u32>,
    /// Calls for the source queues of a queue, and for the facts of its source queue.
    sources: Vec<u32>,
    facts: Vec<u32>,
    /// Calls of GetMetricData.
    metrics: u64,
    /// The first queue of each page of GetResources.
    pages: Vec<usize>,
    /// What was wrong with each wrong call.
    wrong: Vec<String>,
    /// Operations whose signature was verified once.
    verified: Vec<Operation>,
}

impl Tally {
    fn of(fleet: Fleet) -> Self {
        let none = vec![0; fleet.queues];
        Self {
            looks: none.clone(),
            lists: none.clone(),
            starts: none.clone(),
            cancels: none.clone(),
            sources: none.clone(),
            facts: none,
            ..Self::default()
        }
    }

    /// The number of all calls.
    pub fn calls(&self) -> u64 {
        let by_queue = [
            &self.looks,
            &self.lists,
            &self.starts,
            &self.cancels,
            &self.sources,
            &self.facts,
        ];
        by_queue
            .into_iter()
            .flatten()
            .map(|&n| u64::from(n))
            .sum::<u64>()
            + self.pages.len() as u64
            + self.metrics
    }

    /// The queues on which a task was started.
    pub fn started(&self) -> Vec<usize> {
        let queues = 0..self.starts.len();
        queues.filter(|&queue| self.starts[queue] > 0).collect()
    }

    /// The first wrong call, as a line to append to another error. Empty if there is none.
    pub fn first_wrong(&self) -> String {
        let first = self.wrong.first();
        first.map_or(String::new(), |fault| {
            format!("\nthe first wrong call: {fault}")
        })
    }

    /// `Err` says what is wrong, unless these are exactly the calls of one invocation. A process reads source facts in
    /// its first invocation only.
    pub fn check(&self, fleet: Fleet, by_tag: bool, is_first: bool) -> Result<(), String> {
        let mut faults = self.wrong.clone();
        if self.openings > 0 {
            faults.push("a connection was opened early, but after init".to_owned());
        }
        let mut exactly = |operation: &str, made: &[u32], wanted: &dyn Fn(usize) -> u32| {
            let differing = (0..fleet.queues).find(|&queue| made[queue] != wanted(queue));
            if let Some(queue) = differing {
                faults.push(format!(
                    "{operation} was called {} times for {}, expected {}",
                    made[queue],
                    fleet.name(queue),
                    wanted(queue)
                ));
            }
        };
        exactly("GetQueueAttributes", &self.looks, &|_| 1);
        exactly("ListMessageMoveTasks", &self.lists, &|queue| {
            fleet.is_full(queue).into()
        });
        // If more queues have messages than it may start, the peer chooses which. It must not start one twice.
        exactly("StartMessageMoveTask", &self.starts, &|queue| {
            u32::from(fleet.is_full(queue)).min(self.starts[queue])
        });
        let is_judged = fleet.judgement != Judgement::None && is_first;
        let judged = |queue| u32::from(fleet.is_full(queue) && is_judged);
        exactly("ListDeadLetterSourceQueues", &self.sources, &judged);
        exactly("GetQueueAttributes of the source", &self.facts, &judged);
        exactly(
            "CancelMessageMoveTask",
            &self.cancels,
            &|queue| match fleet.judgement {
                Judgement::Sample => self.starts[queue],
                _ => 0,
            },
        );
        let metrics = match fleet.judgement {
            Judgement::None => 0,
            // All DLQs share one call.
            Judgement::Sample => 1,
            // The metrics, then the age of the oldest message.
            Judgement::Rest => 2,
        };
        if self.metrics != metrics {
            faults.push(format!(
                "GetMetricData was called {} times, expected {metrics}",
                self.metrics
            ));
        }
        let starts: u32 = self.starts.iter().sum();
        if starts as usize != fleet.starts() {
            faults.push(format!(
                "StartMessageMoveTask was called {starts} times, expected {}",
                fleet.starts()
            ));
        }
        let pages: Vec<usize> = match by_tag {
            true => (0..fleet.queues).step_by(RESOURCES_PER_PAGE).collect(),
            false => Vec::new(),
        };
        if self.pages != pages {
            faults.push(format!(
                "GetResources returned {} pages, expected {}",
                self.pages.len(),
                pages.len()
            ));
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "wrong calls: {}",
                faults[..faults.len().min(3)].join("; ")
            )),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    GetQueueAttributes,
    ListMessageMoveTasks,
    StartMessageMoveTask,
    CancelMessageMoveTask,
    ListDeadLetterSourceQueues,
    GetResources,
    GetMetricData,
}

impl Operation {
    fn of(path: &str, target: &str) -> Option<Self> {
        Some(match (path, target) {
            (cloudwatch::PATH, "") => Self::GetMetricData,
            ("/", target) => Self::of_target(target)?,
            _ => return None,
        })
    }

    fn of_target(target: &str) -> Option<Self> {
        Some(match target {
            "AmazonSQS.CancelMessageMoveTask" => Self::CancelMessageMoveTask,
            "AmazonSQS.ListDeadLetterSourceQueues" => Self::ListDeadLetterSourceQueues,
            "AmazonSQS.GetQueueAttributes" => Self::GetQueueAttributes,
            "AmazonSQS.ListMessageMoveTasks" => Self::ListMessageMoveTasks,
            "AmazonSQS.StartMessageMoveTask" => Self::StartMessageMoveTask,
            "ResourceGroupsTaggingAPI_20170126.GetResources" => Self::GetResources,
            _ => return None,
        })
    }

    /// The service name in the signature, and the media type of the protocol.
    fn service(self) -> (&'static str, &'static str) {
        match self {
            Self::GetResources => ("tagging", "application/x-amz-json-1.1"),
            Self::GetMetricData => ("monitoring", "application/cbor"),
            _ => ("sqs", "application/x-amz-json-1.0"),
        }
    }
}

/// The server. Dropping it stops the server.
pub struct Aws {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    fleet: Fleet,
    latency: Duration,
    tally: Mutex<Tally>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no thread panics with the tally")
    }
}

impl Aws {
    /// Starts the server. It delays each response by `latency`.
    pub fn start(fleet: Fleet, latency: Duration, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let shared = Arc::new(Shared {
            fleet,
            latency,
            tally: Mutex::new(Tally::of(fleet)),
        });
        let (send_addr, addr) = mpsc::channel();
        let (end, ended) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a tokio runtime");
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                let addr = listener.local_addr().expect("the port's number");
                send_addr.send(addr).expect("the harness waits for it");
                tokio::select! {
                    () = accept(listener, served, tls.map(TlsAcceptor::from)) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            addr: addr.recv().expect("the server starts"),
            shared,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Clears the tally for a new process.
    pub fn forget(&self) {
        *self.shared.tally() = Tally::of(self.shared.fleet);
    }

    /// Returns the tally and clears its calls. Connections, handshakes and `most_in_flight` keep counting.
    pub fn take(&self) -> Tally {
        let mut tally = self.shared.tally();
        let fresh = Tally {
            connections: tally.connections,
            most_in_flight: tally.most_in_flight,
            handshakes_given_up: tally.handshakes_given_up,
            in_flight: tally.in_flight,
            verified: tally.verified.clone(),
            ..Tally::of(self.shared.fleet)
        };
        std::mem::replace(&mut *tally, fresh)
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        shared.tally().connections += 1;
        let _ = tcp.set_nodelay(true);
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::task::spawn_local(async move {
            match tls {
                None => connection(tcp, shared).await,
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => connection(stream, shared).await,
                    Err(_) => shared.tally().handshakes_given_up += 1,
                },
            }
        });
    }
}

async fn connection<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T, shared: Arc<Shared>) {
    let service = service_fn(move |request| serve(request, Arc::clone(&shared)));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .await;
}

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    {
        let mut tally = shared.tally();
        tally.in_flight += 1;
        tally.most_in_flight = tally.most_in_flight.max(tally.in_flight);
    }
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let header = |name| header(&head.headers, name);
    let target = header("x-amz-target");
    let path = head.uri.path();
    let answer = match Operation::of(path, target) {
        Some(operation) if head.method == Method::POST => {
            let mut tally = shared.tally();
            check_head(operation, path, &head.headers, &body, &mut tally)
                .and_then(|()| answer(operation, &body, shared.fleet, &mut tally))
        }
        _ => Err(format!(
            "unknown call: {} {} with target `{target}`",
            head.method, head.uri
        )),
    };
    let (status, text) = match answer {
        Ok(text) => (200, text),
        Err(_) if target.is_empty() && path == "/" && !header("authorization").is_empty() => {
            shared.tally().openings += 1;
            let text = json!({"__type": "UnknownOperationException"}).to_string();
            (404, text.into_bytes())
        }
        Err(fault) => {
            let text = json!({"__type": "InvalidParameterException", "message": fault}).to_string();
            shared.tally().wrong.push(fault);
            (400, text.into_bytes())
        }
    };
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    shared.tally().in_flight -= 1;
    let answer = Response::builder()
        .status(status)
        .header("content-type", header("content-type"))
        .header("smithy-protocol", header("smithy-protocol"))
        .header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000")
        .body(Full::new(Bytes::from(text)));
    Ok(answer.expect("the parts of a response are valid"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// `Err` if the call is not signed, or has the wrong protocol. Only the first call of each operation has its signature
/// verified: for every call, that would cost the server more than everything else.
fn check_head(
    operation: Operation,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    tally: &mut Tally,
) -> Result<(), String> {
    let (service, media_type) = operation.service();
    if header(headers, "content-type") != media_type {
        let found = header(headers, "content-type");
        return Err(format!("{operation:?} with content type `{found}`"));
    }
    let signature = signature::parse(header(headers, "authorization"), service)
        .map_err(|fault| format!("{operation:?}: {fault}"))?;
    if !tally.verified.contains(&operation) {
        signature
            .verify(path, headers, body)
            .map_err(|fault| format!("{operation:?}: {fault}"))?;
        tally.verified.push(operation);
    }
    Ok(())
}

const RESOURCES_PER_PAGE: usize = 100;

/// The body of the response. `Err` says what is wrong with the call.
fn answer(
    operation: Operation,
    body: &[u8],
    fleet: Fleet,
    tally: &mut Tally,
) -> Result<Vec<u8>, String> {
    if operation == Operation::GetMetricData {
        tally.metrics += 1;
        return Ok(cloudwatch::no_datapoints(&cloudwatch::ids(body)?));
    }
    let unreadable = |error| format!("{operation:?}: {error}: {}", String::from_utf8_lossy(body));
    let text = match operation {
        Operation::GetResources => {
            let asked = serde_json::from_slice(body).map_err(unreadable)?;
            page(&asked, fleet, tally)?
        }
        _ => {
            let asked = serde_json::from_slice(body).map_err(unreadable)?;
            of_queue(operation, &asked, fleet, tally)?
        }
    };
    Ok(text.into_bytes())
}

/// The parameters of a call about a queue.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfQueue<'a> {
    queue_url: Option<&'a str>,
    source_arn: Option<&'a str>,
    task_handle: Option<&'a str>,
    #[serde(default)]
    attribute_names: Vec<&'a str>,
}

fn of_queue(
    operation: Operation,
    asked: &OfQueue,
    fleet: Fleet,
    tally: &mut Tally,
) -> Result<String, String> {
    let url = asked.queue_url.unwrap_or_default();
    let (rest, name) = url.rsplit_once('/').unwrap_or_default();
    let is_url = rest.ends_with(&format!("/{ACCOUNT}"));
    if operation == Operation::GetQueueAttributes
        && let Some(queue) = fleet.queue_of_source(name).filter(|_| is_url)
    {
        tally.facts[queue] += 1;
        return facts(queue, &asked.attribute_names, fleet);
    }
    let queue = match (asked.source_arn, asked.task_handle) {
        (Some(arn), _) => fleet.queue_of_arn(arn),
        (None, Some(handle)) => handle
            .strip_prefix(&task_handle(""))
            .and_then(|it| fleet.queue(it)),
        (None, None) => fleet.queue(name).filter(|_| is_url),
    };
    let queue = queue.ok_or_else(|| {
        let asked = (asked.queue_url, asked.source_arn, asked.task_handle);
        format!("{operation:?}: there is no queue {asked:?}")
    })?;
    match operation {
        Operation::GetQueueAttributes => {
            tally.looks[queue] += 1;
            attributes(&asked.attribute_names, |attribute| {
                Some(match attribute {
                    "ApproximateNumberOfMessages" => fleet.depth(queue).to_string(),
                    "ApproximateNumberOfMessagesNotVisible" => "0".to_owned(),
                    "MessageRetentionPeriod" => "1209600".to_owned(),
                    "QueueArn" => fleet.arn(queue),
                    _ => return None,
                })
            })
        }
        Operation::ListMessageMoveTasks => {
            tally.lists[queue] += 1;
            Ok(match fleet.judgement {
                Judgement::Rest => past_sample(queue, fleet),
                _ => r#"{"Results":[]}"#.to_owned(),
            })
        }
        Operation::StartMessageMoveTask => {
            tally.starts[queue] += 1;
            let handle = task_handle(&fleet.name(queue));
            Ok(format!(r#"{{"TaskHandle":"{handle}"}}"#))
        }
        Operation::CancelMessageMoveTask => {
            tally.cancels[queue] += 1;
            Ok(r#"{"ApproximateNumberOfMessagesMoved":10}"#.to_owned())
        }
        Operation::ListDeadLetterSourceQueues => {
            tally.sources[queue] += 1;
            let source = fleet.source(queue);
            Ok(format!(r#"{{"queueUrls":["{rest}/{source}"]}}"#))
        }
        Operation::GetResources | Operation::GetMetricData => {
            Err(format!("{operation:?} is not about a queue"))
        }
    }
}

fn attributes(names: &[&str], value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut attributes = String::new();
    for name in names {
        let comma = if attributes.is_empty() { "" } else { "," };
        let value = value(name).ok_or_else(|| format!("unexpected attribute `{name}`"))?;
        let value = json!(value);
        let _ = write!(attributes, r#"{comma}"{name}":{value}"#);
    }
    Ok(format!(r#"{{"Attributes":{{{attributes}}}}}"#))
}

/// The attributes of the source queue of a queue.
fn facts(queue: usize, names: &[&str], fleet: Fleet) -> Result<String, String> {
    let policy = json!({"deadLetterTargetArn": fleet.arn(queue), "maxReceiveCount": 3});
    attributes(names, |attribute| {
        Some(match attribute {
            "VisibilityTimeout" => "30".to_owned(),
            "DelaySeconds" => "0".to_owned(),
            "RedrivePolicy" => policy.to_string(),
            _ => return None,
        })
    })
}

/// The list of tasks of a queue whose sample ended an hour ago.
fn past_sample(queue: usize, fleet: Fleet) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis() as u64);
    json!({"Results": [{
        "Status": "CANCELLED",
        "SourceArn": fleet.arn(queue),
        "MaxNumberOfMessagesPerSecond": 1,
        "ApproximateNumberOfMessagesMoved": 20,
        "ApproximateNumberOfMessagesToMove": fleet.depth(queue) + 20,
        "StartedTimestamp": now - 3_600_000,
    }]})
    .to_string()
}

/// A page of the queues with the tag.
fn page(asked: &serde_json::Value, fleet: Fleet, tally: &mut Tally) -> Result<String, String> {
    let token = asked["PaginationToken"].as_str().unwrap_or_default();
    let begin = if token.is_empty() {
        Some(0)
    } else {
        token.parse().ok()
    };
    let wanted = json!({
        "ResourceTypeFilters": ["sqs"],
        "TagFilters": [{"Key": TAG.0, "Values": [TAG.1]}],
        "ResourcesPerPage": RESOURCES_PER_PAGE,
    });
    let is_as_wanted = |(name, value)| asked.get(name) == Some(value);
    let begin = begin
        .filter(|&begin: &usize| begin < fleet.queues)
        .filter(|_| {
            wanted
                .as_object()
                .is_some_and(|wanted| wanted.iter().all(is_as_wanted))
        })
        .ok_or_else(|| format!("unexpected parameters of GetResources: {asked}"))?;
    tally.pages.push(begin);
    let end = fleet.queues.min(begin + RESOURCES_PER_PAGE);
    let token = if end < fleet.queues {
        end.to_string()
    } else {
        String::new()
    };
    let tags = json!([{"Key": TAG.0, "Value": TAG.1}]);
    let page: Vec<_> = (begin..end)
        .map(|queue| json!({"ResourceARN": fleet.arn(queue), "Tags": tags}))
        .collect();
    Ok(json!({"PaginationToken": token, "ResourceTagMappingList": page}).to_string())
}
