//! Properties of every text in reports, errors and logs.

use serde_json::Value;
use sqs_auto_redrive::outcome::{OutcomeCode, Reason};
use sqs_auto_redrive::report::Report;
use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, UNIX_EPOCH};

/// Whether the text has no line separator, no control character, and no bidirectional control.
pub fn is_on_one_line(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}')
            || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    })
}

/// Panics unless the text is on one line and has at most `most` characters.
#[track_caller]
pub fn assert_reads_well(text: &str, most: usize) {
    assert!(is_on_one_line(text), "not on one line: {text:?}");
    let length = text.chars().count();
    assert!(length <= most, "{length} characters: {text:?}");
}

/// Panics unless every text of a report reads well, in JSON and in the log. The log has one line for
/// each DLQ that is not empty, and a summary line.
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
    let failed = failed.filter(|queue| queue.outcome == OutcomeCode::Failed);
    assert_eq!(failed.count() as u64, report.counts.failed);
}

/// Calls `see` with every text of a value, field names included.
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

/// The log that `act` writes, in text format. In JSON, a line break would be escaped and go unnoticed.
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
