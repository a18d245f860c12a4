//! Every known event becomes what its index says.

use sqs_auto_redrive::event::{self, Selection};
use sqs_auto_redrive::plan::{Kind, plan};
use sqs_auto_redrive::queue::Location;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One row of an index: a file of the folder, the class it has and the queue names in it.
struct Row {
    file: PathBuf,
    class: String,
    queues: BTreeSet<String>,
}

/// Reads an index of file, class and queue names, and checks that it lists each event of its
/// folder.
fn index(folder: &Path, name: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let rows: Vec<Row> = text
        .lines()
        .filter(|line| !line.starts_with("file\t"))
        .map(|line| {
            let mut columns = line.split('\t');
            let mut column = || columns.next().unwrap_or_default().to_owned();
            Row {
                file: folder.join(column()),
                class: column(),
                queues: column()
                    .split(',')
                    .filter(|q| !q.is_empty())
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .collect();
    let listed: BTreeSet<_> = rows.iter().map(|row| row.file.clone()).collect();
    let present: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    assert_eq!(
        listed, present,
        "{name} lists the events of its folder, each once"
    );
    assert_eq!(listed.len(), rows.len(), "{name} lists no event twice");
    rows
}

/// The alarm that is a brake in the sample events.
const BRAKE: &str = "orders consumer is down";

/// The class of an event and the names of the queues in it.
fn classify(payload: &str) -> (&'static str, BTreeSet<String>) {
    let Ok(event) = event::parse(payload) else {
        return ("rejected", BTreeSet::new());
    };
    let location = Location::new("", "us-east-1");
    let plan = plan(event.triggers, &[BRAKE.to_owned()], &[], &location);
    let (class, queues) = match (plan.kind, plan.selection) {
        (Kind::Ignored, _) => ("ignored", Vec::new()),
        (Kind::Brake, _) => ("brake", Vec::new()),
        (Kind::Request, Selection::All) => ("request", Vec::new()),
        (Kind::Request, Selection::Named(queues)) => ("request", queues),
        (Kind::Alarm | Kind::Schedule, Selection::All) => ("sweep", Vec::new()),
        (Kind::Alarm | Kind::Schedule, Selection::Named(queues)) => ("alarm", queues),
    };
    let names = queues.into_iter().map(|queue| queue.name);
    (class, names.collect())
}

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        let payload = std::fs::read_to_string(&row.file).unwrap();
        let got = classify(&payload);
        if got != (row.class.as_str(), row.queues.clone()) {
            wrong.push(format!(
                "{}: expected {} {:?}, got {got:?}: {:?}",
                row.file.display(),
                row.class,
                row.queues,
                event::parse(&payload)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `SHARED_EVENTS` names a folder of payloads recorded from AWS, with its `expected.tsv`; where it
/// is set, they count as well.
#[test]
fn every_event_becomes_what_its_index_says() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    check(&index(&own, "index.tsv"));
    if let Some(shared) = std::env::var_os("SHARED_EVENTS") {
        let rows = index(Path::new(&shared), "expected.tsv");
        check(&rows);
        println!("{} recorded events checked", rows.len());
    }
}
