//! What an operator sets for a DLQ, and which settings contradict each other.

use crate::queue::QueueArn;
use std::time::Duration;

/// The rules for one DLQ. Each field names the variable that sets it, and its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `REDRIVE_MAX_MESSAGES_PER_SECOND`, 50: how fast SQS moves messages. `None` (`auto`) lets SQS
    /// choose its own pace.
    pub max_messages_per_second: Option<Rate>,
    /// `REDRIVE_MIN_MESSAGES`, 1: no redrive starts while fewer messages are visible.
    pub min_messages: u64,
    /// `REDRIVE_COOLDOWN`, 15 minutes: the minimum time between two starts on one DLQ.
    pub cooldown: Duration,
    /// `REDRIVE_QUIET_PERIOD`, 10 minutes: after a first redrive, how long the DLQ must not have
    /// grown. Zero turns this gate off.
    pub quiet_period: Duration,
    /// `REDRIVE_PATIENCE`, 12 hours: how long after the last start a DLQ that keeps growing is
    /// redriven anyway.
    pub patience: Duration,
    /// `REDRIVE_MAX_ATTEMPTS`, 5: the number of fruitless redrives in a row after which the
    /// function stops. With a sample, more than five count as five.
    pub max_attempts: u32,
    /// `REDRIVE_ATTEMPT_WINDOW`, 24 hours: move tasks that ended longer ago do not count.
    pub attempt_window: Duration,
    /// `REDRIVE_DESTINATION_ARN`, none: where messages go. `None` sends each back to its own source
    /// queue.
    pub destination: Option<QueueArn>,
    /// `REDRIVE_PARKING_ARN`, none: where the messages go once the attempts are exhausted.
    pub parking: Option<QueueArn>,
    /// Whether messages may go to the parking queue. Not a setting: a request with `force` or with its
    /// own destination turns it off.
    pub may_park: bool,
    /// `REDRIVE_BRAKE_ALARMS`, none: nothing starts while one of these alarms is in ALARM.
    pub brake_alarms: Vec<String>,
    /// `REDRIVE_PAUSED`, false: the kill switch. The function looks and reports, but starts
    /// nothing.
    pub paused: bool,
    /// `REDRIVE_SAMPLE`, 20 seconds: how long the first try runs. At 1 message a second, it moves
    /// about as many messages at most. Zero turns samples off.
    pub sample: Duration,
    /// Whether a request forces the redrive. Not a setting.
    pub forced: bool,
    /// `REDRIVE_DRY_RUN`, false: the function decides and reports, but starts and cancels nothing.
    pub dry_run: bool,
    /// `REDRIVE_SCHEDULE`, none: how often a schedule wakes the function. Not a setting of a DLQ; it shows
    /// whether the attempts can ever be exhausted.
    pub schedule: Option<Duration>,
    /// Why the DLQ's own tags, or those of a queue that its messages go to, could not be read; `None` if
    /// all could. Not a setting.
    pub unread_tags: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        Self {
            max_messages_per_second: Rate::new(50),
            min_messages: 1,
            cooldown: Duration::from_secs(15 * MINUTE),
            quiet_period: Duration::from_secs(10 * MINUTE),
            patience: Duration::from_secs(12 * HOUR),
            max_attempts: 5,
            attempt_window: Duration::from_secs(24 * HOUR),
            destination: None,
            parking: None,
            may_park: true,
            brake_alarms: Vec::new(),
            paused: false,
            sample: Duration::from_secs(20),
            forced: false,
            dry_run: false,
            schedule: None,
            unread_tags: None,
        }
    }
}

impl Policy {
    /// `Err` if SQS cannot move messages of this DLQ to the policy's destination or parking queue.
    pub fn check(&self, dlq: &QueueArn) -> Result<(), DestinationError> {
        [&self.destination, &self.parking]
            .into_iter()
            .flatten()
            .try_for_each(|destination| check_destination(dlq, destination))
    }

    /// Settings that are valid one by one but contradict each other.
    pub fn contradictions(&self) -> Vec<PolicyError> {
        let mut found = Vec::new();
        if self.parking.is_some() && self.parking == self.destination {
            found.push(PolicyError::ParkingIsDestination);
        }
        if self.cooldown > self.longest_wait() {
            found.push(PolicyError::WindowTooShort {
                attempts: self.max_attempts,
                cooldown: self.cooldown,
                window: self.attempt_window,
            });
        }
        let attempts = self.max_attempts.min(self.most_attempts());
        let is_too_slow =
            |schedule: Duration| schedule.saturating_mul(attempts) > self.attempt_window;
        if let Some(schedule) = self.schedule.filter(|schedule| is_too_slow(*schedule)) {
            found.push(PolicyError::ScheduleTooSlow {
                schedule,
                attempts,
                window: self.attempt_window,
            });
        }
        if !self.sample.is_zero() && self.max_messages_per_second == Rate::new(SAMPLE_PACE.into()) {
            found.push(PolicyError::PaceOfSample);
        }
        found
    }

    /// SQS's list of tasks has no room for more than eight attempts, or five with a sample. `None` if
    /// they fit.
    pub fn too_many_attempts(&self) -> Option<PolicyError> {
        let (attempts, most) = (self.max_attempts, self.most_attempts());
        (attempts > most).then_some(PolicyError::TooManyAttempts { attempts, most })
    }

    /// SQS lists ten tasks. With a sample, an attempt takes up to two of them. Without one, two places
    /// are for tasks that were canceled, which are no attempts.
    fn most_attempts(&self) -> u32 {
        match self.sample.is_zero() {
            true => 8,
            false => 5,
        }
    }

    /// The policy to follow: it has no more attempts than SQS's list of tasks has room for.
    #[must_use]
    pub fn with_attempts_that_fit(self) -> Self {
        match self.forced {
            true => self,
            false => Self {
                max_attempts: self.max_attempts.min(self.most_attempts()),
                ..self
            },
        }
    }

    /// The longest wait between two attempts that still fits all of them into the window, with one
    /// wait to spare. With longer waits the first attempt would leave the window before the last
    /// one started, and the attempts would never be exhausted.
    pub fn longest_wait(&self) -> Duration {
        self.attempt_window / self.max_attempts.saturating_add(1)
    }

    /// The policy of a request with `force`. A person has looked, so the DLQ passes the gates that
    /// save effort or wait for better times. The safety gates stay as they are.
    ///
    /// Lambda repeats a failed asynchronous request after one minute and again after two, and each try
    /// takes up to `timeout`. The repeated request must not force a redrive again.
    #[must_use]
    pub fn forced(self, timeout: Duration) -> Self {
        Self {
            min_messages: 1,
            cooldown: FORCED_COOLDOWN.saturating_add(timeout.saturating_mul(2)),
            sample: Duration::ZERO,
            forced: true,
            quiet_period: Duration::ZERO,
            max_attempts: u32::MAX,
            may_park: false,
            ..self
        }
    }
}

/// The pace of a sample, in messages per second. With samples on, no other task of ours has it.
pub const SAMPLE_PACE: u32 = 1;

/// What [`sample_time`] accepts.
pub const ACCEPTED_SAMPLES: &str = "0, or a whole number of seconds from 10 to 30";

/// How long a sample runs; zero turns samples off. `None` if no sample may run for this many
/// seconds.
pub fn sample_time(seconds: u64) -> Option<Duration> {
    matches!(seconds, 0 | 10..=30).then_some(Duration::from_secs(seconds))
}

/// The pauses of Lambda's two retries, and a minute to spare
/// (<https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>).
const FORCED_COOLDOWN: Duration = Duration::from_secs((1 + 2 + 1) * 60);

/// Why messages of a DLQ cannot move to a queue. Checked before any call, because AWS does not
/// document how SQS answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The messages would not move.
    #[error("the destination `{0}` is the DLQ itself")]
    Itself(QueueArn),
    /// SQS moves messages only between queues of the same type.
    #[error(
        "the destination `{destination}` and the DLQ `{dlq}` are of different types: one is FIFO, one is standard"
    )]
    OtherType {
        /// The queue the messages are in.
        dlq: QueueArn,
        /// The configured destination.
        destination: QueueArn,
    },
    /// AWS documents move tasks only within one account and region.
    #[error(
        "the destination `{destination}` is not in the partition, account and region of the DLQ `{dlq}`"
    )]
    Elsewhere {
        /// The queue the messages are in.
        dlq: QueueArn,
        /// The configured destination.
        destination: QueueArn,
    },
}

/// Two or more settings that are valid one by one but contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Every redrive would count as parked, so no streak would ever begin.
    #[error("the parking queue is also the destination, so every redrive would count as parked")]
    ParkingIsDestination,
    /// The attempts would never be exhausted; see [`Policy::longest_wait`].
    #[error(
        "{attempts} attempts with a cooldown of {} do not fit into the attempt window ({}): they would never be exhausted, and a poison message would be redriven forever; make the window at least {} cooldowns",
        humantime::format_duration(*cooldown),
        humantime::format_duration(*window),
        attempts.saturating_add(1)
    )]
    WindowTooShort {
        /// `REDRIVE_MAX_ATTEMPTS`.
        attempts: u32,
        /// `REDRIVE_COOLDOWN`.
        cooldown: Duration,
        /// `REDRIVE_ATTEMPT_WINDOW`.
        window: Duration,
    },
    /// A redrive would look like a sample.
    #[error(
        "a rate of {SAMPLE_PACE} message a second is that of samples; set 2 to 500 or `auto`, or turn samples off (`REDRIVE_SAMPLE=0`)"
    )]
    PaceOfSample,
    /// The first attempt would leave SQS's list before the last attempt started.
    #[error(
        "at most {most} attempts count, not {attempts}: SQS lists ten tasks, an attempt with a sample takes two of them, and canceled tasks take places too; set 1 to {most}"
    )]
    TooManyAttempts {
        /// `REDRIVE_MAX_ATTEMPTS`.
        attempts: u32,
        /// The most that count: 5 with a sample, 8 without.
        most: u32,
    },
    /// The first attempt would leave the window before the last attempt started.
    #[error(
        "a schedule of {} is too slow for {attempts} attempts within the attempt window ({}): they would never be exhausted, and a poison message would be redriven forever; wake the function more often, or make the window at least {}",
        humantime::format_duration(*schedule),
        humantime::format_duration(*window),
        humantime::format_duration(schedule.saturating_mul(*attempts))
    )]
    ScheduleTooSlow {
        /// `REDRIVE_SCHEDULE`.
        schedule: Duration,
        /// `REDRIVE_MAX_ATTEMPTS`, as far as they count.
        attempts: u32,
        /// `REDRIVE_ATTEMPT_WINDOW`.
        window: Duration,
    },
}

/// `Err` if SQS would not, or might not, move messages of `dlq` to `destination`.
pub fn check_destination(dlq: &QueueArn, destination: &QueueArn) -> Result<(), DestinationError> {
    let (dlq, destination) = (dlq.clone(), destination.clone());
    if dlq == destination {
        Err(DestinationError::Itself(destination))
    } else if !dlq.is_beside(&destination) {
        Err(DestinationError::Elsewhere { dlq, destination })
    } else if dlq.is_fifo() != destination.is_fifo() {
        Err(DestinationError::OtherType { dlq, destination })
    } else {
        Ok(())
    }
}

/// The maximum number of messages a move task moves per second. `StartMessageMoveTask` accepts 1 to
/// 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u16);

impl Rate {
    /// `None` outside 1 to 500.
    pub fn new(messages_per_second: u64) -> Option<Self> {
        match u16::try_from(messages_per_second) {
            Ok(rate @ 1..=500) => Some(Self(rate)),
            _ => None,
        }
    }

    /// Messages a second.
    pub fn get(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests;
