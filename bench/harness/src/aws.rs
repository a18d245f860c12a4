//! A local SQS (AWS JSON 1.0) and tagging API (AWS JSON 1.1) with the operations that a sweep needs. They run on
//! 127.0.0.1 in a separate thread. Their only state is a tally of the calls. Every call is checked. A wrong call gets an
//! error response and is recorded.

use crate::fleet::{ACCOUNT, Fleet, TAG, task_handle};
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
use std::time::Duration;
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
            starts: none,
            ..Self::default()
        }
    }

    /// The number of all calls.
    pub fn calls(&self) -> u64 {
        let by_queue = [&self.looks, &self.lists, &self.starts];
        by_queue
            .into_iter()
            .flatten()
            .map(|&n| u64::from(n))
            .sum::<u64>()
            + self.pages.len() as u64
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

    /// `Err` says what is wrong, unless these are exactly the calls of one invocation.
    pub fn check(&self, fleet: Fleet, by_tag: bool) -> Result<(), String> {
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
    GetResources,
}

impl Operation {
    fn of_target(target: &str) -> Option<Self> {
        Some(match target {
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
    let answer = match Operation::of_target(target) {
        Some(operation) if head.method == Method::POST && head.uri.path() == "/" => {
            let mut tally = shared.tally();
            check_head(operation, &head.headers, &body, &mut tally)
                .and_then(|()| answer(operation, &body, shared.fleet, &mut tally))
        }
        _ => Err(format!(
            "unknown call: {} {} with target `{target}`",
            head.method, head.uri
        )),
    };
    let (status, text) = match answer {
        Ok(text) => (200, text),
        Err(_) if target.is_empty() && !header("authorization").is_empty() => {
            shared.tally().openings += 1;
            let text = json!({"__type": "UnknownOperationException"}).to_string();
            (404, text)
        }
        Err(fault) => {
            let text = json!({"__type": "InvalidParameterException", "message": fault}).to_string();
            shared.tally().wrong.push(fault);
            (400, text)
        }
    };
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    shared.tally().in_flight -= 1;
    let answer = Response::builder()
        .status(status)
        .header("content-type", header("content-type"))
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
            .verify(headers, body)
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
) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Look<'a> {
        queue_url: &'a str,
        attribute_names: Vec<&'a str>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct OfTasks<'a> {
        source_arn: &'a str,
    }
    let unreadable = |error| format!("{operation:?}: {error}: {}", String::from_utf8_lossy(body));
    match operation {
        Operation::GetQueueAttributes => {
            let asked: Look = serde_json::from_slice(body).map_err(unreadable)?;
            let (rest, name) = asked.queue_url.rsplit_once('/').unwrap_or_default();
            let queue = fleet
                .queue(name)
                .filter(|_| rest.ends_with(&format!("/{ACCOUNT}")))
                .ok_or_else(|| format!("there is no queue with the URL `{}`", asked.queue_url))?;
            tally.looks[queue] += 1;
            let mut attributes = String::new();
            for attribute in asked.attribute_names {
                let comma = if attributes.is_empty() { "" } else { "," };
                let value = match attribute {
                    "ApproximateNumberOfMessages" => fleet.depth(queue).to_string(),
                    "ApproximateNumberOfMessagesNotVisible" => "0".to_owned(),
                    "QueueArn" => fleet.arn(queue),
                    _ => return Err(format!("unexpected attribute `{attribute}`")),
                };
                let _ = write!(attributes, r#"{comma}"{attribute}":"{value}""#);
            }
            Ok(format!(r#"{{"Attributes":{{{attributes}}}}}"#))
        }
        Operation::ListMessageMoveTasks | Operation::StartMessageMoveTask => {
            let asked: OfTasks = serde_json::from_slice(body).map_err(unreadable)?;
            let queue = fleet
                .queue_of_arn(asked.source_arn)
                .ok_or_else(|| format!("there is no queue with the ARN `{}`", asked.source_arn))?;
            if operation == Operation::ListMessageMoveTasks {
                tally.lists[queue] += 1;
                return Ok(r#"{"Results":[]}"#.to_owned());
            }
            tally.starts[queue] += 1;
            let handle = task_handle(&fleet.name(queue));
            Ok(format!(r#"{{"TaskHandle":"{handle}"}}"#))
        }
        Operation::GetResources => {
            let asked: serde_json::Value = serde_json::from_slice(body).map_err(unreadable)?;
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
            let page = json!({"PaginationToken": token, "ResourceTagMappingList": page});
            Ok(page.to_string())
        }
    }
}
