//! One sample of every outcome, and rules that hold for all outcomes.

use crate::fuzz::text::assert_reads_well;
use crate::support::fake::dlq;
use sqs_auto_redrive::decision::{Hold, Purpose, Skip, Start};
use sqs_auto_redrive::outcome::{Deferred, Failed, Outcome, SampleEnd, Skipped};
use sqs_auto_redrive::plan::Cause;
use sqs_auto_redrive::policy::Rate;
use sqs_auto_redrive::sqs::SqsError;
use sqs_auto_redrive::tagging::TaggingError;
use std::time::Duration;

/// An array of these samples. A variant without a sample has no pattern, so the array does not
/// compile.
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

/// One sample of every outcome that the types distinguish.
#[rustfmt::skip]
pub fn samples() -> Vec<Outcome> {
    use Outcome::{Cancelled, Deferred as Later, Failed as Wrong, Held, Skipped as Not, Started, WouldCancel, WouldStart};
    let start = |purpose| Start {
        destination: (purpose == Purpose::Parking).then(|| dlq("parking")),
        max_messages_per_second: Rate::new(50),
        purpose,
    };
    let started = |purpose, sample| Started { start: start(purpose), visible: 7, handle: Some("because".to_owned()), sample };
    let would_start = |purpose| WouldStart { start: start(purpose), visible: 7 };
    let (stopped, ended) = (SampleEnd::Stopped { moved: 14 }, SampleEnd::EndedItself { moved: 20 });
    let text = || "because".to_owned();
    let (alarm, handle, why) = (text, text, text);
    samples![
        Started { start: Start { purpose: Purpose::Sample, .. }, sample: None, .. } => started(Purpose::Sample, None),
        Started { sample: Some(SampleEnd::Stopped { .. }), .. } => started(Purpose::Sample, Some(stopped)),
        Started { sample: Some(SampleEnd::EndedItself { .. }), .. } => started(Purpose::Sample, Some(ended)),
        Started { start: Start { purpose: Purpose::Rest, .. }, .. } => started(Purpose::Rest, None),
        Started { start: Start { purpose: Purpose::All, .. }, .. } => started(Purpose::All, None),
        Started { start: Start { purpose: Purpose::Parking, .. }, .. } => started(Purpose::Parking, None),
        WouldStart { start: Start { purpose: Purpose::Sample, .. }, .. } => would_start(Purpose::Sample),
        WouldStart { start: Start { purpose: Purpose::Rest, .. }, .. } => would_start(Purpose::Rest),
        WouldStart { start: Start { purpose: Purpose::All, .. }, .. } => would_start(Purpose::All),
        WouldStart { start: Start { purpose: Purpose::Parking, .. }, .. } => would_start(Purpose::Parking),
        Not(Skipped::Gate(Skip::Empty)) => Not(Skipped::Gate(Skip::Empty)),
        Not(Skipped::Gate(Skip::InFlightOnly)) => Not(Skipped::Gate(Skip::InFlightOnly)),
        Not(Skipped::Gate(Skip::BelowMinimum { .. })) => Not(Skipped::Gate(Skip::BelowMinimum { minimum: 9 })),
        Not(Skipped::Gate(Skip::TaskActive)) => Not(Skipped::Gate(Skip::TaskActive)),
        Not(Skipped::Gate(Skip::CoolingDown { .. })) =>
            Not(Skipped::Gate(Skip::CoolingDown { remaining: Duration::from_secs(90) })),
        Not(Skipped::Gate(Skip::StillFilling { .. })) => Not(Skipped::Gate(Skip::StillFilling { fewest: 4 })),
        Not(Skipped::Gate(Skip::CannotBeTold)) => Not(Skipped::Gate(Skip::CannotBeTold)),
        Not(Skipped::Gate(Skip::NotConsumed)) => Not(Skipped::Gate(Skip::NotConsumed)),
        Not(Skipped::Gate(Skip::MetricsUnreadable { .. })) => Not(Skipped::Gate(Skip::MetricsUnreadable { why: why() })),
        Not(Skipped::NotEnrolled) => Not(Skipped::NotEnrolled),
        Not(Skipped::TaggedNotFound(_)) => Not(Skipped::TaggedNotFound(why())),
        Not(Skipped::NothingToCancel { may_start: false }) => Not(Skipped::NothingToCancel { may_start: false }),
        Not(Skipped::NothingToCancel { may_start: true }) => Not(Skipped::NothingToCancel { may_start: true }),
        Not(Skipped::EndedBeforeCancel) => Not(Skipped::EndedBeforeCancel),
        Not(Skipped::Overtaken) => Not(Skipped::Overtaken),
        Held(Hold::TaskStuck { .. }) => Held(Hold::TaskStuck { status: "PONDERING".to_owned() }),
        Held(Hold::Paused) => Held(Hold::Paused),
        Held(Hold::TagsUnreadable { .. }) => Held(Hold::TagsUnreadable { why: why() }),
        Held(Hold::NotConsumed) => Held(Hold::NotConsumed),
        Held(Hold::MetricsUnreadable { .. }) => Held(Hold::MetricsUnreadable { why: why() }),
        Held(Hold::TasksFailed { .. }) => Held(Hold::TasksFailed { streak: 5, reason: why() }),
        Held(Hold::ParkingFailed { .. }) => Held(Hold::ParkingFailed { reason: why() }),
        Held(Hold::AttemptsExhausted { .. }) => Held(Hold::AttemptsExhausted { streak: 5 }),
        Held(Hold::StillFilling { .. }) => Held(Hold::StillFilling { fewest: 4 }),
        Held(Hold::Braked { .. }) => Held(Hold::Braked { alarm: alarm() }),
        Held(Hold::BrakeUnknown { .. }) => Held(Hold::BrakeUnknown { alarm: alarm(), why: why() }),
        Cancelled { cause: Cause::Requested, .. } => Cancelled { cause: Cause::Requested, handle: handle() },
        Cancelled { cause: Cause::Braked(_), .. } => Cancelled { cause: Cause::Braked(alarm()), handle: handle() },
        Cancelled { cause: Cause::SampleOver, .. } => Cancelled { cause: Cause::SampleOver, handle: handle() },
        Cancelled { cause: Cause::Bouncing, .. } => Cancelled { cause: Cause::Bouncing, handle: handle() },
        WouldCancel { cause: Cause::SampleOver, .. } => WouldCancel { cause: Cause::SampleOver, handle: handle() },
        WouldCancel { cause: Cause::Bouncing, .. } => WouldCancel { cause: Cause::Bouncing, handle: handle() },
        WouldCancel { cause: Cause::Requested, .. } => WouldCancel { cause: Cause::Requested, handle: handle() },
        WouldCancel { cause: Cause::Braked(_), .. } => WouldCancel { cause: Cause::Braked(alarm()), handle: handle() },
        Later(Deferred::StartLimit(_)) => Later(Deferred::StartLimit(20)),
        Later(Deferred::NotLookedAt) => Later(Deferred::NotLookedAt),
        Later(Deferred::NoAnswer) => Later(Deferred::NoAnswer),
        Later(Deferred::StartNotSent) => Later(Deferred::StartNotSent),
        Later(Deferred::StartThrottled) => Later(Deferred::StartThrottled),
        Later(Deferred::AccountLimit(_)) => Later(Deferred::AccountLimit(why())),
        Later(Deferred::StartUnconfirmed) => Later(Deferred::StartUnconfirmed),
        Later(Deferred::NoTimeForSample) => Later(Deferred::NoTimeForSample),
        Wrong(Failed::SampleNotStopped(_)) => Wrong(Failed::SampleNotStopped(why())),
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
        Wrong(Failed::Tags(TaggingError::Endless)) => Wrong(Failed::Tags(TaggingError::Endless)),
        Wrong(Failed::InvalidPolicy(_)) => Wrong(Failed::InvalidPolicy(why())),
        Wrong(Failed::CancelUnconfirmed) => Wrong(Failed::CancelUnconfirmed),
        Wrong(Failed::CancelNotSent) => Wrong(Failed::CancelNotSent),
        Wrong(Failed::StillRunning(_)) => Wrong(Failed::StillRunning(why())),
        Wrong(Failed::NoHandle) => Wrong(Failed::NoHandle),
    ].into()
}

/// A report turns the clause into a sentence; a log line puts the queue's name before it.
#[test]
fn every_outcome_is_described_by_a_clause_on_one_line() {
    for outcome in samples() {
        let clause = outcome.to_string();
        assert_reads_well(&clause, 300);
        assert!(clause.len() > 5 && !clause.ends_with('.'), "{clause}");
        assert_eq!(clause, clause.trim(), "{outcome:?}");
    }
}
