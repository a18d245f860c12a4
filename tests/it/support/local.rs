//! The local AWS, started by `local/servers.py`: SQS, CloudWatch and Lambda's Runtime API.
//!
//! All tests of a process share one set. The servers end when their standard input does, which is a
//! pipe from this process: they end however this process ends.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// The account of every queue. LocalStack reads the account from the access key ID.
pub const ACCOUNT: &str = "123456789012";

/// The region of every queue.
pub const REGION: &str = "us-east-1";

/// The URLs of the local AWS.
pub struct Servers {
    /// SQS.
    pub sqs_url: String,
    /// CloudWatch.
    pub cloudwatch_url: String,
    /// Lambda, and the Runtime API under `/.rt/<function>`.
    pub lambda_url: String,
    // Holds the pipe that keeps the servers alive.
    _process: Child,
}

/// The local AWS, started by the first test that asks; the others wait for it.
pub fn servers() -> &'static Servers {
    // A failure is kept too, so that every test reports the cause.
    static SERVERS: LazyLock<Result<Servers, String>> = LazyLock::new(start);
    SERVERS.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// Configures a client of the local AWS at this URL.
pub fn sdk(url: &str) -> SdkConfig {
    let credentials = Credentials::new(ACCOUNT, "none", None, None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build()
}

/// A file of the project.
pub fn project_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn start() -> Result<Servers, String> {
    let python = project_file(".venv/local/bin/python");
    if !python.exists() {
        return Err("the local AWS is not installed: run `make setup`".to_owned());
    }
    let mut process = Command::new(python)
        .arg(project_file("local/servers.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the local AWS cannot be started: {error}"))?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout.take() {
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(|error| format!("the local AWS cannot be heard: {error}"))?;
    }
    let urls: Value = serde_json::from_str(&line)
        .map_err(|_| "the local AWS did not start; its own error is above".to_owned())?;
    let url = |name: &str| urls[name].as_str().unwrap_or_default().to_owned();
    Ok(Servers {
        sqs_url: url("sqs"),
        cloudwatch_url: url("cloudwatch"),
        lambda_url: url("lambda"),
        _process: process,
    })
}
