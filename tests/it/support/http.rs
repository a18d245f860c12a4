//! Servers of the tests: as much HTTP as the AWS SDK needs, with a thread for each connection.

use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A request.
#[derive(Clone)]
pub struct Request {
    /// The path, with the query if it has one.
    pub path: String,
    /// By name, in lower case.
    headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request; `None` at the end of the connection.
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let (mut request, length) = Self::read_head(from)?;
        request.body = vec![0; length];
        from.read_exact(&mut request.body).ok()?;
        Some(request)
    }

    /// Reads a request up to its body, and returns the length of the body too.
    pub fn read_head(from: &mut impl BufRead) -> Option<(Self, usize)> {
        let mut line = || {
            let mut line = String::new();
            let read = from.read_line(&mut line).ok()?;
            (read > 0).then(|| line.trim_end().to_owned())
        };
        let path = line()?.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let request = Self {
            path,
            headers,
            body: Vec::new(),
        };
        let length = match request.header("content-length") {
            "" => 0,
            length => length.parse().ok()?,
        };
        Some((request, length))
    }

    /// A header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON; null if there is none, or if it is CBOR.
    pub fn json(&self) -> Value {
        match self.is_cbor() || self.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&self.body).unwrap(),
        }
    }

    /// Whether the protocol is CBOR, in which the path contains the operation.
    pub fn is_cbor(&self) -> bool {
        self.path.contains("/operation/")
    }

    /// The operation, in a JSON protocol or in CBOR. Empty if the request only opens a connection
    /// early.
    pub fn operation(&self) -> &str {
        let in_header = self.header("x-amz-target").split_once('.');
        let in_path = || self.path.rsplit_once("/operation/");
        in_header
            .or_else(in_path)
            .map_or("", |(_, operation)| operation)
    }

    /// Sends the request to another server. `None` if there is no answer.
    pub fn forward(&self, url: &str) -> Option<Answer> {
        let mut forwarded = agent().post(format!("{url}{}", self.path));
        for (name, value) in &self.headers {
            if !["host", "content-length", "connection"].contains(&name.as_str()) {
                forwarded = forwarded.header(name, value);
            }
        }
        let mut answer = forwarded.send(&self.body[..]).ok()?;
        let headers = answer.headers().iter();
        let headers = headers
            .filter(|(name, _)| {
                let name = name.as_str();
                name == "content-type" || name == "smithy-protocol" || name.starts_with("x-amz")
            })
            .map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        Some(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect::<Option<_>>()?,
            body: answer.body_mut().read_to_vec().ok()?,
            is_cut: false,
        })
    }
}

/// The answer to a request.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All headers except the length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection is closed in the middle of the body.
    pub is_cut: bool,
}

impl Answer {
    /// Success, in a JSON protocol.
    pub fn ok(body: impl ToString) -> Self {
        let json = ("content-type", "application/x-amz-json-1.0");
        Self::new(200, &[json], body.to_string().into_bytes())
    }

    /// An AWS error, in a JSON protocol.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let answer = Self::ok(json!({"__type": code, "message": message}));
        let mut answer = Self { status, ..answer };
        answer.add_header("x-amzn-query-error", &format!("{code};Sender"));
        answer
    }

    /// Success, in CBOR.
    pub fn cbor(body: Encoder) -> Self {
        let cbor = [
            ("content-type", "application/cbor"),
            ("smithy-protocol", "rpc-v2-cbor"),
        ];
        Self::new(200, &cbor, body.into_writer())
    }

    /// An AWS error, in CBOR.
    pub fn cbor_error(status: u16, code: &str, message: &str) -> Self {
        let mut body = Encoder::new(Vec::new());
        body.map(2).str("__type").str(code);
        body.str("message").str(message);
        Self {
            status,
            ..Self::cbor(body)
        }
    }

    /// An answer of another server than AWS.
    pub fn html(status: u16) -> Self {
        let body = b"<html><body>Something went wrong.</body></html>";
        Self::new(status, &[("content-type", "text/html")], body.to_vec())
    }

    fn new(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let mut answer = Self {
            status,
            headers: Vec::new(),
            body,
            is_cut: false,
        };
        for (name, value) in headers {
            answer.add_header(name, value);
        }
        answer
    }

    /// Adds a header.
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// All that is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter();
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let (status, length) = (self.status, self.body.len());
        let head = format!("HTTP/1.1 {status} -\r\ncontent-length: {length}\r\n{headers}\r\n");
        let sent = if self.is_cut { length / 2 } else { length };
        [head.as_bytes(), &self.body[..sent]].concat()
    }
}

/// Calls the local servers: without a proxy, and an error is an answer too.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        // The server may close an idle connection in the moment in which it is used again.
        .max_idle_connections(0)
        .build()
        .new_agent()
}

/// A server that runs as long as the tests.
pub struct Server {
    /// Its address.
    pub url: String,
}

impl Server {
    /// Starts it.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let (listener, url) = listen();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let answer = Arc::clone(&answer);
                // It does not matter if a client closes the connection early.
                thread::spawn(move || serve(connection.ok()?, &*answer));
            }
        });
        Self { url }
    }
}

/// Answers each request of a connection. `None` at the end of the connection.
fn serve(mut connection: TcpStream, answer: &dyn Fn(&Request) -> Answer) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut requests = BufReader::new(connection.try_clone().ok()?);
    loop {
        let answer = answer(&Request::read(&mut requests)?);
        connection.write_all(&answer.bytes()).ok()?;
        if answer.is_cut {
            return None;
        }
    }
}

/// Listens on a free port, and returns the URL too.
pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// The URL of a server that is not there: connections are refused.
pub fn unreachable_url() -> String {
    listen().1
}
