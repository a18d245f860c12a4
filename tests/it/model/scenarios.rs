//! The scenarios: what arrives at a DLQ, and how its consumer behaves.

use super::{DAY, HOUR};

/// What a consumer does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Handled, unless the consumer is down.
    Good,
    /// Never handled.
    Poison,
}

/// What arrives at a source queue, and what its consumer does with it.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    /// How long the scenario runs, in minutes.
    pub minutes: u64,
    /// Messages in the DLQ from the start.
    pub dead: [(Message, u64); 1],
    /// Messages that arrive each minute, in thousandths.
    pub arrivals: u64,
    /// Messages that arrive together in the first minute.
    pub burst: u64,
    /// How many of 1,000 arriving messages are poison.
    pub poison: u64,
    /// How many of 1,000 handlings fail by chance.
    pub chance: u64,
    /// The minute in which the last messages arrive.
    pub arrive_until: u64,
    /// For each minute, how many of 1,000 messages fail because the consumer is down.
    pub down: fn(u64) -> u64,
    /// The minute in which the trouble is over for good; `None` if never.
    pub healed: Option<u64>,
    /// Minutes that a failed message really takes to reach the DLQ.
    pub bounce: u64,
    /// Minutes that it takes by the settings of the source queue.
    pub fall_estimate: u64,
    /// Minutes between two wake-ups.
    pub wake: u64,
    /// Minutes between two runs of the consumer.
    pub batch: u64,
    /// Good messages that the consumer can handle in a minute; the rest fail.
    pub capacity: u64,
    /// Messages that expire each minute.
    pub expire: u64,
    /// Whether somebody polls the DLQ in the console.
    pub console: bool,
}

/// A consumer that works and receives nothing.
pub const QUIET: Scenario = Scenario {
    name: "",
    minutes: DAY,
    dead: [(Message::Good, 0)],
    arrivals: 0,
    burst: 0,
    poison: 0,
    chance: 0,
    arrive_until: u64::MAX,
    down: |_| 0,
    healed: None,
    bounce: 2,
    fall_estimate: 2,
    wake: 5,
    batch: 1,
    capacity: u64::MAX,
    expire: 0,
    console: false,
};

/// An outage of two hours, 30 messages a minute.
const OUTAGE: Scenario = Scenario {
    arrivals: 30_000,
    down: |t| if t < 2 * HOUR { 1000 } else { 0 },
    healed: Some(2 * HOUR),
    ..QUIET
};

pub fn scenarios() -> Vec<Scenario> {
    let mut all = outages();
    all.extend(poison());
    all.extend(mixed());
    all.extend(consumers());
    all
}

fn outages() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "30 min outage, 30 msg/min",
            down: |t| if t < 30 { 1000 } else { 0 },
            healed: Some(30),
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 30 msg/min",
            ..OUTAGE
        },
        Scenario {
            name: "8 h outage, 30 msg/min",
            minutes: 2 * DAY,
            down: |t| if t < 8 * HOUR { 1000 } else { 0 },
            healed: Some(8 * HOUR),
            ..OUTAGE
        },
        Scenario {
            name: "24 h outage, 30 msg/min",
            minutes: 3 * DAY,
            down: |t| if t < DAY { 1000 } else { 0 },
            healed: Some(DAY),
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 1 msg/10 min",
            arrivals: 100,
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 1000 msg/min",
            arrivals: 1_000_000,
            ..OUTAGE
        },
        Scenario {
            name: "half of messages fail for 4 h, 30/min",
            minutes: 2 * DAY,
            down: |t| if t < 4 * HOUR { 500 } else { 0 },
            healed: Some(4 * HOUR),
            ..OUTAGE
        },
        Scenario {
            name: "flapping: 10 min down each hour, 30/min, 2 days",
            minutes: 2 * DAY,
            down: |t| if t % HOUR < 10 { 1000 } else { 0 },
            healed: None,
            ..OUTAGE
        },
        Scenario {
            name: "transient blip: 200 at once, healed after 3 min",
            arrivals: 1000,
            burst: 200,
            arrive_until: 3,
            down: |t| if t < 3 { 1000 } else { 0 },
            healed: Some(3),
            ..QUIET
        },
        Scenario {
            name: "slow bounce (75 min), 2 h outage, 30/min",
            bounce: 75,
            fall_estimate: 75,
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 30/min, woken every 2 h only; 7 days",
            minutes: 7 * DAY,
            wake: 2 * HOUR,
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 30/min, woken once a day only; 7 days",
            minutes: 7 * DAY,
            wake: DAY,
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 30/min, fall 17 min",
            bounce: 17,
            fall_estimate: 17,
            ..OUTAGE
        },
        Scenario {
            name: "2 h outage, 30/min, fall 40 min",
            bounce: 40,
            fall_estimate: 40,
            ..OUTAGE
        },
    ]
}

fn poison() -> Vec<Scenario> {
    let burst = |name, n| Scenario {
        name,
        minutes: 7 * DAY,
        burst: n,
        poison: 1000,
        ..QUIET
    };
    vec![
        Scenario {
            bounce: 30,
            fall_estimate: 30,
            ..burst("slow bounce (30 min), burst of 500 poison, 7 days", 500)
        },
        burst("burst of 500 poison, 7 days", 500),
        burst("one poison message, 7 days", 1),
        Scenario {
            name: "one poison message that falls after 8 h (1,000 receives of 30 s), 14 days",
            minutes: 14 * DAY,
            bounce: 8 * HOUR,
            fall_estimate: 8 * HOUR,
            ..burst("", 1)
        },
        Scenario {
            name: "a batch consumer every hour; 3,000 poison; 7 days",
            dead: [(Message::Poison, 3000)],
            batch: HOUR,
            ..burst("", 0)
        },
        Scenario {
            name: "5,000 poison, somebody polls the DLQ in the console; 1 day",
            minutes: DAY,
            dead: [(Message::Poison, 5000)],
            console: true,
            ..QUIET
        },
        Scenario {
            name: "20,000 poison, 2 a minute expire; 2 days",
            minutes: 2 * DAY,
            dead: [(Message::Poison, 20_000)],
            expire: 2,
            ..QUIET
        },
    ]
}

fn mixed() -> Vec<Scenario> {
    let traffic = |name, minutes, arrivals| Scenario {
        name,
        minutes,
        arrivals,
        ..QUIET
    };
    vec![
        Scenario {
            poison: 1,
            ..traffic("poison 1 in 1000 at 60/min, 7 days", 7 * DAY, 60_000)
        },
        Scenario {
            poison: 100,
            ..traffic("a tenth of 30/min is poison, 3 days", 3 * DAY, 30_000)
        },
        Scenario {
            chance: 10,
            ..traffic("1 % fail once at random, 60/min, 3 days", 3 * DAY, 60_000)
        },
        Scenario {
            poison: 10,
            minutes: 2 * DAY,
            name: "2 h outage, a hundredth poison, 30/min, 2 days",
            healed: None,
            ..OUTAGE
        },
        Scenario {
            name: "200 old poison, then a 2 h outage, 30/min, 3 days",
            minutes: 3 * DAY,
            dead: [(Message::Poison, 200)],
            down: |t| {
                if (DAY..DAY + 2 * HOUR).contains(&t) {
                    1000
                } else {
                    0
                }
            },
            healed: None,
            ..OUTAGE
        },
        Scenario {
            name: "200 poison at the head of a 2 h outage",
            minutes: 2 * DAY,
            dead: [(Message::Poison, 200)],
            ..OUTAGE
        },
        Scenario {
            name: "5,000 poison, good traffic 30/min, fall time taken for 2 min is really 10; 2 days",
            dead: [(Message::Poison, 5000)],
            bounce: 10,
            ..traffic("", 2 * DAY, 30_000)
        },
        Scenario {
            name: "the same, really 30",
            dead: [(Message::Poison, 5000)],
            bounce: 30,
            ..traffic("", 2 * DAY, 30_000)
        },
        Scenario {
            chance: 20,
            ..traffic("2 % fail at random, 1000/min, 2 days", 2 * DAY, 1_000_000)
        },
        Scenario {
            chance: 50,
            ..traffic("5 % fail at random, 30/min, 3 days", 3 * DAY, 30_000)
        },
        Scenario {
            chance: 20,
            burst: 500,
            ..traffic(
                "2 % fail at random, 100/min, and a burst of 500, 2 days",
                2 * DAY,
                100_000,
            )
        },
    ]
}

fn consumers() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "2 h outage, consumer can do 90/min, 30/min arrive",
            minutes: 2 * DAY,
            capacity: 90,
            ..OUTAGE
        },
        Scenario {
            name: "100,000 wait; the consumer breaks 10 min into the redrive, for 1 h; 2 days",
            minutes: 2 * DAY,
            dead: [(Message::Good, 100_000)],
            down: |t| {
                if (10..10 + HOUR).contains(&t) {
                    1000
                } else {
                    0
                }
            },
            ..QUIET
        },
        Scenario {
            name: "a batch consumer every 2 h, well; 3,000 good wait; 7 days",
            minutes: 7 * DAY,
            dead: [(Message::Good, 3000)],
            batch: 2 * HOUR,
            healed: Some(0),
            ..QUIET
        },
    ]
}
