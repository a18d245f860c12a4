//! What the policy is worth. The real function runs minute by minute over days on a DLQ whose
//! consumer fails in many ways. Schedules without guards run for comparison. No real time passes.
//!
//! `cargo test --test it model:: -- --nocapture` prints the table. docs/how-it-judges.md shows the
//! rows that matter.

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
    /// A schedule without guards; the minutes between two starts.
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

/// The results of a scenario under a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    starts: u64,
    moved: u64,
    failed_again: u64,
    /// Minutes from the recovery until the DLQ is empty for good and no message is on its way back.
    recovered: Option<u64>,
    left: u64,
    parked: u64,
    /// Good messages among `left` and `parked`.
    good_left: u64,
    good_parked: u64,
}

/// Distributes thousandths as whole numbers, without losing any.
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
    /// The messages in the DLQ, oldest first.
    dead: VecDeque<(Message, u64)>,
    /// Failed messages on their way to the DLQ, by the minute they arrive there.
    returning: BTreeMap<u64, Vec<(Message, u64)>>,
    /// What waits for a consumer that works in batches: the message, the number, and whether it was
    /// redriven.
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
    good_parked: u64,
}

impl World {
    fn new(scenario: Scenario, seed: u64) -> Self {
        let (source, dlq) = (dlq("orders"), dlq("orders-dlq"));
        // The source queue's settings give this estimate: one receive per minute.
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

    /// How many of `n` messages are hit, if `thousandths` of a thousand are.
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
                if message == Message::Good {
                    minute.good_parked += taken;
                }
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

    /// The consumer handles the messages that wait for it. Returns the number of handled messages
    /// and the number of redriven messages that failed.
    fn consume(&mut self, t: u64) -> (u64, u64) {
        if !t.is_multiple_of(self.scenario.batch) {
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

/// Plays a scenario under a rule. `concurrent` invocations run at the same time, as when an alarm,
/// a schedule and a retry coincide.
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
        run.good_parked += minute.good_parked;
        if (was_empty || t == 0) && world.visible() > 0 {
            alarm_at = Some(t);
        }
        if !world.is_at_rest() {
            last_busy = t;
        }
        // A function that wakes rarely wakes an hour before the full hour.
        let is_due = (t + HOUR).is_multiple_of(world.scenario.wake);
        let is_awake = is_due || alarm_at == Some(t);
        match rule {
            Rule::Schedule(every) if (t + HOUR).is_multiple_of(every.max(world.scenario.wake)) => {
                start_everything(&world).await;
            }
            Rule::Policy { .. } if is_awake => wake(&world, &config, concurrent).await,
            _ => {}
        }
    }
    run.starts = world.fake.starts(&world.dlq).len() as u64;
    run.left = world.visible();
    let good = world
        .dead
        .iter()
        .filter(|(message, _)| *message == Message::Good);
    run.good_left = good.map(|(_, n)| n).sum();
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
    // SQS refuses the start while a task is active.
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
        ..Run::default()
    })
}

/// Within five minutes and a tenth of the target, or better. Ten messages are left to chance.
fn is_as_good(got: &Run, target: &Run, has_poison: bool) -> bool {
    let within = |got: u64, target: u64| got <= target + target / 10 + 10;
    // Poison is parked sooner or later: chance decides how much has failed by then, and how much is
    // left.
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
        ..
    } = run;
    let recovered = recovered.map_or("–".to_owned(), |minutes| minutes.to_string());
    writeln!(table, "| {scenario} | {rule} | {starts} | {moved} | {failed_again} | {recovered} | {left} | {parked} |").unwrap();
}

/// What is worse than the target, under the rules of the function.
async fn worse_than_target(seed: u64, table: &mut String, rules: &[(&str, Rule)]) -> Vec<String> {
    let mut worse = Vec::new();
    for scenario in scenarios() {
        for (rule_name, rule) in rules {
            let (run, _) = play(scenario.clone(), *rule, 1, seed).await;
            line(table, scenario.name, rule_name, &run);
            let target = target(scenario.name, rule_name).expect(scenario.name);
            let has_poison = scenario.poison > 0 || scenario.dead[0].0 == Message::Poison;
            if !is_as_good(&run, &target, has_poison) && matches!(rule, Rule::Policy { .. }) {
                let name = scenario.name;
                worse.push(format!(
                    "{name}, {rule_name}, seed {seed}:\n  {run:?}\n  {target:?}"
                ));
            }
        }
    }
    worse
}

#[tokio::test(start_paused = true)]
async fn the_policy_meets_its_target_in_every_scenario() {
    let mut table = String::new();
    let worse = worse_than_target(7, &mut table, &RULES).await;
    println!("{table}");
    assert!(worse.is_empty(), "\n{}", worse.join("\n"));
    let document = include_str!("../../docs/how-it-judges.md");
    let (_, shown) = document.split_once("<!-- model -->").unwrap();
    let (shown, _) = shown.split_once("<!-- /model -->").unwrap();
    let rows = shown.lines().filter(|line| line.starts_with("| ")).skip(1);
    assert!(
        rows.clone().count() > 10,
        "docs/how-it-judges.md shows the model run"
    );
    for row in rows {
        let is_printed = table.lines().any(|line| line == row);
        assert!(
            is_printed,
            "docs/how-it-judges.md shows a row that the model run did not print: {row}"
        );
    }
}

/// Chance decides what a sample moves, what SQS reports about it, and which messages fail. Whatever
/// the seed, a sample spares a backlog of poison if the fall time is estimated right. After an
/// outage it costs at most a fall time and two looks.
#[tokio::test(start_paused = true)]
async fn the_policy_meets_its_target_whatever_the_seed() {
    let mut seen = [0, 0];
    for scenario in scenarios() {
        let name = scenario.name;
        let has_backlog = scenario.burst.max(scenario.dead[0].1) > 40;
        let is_poison = scenario.poison == 1000 || scenario.dead[0].0 == Message::Poison;
        let is_estimate_right = scenario.bounce == scenario.fall_estimate;
        let is_pure_poison =
            is_poison && has_backlog && scenario.arrivals == 0 && is_estimate_right;
        let is_outage = scenario.healed.is_some() && !is_poison && scenario.capacity == u64::MAX;
        if !is_pure_poison && !is_outage {
            continue;
        }
        seen[usize::from(is_outage)] += 1;
        for seed in 1..=5 {
            let (old, _) = play(scenario.clone(), UNTIL_NOW, 1, seed).await;
            let (new, _) = play(scenario.clone(), THE_POLICY, 1, seed).await;
            if is_outage {
                let paid = new
                    .recovered
                    .unwrap()
                    .saturating_sub(old.recovered.unwrap());
                let most = scenario.fall_estimate + 2 * scenario.wake.max(scenario.batch);
                assert!(paid <= most, "{name}, seed {seed}: {paid} minutes later");
            } else {
                let share = if scenario.expire > 0 || scenario.console {
                    3
                } else {
                    4
                };
                let is_spared = new.failed_again * share <= old.failed_again;
                // Someone who polls the DLQ makes it seem to grow, which stops the policy without
                // samples.
                let is_spared =
                    is_spared || scenario.console && new.failed_again < old.failed_again;
                assert!(is_spared, "{name}, seed {seed}: {new:?} {old:?}");
            }
        }
    }
    assert!(seen[0] >= 3 && seen[1] >= 8, "{seen:?}");
}

/// A random scenario of two days: arrivals, outages, poison, bursts, wrong fall times, rare
/// wake-ups.
fn random_world(dice: &mut fastrand::Rng) -> Scenario {
    const NEVER: fn(u64) -> u64 = |_| 0;
    const OUTAGES: [fn(u64) -> u64; 5] = [
        NEVER,
        |t| if (300..360).contains(&t) { 1000 } else { 0 },
        |t| if (300..780).contains(&t) { 1000 } else { 0 },
        |t| if t % 480 < 30 { 1000 } else { 0 },
        |t| if (300..540).contains(&t) { 400 } else { 0 },
    ];
    let pick = |dice: &mut fastrand::Rng, of: &[u64]| of[dice.usize(..of.len())];
    let bounce = pick(dice, &[2, 3, 5, 10, 20]);
    let wrong = pick(dice, &[1, 1, 1, 2, 5]);
    Scenario {
        name: "a random scenario",
        minutes: 2 * DAY,
        arrivals: dice.u64(0..=300_000),
        // In thousandths; a steady tenth of poison is rare.
        poison: match dice.u64(..20) {
            0..10 => 0,
            10..14 => 1,
            14..19 => 10,
            _ => 100,
        },
        chance: pick(dice, &[0, 0, 0, 5, 20]),
        dead: [(
            if dice.bool() {
                Message::Good
            } else {
                Message::Poison
            },
            pick(dice, &[0, 0, 30, 500, 5000]),
        )],
        down: OUTAGES[dice.usize(..OUTAGES.len())],
        bounce,
        fall_estimate: (bounce / wrong).max(1),
        wake: pick(dice, &[5, 5, 15, 60]),
        ..scenarios::QUIET
    }
}

/// Worse by half, and by more than chance explains.
fn is_worse_by_half(new: u64, old: u64) -> bool {
    new > old + old / 2 + 50
}

/// Set `WORLDS_SEED` to play other random scenarios.
#[tokio::test(start_paused = true)]
async fn samples_halve_the_failures_of_random_scenarios_and_seldom_harm() {
    let seed = std::env::var("WORLDS_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("WORLDS_SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let (mut old_failures, mut new_failures) = (0, 0);
    let mut worse = [0, 0, 0];
    const WORLDS: u64 = 100;
    for n in 0..WORLDS {
        let scenario = random_world(&mut dice);
        let with_parking = n % 2 == 0;
        let rule = |sample| Rule::Policy {
            sample,
            parking: with_parking,
        };
        let (old, _) = play(scenario.clone(), rule(false), 1, n).await;
        let (new, _) = play(scenario.clone(), rule(true), 1, n).await;
        old_failures += old.failed_again;
        new_failures += new.failed_again;
        let harms = [
            is_worse_by_half(new.failed_again, old.failed_again),
            is_worse_by_half(new.good_left, old.good_left),
            is_worse_by_half(new.good_parked, old.good_parked),
        ];
        for (count, harm) in worse.iter_mut().zip(harms) {
            *count += u64::from(harm);
        }
        if harms.contains(&true) {
            let Scenario {
                arrivals,
                poison,
                chance,
                dead,
                bounce,
                fall_estimate,
                wake,
                ..
            } = scenario;
            println!(
                "world {n} {harms:?}: {arrivals} {poison} {chance} {dead:?} {bounce}/{fall_estimate} {wake}\n  {old:?}\n  {new:?}"
            );
        }
    }
    println!("failures {old_failures} -> {new_failures}, worse {worse:?} of {WORLDS}");
    assert!(
        new_failures * 2 <= old_failures,
        "seed {seed}: {old_failures} -> {new_failures}"
    );
    assert!(
        worse.iter().all(|worse| worse * 10 <= WORLDS),
        "seed {seed}: {worse:?}"
    );
}

/// If `OUTAGE_DATA` is set, as `make pictures` does, the data go to that file instead.
#[tokio::test(start_paused = true)]
async fn the_picture_of_an_outage_shows_the_model_run() {
    let mut scenarios = scenarios().into_iter();
    let outage = scenarios
        .find(|it| it.name == "2 h outage, 30 msg/min")
        .unwrap();
    let mut data = String::new();
    let mut labels = Vec::new();
    for (rule_name, rule) in [RULES[0], RULES[1], RULES[3]] {
        let (run, world) = play(outage.clone(), rule, 1, 7).await;
        let recovered = run.recovered.unwrap();
        let shown = usize::try_from(3 * HOUR + HOUR / 3).unwrap();
        assert!(world.depths[shown..].iter().all(|depth| *depth == 0));
        let data_of_rule = serde_json::json!({
            "rule": rule_name,
            "starts": run.starts,
            "failedAgain": run.failed_again,
            "recovered": recovered,
            "depths": &world.depths[..shown],
        });
        writeln!(data, "{data_of_rule}").unwrap();
        let failed_again = run.failed_again;
        labels.push(format!(
            ">{failed_again} messages failed again · empty {recovered} min after the outage<"
        ));
    }
    if let Some(file) = std::env::var_os("OUTAGE_DATA") {
        return std::fs::write(file, data).unwrap();
    }
    let picture = std::fs::read_to_string("docs/outage.svg").unwrap();
    assert!(
        picture.contains(&format!("<metadata>\n{data}</metadata>")),
        "docs/outage.svg shows another model run; run `make pictures`"
    );
    for label in labels {
        let drawn = picture.replace(',', "");
        assert!(drawn.contains(&label), "docs/outage.svg lacks: {label}");
    }
}

/// The most starts on the DLQ within any attempt window.
fn most_starts_in_a_window(world: &World) -> usize {
    let starts = world.fake.starts(&world.dlq);
    let within = |from: usize| {
        let window = Policy::default().attempt_window;
        let since = |at: &std::time::SystemTime| at.duration_since(starts[from].0).unwrap();
        starts[from..]
            .iter()
            .take_while(|(at, _)| since(at) < window)
            .count()
    };
    (0..starts.len()).map(within).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn starts_stay_below_the_limit_while_nothing_heals() {
    let limit = usize::try_from(Policy::default().max_attempts).unwrap();
    let is_poison = |it: &Scenario| it.poison == 1000 && it.bounce < HOUR;
    for scenario in scenarios().into_iter().filter(is_poison) {
        for rule in [UNTIL_NOW, THE_POLICY] {
            for concurrent in [1, 3] {
                let (run, world) = play(scenario.clone(), rule, concurrent, 7).await;
                assert!(run.starts > 0);
                let most = most_starts_in_a_window(&world);
                let name = scenario.name;
                assert!(
                    most <= limit,
                    "{name}: {most} starts in a window, {concurrent} concurrent invocations"
                );
            }
        }
    }
}

/// In a DLQ with nothing but poison, all messages move once a window; otherwise only samples move.
#[tokio::test(start_paused = true)]
async fn poison_moves_whole_once_a_window_and_otherwise_only_in_samples() {
    let scenario = Scenario {
        minutes: DAY,
        ..scenarios()
            .into_iter()
            .find(|it| it.name == "burst of 500 poison, 7 days")
            .unwrap()
    };
    for seed in 0..5 {
        let (run, _) = play(scenario.clone(), THE_POLICY, 1, seed).await;
        assert!(run.moved <= 500 + 4 * 26, "{run:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_concurrent_invocations_do_no_more_than_one() {
    for scenario in scenarios() {
        let rule = RULES[5].1;
        let (one, _) = play(scenario.clone(), rule, 1, 7).await;
        let (three, _) = play(scenario.clone(), rule, 3, 7).await;
        assert_eq!(one, three, "{}", scenario.name);
    }
}
