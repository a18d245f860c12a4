//! A local Lambda Runtime API with the calls that a function needs: `GET …/invocation/next`,
//! `POST …/invocation/<id>/{response,error}`, `POST …/init/error`. Each process gets its own server.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, spawn_local};

/// A step of the function or of the server.
pub enum Event {
    /// The function asked for an event.
    Next(Instant),
    /// The server handed over an event: the invocation begins.
    Handed(Instant),
    /// The function responded.
    Response(Instant, Bytes),
    /// The function reported an error, or made a call that is not part of the Runtime API.
    Error(String),
}

pub struct Api {
    pub addr: SocketAddr,
    pub events: mpsc::UnboundedReceiver<Event>,
    work: mpsc::UnboundedSender<Bytes>,
    accept: JoinHandle<()>,
}

struct Shared {
    events: mpsc::UnboundedSender<Event>,
    work: Mutex<mpsc::UnboundedReceiver<Bytes>>,
    invocations: Cell<u64>,
}

const PREFIX: &str = "/2018-06-01/runtime/";
const TIMEOUT: Duration = Duration::from_secs(300);

impl Api {
    /// Starts a server. Must be called inside a `LocalSet`.
    pub async fn start() -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(|error| format!("no port: {error}"))?;
        let addr = listener
            .local_addr()
            .map_err(|error| format!("no port: {error}"))?;
        let (tell, events) = mpsc::unbounded_channel();
        let (work, works) = mpsc::unbounded_channel();
        let shared = Rc::new(Shared {
            events: tell,
            work: Mutex::new(works),
            invocations: Cell::new(0),
        });
        let accept = spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = tcp.set_nodelay(true);
                let shared = Rc::clone(&shared);
                spawn_local(async move {
                    let service = service_fn(move |request| serve(request, Rc::clone(&shared)));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(tcp), service)
                        .await;
                });
            }
        });
        Ok(Self {
            addr,
            events,
            work,
            accept,
        })
    }

    pub fn invoke(&self, payload: Bytes) {
        let _ = self.work.send(payload);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// The id of the n-th invocation of a process.
fn request_id(invocation: u64) -> String {
    format!("8476a536-e9f4-11e8-9739-{invocation:012x}")
}

async fn serve(
    request: Request<Incoming>,
    shared: Rc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = Instant::now();
    let path = request.uri().path().to_owned();
    let path = path.strip_prefix(PREFIX).unwrap_or(&path);
    if path == "invocation/next" {
        let _ = shared.events.send(Event::Next(now));
        let Some(payload) = shared.work.lock().await.recv().await else {
            return std::future::pending().await;
        };
        shared.invocations.set(shared.invocations.get() + 1);
        let deadline = SystemTime::now() + TIMEOUT;
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = Response::builder()
            .header("content-type", "application/json")
            .header(
                "lambda-runtime-aws-request-id",
                request_id(shared.invocations.get()),
            )
            .header(
                "lambda-runtime-deadline-ms",
                deadline.as_millis().to_string(),
            )
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:123456789012:function:bench",
            )
            .header(
                "lambda-runtime-trace-id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
            )
            .body(Full::new(payload));
        let _ = shared.events.send(Event::Handed(Instant::now()));
        return Ok(event.expect("the parts of an event are valid"));
    }
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let response = format!(
        "invocation/{}/response",
        request_id(shared.invocations.get())
    );
    let _ = shared.events.send(if path == response {
        Event::Response(Instant::now(), body)
    } else {
        Event::Error(format!("{path}: {}", String::from_utf8_lossy(&body)))
    });
    let accepted = Response::builder()
        .status(202)
        .body(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    Ok(accepted.expect("the parts of a response are valid"))
}
