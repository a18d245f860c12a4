//! The lists of the documents are the lists of the code, and their links lead somewhere.

use crate::outcomes::samples;
use crate::support::report;
use sqs_auto_redrive::outcome::{Outcome, OutcomeCode, Reason, Skipped};
use sqs_auto_redrive::plan::Kind;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const README: &str = include_str!("../../README.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const OPERATING: &str = include_str!("../../docs/operating.md");
const BENCH_RESULTS: &str = include_str!("../../bench/results.md");

/// The cells of each row of the table between `<!-- name -->` and `<!-- /name -->`, without its
/// head.
fn table<'a>(document: &'a str, name: &str) -> Vec<Vec<&'a str>> {
    let (_, rest) = document
        .split_once(&format!("<!-- {name} -->"))
        .unwrap_or_else(|| panic!("no table {name}"));
    let (table, _) = rest
        .split_once(&format!("<!-- /{name} -->"))
        .unwrap_or_else(|| panic!("the table {name} has no end"));
    rows(table).skip(2).collect()
}

/// The cells of each row of the tables in a text.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

/// What a cell has in backticks.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The codes in the first column of a table, one in each row.
fn first_column(document: &'static str, name: &str) -> Vec<&'static str> {
    let rows = table(document, name);
    let firsts = rows.iter().map(|row| match codes(row[0])[..] {
        [code] => code,
        _ => panic!("not one code in {row:?}"),
    });
    firsts.collect()
}

fn all_reasons() -> Vec<&'static str> {
    Reason::ALL.iter().map(|reason| reason.code()).collect()
}

fn all_outcomes() -> Vec<&'static str> {
    OutcomeCode::ALL
        .iter()
        .map(|outcome| outcome.code())
        .collect()
}

#[test]
fn every_reason_is_explained() {
    assert_eq!(first_column(OPERATING, "reasons"), all_reasons());
}

#[test]
fn every_outcome_is_explained() {
    assert_eq!(first_column(OPERATING, "outcomes"), all_outcomes());
}

#[test]
fn every_kind_of_trigger_is_explained() {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    assert_eq!(first_column(OPERATING, "kinds"), kinds);
}

#[test]
fn every_reason_has_its_outcomes_beside_it() {
    let mut explained = BTreeSet::new();
    for row in table(OPERATING, "reasons") {
        let outcomes = codes(row[1]);
        assert!(!outcomes.is_empty(), "{row:?}");
        explained.extend(
            outcomes
                .into_iter()
                .map(|outcome| (codes(row[0])[0], outcome)),
        );
    }
    let samples = samples().into_iter();
    let of_code = samples.map(|it| (it.reason().code(), it.code().code()));
    let of_code: BTreeSet<(&str, &str)> = of_code.collect();
    assert_eq!(explained, of_code);
    let outcomes: BTreeSet<&str> = of_code.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, all_outcomes().into_iter().collect());
}

/// The reasons of the gates are declared in the order of the gates.
#[test]
fn readme_lists_every_gate_in_order() {
    let mut shown: Vec<&str> = Vec::new();
    for row in table(README, "gates") {
        let reasons = codes(row[0]);
        assert!(!reasons.is_empty(), "{row:?}");
        for reason in reasons {
            if !shown.contains(&reason) {
                shown.push(reason);
            }
        }
    }
    let of_gates: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| (Reason::Empty..=Reason::BrakeUnknown).contains(*reason))
        .map(|reason| reason.code())
        .collect();
    assert_eq!(shown, of_gates);
    let is_gate =
        |it: &Outcome| matches!(it, Outcome::Skipped(Skipped::Gate(_)) | Outcome::Held(_));
    let stopped = samples().into_iter().filter(is_gate);
    let stopped: BTreeSet<&str> = stopped.map(|it| it.reason().code()).collect();
    assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), stopped);
}

/// `src/decision/tests.rs` holds the README's table to the gates.
#[test]
fn the_map_of_the_code_has_the_readmes_table_of_gates() {
    let map = include_str!("../../src/lib.rs").replace("//! ", "");
    assert_eq!(table(&map, "gates"), table(README, "gates"));
}

#[test]
fn the_map_of_the_code_names_files_that_exist() {
    let map = include_str!("../../src/lib.rs");
    let named: BTreeSet<&str> = codes(map)
        .into_iter()
        .filter(|it| it.contains('/'))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for path in named {
        assert!(Path::new(path).exists(), "{path}");
    }
}

#[test]
fn every_metric_is_explained() {
    let line = report::of_nothing().metrics("redrive", UNIX_EPOCH);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let metrics = line
        .pointer("/_aws/CloudWatchMetrics/0/Metrics")
        .unwrap()
        .as_array()
        .unwrap();
    let names: Vec<&str> = metrics
        .iter()
        .map(|metric| metric.get("Name").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(first_column(OPERATING, "metrics"), names);
}

#[test]
fn no_two_codes_are_alike() {
    let mut codes = all_reasons();
    codes.extend(all_outcomes());
    let all = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all);
}

#[test]
fn template_sets_every_explained_variable_and_no_other() {
    let template = include_str!("../../template.yaml");
    let variables = first_column(CONFIGURATION, "variables");
    assert!(variables.len() > 10, "{variables:?}");
    let set: Vec<&str> = template
        .lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("REDRIVE_"))
        .collect();
    assert!(set.len() > 5, "{set:?}");
    for variable in &set {
        assert!(variables.contains(variable), "{variable}");
    }
    for variable in variables {
        assert!(set.contains(&variable), "{variable}");
    }
}

#[test]
fn readme_is_short() {
    let words = README.split_whitespace().count();
    assert!(words <= 1_400, "README.md has {words} words");
}

/// After a run of `make bench`, copy the rows that this test prints.
#[test]
fn readme_shows_the_figures_of_the_last_bench_run() {
    let results: Vec<Vec<&str>> = rows(BENCH_RESULTS).collect();
    let (_, marked) = README.split_once("<!-- bench -->").unwrap();
    let peers = rows(marked).next().unwrap().split_off(1);
    let shown = table(README, "bench");
    assert_eq!(shown.len(), 5);
    let is_shown = |row: &[&str]| shown.iter().any(|shown| shown[0] == row[0]);
    let column = |peer: &str| results[0].iter().position(|head| *head == peer).unwrap();
    let expected: Vec<Vec<&str>> = results
        .iter()
        .filter(|row| is_shown(row))
        .map(|row| {
            let figures = peers.iter().map(|peer| row[column(peer)]);
            [row[0]].into_iter().chain(figures).collect()
        })
        .collect();
    let lines = expected
        .iter()
        .map(|row| format!("| {} |", row.join(" | ")));
    let lines: Vec<String> = lines.collect();
    assert_eq!(shown, expected, "{}", lines.join("\n"));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    let mut links = 0;
    for document in documents(root) {
        let text = fs::read_to_string(&document).unwrap();
        for link in relative_links(&text) {
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(links > 50, "only {links} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The project's own Markdown files, not those that a tool installed or built.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                found.extend(documents(&path));
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// The lines of a document that are not inside a code block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The targets of `[text](target)` and of `[name]: target`, without those on other sites.
fn relative_links(text: &str) -> Vec<&str> {
    let inline = prose(text).flat_map(|line| {
        let ends = line.split("](").skip(1);
        ends.filter_map(|rest| rest.split([')', ' ']).next())
    });
    let references = prose(text).filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    inline
        .chain(references.map(|(_, target)| target))
        .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        .collect()
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                '-' | '_' => Some(c),
                c => c.is_alphanumeric().then_some(c),
            });
            kept.collect()
        })
        .collect()
}
