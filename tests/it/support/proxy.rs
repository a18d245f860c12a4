//! The way to a server of AWS's, and what may happen to a call on it.

use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex, RwLock};
use std::thread::{self, sleep};
use std::time::Duration;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nobody listens. This happens between calls: see [`Proxy::refuse`].
    Refused,
    /// The connection is reset before anything is answered; the call did not take effect.
    ResetAtOnce,
    /// The connection is reset in the middle of the answer; the call took effect.
    ResetMidAnswer,
    /// The call is taken and never answered; it did not take effect.
    BlackHole,
    /// HTTP status 500 of a load balancer, which speaks no protocol of AWS's; the call took effect.
    InternalError,
    /// HTTP status 503, as AWS says it; the call did not take effect.
    Unavailable,
    /// Too many calls; this one did not take effect.
    Throttled,
    /// The connection is closed in the middle of the answer's body; the call took effect.
    Truncated,
    /// Something else than AWS answers, with status 200; the call took effect.
    Malformed,
    /// The call took effect, and is answered when nobody waits for it any more.
    Late,
    /// The credentials are of yesterday; the call did not take effect.
    Expired,
}

/// All of them.
pub const DISTURBANCES: [Disturbance; 11] = [
    Disturbance::Refused,
    Disturbance::ResetAtOnce,
    Disturbance::ResetMidAnswer,
    Disturbance::BlackHole,
    Disturbance::InternalError,
    Disturbance::Unavailable,
    Disturbance::Throttled,
    Disturbance::Truncated,
    Disturbance::Malformed,
    Disturbance::Late,
    Disturbance::Expired,
];

/// Longer than an attempt of the function's takes at most.
const LATE: Duration = Duration::from_millis(5500);

/// A call, as those who do harm see it.
pub struct Call<'a> {
    /// Of what.
    pub operation: &'a str,
    /// What is asked; null where it is not JSON.
    pub question: Value,
    /// How many calls of this operation came before it, since there is this plan.
    pub nth: usize,
}

type Plan = dyn Fn(&Call) -> Option<Disturbance> + Send + Sync;

/// The way to a server.
pub struct Proxy {
    /// Where it begins.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    agent: ureq::Agent,
    address: SocketAddr,
    /// And how many calls there were before it was made.
    plan: RwLock<(Box<Plan>, usize)>,
    /// Nobody listens any more once this operation was answered.
    last: Mutex<Option<&'static str>>,
    /// Of this operation no answer is given until so many are there.
    gathering: Mutex<Option<(&'static str, Arc<Barrier>)>>,
    /// Tells the listener to end; it tells us when it has.
    ending: Mutex<Option<Sender<Sender<()>>>>,
    /// Tasks seem to have started so much earlier.
    aged: Duration,
    seen: Mutex<Seen>,
}

/// What came by so far.
#[derive(Clone, Default)]
pub struct Seen {
    /// The operation of each call, and what happened to it.
    pub calls: Vec<(String, Option<Disturbance>)>,
    /// The DLQs of which the server agreed to start a redrive, in order.
    pub started: Vec<String>,
    /// Handles of tasks that the server agreed to cancel.
    cancelled: BTreeSet<String>,
}

impl Seen {
    /// How many calls of this operation there were.
    pub fn calls_of(&self, operation: &str) -> usize {
        let calls = self.calls.iter();
        calls.filter(|(of, _)| of == operation).count()
    }
}

impl Proxy {
    /// The way to this server. Nothing happens on it as yet.
    pub fn start(upstream: &str) -> Self {
        Self::ageing(upstream, Duration::ZERO)
    }

    /// A way on which move tasks age: they seem to have started so much earlier.
    pub fn ageing(upstream: &str, aged: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            // One that was idle for a while may be closed by the server just when it is used again.
            .max_idle_connections(0)
            .build()
            .new_agent();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            agent,
            address,
            plan: RwLock::new((Box::new(|_| None), 0)),
            last: Mutex::default(),
            gathering: Mutex::default(),
            ending: Mutex::default(),
            aged,
            seen: Mutex::default(),
        });
        listen(listener, &shared);
        Self {
            url: format!("http://{address}"),
            shared,
        }
    }

    /// From now on the plan says what happens to which call.
    pub fn plan(&self, plan: impl Fn(&Call) -> Option<Disturbance> + Send + Sync + 'static) {
        let so_far = self.seen().calls.len();
        *self.shared.plan.write().unwrap() = (Box::new(plan), so_far);
    }

    /// From now on every connection is refused.
    pub fn refuse(&self) {
        self.shared.stop_listening();
    }

    /// Once this operation was answered, every connection is refused.
    pub fn refuse_after(&self, operation: &'static str) {
        *self.shared.last.lock().unwrap() = Some(operation);
    }

    /// The next so many calls of this operation are answered at the same moment.
    pub fn gather(&self, operation: &'static str, calls: usize) {
        let all = Arc::new(Barrier::new(calls));
        *self.shared.gathering.lock().unwrap() = Some((operation, all));
    }

    /// From now on nothing happens any more.
    pub fn heal(&self) {
        self.plan(|_| None);
        *self.shared.last.lock().unwrap() = None;
        if self.shared.ending.lock().unwrap().is_none() {
            let listener = TcpListener::bind(self.shared.address).unwrap();
            listen(listener, &self.shared);
        }
    }

    /// What came by so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop_listening();
    }
}

fn listen(listener: TcpListener, shared: &Arc<Shared>) {
    let (end, ended) = channel::<Sender<()>>();
    *shared.ending.lock().unwrap() = Some(end);
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for connection in listener.incoming() {
            if let Ok(tell) = ended.try_recv() {
                drop(listener);
                let _ = tell.send(());
                return;
            }
            let shared = Arc::clone(&shared);
            // A client that goes away in the middle is none of our business.
            thread::spawn(move || shared.serve(connection.ok()?));
        }
    });
}

/// A request, all of it but the last byte taken from the connection: to close one on which something
/// was not read resets it.
struct Request {
    operation: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Shared {
    /// Answers one request. Every one has a connection of its own: to be refused one, it must need one.
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let request = peek_request(&mut client)?;
        let operation = request.operation.as_str();
        let question = serde_json::from_slice(&request.body).unwrap_or_default();
        let fault = {
            let (plan, so_far) = &*self.plan.read().unwrap();
            let mut seen = self.seen.lock().unwrap();
            let before = seen.calls[*so_far..].iter();
            let call = Call {
                operation,
                question,
                nth: before.filter(|(of, _)| of == operation).count(),
            };
            let fault = plan(&call);
            seen.calls.push((operation.to_owned(), fault));
            fault
        };
        let is_cbor = request.path.contains("/operation/");
        let error = |status, code, message| Answer::error(is_cbor, status, code, message);
        let answer = match fault {
            Some(Disturbance::Refused) => panic!("too late to refuse the connection"),
            Some(Disturbance::ResetAtOnce) => return None,
            Some(Disturbance::BlackHole) => {
                let _ = client.read_to_end(&mut Vec::new());
                return None;
            }
            Some(Disturbance::Unavailable) => error(503, "ServiceUnavailable", "Come back later."),
            Some(Disturbance::Throttled) => error(400, "ThrottlingException", "Rate exceeded"),
            Some(Disturbance::Expired) => {
                let message = "The security token included in the request is expired";
                error(403, "ExpiredTokenException", message)
            }
            _ => self.pass_on(&request)?,
        };
        let html = |status| Answer {
            status,
            headers: vec![("content-type".to_owned(), "text/html".to_owned())],
            body: b"<html><body>Something went wrong.</body></html>".to_vec(),
        };
        let answer = match fault {
            Some(Disturbance::InternalError) => html(500),
            Some(Disturbance::Malformed) => html(200),
            _ => answer,
        };
        let text = answer.text();
        match fault {
            Some(Disturbance::ResetMidAnswer) => {
                client
                    .write_all(&text[..text.len() - answer.body.len() / 2])
                    .ok()?;
                // The last byte of the request is still there: this resets.
                return None;
            }
            Some(Disturbance::Truncated) => {
                take_last(&mut client)?;
                client
                    .write_all(&text[..text.len() - answer.body.len() / 2])
                    .ok()?;
                return client.shutdown(Shutdown::Both).ok();
            }
            Some(Disturbance::Late) => sleep(LATE),
            _ => {}
        }
        take_last(&mut client)?;
        let gathering = self.gathering.lock().unwrap().clone();
        if let Some((gathered, all)) = gathering
            && gathered == operation
            && all.wait().is_leader()
        {
            *self.gathering.lock().unwrap() = None;
        }
        if *self.last.lock().unwrap() == Some(operation) {
            self.stop_listening();
        }
        client.write_all(&text).ok()
    }

    /// Returns once nobody listens.
    fn stop_listening(&self) {
        let Some(end) = self.ending.lock().unwrap().take() else {
            return;
        };
        let (tell, told) = channel();
        if end.send(tell).is_ok() && TcpStream::connect(self.address).is_ok() {
            let _ = told.recv();
        }
    }

    fn pass_on(&self, request: &Request) -> Option<Answer> {
        let question: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let handle = question["TaskHandle"].as_str();
        if let Some(handle) = handle
            && !self
                .seen
                .lock()
                .unwrap()
                .cancelled
                .insert(handle.to_owned())
        {
            // LocalStack would have a task that has ended be CANCELLING from then on, for ever.
            return Some(Answer::error(
                false,
                404,
                "ResourceNotFoundException",
                "Task does not exist.",
            ));
        }
        let mut forwarded = self
            .agent
            .post(format!("{}{}", self.upstream, request.path));
        for (name, value) in &request.headers {
            if !["host", "content-length", "connection"].contains(&name.as_str()) {
                forwarded = forwarded.header(name, value);
            }
        }
        let mut answer = forwarded.send(&request.body[..]).ok()?;
        let headers = answer.headers().iter();
        let headers = headers
            .filter(|(name, _)| {
                let name = name.as_str();
                name == "content-type" || name == "smithy-protocol" || name.starts_with("x-amz")
            })
            .map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let mut answer = Answer {
            status: answer.status().as_u16(),
            headers: headers.collect::<Option<_>>()?,
            body: answer.body_mut().read_to_vec().ok()?,
        };
        if request.operation == "StartMessageMoveTask" && answer.status == 200 {
            let dlq = question["SourceArn"].as_str()?.to_owned();
            self.seen.lock().unwrap().started.push(dlq);
        }
        if request.operation == "ListMessageMoveTasks" && !self.aged.is_zero() {
            answer.body = aged(&answer.body, self.aged);
        }
        Some(answer)
    }
}

/// A list of move tasks that started so much earlier.
fn aged(tasks: &[u8], age: Duration) -> Vec<u8> {
    let mut tasks: Value = serde_json::from_slice(tasks).unwrap();
    for task in tasks["Results"].as_array_mut().unwrap() {
        let millis = task["StartedTimestamp"].as_u64().unwrap();
        task["StartedTimestamp"] = json!(millis - u64::try_from(age.as_millis()).unwrap());
    }
    tasks.to_string().into_bytes()
}

impl Answer {
    /// An error of AWS's, in the protocol of the request.
    fn error(is_cbor: bool, status: u16, code: &str, message: &str) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        if is_cbor {
            let mut body = Encoder::new(Vec::new());
            body.begin_map();
            body.str("__type").str(code);
            body.str("message").str(message);
            body.end();
            return Self {
                status,
                headers: vec![
                    header("content-type", "application/cbor"),
                    header("smithy-protocol", "rpc-v2-cbor"),
                ],
                body: body.into_writer(),
            };
        }
        let body = json!({"__type": code, "message": message}).to_string();
        Self {
            status,
            headers: vec![
                header("content-type", "application/x-amz-json-1.0"),
                header("x-amzn-query-error", &format!("{code};Sender")),
            ],
            body: body.into_bytes(),
        }
    }

    fn text(&self) -> Vec<u8> {
        let headers = self.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let (status, length) = (self.status, self.body.len());
        let head = format!(
            "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// Reads a request, and leaves its last byte where it was.
fn peek_request(client: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |name: &str| {
        let mut headers = headers.iter();
        headers.find_map(|(of, value)| (of == name).then_some(value.as_str()))
    };
    let length: usize = header("content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    let (all_but_last, last) = body.split_at_mut(length.checked_sub(1)?);
    client.read_exact(all_but_last).ok()?;
    if client.peek(last).ok()? == 0 {
        return None;
    }
    let operation = match header("x-amz-target") {
        Some(target) => target.split_once('.')?.1,
        None => path.rsplit_once("/operation/")?.1,
    };
    Some(Request {
        operation: operation.to_owned(),
        path,
        headers,
        body,
    })
}

/// Takes the last byte of a request: the connection can be closed in peace.
fn take_last(client: &mut TcpStream) -> Option<()> {
    client.read_exact(&mut [0]).ok()
}
