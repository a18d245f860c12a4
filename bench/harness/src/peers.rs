//! `peers.json`: the peers, and the variables that give each its endpoints and its CA.

use crate::aws::Aws;
use crate::fleet::{Fleet, Judgement, MAX_STARTS, REGION, TAG};
use crate::plan::SAMPLE_SECONDS;
use crate::signature::{KEY_ID, SECRET};
use crate::tls::Tls;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A function to measure.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    pub command: Vec<String>,
    /// The working directory of its command. `None` means `bench/`.
    pub cwd: Option<PathBuf>,
    /// The format of its responses.
    #[serde(default)]
    pub answer: AnswerKind,
    /// Whether it finds its queues by their tag. If not, it has a list, or the event lists them.
    #[serde(default)]
    pub by_tag: bool,
    /// Its environment variables. `tls` is added only if AWS is served over TLS. Placeholders for values: `{queues}`, `{tag}`,
    /// `{sample}`, `{max_starts}`, `{ca}`, `{amazon}` (Amazon's roots and the CA), `{bundle}` (the system's roots and the CA).
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    tls: BTreeMap<String, String>,
    /// The package that would be uploaded to Lambda.
    pub zip: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AnswerKind {
    /// `{"scanned": …, "redriven": …}`.
    #[default]
    Counts,
    /// The report of `sqs-auto-redrive`.
    Report,
}

pub fn read(path: &Path) -> Result<Vec<Peer>, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Peer {
    /// The program. A path is relative to `bench/`, not to the peer's working directory.
    pub fn program(&self) -> Result<PathBuf, String> {
        let name = self.command.first().ok_or("a peer has no command")?;
        let path = match name.contains('/') {
            true => std::path::absolute(name).map_err(|error| format!("{name}: {error}"))?,
            false => return Ok(PathBuf::from(name)),
        };
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{name} does not exist; run ./bench.sh to build it")),
        }
    }

    /// The whole environment of its process.
    pub fn environment(
        &self,
        runtime_api: SocketAddr,
        aws: &Aws,
        fleet: Fleet,
        tls: Option<&Tls>,
    ) -> Result<Vec<(String, String)>, String> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", aws.addr);
        let lambda = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("TZ", ":UTC".to_owned()),
            ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            // About as long as a token of Lambda.
            ("AWS_SESSION_TOKEN", "x".repeat(700)),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/bench".to_owned()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "0".to_owned()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_ENDPOINT_URL_SQS", endpoint.clone()),
            // For all other services too, so that no call leaves this machine.
            ("AWS_ENDPOINT_URL", endpoint),
        ];
        let lambda = lambda.map(|(name, value)| (name.to_owned(), value));
        let for_tls = tls.iter().flat_map(|_| &self.tls);
        let own = self.env.iter().chain(for_tls);
        let own = own.map(|(name, text)| Ok((name.clone(), filled_in(text, fleet, tls)?)));
        lambda.into_iter().map(Ok).chain(own).collect()
    }
}

fn filled_in(text: &str, fleet: Fleet, tls: Option<&Tls>) -> Result<String, String> {
    let path = |path: &Path| path.display().to_string();
    Ok(match text {
        "{queues}" => fleet.arns().join(","),
        "{tag}" => format!("{}={}", TAG.0, TAG.1),
        "{max_starts}" => MAX_STARTS.to_string(),
        "{sample}" => match fleet.judgement {
            Judgement::None => "0".to_owned(),
            _ => SAMPLE_SECONDS.to_string(),
        },
        "{ca}" => tls.map(|tls| path(&tls.ca)).unwrap_or_default(),
        "{amazon}" => tls.map(|tls| path(&tls.amazon)).unwrap_or_default(),
        "{bundle}" => tls.map(|tls| path(&tls.bundle)).unwrap_or_default(),
        _ => text.to_owned(),
    })
}
