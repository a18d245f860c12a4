//! What holds of every text that goes into reports, errors and logs.

use serde_json::Value;
use sqs_auto_redrive::report::{Outcome, Reason, Report};
use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, UNIX_EPOCH};

/// Nothing in it ends a line, controls a terminal, or has the rest shown in another order.
pub fn is_on_one_line(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}')
            || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    })
}

/// A text on one line, of so many characters at most.
#[track_caller]
pub fn assert_reads_well(text: &str, most: usize) {
    assert!(is_on_one_line(text), "not on one line: {text:?}");
    let length = text.chars().count();
    assert!(length <= most, "{length} characters: {text:?}");
}

/// Every text of a report reads well, in JSON and in the log, which has a line for each DLQ that is not empty and one more.
#[track_caller]
pub fn assert_report_reads_well(report: &Report, most: usize) {
    texts(&serde_json::to_value(report).unwrap(), &mut |text| {
        assert_reads_well(text, most);
    });

    let log = logged(|| report.log(Duration::ZERO));
    assert!(log.ends_with('\n'), "{log:?}");
    let mut lines = 0;
    for line in log.trim_end_matches('\n').split('\n') {
        assert!(is_on_one_line(line), "not on one line: {line:?}");
        lines += 1;
    }
    let queues = report.queues.iter();
    let logged = queues.filter(|queue| queue.reason != Reason::Empty).count();
    assert_eq!(lines, logged + 1, "{log}");
    assert!(is_on_one_line(&report.metrics("redrive", UNIX_EPOCH)));
    let failed = report.queues.iter();
    let failed = failed.filter(|queue| queue.outcome == Outcome::Failed);
    assert_eq!(failed.count() as u64, report.counts.failed);
}

/// Every text of a value, the names of its fields as well.
fn texts(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, see)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            see(name);
            texts(value, see);
        }),
        _ => {}
    }
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ToLog;

impl Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this writes into the log as text, the form in which a line break in a text would be one.
fn logged(act: impl FnOnce()) -> String {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        tracing_subscriber::fmt()
            .with_target(false)
            .with_ansi(false)
            .with_writer(|| ToLog)
            .init();
    });
    LOG.take();
    act();
    String::from_utf8(LOG.take()).unwrap()
}
