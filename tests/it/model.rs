//! What the policy is worth: the real function on a DLQ whose consumer fails in many ways, minute by
//! minute over days, beside schedules without guards. No real time passes.
//!
//! `cargo test --test it model:: -- --nocapture` prints the table. docs/how-it-judges.md shows the rows
//! that matter.

mod scenarios;

use crate::support::fake::{Fake, MINUTE, dlq};
use scenarios::{Message, Scenario, scenarios};
use sqs_auto_redrive::config::{Config, Limits};
use sqs_auto_redrive::decision::{Purpose, Start};
use sqs_auto_redrive::policy::Policy;
use sqs_auto_redrive::queue::QueueArn;
use sqs_auto_redrive::sqs::Sqs;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

pub const HOUR: u64 = 60;
pub const DAY: u64 = 24 * HOUR;

/// Who starts redrives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A schedule without guards, every so many minutes.
    Schedule(u64),
    /// The function: with samples or without, with a parking queue or without.
    Policy { sample: bool, parking: bool },
}

const UNTIL_NOW: Rule = Rule::Policy {
    sample: false,
    parking: false,
};
const THE_POLICY: Rule = Rule::Policy {
    sample: true,
    parking: false,
};

const RULES: [(&str, Rule); 6] = [
    ("every hour, no guards", Rule::Schedule(HOUR)),
    ("every 5 min, no guards", Rule::Schedule(5)),
    ("the policy until now", UNTIL_NOW),
    ("the policy", THE_POLICY),
    (
        "with parking, until now",
        Rule::Policy {
            sample: false,
            parking: true,
        },
    ),
    (
        "with parking",
        Rule::Policy {
            sample: true,
            parking: true,
        },
    ),
];

/// What a rule made of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    starts: u64,
    moved: u64,
    failed_again: u64,
    /// Minutes from the heal until the DLQ is empty for good and nothing is on its way back.
    recovered: Option<u64>,
    left: u64,
    parked: u64,
}

/// Gives out thousandths as whole numbers, none lost.
struct Share(u64);

impl Share {
    fn of(&mut self, n: u64, thousandths: u64) -> u64 {
        self.0 += n * thousandths;
        let whole = self.0 / 1000;
        self.0 %= 1000;
        whole
    }
}

/// A source queue with its consumer and DLQ.
struct World {
    scenario: Scenario,
    fake: Fake,
    source: QueueArn,
    dlq: QueueArn,
    /// What is in the DLQ, oldest first.
    dead: VecDeque<(Message, u64)>,
    /// What has failed and is on its way to the DLQ, by the minute it gets there.
    returning: BTreeMap<u64, Vec<(Message, u64)>>,
    /// What waits for a consumer that works in batches: the message, how many, whether redriven.
    waiting: Vec<(Message, u64, bool)>,
    arrivals: Share,
    dice: fastrand::Rng,
    /// How many messages are in the DLQ after each minute.
    depths: Vec<u64>,
}

/// What happened in one minute to messages that a task moved.
#[derive(Default)]
struct Minute {
    moved_back: u64,
    failed_again: u64,
    parked: u64,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let (source, dlq) = (dlq("orders"), dlq("orders-dlq"));
        // An estimate of so many minutes: one receive for each.
        let receives = u32::try_from(scenario.fall_estimate).unwrap();
        let visibility = Duration::from_secs(40);
        let fake = Fake::default()
            .with(&dlq, 0)
            .with_source(&source, &dlq, visibility, receives)
            .roughly(&dlq, seed);
        fake.counts_are(&source, 0, 0);
        let dead = scenario.dead.iter().copied().filter(|(_, n)| *n > 0);
        Self {
            dead: dead.collect(),
            scenario,
            fake,
            source,
            dlq,
            returning: BTreeMap::new(),
            waiting: Vec::new(),
            arrivals: Share(999),
            dice: fastrand::Rng::with_seed(seed),
            depths: Vec::new(),
        }
    }

    /// How many of `n` meet a fate that meets so many of a thousand.
    fn fate(&mut self, n: u64, thousandths: u64) -> u64 {
        match thousandths {
            0 => 0,
            1000.. => n,
            _ => (0..n)
                .filter(|_| self.dice.u64(0..1000) < thousandths)
                .count() as u64,
        }
    }

    fn visible(&self) -> u64 {
        self.dead.iter().map(|(_, n)| n).sum()
    }

    fn is_at_rest(&self) -> bool {
        self.dead.is_empty() && self.returning.is_empty() && self.waiting.is_empty()
    }

    /// One minute: messages arrive, dead letters fall and expire, the active task moves some, the
    /// consumer handles what it can.
    fn minute(&mut self, t: u64) -> Minute {
        let mut minute = Minute::default();
        self.arrive(t);
        self.dead
            .extend(self.returning.remove(&t).unwrap_or_default());
        self.expire();
        let visible = self.visible();
        let read = if self.scenario.console && t % 10 == 9 {
            visible * 2 / 5
        } else {
            0
        };
        self.fake.counts_are(&self.dlq, visible - read, read);
        let moved = self.fake.minute_passes(&self.dlq);
        let mut left = moved.messages;
        while left > 0 {
            let (message, n) = self.dead.pop_front().unwrap();
            let taken = n.min(left);
            left -= taken;
            if n > taken {
                self.dead.push_front((message, n - taken));
            }
            if moved.destination.is_some() {
                minute.parked += taken;
            } else {
                minute.moved_back += taken;
                self.waiting.push((message, taken, true));
            }
        }
        let (handled, failed_again) = self.consume(t);
        minute.failed_again = failed_again;
        self.fake.handled(&self.source, handled);
        self.depths.push(self.visible());
        minute
    }

    fn arrive(&mut self, t: u64) {
        let burst = if t == 0 { self.scenario.burst } else { 0 };
        let is_over = t >= self.scenario.arrive_until;
        let rate = if is_over { 0 } else { self.scenario.arrivals };
        let arrived = burst + self.arrivals.of(1, rate);
        let poison = self.fate(arrived, self.scenario.poison);
        for (message, n) in [(Message::Poison, poison), (Message::Good, arrived - poison)] {
            if n > 0 {
                self.waiting.push((message, n, false));
            }
        }
    }

    fn expire(&mut self) {
        let mut expire = self.scenario.expire;
        if expire == 0 {
            return;
        }
        // The oldest are about to expire.
        let retention = 14 * 24 * 60 * MINUTE;
        self.fake.oldest_age_is(&self.dlq, retention - MINUTE);
        while let Some((message, n)) = self.dead.pop_front() {
            let gone = n.min(expire);
            expire -= gone;
            if n > gone {
                self.dead.push_front((message, n - gone));
                break;
            }
        }
    }

    /// The consumer handles what waits for it. Returns how many it handled, and how many redriven
    /// messages failed.
    fn consume(&mut self, t: u64) -> (u64, u64) {
        if t % self.scenario.batch != 0 {
            return (0, 0);
        }
        let (mut handled, mut failed_again) = (0, 0);
        let mut capacity = self.scenario.capacity;
        for (message, n, is_redriven) in std::mem::take(&mut self.waiting) {
            let failed = match message {
                Message::Poison => n,
                Message::Good => {
                    let down = self.fate(n, (self.scenario.down)(t));
                    let able = (n - down).min(capacity);
                    capacity -= able;
                    (n - able) + self.fate(able, self.scenario.chance)
                }
            };
            handled += n - failed;
            if is_redriven {
                failed_again += failed;
            }
            if failed > 0 {
                let back = self.returning.entry(t + self.scenario.bounce).or_default();
                back.push((message, failed));
            }
        }
        (handled, failed_again)
    }
}

/// Plays a scenario under a rule; `concurrent` invocations run at the same time, as when alarm, schedule
/// and a retry coincide.
async fn play(scenario: Scenario, rule: Rule, concurrent: usize, seed: u64) -> (Run, World) {
    let mut world = World::new(scenario, seed);
    let parking = matches!(rule, Rule::Policy { parking: true, .. });
    let sample = match rule {
        Rule::Policy { sample: false, .. } => Duration::ZERO,
        _ => Policy::default().sample,
    };
    let config = Config {
        queues: vec![world.dlq.clone()],
        enroll_tag: None,
        policy: Policy {
            parking: parking.then(|| dlq("parking")),
            sample,
            ..Policy::default()
        },
        limits: Limits {
            max_starts: 20,
            concurrency: 64,
        },
    };
    let mut run = Run::default();
    let mut alarm_at = None;
    let mut last_busy = 0;
    for t in 0..world.scenario.minutes {
        let was_empty = world.visible() == 0;
        let minute = world.minute(t);
        run.moved += minute.moved_back;
        run.failed_again += minute.failed_again;
        run.parked += minute.parked;
        if (was_empty || t == 0) && world.visible() > 0 {
            alarm_at = Some(t);
        }
        if !world.is_at_rest() {
            last_busy = t;
        }
        // Those who look rarely look an hour before the round hour.
        let is_due = (t + HOUR) % world.scenario.wake == 0;
        let is_awake = is_due || alarm_at == Some(t);
        match rule {
            Rule::Schedule(every) if (t + HOUR) % every.max(world.scenario.wake) == 0 => {
                start_everything(&world).await;
            }
            Rule::Policy { .. } if is_awake => wake(&world, &config, concurrent).await,
            _ => {}
        }
    }
    run.starts = world.fake.starts(&world.dlq).len() as u64;
    run.left = world.visible();
    run.recovered = world
        .scenario
        .healed
        .filter(|_| world.is_at_rest() || run.left == 0 && world.returning.is_empty())
        .map(|healed| (last_busy + 1).saturating_sub(healed));
    (run, world)
}

async fn start_everything(world: &World) {
    if world.visible() == 0 {
        return;
    }
    let start = Start {
        destination: None,
        max_messages_per_second: Policy::default().max_messages_per_second,
        purpose: Purpose::All,
    };
    let fake = &world.fake;
    // SQS refuses it while a task is active.
    let _ = fake.start(&world.dlq, &start).await;
}

async fn wake(world: &World, config: &Config, concurrent: usize) {
    let function = world.fake.function(config.clone());
    let invocation = world.fake.invocation();
    let sweep = include_str!("../../events/schedule-eventbridge-rule.json");
    let invocations = (0..concurrent).map(|_| function.invoke(sweep, &invocation));
    for answer in futures_util::future::join_all(invocations).await {
        let answer = answer.unwrap().result();
        assert!(answer.is_ok(), "{}: {answer:?}", world.scenario.name);
        if std::env::var("TRACE").is_ok() {
            let report = answer.unwrap();
            println!(
                "{:?} {} {} {}",
                invocation
                    .now
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
                    / 60
                    - 30_000_000,
                world.visible(),
                report.queues[0].reason.code(),
                report.queues[0].detail
            );
        }
    }
    world.fake.calls();
}

/// The row of the target, by scenario and rule.
fn target(scenario: &str, rule: &str) -> Option<Run> {
    let table = include_str!("model/target.md");
    let row = table.lines().find_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0] == scenario && cells[1] == rule).then_some(cells)
    })?;
    let number = |n: usize| row[n].parse().unwrap();
    Some(Run {
        starts: number(2),
        moved: number(3),
        failed_again: number(4),
        recovered: row[5].parse().ok(),
        left: number(6),
        parked: number(7),
    })
}

/// Within five minutes and a tenth of the target, or better. Ten messages are up to the dice.
fn is_as_good(got: &Run, target: &Run, has_poison: bool) -> bool {
    let within = |got: u64, target: u64| got <= target + target / 10 + 10;
    // Poison is parked sooner or later: the dice say how much has failed by then, and how much is left.
    let (failed, left) = match has_poison && target.parked > 0 {
        true => (
            within(
                got.failed_again + got.left,
                target.failed_again + target.left,
            ),
            true,
        ),
        false => (
            within(got.failed_again, target.failed_again),
            within(got.left, target.left),
        ),
    };
    failed
        && left
        && (has_poison || within(got.parked, target.parked))
        && match (got.recovered, target.recovered) {
            (Some(got), Some(target)) => got <= target + 5 + target / 10,
            (_, None) => true,
            (None, Some(_)) => false,
        }
}

fn line(table: &mut String, scenario: &str, rule: &str, run: &Run) {
    let Run {
        starts,
        moved,
        failed_again,
        recovered,
        left,
        parked,
    } = run;
    let recovered = recovered.map_or("–".to_owned(), |minutes| minutes.to_string());
    writeln!(table, "| {scenario} | {rule} | {starts} | {moved} | {failed_again} | {recovered} | {left} | {parked} |").unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_policy_meets_its_target_in_every_scenario() {
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut table = String::new();
    let mut worse = Vec::new();
    for scenario in scenarios().into_iter().filter(|it| it.name.contains(&only)) {
        for (rule_name, rule) in RULES {
            let (run, _) = play(scenario.clone(), rule, 1, seed).await;
            line(&mut table, scenario.name, rule_name, &run);
            let target = target(scenario.name, rule_name).expect(scenario.name);
            let has_poison = scenario.poison > 0 || scenario.dead[0].0 == Message::Poison;
            if !is_as_good(&run, &target, has_poison) && matches!(rule, Rule::Policy { .. }) {
                worse.push(format!(
                    "{}, {rule_name}:\n  {run:?}\n  {target:?}",
                    scenario.name
                ));
            }
        }
    }
    println!("{table}");
    assert!(worse.is_empty(), "\n{}", worse.join("\n"));
}
