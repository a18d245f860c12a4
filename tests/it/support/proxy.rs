//! A proxy in front of an AWS server, and what may happen to a call there.

use super::http::{Answer, Request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex, RwLock};
use std::thread::{self, sleep};
use std::time::Duration;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The connection is refused. This happens between calls: see [`Proxy::refuse`].
    Refused,
    /// The connection is reset before the answer; the call did not take effect.
    ResetAtOnce,
    /// The connection is reset in the middle of the answer; the call took effect.
    ResetMidAnswer,
    /// The call is read and never answered; it did not take effect.
    BlackHole,
    /// HTTP status 500 of a load balancer, in no AWS protocol; the call took effect.
    InternalError,
    /// HTTP status 503, in the AWS protocol; the call did not take effect.
    Unavailable,
    /// Too many calls; this one did not take effect.
    Throttled,
    /// The connection is closed in the middle of the answer's body; the call took effect.
    Truncated,
    /// Another server than AWS answers, with status 200; the call took effect.
    Malformed,
    /// The call took effect, and is answered after the client has given up.
    Late,
    /// The credentials have expired; the call did not take effect.
    Expired,
    /// SQS does not cancel the task, as if it were not RUNNING; the call did not take effect.
    NotRunning,
}

/// All that may happen to any call.
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

/// Longer than the function waits in one attempt.
const LATE: Duration = Duration::from_millis(5500);

/// A call, as a plan sees it.
pub struct Attempt<'a> {
    /// The operation.
    pub operation: &'a str,
    /// The parameters; null if the protocol is not JSON.
    pub question: Value,
    /// How many calls of this operation were made before it, under this plan.
    pub nth: usize,
}

type Plan = dyn Fn(&Attempt) -> Option<Disturbance> + Send + Sync;

/// A proxy in front of a server.
pub struct Proxy {
    /// Its URL.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    address: SocketAddr,
    /// The plan, and how many calls were made before it was set.
    plan: RwLock<(Box<Plan>, usize)>,
    /// Connections are refused once this operation was answered.
    last: Mutex<Option<&'static str>>,
    /// Calls of this operation are answered once the barrier has all of them.
    gathering: Mutex<Option<(&'static str, Arc<Barrier>)>>,
    /// Ends the listener, which confirms it on the channel it is sent.
    ending: Mutex<Option<Sender<Sender<()>>>>,
    /// Tasks seem to have started this much earlier.
    aged: Mutex<Duration>,
    seen: Mutex<Traffic>,
}

/// The calls so far.
#[derive(Clone, Default)]
pub struct Traffic {
    /// The operation of each call, and the disturbance it met.
    pub calls: Vec<(String, Option<Disturbance>)>,
    /// The DLQs whose redrives the server has started, in order.
    pub started: Vec<String>,
    /// Handles of tasks that the server agreed to cancel.
    cancelled: BTreeSet<String>,
}

impl Traffic {
    /// How many calls of this operation there were.
    pub fn calls_of(&self, operation: &str) -> usize {
        let calls = self.calls.iter();
        calls.filter(|(of, _)| of == operation).count()
    }
}

impl Proxy {
    /// Starts a proxy in front of this server. No call is disturbed yet.
    pub fn start(upstream: &str) -> Self {
        Self::ageing(upstream, Duration::ZERO)
    }

    /// Starts a proxy that ages move tasks: they seem to have started this much earlier.
    pub fn ageing(upstream: &str, aged: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            address,
            plan: RwLock::new((Box::new(|_| None), 0)),
            last: Mutex::default(),
            gathering: Mutex::default(),
            ending: Mutex::default(),
            aged: Mutex::new(aged),
            seen: Mutex::default(),
        });
        listen(listener, &shared);
        Self {
            url: format!("http://{address}"),
            shared,
        }
    }

    /// Sets the disturbance of each call from now on.
    pub fn plan(&self, plan: impl Fn(&Attempt) -> Option<Disturbance> + Send + Sync + 'static) {
        let so_far = self.seen().calls.len();
        *self.shared.plan.write().unwrap() = (Box::new(plan), so_far);
    }

    /// Ages move tasks by this much from now on.
    pub fn age(&self, aged: Duration) {
        *self.shared.aged.lock().unwrap() = aged;
    }

    /// Refuses every connection from now on.
    pub fn refuse(&self) {
        self.shared.stop_listening();
    }

    /// Refuses every connection once this operation was answered.
    pub fn refuse_after(&self, operation: &'static str) {
        *self.shared.last.lock().unwrap() = Some(operation);
    }

    /// Answers the next `calls` calls of this operation at the same moment.
    pub fn gather(&self, operation: &'static str, calls: usize) {
        let all = Arc::new(Barrier::new(calls));
        *self.shared.gathering.lock().unwrap() = Some((operation, all));
    }

    /// Disturbs nothing from now on.
    pub fn heal(&self) {
        self.plan(|_| None);
        *self.shared.last.lock().unwrap() = None;
        if self.shared.ending.lock().unwrap().is_none() {
            let listener = TcpListener::bind(self.shared.address).unwrap();
            listen(listener, &self.shared);
        }
    }

    /// The calls so far.
    pub fn seen(&self) -> Traffic {
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
            if let Ok(confirm) = ended.try_recv() {
                drop(listener);
                let _ = confirm.send(());
                return;
            }
            let shared = Arc::clone(&shared);
            // It does not matter if a client closes the connection early.
            thread::spawn(move || shared.serve(connection.ok()?));
        }
    });
}

impl Shared {
    /// Answers one request. Each request has a connection of its own, so that the next one can be
    /// refused.
    fn serve(&self, mut client: TcpStream) -> Option<()> {
        let request = peek_request(&mut client)?;
        let operation = request.operation();
        let question = request.json();
        let disturbance = {
            let (plan, so_far) = &*self.plan.read().unwrap();
            let mut seen = self.seen.lock().unwrap();
            let before = seen.calls[*so_far..].iter();
            let call = Attempt {
                operation,
                question,
                nth: before.filter(|(of, _)| of == operation).count(),
            };
            let disturbance = plan(&call);
            seen.calls.push((operation.to_owned(), disturbance));
            disturbance
        };
        let error = match request.is_cbor() {
            true => Answer::cbor_error,
            false => Answer::error,
        };
        let answer = match disturbance {
            Some(Disturbance::Refused) => panic!("it is too late to refuse the connection"),
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
            Some(Disturbance::NotRunning) => {
                error(400, "InvalidParameterValue", "The task is not running.")
            }
            _ => self.pass_on(&request)?,
        };
        let mut answer = match disturbance {
            Some(Disturbance::InternalError) => Answer::html(500),
            Some(Disturbance::Malformed) => Answer::html(200),
            _ => answer,
        };
        answer.add_header("connection", "close");
        match disturbance {
            Some(Disturbance::ResetMidAnswer) => {
                answer.is_cut = true;
                client.write_all(&answer.bytes()).ok()?;
                // The last byte of the request is unread, so closing resets the connection.
                return None;
            }
            Some(Disturbance::Truncated) => {
                answer.is_cut = true;
                take_last(&mut client)?;
                client.write_all(&answer.bytes()).ok()?;
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
        client.write_all(&answer.bytes()).ok()
    }

    /// Returns once connections are refused.
    fn stop_listening(&self) {
        let Some(end) = self.ending.lock().unwrap().take() else {
            return;
        };
        let (confirm, confirmed) = channel();
        if end.send(confirm).is_ok() && TcpStream::connect(self.address).is_ok() {
            let _ = confirmed.recv();
        }
    }

    fn pass_on(&self, request: &Request) -> Option<Answer> {
        let question = request.json();
        let handle = question["TaskHandle"].as_str();
        if let Some(handle) = handle
            && !self
                .seen
                .lock()
                .unwrap()
                .cancelled
                .insert(handle.to_owned())
        {
            // After a second cancel, LocalStack would list an ended task as CANCELLING forever.
            return Some(Answer::error(
                404,
                "ResourceNotFoundException",
                "Task does not exist.",
            ));
        }
        let mut answer = request.forward(&self.upstream)?;
        if request.operation() == "StartMessageMoveTask" && answer.status == 200 {
            let dlq = question["SourceArn"].as_str()?.to_owned();
            self.seen.lock().unwrap().started.push(dlq);
        }
        let age = *self.aged.lock().unwrap();
        if request.operation() == "ListMessageMoveTasks" && !age.is_zero() {
            answer.body = aged(&answer.body, age);
        }
        Some(answer)
    }
}

/// A list of move tasks that started this much earlier.
fn aged(tasks: &[u8], age: Duration) -> Vec<u8> {
    let mut tasks: Value = serde_json::from_slice(tasks).unwrap();
    for task in tasks["Results"].as_array_mut().unwrap() {
        let millis = task["StartedTimestamp"].as_u64().unwrap();
        task["StartedTimestamp"] = json!(millis - u64::try_from(age.as_millis()).unwrap());
    }
    tasks.to_string().into_bytes()
}

/// Reads a request, and leaves the last byte of its body on the connection: to close a connection
/// with something unread resets it.
fn peek_request(client: &mut TcpStream) -> Option<Request> {
    // A buffer of one byte, so that it takes no byte of the body.
    let mut head = BufReader::with_capacity(1, &*client);
    let (mut request, length) = Request::read_head(&mut head)?;
    request.body = vec![0; length];
    let (all_but_last, last) = request.body.split_at_mut(length.checked_sub(1)?);
    client.read_exact(all_but_last).ok()?;
    let is_whole = client.peek(last).ok()? > 0;
    (is_whole && !request.operation().is_empty()).then_some(request)
}

/// Takes the last byte of a request, so that closing does not reset the connection.
fn take_last(client: &mut TcpStream) -> Option<()> {
    client.read_exact(&mut [0]).ok()
}
