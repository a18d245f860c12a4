//! Servers of our own: HTTP enough for AWS's SDK, a thread for each connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a client asks.
pub struct Request {
    /// The method, blank and path.
    pub target: String,
    /// By name, in small letters.
    headers: BTreeMap<String, String>,
    /// Its body, as far as it is text.
    pub body: String,
}

impl Request {
    /// A header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The operation, in one of AWS's JSON protocols or in CBOR; empty where a connection is opened ahead.
    pub fn operation(&self) -> &str {
        let in_header = self.header("x-amz-target").split_once('.');
        let in_path = || self.target.rsplit_once("/operation/");
        in_header
            .or_else(in_path)
            .map_or("", |(_, operation)| operation)
    }
}

/// What it is told.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Further headers, each a line without its end.
    pub headers: Vec<String>,
    /// JSON, or what the headers say.
    pub body: Vec<u8>,
    /// Whether the connection is closed in the middle of it.
    pub is_cut: bool,
}

impl Answer {
    /// It went well.
    pub fn ok(body: impl ToString) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
            is_cut: false,
        }
    }

    /// An error of AWS's, in the JSON protocols.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self {
            status,
            headers: vec![format!("x-amzn-query-error: {code};Sender")],
            ..Self::ok(serde_json::json!({"__type": code, "message": message}))
        }
    }
}

/// Who asks the local servers: no proxy may come between, and an error is an answer like others.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

/// A server that answers as long as the tests last.
pub struct Server {
    /// Where.
    pub url: String,
}

impl Server {
    /// Starts it.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let answer = Arc::clone(&answer);
                // A client that goes away in the middle is none of our business.
                thread::spawn(move || serve(connection.ok()?, &*answer));
            }
        });
        Self { url }
    }
}

/// Answers each request of a connection; `None` when that has come to its end.
fn serve(connection: TcpStream, answer: &dyn Fn(&Request) -> Answer) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let mut requests = BufReader::new(connection.try_clone().ok()?);
    let mut answers = connection;
    loop {
        let request = read(&mut requests)?;
        let Answer {
            status,
            headers,
            body,
            is_cut,
        } = answer(&request);
        let more: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n{more}\r\n"
        );
        let text = [text.as_bytes(), &body].concat();
        if is_cut {
            answers.write_all(&text[..text.len() - length / 2]).ok()?;
            return None;
        }
        answers.write_all(&text).ok()?;
    }
}

fn read(requests: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        requests
            .read_line(&mut line)
            .ok()
            .filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let target = line()?;
    let (target, _) = target.rsplit_once(' ')?;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(Some(0), |text| text.parse().ok())?;
    let mut body = vec![0; length];
    requests.read_exact(&mut body).ok()?;
    Some(Request {
        target: target.to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
