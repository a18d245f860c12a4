//! The scenarios.

use crate::fleet::{Fleet, Judgement};
use std::time::Duration;

/// One scenario. Its peers take turns.
#[derive(Clone)]
pub struct Scenario {
    pub key: Key,
    /// The names of the peers that take part.
    pub peers: Vec<(&'static str, Effort)>,
    /// Once the warm invocations of a process took longer than this, it makes no further one. It makes at least one.
    pub budget: Duration,
}

/// What identifies a scenario.
#[derive(Clone, Copy, PartialEq)]
pub struct Key {
    pub queues: usize,
    pub full: usize,
    pub latency_ms: u64,
    pub tls: bool,
    /// Whether each process gets only the CPU share that Lambda gives a function with 128 MB.
    pub small: bool,
    pub judgement: Judgement,
}

/// Lambda gives one vCPU for 1,769 MB.
pub const SMALL_SHARE: f64 = 128.0 / 1769.0;

impl Key {
    pub const fn sweep(queues: usize, full: usize, latency_ms: u64) -> Self {
        Self {
            queues,
            full,
            latency_ms,
            tls: false,
            small: false,
            judgement: Judgement::None,
        }
    }

    pub const fn judging(self, judgement: Judgement) -> Self {
        Self { judgement, ..self }
    }

    pub const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    pub const fn small(self) -> Self {
        Self {
            small: true,
            ..self
        }
    }

    pub fn fleet(self) -> Fleet {
        Fleet {
            queues: self.queues,
            full: self.full,
            judgement: self.judgement,
        }
    }

    /// How long a warm invocation takes at least, if everything but the latency is free. 64 calls wait
    /// concurrently, but those about one queue one after another. A sample takes its time. The list of
    /// tagged queues comes while the first ones are looked at. `None` without latency.
    pub fn limit_ms(self) -> Option<f64> {
        let fleet = self.fleet();
        let sample = match self.judgement {
            Judgement::Sample => SAMPLE_SECONDS * 1000,
            _ => 0,
        };
        let calls = fleet.queues + fleet.full + fleet.starts() * (1 + usize::from(sample > 0));
        let rounds = calls as f64 / 64.0;
        let waits = rounds.max(1.0) * self.latency_ms as f64;
        (self.latency_ms > 0).then_some(waits + sample as f64)
    }

    pub fn title(self) -> String {
        let Self {
            queues,
            full,
            latency_ms,
            ..
        } = self;
        let mut title = match (queues, full) {
            (1, 1) => "one queue, one redrive".to_owned(),
            (_, 0) => format!("{} queues, all empty", thousands(queues)),
            _ => format!("{} queues, a tenth full", thousands(queues)),
        };
        if queues > 1 {
            title += &format!(", {latency_ms} ms");
        }
        title += match self.judgement {
            Judgement::None => "",
            Judgement::Rest => ", source facts and metrics",
            Judgement::Sample => ", 100 samples",
        };
        if self.tls {
            title += ", TLS";
        }
        if self.small {
            title += ", CPU of 128 MB";
        }
        title
    }
}

pub const ONE: Key = Key::sweep(1, 1, 0).tls();
/// A wake-up that judges a sample before it starts the rest.
pub const JUDGED: Key = ONE.judging(Judgement::Rest);
/// A sweep with as many samples as one invocation may start.
pub const SAMPLES: Key = Key::sweep(1000, 100, 10).judging(Judgement::Sample);
/// How long a sample runs here: the shortest that the function accepts.
pub const SAMPLE_SECONDS: usize = 10;

pub fn thousands(n: usize) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", n / 1000, n % 1000),
    }
}

/// How often a peer is measured: `rounds` processes. Each of the last `warm_rounds` makes up to `warms` warm invocations.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub warm_rounds: usize,
    pub warms: usize,
    /// Whether the first invocation counts toward the budget too. Then there may be no warm invocation.
    pub hurried: bool,
}

const fn effort(rounds: usize, warm_rounds: usize, warms: usize) -> Effort {
    Effort {
        rounds,
        warm_rounds,
        warms,
        hurried: false,
    }
}

pub const RAW: &str = "rust-raw";
pub const OURS: &str = "sqs-auto-redrive";
pub const BY_TAG: &str = "sqs-auto-redrive by tag";
pub const NODE: &str = "Node";
pub const PYTHON: &str = "Python";
pub const THREADS: &str = "Python, 32 threads";

/// All scenarios, which take about 20 minutes on two cores. If `quick`, they take about two minutes, to see that they work.
pub fn plan(quick: bool) -> Vec<Scenario> {
    let mut plan = Vec::new();
    let mut add = |key: Key, peers: Vec<(&'static str, Effort)>, budget_s: u64| {
        plan.push(Scenario {
            key,
            peers,
            budget: Duration::from_secs(budget_s),
        });
    };

    let all = |names: &[&'static str], effort| {
        names.iter().map(|&name| (name, effort)).collect::<Vec<_>>()
    };
    let one = [RAW, OURS, NODE, PYTHON];
    add(ONE, all(&one, effort(30, 5, 200)), 5);
    // A start this short may or may not use up its CPU share. 60 starts show how often it does.
    let mut peers = all(&[RAW, OURS], effort(60, 4, 25));
    peers.extend(all(&[NODE, PYTHON], effort(12, 4, 25)));
    add(ONE.small(), peers, 5);

    add(JUDGED, all(&[OURS], effort(30, 5, 200)), 5);

    for latency_ms in [0, 10] {
        for full in [0, 10] {
            let peers = all(
                &[RAW, OURS, BY_TAG, NODE, PYTHON, THREADS],
                effort(5, 3, 10),
            );
            add(Key::sweep(100, full, latency_ms), peers, 2);
        }
    }
    for latency_ms in [0, 10] {
        for full in [0, 100] {
            let mut peers = all(&[RAW, OURS, BY_TAG, NODE, THREADS], effort(4, 4, 3));
            // At 10 ms per call, one queue after another takes a quarter of a minute.
            let sequential = if latency_ms == 0 {
                effort(4, 4, 1)
            } else {
                effort(1, 1, 1)
            };
            peers.push((PYTHON, sequential));
            add(Key::sweep(1000, full, latency_ms), peers, 4);
        }
    }
    let peers = all(&[RAW, OURS, BY_TAG, NODE, THREADS], effort(3, 3, 3));
    add(Key::sweep(1000, 100, 10).tls(), peers, 4);
    add(SAMPLES, all(&[OURS, BY_TAG], effort(2, 2, 2)), 30);
    for latency_ms in [0, 10] {
        for full in [0, 1000] {
            let mut peers = all(&[RAW, BY_TAG], effort(3, 3, 2));
            peers.extend(all(&[NODE, THREADS], effort(2, 2, 1)));
            add(Key::sweep(10_000, full, latency_ms), peers, 4);
        }
    }
    let mut peers = all(&[RAW, OURS], effort(3, 3, 2));
    peers.extend(all(&[NODE, THREADS], effort(2, 2, 1)));
    add(Key::sweep(1000, 100, 10).small(), peers, 5);

    if quick {
        plan.iter_mut().for_each(hurry);
    }
    plan
}

/// Reduces a scenario to one process of each peer and few warm invocations.
fn hurry(scenario: &mut Scenario) {
    scenario.budget = Duration::from_secs(2);
    for (name, effort) in &mut scenario.peers {
        *effort = match scenario.key.queues {
            1 => self::effort(3, 1, 10),
            _ => self::effort(1, 1, 1),
        };
        effort.hurried = [NODE, PYTHON, THREADS].contains(name);
    }
    // Leave out peers that take a quarter of a minute or longer.
    let Key {
        queues, latency_ms, ..
    } = scenario.key;
    let slow: &[&str] = match (queues, latency_ms) {
        (1000, 10) => &[PYTHON],
        (10_000, 10) => &[NODE, THREADS],
        (10_000, _) if scenario.key.full > 0 => &[NODE, THREADS],
        _ => &[],
    };
    scenario.peers.retain(|(name, _)| !slow.contains(name));
}
