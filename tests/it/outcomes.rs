//! One sample of every outcome, and what holds for all of them.

use crate::fuzz::text::assert_reads_well;
use crate::support::fake::dlq;
use sqs_auto_redrive::decision::{Hold, Skip, Start};
use sqs_auto_redrive::outcome::{Deferred, Failed, Outcome, Skipped};
use sqs_auto_redrive::plan::Cause;
use sqs_auto_redrive::policy::Rate;
use sqs_auto_redrive::sqs::SqsError;
use sqs_auto_redrive::tagging::TaggingError;
use std::time::Duration;

/// An array of these samples. A variant without a sample does not compile: it has no pattern.
macro_rules! samples {
    ($($pattern:pat => $sample:expr,)+) => {{
        let samples = [$($sample),+];
        for sample in &samples {
            match sample { $($pattern => {})+ }
        }
        $(assert!(samples.iter().any(|sample| matches!(sample, $pattern)));)+
        samples
    }};
}

/// One sample of every outcome that the types can tell apart.
#[rustfmt::skip]
pub fn samples() -> Vec<Outcome> {
    use Outcome::{Cancelled, Deferred as Later, Failed as Wrong, Held, Skipped as Not, Started, WouldCancel, WouldStart};
    let start = |parking: bool| Start {
        destination: parking.then(|| dlq("parking")),
        max_messages_per_second: Rate::new(50),
        parking,
    };
    let (back, parked) = (|| start(false), || start(true));
    let text = || "because".to_owned();
    let (alarm, handle, why) = (text, text, text);
    samples![
        Started { start: Start { parking: false, .. }, .. } => Started { start: back(), visible: 7, handle: handle() },
        Started { start: Start { parking: true, .. }, .. } => Started { start: parked(), visible: 7, handle: handle() },
        WouldStart { start: Start { parking: false, .. }, .. } => WouldStart { start: back(), visible: 7 },
        WouldStart { start: Start { parking: true, .. }, .. } => WouldStart { start: parked(), visible: 7 },
        Not(Skipped::Gate(Skip::Empty)) => Not(Skipped::Gate(Skip::Empty)),
        Not(Skipped::Gate(Skip::InFlightOnly)) => Not(Skipped::Gate(Skip::InFlightOnly)),
        Not(Skipped::Gate(Skip::BelowMinimum { .. })) => Not(Skipped::Gate(Skip::BelowMinimum { minimum: 9 })),
        Not(Skipped::Gate(Skip::TaskActive)) => Not(Skipped::Gate(Skip::TaskActive)),
        Not(Skipped::Gate(Skip::CoolingDown { .. })) =>
            Not(Skipped::Gate(Skip::CoolingDown { remaining: Duration::from_secs(90) })),
        Not(Skipped::Gate(Skip::StillFilling { .. })) => Not(Skipped::Gate(Skip::StillFilling { fewest: 4 })),
        Not(Skipped::NotEnrolled) => Not(Skipped::NotEnrolled),
        Not(Skipped::RecentlyDeleted) => Not(Skipped::RecentlyDeleted),
        Not(Skipped::NothingToCancel) => Not(Skipped::NothingToCancel),
        Not(Skipped::EndedBeforeCancel) => Not(Skipped::EndedBeforeCancel),
        Held(Hold::Paused) => Held(Hold::Paused),
        Held(Hold::AttemptsExhausted { .. }) => Held(Hold::AttemptsExhausted { streak: 5 }),
        Held(Hold::StillFilling { .. }) => Held(Hold::StillFilling { fewest: 4 }),
        Held(Hold::Braked { .. }) => Held(Hold::Braked { alarm: alarm() }),
        Held(Hold::BrakeUnknown { .. }) => Held(Hold::BrakeUnknown { alarm: alarm(), why: why() }),
        Cancelled { cause: Cause::Requested, .. } => Cancelled { cause: Cause::Requested, handle: handle() },
        Cancelled { cause: Cause::Braked(_), .. } => Cancelled { cause: Cause::Braked(alarm()), handle: handle() },
        WouldCancel { cause: Cause::Requested, .. } => WouldCancel { cause: Cause::Requested, handle: handle() },
        WouldCancel { cause: Cause::Braked(_), .. } => WouldCancel { cause: Cause::Braked(alarm()), handle: handle() },
        Later(Deferred::StartLimit(_)) => Later(Deferred::StartLimit(20)),
        Later(Deferred::NotLookedAt) => Later(Deferred::NotLookedAt),
        Later(Deferred::StartUnconfirmed) => Later(Deferred::StartUnconfirmed),
        Wrong(Failed::Sqs(SqsError::AccessDenied(_))) => Wrong(Failed::Sqs(SqsError::AccessDenied(why()))),
        Wrong(Failed::Sqs(SqsError::NotADeadLetterQueue(_))) => Wrong(Failed::Sqs(SqsError::NotADeadLetterQueue(why()))),
        Wrong(Failed::Sqs(SqsError::QueueNotFound(_))) => Wrong(Failed::Sqs(SqsError::QueueNotFound(why()))),
        Wrong(Failed::Sqs(SqsError::DestinationNotFound(_))) => Wrong(Failed::Sqs(SqsError::DestinationNotFound(why()))),
        Wrong(Failed::Sqs(SqsError::Throttled(_))) => Wrong(Failed::Sqs(SqsError::Throttled(why()))),
        Wrong(Failed::Sqs(SqsError::Service(_))) => Wrong(Failed::Sqs(SqsError::Service(why()))),
        Wrong(Failed::Sqs(SqsError::Unreachable(_))) => Wrong(Failed::Sqs(SqsError::Unreachable(why()))),
        Wrong(Failed::Sqs(SqsError::BadAnswer(_))) => Wrong(Failed::Sqs(SqsError::BadAnswer(why()))),
        Wrong(Failed::Tags(TaggingError::AccessDenied(_))) => Wrong(Failed::Tags(TaggingError::AccessDenied(why()))),
        Wrong(Failed::Tags(TaggingError::Service(_))) => Wrong(Failed::Tags(TaggingError::Service(why()))),
        Wrong(Failed::Tags(TaggingError::Unreachable(_))) => Wrong(Failed::Tags(TaggingError::Unreachable(why()))),
        Wrong(Failed::Tags(TaggingError::BadAnswer(_))) => Wrong(Failed::Tags(TaggingError::BadAnswer(why()))),
        Wrong(Failed::InvalidPolicy(_)) => Wrong(Failed::InvalidPolicy(why())),
        Wrong(Failed::CancelUnconfirmed) => Wrong(Failed::CancelUnconfirmed),
        Wrong(Failed::StillRunning(_)) => Wrong(Failed::StillRunning(why())),
    ].into()
}

/// A report makes it a sentence, and a log line puts the queue's name before it.
#[test]
fn every_outcome_is_described_by_a_clause_on_one_line() {
    for outcome in samples() {
        let clause = outcome.to_string();
        assert_reads_well(&clause, 300);
        assert!(clause.len() > 5 && !clause.ends_with('.'), "{clause}");
        assert_eq!(clause, clause.trim(), "{outcome:?}");
    }
}
