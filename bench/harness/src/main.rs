//! Runs Lambda functions against a local Runtime API, SQS and tagging API, checks their calls and responses, and measures
//! them. The peers take turns within each round, so that noise affects all of them alike.

mod answer;
mod aws;
mod cloudwatch;
mod fleet;
mod machine;
mod peers;
mod plan;
mod process;
mod results;
mod run;
mod runtime_api;
mod signature;
mod tls;

use aws::Aws;
use peers::Peer;
use plan::{Effort, SMALL_SHARE, Scenario, plan};
use process::Quota;
use results::{Cell, Figure, Results};
use run::Place;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tls::Tls;
use tokio::task::LocalSet;

const USAGE: &str = "\
usage: harness [--quick] [--no-cpu-share] [--peers NAME;…] [--scenarios TEXT]

--quick          few rounds, to see that the benchmark works; the times mean little
--no-cpu-share   leave out the scenarios with the CPU of 128 MB, which need root
--peers          run only these peers of peers.json, separated by semicolons
--scenarios      run only the scenarios whose title contains this text

A full run writes results.md. Any other run writes target/partial.md.";

#[derive(Default)]
struct Options {
    quick: bool,
    no_cpu_share: bool,
    peers: Option<Vec<String>>,
    scenarios: String,
}

impl Options {
    fn is_full(&self) -> bool {
        let Self {
            quick,
            no_cpu_share,
            peers,
            scenarios,
        } = self;
        !quick && !no_cpu_share && peers.is_none() && scenarios.is_empty()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match options(&arguments) {
        Some(options) => LocalSet::new().run_until(bench(&options)).await,
        None => Err(USAGE.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if an argument is unknown or lacks its value.
fn options(arguments: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--no-cpu-share" => options.no_cpu_share = true,
            "--peers" => {
                let names = arguments.next()?.split(';');
                options.peers = Some(names.map(str::to_owned).collect());
            }
            "--scenarios" => options.scenarios = arguments.next()?.clone(),
            _ => return None,
        }
    }
    Some(options)
}

const TARGET: &str = "target";

async fn bench(options: &Options) -> Result<(), String> {
    let begun = Instant::now();
    let peers = peers::read(Path::new("peers.json"))?;
    if let Some(names) = &options.peers {
        let unknown = names
            .iter()
            .find(|&name| peers.iter().all(|peer| peer.name != *name));
        if let Some(unknown) = unknown {
            return Err(format!("peers.json has no peer `{unknown}`"));
        }
    }
    let mut plan = plan(options.quick);
    plan.retain(|scenario| {
        scenario.key.title().contains(&options.scenarios)
            && !(options.no_cpu_share && scenario.key.small)
    });
    if plan.is_empty() {
        return Err(format!(
            "no scenario has `{}` in its title; see the titles in results.md",
            options.scenarios
        ));
    }
    for scenario in &mut plan {
        let chosen = |name: &str| match &options.peers {
            Some(names) => names.iter().any(|chosen| chosen == name),
            None => true,
        };
        scenario.peers.retain(|(name, _)| chosen(name));
    }
    let machine = machine::describe()?;
    if machine::load()? > 0.5 {
        eprintln!("The machine is not idle, which affects the times.");
    }
    // Absolute, because peers have different working directories.
    let folder = std::path::absolute(TARGET).map_err(|error| format!("{TARGET}: {error}"))?;
    let tls = tls::make(&folder).map_err(|error| format!("cannot create certificates: {error}"))?;
    let samples = Path::new(TARGET).join("samples.jsonl");
    let mut samples =
        File::create(&samples).map_err(|error| format!("{}: {error}", samples.display()))?;

    let mut results = Results {
        zips: zips(&peers)?,
        ..Results::default()
    };
    for scenario in &plan {
        measure(scenario, &peers, &tls, &mut results, &mut samples).await?;
    }

    let kind = match (options.is_full(), options.quick) {
        (true, _) => "",
        (false, true) => "A quick run, to see that the benchmark works. The times mean little.\n\n",
        (false, false) => "A partial run.\n\n",
    };
    let text = format!(
        "# Results\n\n{kind}{machine}\n\n{}\n{}\n## Every scenario\n\n\
         Medians, with the range of 90 % of the samples in brackets. Samples: processes + warm invocations.\n{}",
        results.summary(),
        results.targets(),
        results.details(),
    );
    let path = if options.is_full() {
        "results.md"
    } else {
        "target/partial.md"
    };
    fs::write(path, &text).map_err(|error| format!("{path}: {error}"))?;
    println!("{text}");
    eprintln!(
        "All responses and calls were correct. Wrote {path} after {} s.",
        begun.elapsed().as_secs()
    );
    Ok(())
}

/// The size of each peer's zip.
fn zips(peers: &[Peer]) -> Result<Vec<(String, u64)>, String> {
    let zips = peers
        .iter()
        .filter_map(|peer| Some((peer, peer.zip.as_ref()?)));
    let sizes = zips.map(|(peer, zip)| {
        let file = fs::metadata(zip).map_err(|error| format!("{}: {error}", zip.display()))?;
        Ok((peer.name.clone(), file.len()))
    });
    sizes.collect()
}

async fn measure(
    scenario: &Scenario,
    peers: &[Peer],
    tls: &Tls,
    results: &mut Results,
    samples: &mut File,
) -> Result<(), String> {
    let key = scenario.key;
    eprintln!("==> {}", key.title());
    let tls = key.tls.then_some(tls);
    let latency = Duration::from_millis(key.latency_ms);
    let place = Place {
        scenario,
        aws: Aws::start(key.fleet(), latency, tls.map(|tls| tls.server.clone())),
        tls,
        quota: key.small.then(|| Quota::new(SMALL_SHARE)).transpose()?,
        log: &Path::new(TARGET).join("function.log"),
    };
    let mut turns = Vec::new();
    for (name, effort) in &scenario.peers {
        let peer = peers.iter().find(|peer| peer.name == *name);
        let peer = peer.ok_or_else(|| format!("peers.json has no peer `{name}`"))?;
        turns.push((peer, *effort, Vec::new()));
    }
    let rounds = turns.iter().map(|(_, effort, _)| effort.rounds).max();
    for round in 0..rounds.unwrap_or(0) {
        // Each round starts with a different peer.
        let begin = round % turns.len();
        let (before, from) = turns.split_at_mut(begin);
        for (peer, effort, cell) in from.iter_mut().chain(before) {
            let Some(warms) = warms(*effort, round) else {
                continue;
            };
            let sample = place
                .run(peer, warms, effort.hurried)
                .await
                .map_err(|fault| format!("{}: {}: {fault}", key.title(), peer.name))?;
            if sample.handshakes_given_up > 0 {
                let count = sample.handshakes_given_up;
                eprintln!("    {}: TLS handshakes given up: {count}", peer.name);
            }
            let line = json!({"scenario": key.title(), "peer": peer.name, "round": round, "sample": sample});
            writeln!(samples, "{line}").map_err(|error| format!("samples.jsonl: {error}"))?;
            cell.push(sample);
        }
    }
    if place
        .quota
        .as_ref()
        .is_some_and(|quota| quota.throttled() == 0)
    {
        return Err("the control group did not throttle any process".to_owned());
    }
    for (peer, _, samples) in turns {
        let cell = Cell {
            key,
            peer: peer.name.clone(),
            samples,
        };
        let figure = |figure| cell.figure(figure).unwrap_or(f64::NAN);
        eprintln!(
            "    {:<24} cold {:9.2} ms   warm {:9.2} ms   {:6.1} MiB",
            cell.peer,
            figure(Figure::Cold),
            figure(Figure::Warm),
            figure(Figure::Peak)
        );
        results.cells.push(cell);
    }
    Ok(())
}

/// The number of warm invocations of this round's process. `None` if there is no process in this round.
fn warms(effort: Effort, round: usize) -> Option<usize> {
    let Effort {
        rounds,
        warm_rounds,
        warms,
        ..
    } = effort;
    match round {
        _ if round >= rounds => None,
        _ if round + warm_rounds >= rounds => Some(warms),
        _ => Some(0),
    }
}
