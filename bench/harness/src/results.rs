//! Turns samples into figures, ratios, targets and Markdown.

use crate::plan::{BY_TAG, JUDGED, Key, NODE, ONE, OURS, PYTHON, RAW, SAMPLES, THREADS, thousands};
use crate::run::Sample;
use std::fmt::Write;

/// All samples of one peer in one scenario.
pub struct Cell {
    pub key: Key,
    pub peer: String,
    pub samples: Vec<Sample>,
}

#[derive(Default)]
pub struct Results {
    pub cells: Vec<Cell>,
    /// The size of each peer's zip in bytes.
    pub zips: Vec<(String, u64)>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Figure {
    /// From the start of the process to its first response, ms.
    Cold,
    /// From a later event to its response, ms.
    Warm,
    /// CPU time of a warm invocation, ms.
    CpuWarm,
    /// CPU time from the start of the process to its first response, ms.
    CpuCold,
    /// Peak resident memory, MiB. The maximum of all samples, not their median.
    Peak,
}

impl Cell {
    fn values(&self, figure: Figure) -> Vec<f64> {
        let samples = self.samples.iter();
        let mut values: Vec<f64> = match figure {
            Figure::Cold => samples.map(|s| s.init_ms + s.first_ms).collect(),
            Figure::Warm => samples.flat_map(|s| s.warm_ms.iter().copied()).collect(),
            Figure::CpuWarm => samples.filter_map(|s| s.cpu_warm_ms).collect(),
            Figure::CpuCold => samples.map(|s| s.cpu_init_ms + s.cpu_first_ms).collect(),
            Figure::Peak => samples.map(|s| s.peak_memory_kib as f64 / 1024.0).collect(),
        };
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median, or the maximum for [`Figure::Peak`]. `None` if there is no sample.
    pub fn figure(&self, figure: Figure) -> Option<f64> {
        let values = self.values(figure);
        match figure {
            Figure::Peak => values.last().copied(),
            _ => median(&values),
        }
    }

    /// The median, and the range of 90 % of the samples.
    fn with_spread(&self, figure: Figure) -> String {
        let values = self.values(figure);
        match median(&values) {
            None => "–".to_owned(),
            Some(median) => format!(
                "{} ({}–{})",
                number(median),
                number(quantile(&values, 0.05)),
                number(quantile(&values, 0.95))
            ),
        }
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[n / 2]),
        n => Some((sorted[n / 2 - 1] + sorted[n / 2]) / 2.0),
    }
}

/// The quantile by nearest rank. With few values, it is the lowest or the highest.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// The value with three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 999.5 => thousands(value.round() as usize),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn times(ratio: f64) -> String {
    format!("{}×", number(ratio))
}

const PEERS: [&str; 6] = [RAW, OURS, BY_TAG, NODE, PYTHON, THREADS];

const FLEETS: [(usize, usize); 6] = [
    (100, 0),
    (100, 10),
    (1000, 0),
    (1000, 100),
    (10_000, 0),
    (10_000, 1000),
];

impl Results {
    pub fn cell(&self, key: Key, peer: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.key == key && cell.peer == peer)
    }

    fn figure(&self, key: Key, peer: &str, figure: Figure) -> Option<f64> {
        self.cell(key, peer)?.figure(figure)
    }

    fn ratio(&self, key: Key, of: &str, to: &str, figure: Figure) -> Option<f64> {
        Some(self.figure(key, of, figure)? / self.figure(key, to, figure)?)
    }

    /// Our peer in this scenario: enrolled by list, or by tag if a list would be too long.
    fn ours(&self, key: Key) -> &'static str {
        match self.cell(key, OURS) {
            Some(_) => OURS,
            None => BY_TAG,
        }
    }

    fn zip(&self, peer: &str) -> Option<u64> {
        let mut zips = self.zips.iter();
        zips.find(|(name, _)| name == peer).map(|(_, bytes)| *bytes)
    }

    /// The medians of all peers side by side, each with its ratio to ours.
    pub fn summary(&self) -> String {
        let mut table = format!(
            "| median (ratio to sqs-auto-redrive) | {} |\n",
            PEERS.join(" | ")
        );
        let _ = writeln!(table, "|---|{}", "--:|".repeat(PEERS.len()));
        let mut row = |what: String, cells: Vec<Option<f64>>, ours: Option<f64>| {
            let cell = |value: Option<f64>| match (value, ours) {
                (None, _) => "–".to_owned(),
                (Some(value), Some(ours)) if value != ours => {
                    format!("{} ({})", number(value), times(value / ours))
                }
                (Some(value), Some(_)) => format!("**{}**", number(value)),
                (Some(value), None) => number(value),
            };
            if cells.iter().any(Option::is_some) {
                let cells: Vec<String> = cells.into_iter().map(cell).collect();
                let _ = writeln!(table, "| {what} | {} |", cells.join(" | "));
            }
        };
        let mut of = |what: &str, key: Key, figure: Figure| {
            let cells = PEERS.map(|peer| self.figure(key, peer, figure)).to_vec();
            row(
                format!("{}: {what}", key.title()),
                cells,
                self.figure(key, self.ours(key), figure),
            );
        };
        for key in [ONE, ONE.small(), JUDGED] {
            of("cold start to first answer, ms", key, Figure::Cold);
            of("warm, ms", key, Figure::Warm);
        }
        for (queues, full) in FLEETS {
            for latency_ms in [0, 10] {
                of(
                    "warm, ms",
                    Key::sweep(queues, full, latency_ms),
                    Figure::Warm,
                );
            }
        }
        let sweep = Key::sweep(1000, 100, 10);
        of("warm, ms", sweep.tls(), Figure::Warm);
        of("warm, ms", sweep.small(), Figure::Warm);
        of("warm, ms", SAMPLES, Figure::Warm);
        for queues in [1000, 10_000] {
            of(
                "CPU time of a warm invocation, ms",
                Key::sweep(queues, 0, 0),
                Figure::CpuWarm,
            );
        }
        of("peak memory, MiB", ONE, Figure::Peak);
        for (queues, full) in FLEETS {
            if full > 0 {
                of(
                    "peak memory, MiB",
                    Key::sweep(queues, full, 10),
                    Figure::Peak,
                );
            }
        }
        let zip = |peer| self.zip(peer).map(|bytes| bytes as f64 / 1e6);
        row("zip, MB".to_owned(), PEERS.map(zip).to_vec(), zip(OURS));
        table
    }

    /// Every target, the measured value, and whether it meets the target.
    pub fn targets(&self) -> String {
        let mut table = "| target | measured | met |\n|---|--:|---|\n".to_owned();
        for Target {
            what,
            limit,
            unit,
            seen,
        } in self.all_targets()
        {
            let (bound, is_reached): (_, fn(f64, f64) -> bool) = match limit {
                Limit::AtMost(most) => (("at most", most), |seen, most| seen <= most),
                Limit::AtLeast(least) => (("at least", least), |seen, least| seen >= least),
            };
            let (seen, reached) = match seen {
                Some(seen) if is_reached(seen, bound.1) => (number(seen) + unit, "yes"),
                Some(seen) => (number(seen) + unit, "**no**"),
                None => ("–".to_owned(), "not measured"),
            };
            let _ = writeln!(
                table,
                "| {what}: {} {}{unit} | {seen} | {reached} |",
                bound.0, bound.1
            );
        }
        table
    }

    fn all_targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut add = |what: String, limit, unit, seen| {
            targets.push(Target {
                what,
                limit,
                unit,
                seen,
            });
        };
        let sweep = Key::sweep(1000, 100, 10);
        let (x, cold, warm) = ("×", Figure::Cold, Figure::Warm);
        let first = "cold start to first answer";
        let one = ONE.title();
        add(
            format!("{one}: {first}, {OURS} / {RAW}"),
            Limit::AtMost(1.5),
            x,
            self.ratio(ONE, OURS, RAW, cold),
        );
        let small = ONE.small();
        for (key, peer, least) in [
            (ONE, NODE, 20.0),
            (ONE, PYTHON, 40.0),
            (small, NODE, 20.0),
            (small, PYTHON, 20.0),
        ] {
            add(
                format!("{}: {first}, {peer} / {OURS}", key.title()),
                Limit::AtLeast(least),
                x,
                self.ratio(key, peer, OURS, cold),
            );
        }
        add(
            format!("{}: warm, {OURS} / {RAW}", sweep.title()),
            Limit::AtMost(1.25),
            x,
            self.ratio(sweep, OURS, RAW, warm),
        );
        for (queues, full) in [(1000, 0), (1000, 100)] {
            let key = Key::sweep(queues, full, 10);
            add(
                format!("{}: warm, {BY_TAG} / {OURS}", key.title()),
                Limit::AtMost(1.15),
                x,
                self.ratio(key, BY_TAG, OURS, warm),
            );
        }
        for full in [0, 1000] {
            let key = Key::sweep(10_000, full, 10);
            add(
                format!("{}: warm, {BY_TAG} / {RAW}", key.title()),
                Limit::AtMost(1.25),
                x,
                self.ratio(key, BY_TAG, RAW, warm),
            );
        }
        let small = sweep.small();
        add(
            format!("{}: warm, {OURS} / {RAW}", small.title()),
            Limit::AtMost(6.0),
            x,
            self.ratio(small, OURS, RAW, warm),
        );
        for (peer, least) in [(NODE, 10.0), (THREADS, 10.0)] {
            add(
                format!("{}: warm, {peer} / {OURS}", small.title()),
                Limit::AtLeast(least),
                x,
                self.ratio(small, peer, OURS, warm),
            );
        }
        let empty = Key::sweep(1000, 0, 0);
        add(
            format!(
                "{}: CPU time of a warm invocation, {OURS} / {RAW}",
                empty.title()
            ),
            Limit::AtMost(5.0),
            x,
            self.ratio(empty, OURS, RAW, Figure::CpuWarm),
        );
        for (queues, most) in [(1000, 12.0), (10_000, 16.0)] {
            add(
                format!("peak memory of all sweeps of {} queues", thousands(queues)),
                Limit::AtMost(most),
                " MiB",
                self.peak(queues),
            );
        }
        let zip = self.zip(OURS).map(|bytes| bytes as f64 / 1e6);
        add("zip".to_owned(), Limit::AtMost(3.0), " MB", zip);
        for (figure, what) in [(warm, "time"), (Figure::CpuWarm, "CPU time")] {
            add(
                format!("warm sweep by tag, 10,000 queues / 1,000 queues, worst of four: {what}"),
                Limit::AtMost(11.0),
                x,
                self.growth(figure),
            );
        }
        targets
    }

    /// Our peak memory of all sweeps of this many queues, by list or by tag.
    fn peak(&self, queues: usize) -> Option<f64> {
        let ours = |cell: &&Cell| [OURS, BY_TAG].contains(&cell.peer.as_str());
        let cells = self.cells.iter().filter(ours);
        let cells = cells.filter(|cell| cell.key.queues == queues);
        let peaks = cells.filter_map(|cell| cell.figure(Figure::Peak));
        peaks.max_by(f64::total_cmp)
    }

    /// The worst ratio of a sweep of 10,000 queues to one of 1,000. `None` unless all four pairs were measured.
    fn growth(&self, figure: Figure) -> Option<f64> {
        let sweeps = [(0, 0), (0, 10), (1, 0), (1, 10)];
        let ratios = sweeps.map(|(full, latency_ms)| {
            let many = Key::sweep(10_000, 1000 * full, latency_ms);
            let few = Key::sweep(1000, 100 * full, latency_ms);
            Some(self.figure(many, BY_TAG, figure)? / self.figure(few, BY_TAG, figure)?)
        });
        let ratios: Option<Vec<f64>> = ratios.into_iter().collect();
        ratios?.into_iter().max_by(f64::total_cmp)
    }

    /// One table for each scenario.
    pub fn details(&self) -> String {
        let mut text = String::new();
        let mut keys: Vec<Key> = Vec::new();
        for cell in &self.cells {
            if !keys.contains(&cell.key) {
                keys.push(cell.key);
            }
        }
        for key in keys {
            let _ = write!(
                text,
                "\n### {}\n\n{}\
                 | | cold, ms | × ours | × raw | warm, ms | × ours | × raw | CPU cold, ms | CPU warm, ms | × raw | peak, MiB | connections | calls | samples |\n\
                 |---|{}\n",
                key.title(),
                limit(key),
                "--:|".repeat(13)
            );
            for cell in self.cells.iter().filter(|cell| cell.key == key) {
                let ratio = |to: &str, figure| match self.ratio(key, &cell.peer, to, figure) {
                    Some(ratio) => number(ratio),
                    None => "–".to_owned(),
                };
                let plain = |figure| cell.figure(figure).map_or("–".to_owned(), number);
                let ours = self.ours(key);
                let most = |of: fn(&Sample) -> u64| cell.samples.iter().map(of).max().unwrap_or(0);
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} + {} |",
                    cell.peer,
                    cell.with_spread(Figure::Cold),
                    ratio(ours, Figure::Cold),
                    ratio(RAW, Figure::Cold),
                    cell.with_spread(Figure::Warm),
                    ratio(ours, Figure::Warm),
                    ratio(RAW, Figure::Warm),
                    cell.with_spread(Figure::CpuCold),
                    cell.with_spread(Figure::CpuWarm),
                    ratio(RAW, Figure::CpuWarm),
                    plain(Figure::Peak),
                    most(|sample| sample.connections),
                    most(|sample| sample.calls),
                    cell.samples.len(),
                    cell.values(Figure::Warm).len(),
                );
            }
        }
        text
    }
}

/// What the latency alone takes. Empty without latency.
fn limit(key: Key) -> String {
    key.limit_ms().map_or(String::new(), |limit| {
        format!("Latency ÷ concurrency: {} ms.\n\n", number(limit))
    })
}

struct Target {
    what: String,
    limit: Limit,
    unit: &'static str,
    seen: Option<f64>,
}

enum Limit {
    AtMost(f64),
    AtLeast(f64),
}
