//! The function in a process, below a Lambda Runtime API with deadlines; cargo-lambda's emulator
//! has none.

use super::http::{Answer, Server};
use super::local::{ACCOUNT, REGION};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A running function; it ends when this is dropped.
pub struct Process {
    events: Sender<(String, Duration)>,
    results: Receiver<Result<Value, Value>>,
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts the function with these variables, in addition to the ones that Lambda sets.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_sqs-auto-redrive"));
        Self::start_binary(binary, variables)
    }

    /// Starts a function of this binary.
    pub fn start_binary(binary: &Path, variables: &[(&str, &str)]) -> Self {
        let (events, next) = channel();
        let (answer, results) = channel();
        let (next, answer) = (Mutex::new(next), Mutex::new(answer));
        let runtime = Server::start(move |request| {
            if request.path.ends_with("/invocation/next") {
                let next = next.lock().unwrap().recv();
                // Without a sender there is no process left that asks.
                return next.map_or_else(|_| Answer::ok("{}"), |next| event(&next));
            }
            let value = request.json();
            let result = match request.path.rsplit('/').next() {
                Some("response") => Ok(value),
                Some("error") => Err(value),
                _ => panic!("{}", request.path),
            };
            answer.lock().unwrap().send(result).unwrap();
            Answer::ok("{}")
        });
        let mut process = Command::new(binary)
            // The developer's own AWS settings must not leak in.
            .env_clear()
            // `make coverage` sets where the counts are written.
            .envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"))
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                runtime.url.trim_start_matches("http://"),
            )
            .env("AWS_LAMBDA_FUNCTION_NAME", "fleet")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("AWS_LAMBDA_LOG_LEVEL", "WARN")
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", ACCOUNT)
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .for_each(|line| lines.lock().unwrap().push(line));
        });
        Self {
            events,
            results,
            process,
            log,
        }
    }

    /// Invokes the function, with this much time to answer. `Ok` is what it returned, `Err` its
    /// error: `errorType` and `errorMessage`. Panics if the answer is late, as Lambda would end the
    /// function.
    pub fn invoke(&mut self, event: &str, time: Duration) -> Result<Value, Value> {
        self.events.send((event.to_owned(), time)).unwrap();
        self.results
            .recv_timeout(time)
            .expect("the function answers in time")
    }

    /// Like `invoke`, but also returns what the function has logged meanwhile: an object for each
    /// line, the metrics last. Late lines of a previous `invoke` may be among them.
    pub fn invoke_and_log(
        &mut self,
        event: &str,
        time: Duration,
    ) -> (Result<Value, Value>, Vec<Value>) {
        let before = self.log.lock().unwrap().len();
        let result = self.invoke(event, time);
        // The log is written before the answer, but the thread that reads it may be late.
        for _ in 0..1000 {
            let lines = self.log.lock().unwrap()[before..].to_vec();
            let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            let lines: Vec<Value> = lines.collect();
            if lines.iter().any(|line| line.get("_aws").is_some()) {
                return (result, lines);
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the function has written no metrics: {result:?}")
    }

    /// Drops what the function has logged so far.
    pub fn forget_log(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Sends the function an event, and does not wait.
    pub fn send(&self, event: &str, time: Duration) {
        self.events.send((event.to_owned(), time)).unwrap();
    }

    /// The answer to an event that was sent; `None` if there is none yet.
    pub fn answered(&self) -> Option<Result<Value, Value>> {
        self.results.try_recv().ok()
    }

    /// Kills the process (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("the log:\n{}", self.log.lock().unwrap().join("\n"));
        }
    }
}

fn event((event, time): &(String, Duration)) -> Answer {
    let deadline = (SystemTime::now() + *time)
        .duration_since(UNIX_EPOCH)
        .unwrap();
    let function = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:fleet");
    let mut answer = Answer::ok(event);
    for (name, value) in [
        ("aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("deadline-ms", &deadline.as_millis().to_string()),
        ("invoked-function-arn", &function),
    ] {
        answer.add_header(&format!("lambda-runtime-{name}"), value);
    }
    answer
}
