//! Checks a function's response.

use crate::fleet::{Fleet, Judgement, task_handle};
use crate::peers::AnswerKind;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Checks the response to a sweep that started tasks on these queues. `Err` says what is wrong.
pub fn check(
    kind: AnswerKind,
    answer: &[u8],
    fleet: Fleet,
    started: &[usize],
) -> Result<(), String> {
    let checked = match kind {
        AnswerKind::Counts => check_counts(answer, fleet, started),
        AnswerKind::Report => check_report(answer, fleet, started),
    };
    checked.map_err(|fault| {
        let text = String::from_utf8_lossy(answer);
        let excerpt: String = text.chars().take(1000).collect();
        format!("wrong response: {fault}: {excerpt}")
    })
}

fn check_counts(answer: &[u8], fleet: Fleet, started: &[usize]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Counts {
        scanned: usize,
        redriven: usize,
    }
    let counts: Counts = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    equal("scanned", counts.scanned, fleet.queues)?;
    equal("redriven", counts.redriven, started.len())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    trigger: Trigger,
    dry_run: bool,
    counts: BTreeMap<String, usize>,
    queues: Vec<QueueReport>,
    #[serde(default)]
    unlisted: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Trigger {
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueReport {
    queue_arn: String,
    outcome: String,
    reason: String,
    visible: Option<u64>,
    in_flight: Option<u64>,
    task: Option<Task>,
}

#[derive(Deserialize)]
struct Task {
    handle: String,
}

/// Up to this many DLQs, the function's report lists the empty ones too.
const MAX_LISTED: usize = 100;

fn check_report(answer: &[u8], fleet: Fleet, started: &[usize]) -> Result<(), String> {
    let report: Report = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    equal("trigger.kind", report.trigger.kind.as_str(), "schedule")?;
    equal("dryRun", report.dry_run, false)?;

    let empty = fleet.queues - fleet.full;
    for (outcome, &count) in &report.counts {
        let wanted = match outcome.as_str() {
            "started" => started.len(),
            "deferred" => fleet.full - started.len(),
            "skipped" => empty,
            _ => 0,
        };
        equal(outcome, count, wanted)?;
    }
    equal(
        "the sum of counts",
        report.counts.values().sum(),
        fleet.queues,
    )?;

    let lists_all = fleet.queues <= MAX_LISTED;
    for (what, &count) in &report.unlisted {
        let wanted = if what == "empty" && !lists_all {
            empty
        } else {
            0
        };
        equal(what, count, wanted)?;
    }
    let unlisted: usize = report.unlisted.values().sum();
    equal(
        "queues listed and not listed",
        report.queues.len() + unlisted,
        fleet.queues,
    )?;

    let mut listed = vec![false; fleet.queues];
    for entry in &report.queues {
        let arn = &entry.queue_arn;
        let queue = fleet.queue_of_arn(arn);
        let queue = queue.ok_or_else(|| format!("there is no queue `{arn}`"))?;
        if std::mem::replace(&mut listed[queue], true) {
            return Err(format!("`{arn}` is listed twice"));
        }
        let is_started = started.binary_search(&queue).is_ok();
        let verdict = match (fleet.is_full(queue), is_started) {
            (true, true) if fleet.judgement == Judgement::Sample => ("started", "sample"),
            (true, true) => ("started", "ready"),
            (true, false) => ("deferred", "start-limit"),
            (false, _) => ("skipped", "empty"),
        };
        let depth = fleet.depth(queue);
        let handle = is_started.then(|| task_handle(&fleet.name(queue)));
        let task = entry.task.as_ref().map(|task| task.handle.clone());
        let found = (entry.outcome.as_str(), entry.reason.as_str());
        equal(arn, found, verdict)?;
        equal(
            arn,
            (entry.visible, entry.in_flight),
            (Some(depth), Some(0)),
        )?;
        equal(arn, task, handle)?;
    }
    let missing = |&queue: &usize| !listed[queue] && (lists_all || fleet.is_full(queue));
    match (0..fleet.queues).find(missing) {
        Some(queue) => Err(format!("{} is not listed", fleet.name(queue))),
        None => Ok(()),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {found:?}, expected {wanted:?}")),
    }
}
