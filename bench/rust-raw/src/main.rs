//! The lower bound: the same HTTP calls without the SDK and lambda_runtime.
//! It runs tokio on one thread, with hand-written HTTP/1.1 (Content-Length
//! bodies only) and hand-written SigV4. Up to 64 keep-alive connections take
//! queues from a shared cursor. Not for production: any error ends the process.
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use ring::{digest, hmac};
use serde::Deserialize;
use std::{
    cell::{Cell, RefCell},
    env::var,
    fmt::Write as _,
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

struct Conn {
    io: Box<dyn Io>,
    buf: Vec<u8>,
}

type Res<T> = Result<T, Box<dyn std::error::Error>>;

struct Answer {
    status: u16,
    request_id: String,
    body: Vec<u8>,
}

impl Conn {
    fn new(io: impl Io + 'static) -> Conn {
        Conn {
            io: Box::new(io),
            buf: Vec::with_capacity(4096),
        }
    }

    async fn call(&mut self, request: &[u8]) -> Res<Answer> {
        self.io.write_all(request).await?;
        self.io.flush().await?;
        self.buf.clear();
        let (head, status, len, request_id) = loop {
            if self.io.read_buf(&mut self.buf).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut r = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(n) = r.parse(&self.buf)? {
                let status = r.code.unwrap_or(0);
                let get = |k: &str| {
                    r.headers
                        .iter()
                        .find(|h| h.name.eq_ignore_ascii_case(k))
                        .map(|h| String::from_utf8_lossy(h.value).into_owned())
                };
                let len: usize = get("content-length")
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(0);
                break (
                    n,
                    status,
                    len,
                    get("lambda-runtime-aws-request-id").unwrap_or_default(),
                );
            }
        };
        while self.buf.len() < head + len {
            if self.io.read_buf(&mut self.buf).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(Answer {
            status,
            request_id,
            body: self.buf[head..head + len].to_vec(),
        })
    }
}

struct Sqs {
    addr: String,
    tls: Option<tokio_rustls::TlsConnector>,
    region: String,
    key_id: String,
    secret: String,
    token: String,
    idle: RefCell<Vec<Conn>>,
    /// The day, and the signing key derived for it.
    signing: RefCell<(String, Option<hmac::Key>)>,
}

fn hex(bytes: &[u8]) -> String {
    const H: &[u8] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [H[(b >> 4) as usize] as char, H[(b & 15) as usize] as char])
        .collect()
}

fn mac(key: &[u8], data: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes())
}

/// The current time as `YYYYMMDDTHHMMSSZ`, by the civil-from-days algorithm.
fn amz_date() -> String {
    let s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (z, t) = ((s / 86400) as i64 + 719_468, s % 86400);
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let y = yoe + era * 400 + (m <= 2) as i64;
    format!(
        "{y:04}{m:02}{d:02}T{:02}{:02}{:02}Z",
        t / 3600,
        t / 60 % 60,
        t % 60
    )
}

impl Sqs {
    fn from_env() -> Res<Sqs> {
        let region = var("AWS_REGION")?;
        let url = var("AWS_ENDPOINT_URL_SQS")
            .unwrap_or_else(|_| format!("https://sqs.{region}.amazonaws.com:443"));
        let (scheme, addr) = url.split_once("://").ok_or("endpoint")?;
        let tls = if scheme == "https" {
            use rustls::pki_types::{CertificateDer, pem::PemObject};
            let mut roots = rustls::RootCertStore::empty();
            let mut add = |pem: &[u8]| -> Res<()> {
                for c in CertificateDer::pem_slice_iter(pem) {
                    roots.add(c?)?;
                }
                Ok(())
            };
            add(include_bytes!("../../../src/tls/amazon.pem"))?;
            if let Ok(p) = var("BENCH_CA_PEM") {
                add(&std::fs::read(p)?)?;
            }
            let cfg = rustls::ClientConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
            Some(Arc::new(cfg).into())
        } else {
            None
        };
        Ok(Sqs {
            addr: addr.to_owned(),
            tls,
            region,
            key_id: var("AWS_ACCESS_KEY_ID")?,
            secret: var("AWS_SECRET_ACCESS_KEY")?,
            token: var("AWS_SESSION_TOKEN")?,
            idle: RefCell::default(),
            signing: RefCell::default(),
        })
    }

    async fn connect(&self) -> Res<Conn> {
        let tcp = TcpStream::connect(&self.addr).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Conn::new(tcp),
            Some(t) => {
                let host = self
                    .addr
                    .rsplit_once(':')
                    .map_or(&*self.addr, |p| p.0)
                    .to_owned();
                Conn::new(t.connect(host.try_into()?, tcp).await?)
            }
        })
    }

    fn request(&self, op: &str, body: &str) -> String {
        let now = amz_date();
        let day = &now[..8];
        let scope = format!("{day}/{}/sqs/aws4_request", self.region);
        let names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
        let body_hash = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let canonical = format!(
            "POST\n/\n\ncontent-type:application/x-amz-json-1.0\nhost:{}\nx-amz-date:{now}\nx-amz-security-token:{}\nx-amz-target:AmazonSQS.{op}\n\n{names}\n{body_hash}",
            self.addr, self.token
        );
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
            hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref())
        );
        let mut signing = self.signing.borrow_mut();
        if signing.0 != day {
            let k = mac(format!("AWS4{}", self.secret).as_bytes(), day);
            let k = mac(k.as_ref(), &self.region);
            let k = mac(k.as_ref(), "sqs");
            let k = mac(k.as_ref(), "aws4_request");
            *signing = (
                day.to_owned(),
                Some(hmac::Key::new(hmac::HMAC_SHA256, k.as_ref())),
            );
        }
        let sig = hex(hmac::sign(signing.1.as_ref().unwrap(), to_sign.as_bytes()).as_ref());
        format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{op}\r\nx-amz-date: {now}\r\nx-amz-security-token: {}\r\nauthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={sig}\r\ncontent-length: {}\r\n\r\n{body}",
            self.addr,
            self.token,
            self.key_id,
            body.len()
        )
    }

    async fn one(&self, conn: &mut Conn, url: &str, starts_left: &Cell<usize>) -> Res<bool> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Attrs {
            approximate_number_of_messages: String,
            queue_arn: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Out {
            attributes: Attrs,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Task {
            status: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Tasks {
            results: Vec<Task>,
        }
        let body = format!(
            r#"{{"QueueUrl":"{url}","AttributeNames":["ApproximateNumberOfMessages","QueueArn"]}}"#
        );
        let a = conn
            .call(self.request("GetQueueAttributes", &body).as_bytes())
            .await?;
        let out: Out = serde_json::from_slice(&a.body)?;
        if out
            .attributes
            .approximate_number_of_messages
            .parse::<u64>()?
            == 0
        {
            return Ok(false);
        }
        let arn = out.attributes.queue_arn;
        let body = format!(r#"{{"SourceArn":"{arn}","MaxResults":1}}"#);
        let a = conn
            .call(self.request("ListMessageMoveTasks", &body).as_bytes())
            .await?;
        let tasks: Tasks = serde_json::from_slice(&a.body)?;
        if tasks
            .results
            .iter()
            .any(|t| t.status.as_deref() == Some("RUNNING"))
        {
            return Ok(false);
        }
        let Some(left) = starts_left.get().checked_sub(1) else {
            return Ok(false);
        };
        starts_left.set(left);
        let body = format!(r#"{{"SourceArn":"{arn}"}}"#);
        let a = conn
            .call(self.request("StartMessageMoveTask", &body).as_bytes())
            .await?;
        if a.status != 200 {
            return Err(String::from_utf8_lossy(&a.body).into());
        }
        Ok(true)
    }

    async fn sweep(&self, Event { queues, max_starts }: &Event) -> Res<usize> {
        let (cursor, redriven) = (Cell::new(0), Cell::new(0));
        let starts_left = Cell::new(*max_starts);
        let worker = || async {
            let mut conn: Option<Conn> = None;
            loop {
                let i = cursor.get();
                if i >= queues.len() {
                    break;
                }
                cursor.set(i + 1);
                if conn.is_none() {
                    conn = self.idle.borrow_mut().pop();
                }
                if conn.is_none() {
                    conn = Some(self.connect().await?);
                }
                if self
                    .one(conn.as_mut().unwrap(), &queues[i], &starts_left)
                    .await?
                {
                    redriven.set(redriven.get() + 1);
                }
            }
            self.idle.borrow_mut().extend(conn);
            Res::Ok(())
        };
        let mut workers: FuturesUnordered<_> =
            (0..queues.len().min(64)).map(|_| worker()).collect();
        while workers.try_next().await?.is_some() {}
        Ok(redriven.get())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    queues: Vec<String>,
    max_starts: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Res<()> {
    let api = var("AWS_LAMBDA_RUNTIME_API")?;
    let sqs = Sqs::from_env()?;
    let tcp = TcpStream::connect(&api).await?;
    tcp.set_nodelay(true)?;
    let mut lambda = Conn::new(tcp);
    let next = format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: {api}\r\n\r\n");
    loop {
        let a = lambda.call(next.as_bytes()).await?;
        let ev: Event = serde_json::from_slice(&a.body)?;
        let redriven = sqs.sweep(&ev).await?;
        let body = format!(r#"{{"scanned":{},"redriven":{redriven}}}"#, ev.queues.len());
        let mut post = String::with_capacity(512);
        write!(
            post,
            "POST /2018-06-01/runtime/invocation/{}/response HTTP/1.1\r\nhost: {api}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            a.request_id,
            body.len()
        )?;
        lambda.call(post.as_bytes()).await?;
    }
}
