//! A fake HTTP layer below the three ports, for their tests. It records requests and answers with
//! recorded bytes.
//!
//! The clients are the real ones, without retries. A whole HTTP response reaches them in memory.
//! Any other bytes reach them over a connection that is closed afterwards, so that the real HTTP
//! stack has to cope with them.

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_cbor::Decoder;
use aws_smithy_cbor::data::Type;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::fmt;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// The region that all clients are made for.
pub const REGION: &str = "us-east-1";

/// These bytes mean that no answer ever comes.
pub const SILENCE: &[u8] = b"silence";

/// A request of one of the ports.
#[derive(Clone)]
pub struct Request {
    /// The service and the operation: the header of a JSON protocol, or the path of the CBOR one.
    pub target: String,
    /// The signature, which contains the region of the request.
    pub authorization: String,
    /// All headers: name and value.
    pub headers: Vec<(String, String)>,
    /// JSON, or CBOR as JSON: times are seconds since 1970.
    pub body: Value,
}

impl Request {
    fn of(request: &HttpRequest) -> Self {
        let header = |name| request.headers().get(name).map(str::to_owned);
        let body = request.body().bytes().unwrap();
        let (target, body) = match header("x-amz-target") {
            Some(target) => (target, serde_json::from_slice(body).unwrap()),
            None => {
                let path = request.uri().strip_prefix("http://wire").unwrap();
                (path.to_owned(), decoded(&mut Decoder::new(body)))
            }
        };
        Self {
            target,
            authorization: header("authorization").unwrap(),
            headers: request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body,
        }
    }
}

/// Answers every request, and records it.
pub struct Wire {
    http: SharedHttpClient,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Wire {
    /// Answers with the bytes of an HTTP response that this function returns, well formed or not.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (sent, answer) = (Arc::clone(&requests), Arc::new(answer));
        let over_tcp = http_over_tcp();
        let http = http_client_fn(move |settings, components| {
            let (sent, answer) = (Arc::clone(&sent), Arc::clone(&answer));
            let over_tcp = over_tcp.http_connector(settings, components);
            SharedHttpConnector::new(Connector(move |request| {
                let recorded = Request::of(&request);
                let bytes = answer(&recorded);
                sent.lock().unwrap().push(recorded);
                match response(&bytes) {
                    _ if bytes == SILENCE => HttpConnectorFuture::new(pending()),
                    Some(response) => HttpConnectorFuture::ready(Ok(response)),
                    None => over_tcp.call(at(request, &url_answering(bytes))),
                }
            }))
        });
        Self { http, requests }
    }

    /// Configures a client that sends its requests here.
    pub fn config(&self) -> SdkConfig {
        config("http://wire", self.http.clone())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The only request that was made.
    pub fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }
}

/// Configures a client as [`crate::setup`] does, but with fixed credentials and without retries.
pub fn config(url: &str, http: SharedHttpClient) -> SdkConfig {
    let credentials = Credentials::new("AKIAEXAMPLE", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::disabled())
        .http_client(http)
        .build()
}

/// The SDK's own HTTP client, without TLS.
pub fn http_over_tcp() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// Takes a request and gives the answer.
struct Connector<F>(F);

impl<F> fmt::Debug for Connector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl<F: Fn(HttpRequest) -> HttpConnectorFuture + Send + Sync> HttpConnector for Connector<F> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.0(request)
    }
}

/// The response with these bytes, if they are exactly one.
fn response(bytes: &[u8]) -> Option<HttpResponse> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let status: u16 = status.parse().ok()?;
    let mut response = HttpResponse::new(status.try_into().ok()?, body.to_vec().into());
    for (name, value) in lines.map_while(|line| line.split_once(": ")) {
        let (name, value) = (name.to_owned(), value.to_owned());
        response.headers_mut().try_insert(name, value).ok()?;
    }
    let length: usize = response.headers().get("content-length")?.parse().ok()?;
    (length == body.len()).then_some(response)
}

/// The address of a server that answers one connection with these bytes and then closes it.
fn url_answering(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // An answer before any request would be an error of another kind.
        _ = connection.read(&mut [0; 1024]);
        connection.write_all(&bytes).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        // Closing with unread bytes would reset the connection, and the answer might be lost.
        _ = connection.read_to_end(&mut Vec::new());
    });
    url
}

/// The same request to another server.
fn at(mut request: HttpRequest, url: &str) -> HttpRequest {
    let moved = request.uri().replace("http://wire", url);
    request.set_uri(moved).unwrap();
    request
}

fn decoded(from: &mut Decoder) -> Value {
    match from.datatype().unwrap() {
        Type::String | Type::StringIndef => json!(from.string().unwrap()),
        Type::Tag => json!(from.timestamp().unwrap().as_secs_f64()),
        Type::Array | Type::ArrayIndef => {
            let length = from.list().unwrap();
            json!(items(from, length, decoded))
        }
        Type::Map | Type::MapIndef => {
            let length = from.map().unwrap();
            let pair = |from: &mut Decoder| (from.string().unwrap(), decoded(from));
            Value::Object(Map::from_iter(items(from, length, pair)))
        }
        _ => json!(from.long().unwrap()),
    }
}

/// The items of an array or a map of this length; `None` means that a break code ends it.
fn items<T>(from: &mut Decoder, length: Option<u64>, item: impl Fn(&mut Decoder) -> T) -> Vec<T> {
    if let Some(length) = length {
        return (0..length).map(|_| item(from)).collect();
    }
    let mut items = Vec::new();
    while from.datatype().unwrap() != Type::Break {
        items.push(item(from));
    }
    from.skip().unwrap();
    items
}
