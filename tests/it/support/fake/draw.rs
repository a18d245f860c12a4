//! What SQS and CloudWatch leave open, drawn by a seed: how fast a move task is, how it is counted,
//! how it ends, which answers are lost, how late metrics are.

use std::time::{Duration, SystemTime};

/// What is drawn, beside the course of each task.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    pub seed: u64,
    /// Answers to a start and a cancel are lost now and then.
    pub loses_answers: bool,
    /// SQS is a few messages off when it counts what a task has to move.
    pub miscounts: bool,
}

/// The dice of one queue.
pub(super) struct Draw {
    dice: fastrand::Rng,
    draws: Draws,
    /// How many answers to a start were lost.
    pub lost_starts: u64,
}

/// What becomes of the answer to a call that took effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Arrives,
    /// The caller gets an error.
    Lost,
    /// The SDK sends the call again, and the caller gets the answer to that.
    Repeated,
}

impl Draw {
    pub fn new(draws: Draws) -> Self {
        Self {
            dice: fastrand::Rng::with_seed(draws.seed),
            draws,
            lost_starts: 0,
        }
    }

    /// Each end of the range is as likely as a quarter of all draws.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        match self.dice.u8(0..4) {
            0 => low,
            1 => high,
            _ => self.dice.u64(low..=high),
        }
    }

    fn seconds(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_secs(self.between(low, high))
    }

    /// The course of a task that starts now and has this many messages to move.
    pub fn course(&mut self, started: SystemTime, rate: Option<u16>, total: u64) -> Course {
        let nominal = u64::from(rate.unwrap_or(250));
        Course {
            started,
            total,
            in_thousand_seconds: nominal * self.between(100, 1000),
            step: self.between(1, 5),
            short: self.between(0, 1000),
            late: self.seconds(0, 30),
            more: self.between(0, 30),
            winds_down: self.seconds(1, 60),
            cancelled_at: None,
        }
    }

    /// The number of messages to move as SQS counts it.
    pub fn count_to_move(&mut self, total: u64) -> u64 {
        let off = self.between(0, 6);
        match self.draws.miscounts {
            true => (total + off).saturating_sub(3).max(1),
            false => total,
        }
    }

    pub fn answer(&mut self) -> Answer {
        match self.dice.u8(0..8) {
            0 if self.draws.loses_answers => Answer::Lost,
            1 if self.draws.loses_answers => Answer::Repeated,
            _ => Answer::Arrives,
        }
    }

    /// Datapoints are two minutes late, or missing for up to 15.
    pub fn metrics_delay(&mut self) -> Duration {
        match self.dice.u8(0..4) {
            0 => self.seconds(120, 15 * 60),
            _ => Duration::from_secs(120),
        }
    }
}

/// How one move task goes.
pub(super) struct Course {
    started: SystemTime,
    /// The messages to move.
    pub total: u64,
    in_thousand_seconds: u64,
    /// How many seconds pass between two moves.
    step: u64,
    /// How many thousandths SQS's count is short by.
    short: u64,
    /// How late SQS's count is.
    late: Duration,
    /// How many more messages move after a cancel, at most.
    more: u64,
    /// For how long it is CANCELLING.
    winds_down: Duration,
    pub cancelled_at: Option<SystemTime>,
}

impl Course {
    /// How many messages have moved by this time, if there are as many.
    pub fn moved(&self, at: SystemTime) -> u64 {
        let until = self.cancelled_at.map_or(at, |cancelled| cancelled.min(at));
        let lasted = until.duration_since(self.started).unwrap_or_default();
        let steps = lasted.as_secs() / self.step;
        let before = self.in_thousand_seconds * steps * self.step / 1000;
        let winding = self
            .cancelled_at
            .map(|cancelled| at.duration_since(cancelled));
        let winding = winding.and_then(Result::ok).unwrap_or_default();
        let winding = winding.min(self.winds_down).as_secs();
        let after = self.more * winding / self.winds_down.as_secs();
        (before + after).min(self.total)
    }

    /// How many messages SQS says have moved.
    pub fn counted(&self, at: SystemTime, moved: u64) -> u64 {
        self.moved(at - self.late).min(moved) * (1000 - self.short) / 1000
    }

    /// When it is CANCELLED, if it was canceled.
    pub fn cancelled_by(&self) -> Option<SystemTime> {
        self.cancelled_at
            .map(|cancelled| cancelled + self.winds_down)
    }
}
