//! Runs Lambda functions against a Runtime API, an SQS and a tagging API of its own, checks everything they do, and
//! measures them. All peers take turns within each round, so that noise falls on all alike.

mod answer;
mod aws;
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
usage: harness [--quick] [--no-cpu-share] [--peers NAME;…] [--scenarios WORD]
       harness --publish FILE…

--quick          few rounds: to see that it works, not to know the times
--no-cpu-share   leave out the scenarios with the CPU of 128 MB, which take root
--peers          only these of peers.json, separated by semicolons
--scenarios      only those whose title has this in it
--publish        copy the short part of results.md into these files, between <!-- bench --> and <!-- /bench -->

A full run writes results.md; any other writes target/partial.md.";

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
    let done = match arguments.first().map(String::as_str) {
        Some("--publish") => publish(&arguments[1..]),
        _ => match options(&arguments) {
            Some(options) => LocalSet::new().run_until(bench(&options)).await,
            None => Err(USAGE.to_owned()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if they are not understood.
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
            return Err(format!("peers.json has no `{unknown}`"));
        }
    }
    let mut plan = plan(options.quick);
    plan.retain(|scenario| {
        scenario.key.title().contains(&options.scenarios)
            && !(options.no_cpu_share && scenario.key.small)
    });
    if plan.is_empty() {
        return Err(format!(
            "no scenario has `{}` in its title",
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
        eprintln!("The machine is not idle; the times will tell of that too.");
    }
    // Peers have working directories of their own.
    let folder = std::path::absolute(TARGET).map_err(|error| format!("{TARGET}: {error}"))?;
    let tls = tls::make(&folder).map_err(|error| format!("no certificates: {error}"))?;
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
        (false, true) => "A quick run, to see that it works: its times mean little.\n\n",
        (false, false) => "A part of a run.\n\n",
    };
    let text = format!(
        "# Results\n\n{kind}{machine}\n\n{}\n{}\n{DETAILS}\n\n\
         Medians, in brackets from where to where nine tenths of all samples lie; samples: processes + warm invocations.\n{}",
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
        "All answers and calls were right. {path} was written, after {} s.",
        begun.elapsed().as_secs()
    );
    Ok(())
}

const DETAILS: &str = "## Every scenario";

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
        let peer = peer.ok_or_else(|| format!("peers.json has no `{name}`"))?;
        turns.push((peer, *effort, Vec::new()));
    }
    let rounds = turns.iter().map(|(_, effort, _)| effort.rounds).max();
    for round in 0..rounds.unwrap_or(0) {
        // Each round begins with another one.
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
        return Err("the control group held nobody back".to_owned());
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

/// How many warm invocations a process makes in this round; `None` if there is none.
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

/// Copies the short part of the results into these files.
fn publish(files: &[String]) -> Result<(), String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let results = read("results.md")?;
    let short = results.strip_prefix("# Results\n\n").unwrap_or(&results);
    let short = short.split(DETAILS).next().unwrap_or_default().trim();
    const MARKS: (&str, &str) = ("<!-- bench -->", "<!-- /bench -->");
    for path in files {
        let text = read(path)?;
        let parts = text.split_once(MARKS.0).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(MARKS.1)?;
            Some((before, after))
        });
        let (before, after) =
            parts.ok_or_else(|| format!("{path} has no {} … {}", MARKS.0, MARKS.1))?;
        let text = format!("{before}{}\n{short}\n{}{after}", MARKS.0, MARKS.1);
        fs::write(path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}
