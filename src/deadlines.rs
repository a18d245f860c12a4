//! How the time of an invocation is divided, so that it answers before Lambda ends it.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The steps of an invocation, each with the time by which it must end.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For reading tags and looking at DLQs.
    pub look_until: Instant,
    /// For asking CloudWatch.
    pub ask_until: Instant,
    /// The latest time to begin stopping samples.
    pub stop_from: Instant,
    /// For starting and canceling move tasks.
    pub act_until: Instant,
    /// For finding out whether a start without an answer took effect.
    pub confirm_until: Instant,
}

impl Deadlines {
    /// Splits the time that Lambda leaves this invocation.
    ///
    /// A fifth of it, at most five seconds, is kept for CloudWatch, so that a DLQ that does not
    /// answer cannot use it up. The same amount again is kept for the later steps, half of it for
    /// starting redrives.
    pub fn new(time_left: Duration) -> Self {
        let reserve = (time_left / 5).min(Duration::from_secs(5));
        let now = Instant::now();
        let act_until = now + (time_left - reserve / 2);
        Self {
            look_until: now + (time_left - 2 * reserve),
            ask_until: now + (time_left - reserve),
            stop_from: act_until - TO_STOP_A_SAMPLE.min(time_left / 4),
            act_until,
            confirm_until: now + (time_left - reserve / 4),
        }
    }

    /// These deadlines, with time kept for a sample of this length. At least half of the time
    /// for looking remains, and all of it if a sample would come too late even now.
    #[must_use]
    pub fn with_sample(self, sample: Duration) -> Self {
        let now = Instant::now();
        if sample.is_zero() || now > self.latest_start(sample) {
            return self;
        }
        let to_look = self.look_until.saturating_duration_since(now);
        let kept = (sample + TO_STOP_A_SAMPLE).min(to_look / 2);
        Self {
            look_until: self.look_until - kept,
            ask_until: self.ask_until - kept,
            ..self
        }
    }

    /// The latest time to start a sample of this length. One that runs for less than a third of its time
    /// shows too little.
    pub fn latest_start(&self, sample: Duration) -> Instant {
        self.stop_from - sample / 3
    }
}

/// Halfway to `until`, so that one slow call leaves time for the next.
pub fn half_of_time_left(until: Instant) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now) / 2
}

/// Repeats a call while AWS throttles it, for as long as the caller waits.
///
/// The SDK has slowed down and retried before it returns a throttling error. A throttled account
/// makes a sweep slow, but it does not make it fail.
pub async fn retry_while_throttled<A, E>(
    call: impl AsyncFn() -> Result<A, E>,
    is_throttled: impl Fn(&E) -> bool,
) -> Result<A, E> {
    loop {
        match call().await {
            Err(error) if is_throttled(&error) => sleep(THROTTLED_PAUSE).await,
            answer => return answer,
        }
    }
}

/// The time kept to stop samples.
const TO_STOP_A_SAMPLE: Duration = Duration::from_secs(15);

/// How long a throttled call waits before it is repeated.
pub const THROTTLED_PAUSE: Duration = Duration::from_secs(1);
