//! Runs one process of a peer, and measures and checks its cold start and its warm invocations.

use crate::answer;
use crate::aws::Aws;
use crate::fleet::{ACCOUNT, MAX_STARTS, REGION};
use crate::peers::Peer;
use crate::plan::{Key, Scenario};
use crate::process::{self, Quota};
use crate::runtime_api::{Api, Event};
use crate::tls::Tls;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The measurements of one process.
#[derive(Serialize)]
pub struct Sample {
    /// From its start until it first asks for an event.
    pub init_ms: f64,
    /// From the first event to its response.
    pub first_ms: f64,
    /// From each later event to its response.
    pub warm_ms: Vec<f64>,
    pub cpu_init_ms: f64,
    pub cpu_first_ms: f64,
    /// The average of the warm invocations. `None` if there was none.
    pub cpu_warm_ms: Option<f64>,
    pub peak_memory_kib: u64,
    pub connections: u64,
    pub most_in_flight: u64,
    pub handshakes_given_up: u64,
    /// Calls of the last invocation.
    pub calls: u64,
}

/// The servers, the CPU limit and the log of a scenario's processes.
pub struct Place<'a> {
    pub scenario: &'a Scenario,
    pub aws: Aws,
    pub tls: Option<&'a Tls>,
    pub quota: Option<Quota>,
    pub log: &'a Path,
}

/// How long a function may take for a step. With the CPU of 128 MB, Python takes a minute for a sweep.
const PATIENCE: Duration = Duration::from_secs(240);

impl Place<'_> {
    /// Runs a process with at most `warms` warm invocations. If `hurried`, the first invocation counts toward the budget
    /// too. `Err` says what the process did wrong.
    pub async fn run(&self, peer: &Peer, warms: usize, hurried: bool) -> Result<Sample, String> {
        let mut api = Api::start().await?;
        self.aws.forget();
        let log = File::create(self.log).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        let fleet = self.scenario.key.fleet();
        let mut command = Command::new(peer.program()?);
        command
            .args(&peer.command[1..])
            .env_clear()
            .envs(peer.environment(api.addr, &self.aws, fleet, self.tls)?)
            .current_dir(peer.cwd.as_deref().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start the process: {error}"))?;
        let measured = self
            .measure(peer, (warms, hurried), started, &mut api, &mut child)
            .await;
        let ended = child.kill().await;
        let sample = measured.map_err(|fault| {
            let noted = self.aws.take().first_wrong();
            format!("{fault}{noted}{}", self.tail_of_log())
        })?;
        ended.map_err(|error| format!("cannot end the process: {error}"))?;
        Ok(sample)
    }

    async fn measure(
        &self,
        peer: &Peer,
        (warms, hurried): (usize, bool),
        started: Instant,
        api: &mut Api,
        child: &mut Child,
    ) -> Result<Sample, String> {
        let pid = child.id().ok_or("the process ended immediately")?;
        let payload = payload(peer, self.scenario.key, &self.aws, self.tls.is_some());
        let fleet = self.scenario.key.fleet();

        let Event::Next(asked) = next(api, child).await? else {
            return Err("the process did not ask for an event first".to_owned());
        };
        let init_ms = ms(asked - started);
        let cpu_init_ms = process::cpu_ms(pid)?;
        let early = self.aws.take();
        if early.calls() > 0 || early.openings > 1 {
            return Err("the process called AWS before its first event".to_owned());
        }
        // As on Lambda, init has a whole CPU.
        if let Some(quota) = &self.quota {
            quota.add(pid)?;
        }
        let mut took = Vec::new();
        let mut cpu_first_ms = 0.0;
        let mut last = None;
        let mut spent = Duration::ZERO;
        while took.len() <= warms {
            api.invoke(payload.clone());
            let Event::Handed(begun) = next(api, child).await? else {
                return Err("the process did not take its event".to_owned());
            };
            let Event::Response(ended, body) = next(api, child).await? else {
                return Err("the process did not respond to its event".to_owned());
            };
            // The invocation ends when the process asks for the next event.
            let Event::Next(_) = next(api, child).await? else {
                return Err("the process did not ask for the next event".to_owned());
            };
            let tally = self.aws.take();
            tally.check(fleet, peer.by_tag, took.is_empty())?;
            answer::check(peer.answer, &body, fleet, &tally.started())?;
            took.push(ms(ended - begun));
            last = Some(tally);
            if took.len() == 1 {
                cpu_first_ms = process::cpu_ms(pid)? - cpu_init_ms;
            }
            if took.len() > 1 || hurried {
                spent += ended - begun;
            }
            if spent > self.scenario.budget {
                break;
            }
        }
        let tally = last.ok_or("the process was not invoked")?;
        let warm_ms = took.split_off(1);
        let cpu_warm_ms = match warm_ms.len() {
            0 => None,
            n => Some((process::cpu_ms(pid)? - cpu_init_ms - cpu_first_ms) / n as f64),
        };
        Ok(Sample {
            init_ms,
            first_ms: took[0],
            warm_ms,
            cpu_init_ms,
            cpu_first_ms,
            cpu_warm_ms,
            peak_memory_kib: process::peak_memory_kib(pid)?,
            connections: tally.connections,
            most_in_flight: tally.most_in_flight,
            handshakes_given_up: tally.handshakes_given_up,
            calls: tally.calls(),
        })
    }

    fn tail_of_log(&self) -> String {
        let log = fs::read(self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let short = |line: &str| line.chars().take(300).collect::<String>();
        let lines: Vec<String> = log.lines().map(short).collect();
        match lines[lines.len().saturating_sub(8)..] {
            [] => String::new(),
            ref tail => format!("\nthe end of its log:\n{}", tail.join("\n")),
        }
    }
}

/// What the function does next. `Err` if it ends, reports an error, or does nothing for [`PATIENCE`].
async fn next(api: &mut Api, child: &mut Child) -> Result<Event, String> {
    let event = async {
        tokio::select! {
            biased;
            event = api.events.recv() => event.ok_or_else(|| "the Runtime API ended".to_owned()),
            status = child.wait() => match status {
                Ok(status) => Err(format!("the process ended: {status}")),
                Err(error) => Err(format!("cannot wait for the process: {error}")),
            },
        }
    };
    match timeout(PATIENCE, event).await {
        Ok(Ok(Event::Error(error))) => Err(format!("the function reported an error: {error}")),
        Ok(event) => event,
        Err(_) => Err(format!(
            "the process did nothing for {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// The event of the schedule. For peers without their own list, it also has the queues.
fn payload(peer: &Peer, key: Key, aws: &Aws, tls: bool) -> Bytes {
    let mut event = json!({
        "version": "0",
        "id": "f98441ad-1076-4e5e-8227-322f3efce249",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": "2026-10-05T09:45:00Z",
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/sweep")],
        "detail": {},
    });
    if peer.answer == crate::peers::AnswerKind::Counts {
        let scheme = if tls { "https" } else { "http" };
        let fleet = key.fleet();
        let url = |queue| format!("{scheme}://{}/{ACCOUNT}/{}", aws.addr, fleet.name(queue));
        let urls: Vec<String> = (0..fleet.queues).map(url).collect();
        event["queues"] = json!(urls);
        event["maxStarts"] = json!(MAX_STARTS);
    }
    Bytes::from(event.to_string())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
