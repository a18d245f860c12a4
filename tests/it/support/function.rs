//! The function under cargo-lambda's emulator: the binary that Lambda would run, in a process of
//! its own.

use super::http::agent;
use super::local::{ACCOUNT, REGION, project_file, servers};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running function; it ends when this is dropped.
pub struct EmulatedFunction {
    /// What Lambda calls it.
    pub name: String,
    process: Child,
    log: PathBuf,
}

impl EmulatedFunction {
    /// Starts the function with these variables, in addition to the ones that Lambda sets.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        // `local/servers.py` has 128 names; every function of this process uses its own.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number <= 128, "all names for functions are in use");
        let name = format!("function-{number}");

        // With the process id: another run of the tests may be in progress.
        let log = format!("{name}-{}.log", std::process::id());
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(log);
        let output = File::create(&log).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_sqs-auto-redrive"))
            // The developer's own AWS settings must not leak in.
            .env_clear()
            // `make coverage` sets where the counts are written.
            .envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"))
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                format!("{}/.rt/{name}", servers().lambda_url),
            )
            .env("AWS_LAMBDA_FUNCTION_NAME", &name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCOUNT)
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .env("AWS_ENDPOINT_URL_CLOUDWATCH", &servers().cloudwatch_url)
            // For SQS and all other services, so that no call can leave this machine.
            .env("AWS_ENDPOINT_URL", &servers().sqs_url)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            // Both into one log, as in Lambda.
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { name, process, log }
    }

    /// Starts the function with these DLQs enrolled, and nothing else set.
    pub fn enrolling(dlqs: &[&str]) -> Self {
        Self::start(&[("REDRIVE_QUEUES", &dlqs.join(","))])
    }

    /// Invokes the function. `Ok` is what it returned, `Err` its error: `errorType` and
    /// `errorMessage`.
    pub fn invoke(&mut self, event: &str) -> Result<Value, Value> {
        let url = format!(
            "{}/2015-03-31/functions/{}/invocations",
            servers().lambda_url,
            self.name
        );
        let answer = agent()
            .post(url)
            .send(event)
            .and_then(|mut answer| Ok((answer.status(), answer.body_mut().read_to_string()?)));
        let (status, text) = answer.unwrap_or_else(|error| {
            let ended = self.process.try_wait().unwrap();
            panic!("the function did not answer: {error}; its process ended: {ended:?}")
        });
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("answer: {text}"));
        if status == 200 {
            Ok(value)
        } else {
            // The emulator has errors of its own, which are not the function's.
            assert!(value["errorType"].is_string(), "answer: {text}");
            Err(value)
        }
    }

    /// Everything the function has logged. Each line must be a JSON object.
    pub fn log(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().map(|line| match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => value,
            _ => panic!("a line of the log is no JSON object: {line}"),
        });
        lines.collect()
    }

    /// What the function has logged about this queue.
    pub fn log_of(&self, queue_arn: &str) -> Vec<Value> {
        let mut lines = self.log();
        lines.retain(|line| line["queue.arn"] == queue_arn);
        lines
    }

    /// Asserts that the process has not ended.
    pub fn assert_alive(&mut self) {
        assert_eq!(self.process.try_wait().unwrap(), None, "the process ended");
    }
}

impl Drop for EmulatedFunction {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("the log of {}:\n{log}", self.name);
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// A sample of `events/`, with the names in it replaced.
pub fn sample(name: &str, replaced: &[(&str, &str)]) -> String {
    let text = fs::read_to_string(project_file("events").join(name)).unwrap();
    replaced.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{name} contains {from}");
        text.replace(from, to)
    })
}
