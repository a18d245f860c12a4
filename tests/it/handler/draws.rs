//! Whatever SQS leaves open: with every seed, the fake draws another course of each task. These tests
//! use tokio's paused time.

use super::sample::dropped_after;
use super::*;
use crate::support::fake::Draws;
use sqs_auto_redrive::sqs::Sqs;
use std::collections::BTreeMap;

const SEEDS: u64 = 40;
const LETTERS: u64 = 1000;
/// The most that one sample moves: at its pace for its time and the margin for calls, and then after the
/// cancel.
const A_SAMPLE: u64 = 26 + 30;

/// A DLQ whose tasks are drawn, its consumer, and the function that looks every five minutes.
struct World {
    fake: Fake,
    dlq: QueueArn,
    source: QueueArn,
    /// Whether every message comes back.
    is_poison: bool,
    /// By minute, the messages that come back.
    returning: BTreeMap<u64, u64>,
    minute: u64,
    draws: Draws,
    /// For each task by its start, the looks since then that left it RUNNING.
    looks: BTreeMap<std::time::SystemTime, u64>,
}

impl World {
    fn new(draws: Draws, is_poison: bool) -> Self {
        let (dlq, source) = (dlq("orders-dlq"), dlq("orders-dlq-source"));
        let fake = with_source(Fake::default(), &dlq, LETTERS);
        let fake = fake.with(&source, 0).with_draws(&dlq, draws);
        Self {
            fake,
            dlq,
            source,
            is_poison,
            returning: BTreeMap::new(),
            minute: 0,
            draws,
            looks: BTreeMap::new(),
        }
    }

    /// Five minutes: the consumer handles other messages too, and a message that fails is back after the
    /// fall time of 150 seconds.
    fn five_minutes(&mut self) {
        for _ in 0..5 {
            self.minute += 1;
            let back = self.returning.remove(&self.minute).unwrap_or_default();
            self.fake.fall(&self.dlq, back);
            let moved = self.fake.minute_passes(&self.dlq).messages;
            if self.is_poison && moved > 0 {
                *self.returning.entry(self.minute + 3).or_default() += moved;
            }
            let handled = if self.is_poison { 0 } else { moved };
            self.fake.handled(&self.source, 30 + handled);
        }
    }

    /// One look. With `polls`, the invocation is dropped after that many polls.
    async fn look(&mut self, polls: Option<usize>) {
        let invoke = self.fake.invoke(SWEEP).listing(&[&self.dlq]);
        match polls {
            None => _ = invoke.answer().await,
            Some(polls) => _ = dropped_after(polls, invoke.answer()).await,
        }
        self.check_calls();
        let draws = self.draws;
        let tasks = (&self.fake).list_tasks(&self.dlq).await.unwrap();
        self.fake.calls();
        for task in tasks.iter().filter(|task| is_running_sample(task)) {
            let looks = self.looks.entry(task.started_at.unwrap()).or_default();
            *looks += 1;
            // The look that started it is not one after its start.
            assert!(*looks <= 2, "{draws:?}: a sample runs after two looks");
        }
    }

    /// Between two starts the function lists the tasks.
    fn check_calls(&self) {
        let calls = self.fake.calls();
        let mut has_listed = false;
        for call in &calls {
            if call.starts_with("ListMessageMoveTasks") {
                has_listed = true;
            }
            if call.starts_with("StartMessageMoveTask") {
                assert!(has_listed, "{:?}: {calls:?}", self.draws);
                has_listed = false;
            }
        }
    }

    /// Whether the newest task is no sample.
    async fn sends_all(&self) -> bool {
        let tasks = (&self.fake).list_tasks(&self.dlq).await.unwrap();
        self.fake.calls();
        let newest = tasks.first();
        newest.is_some_and(|task| task.max_messages_per_second != Some(1))
    }
}

/// Every seed, with and without lost answers and wrong counts.
fn draws() -> impl Iterator<Item = Draws> {
    let seeds = (0..SEEDS).flat_map(|seed| [(seed, false), (seed, true)]);
    seeds.flat_map(|(seed, loses_answers)| {
        [false, true].map(|miscounts| Draws {
            seed,
            loses_answers,
            miscounts,
        })
    })
}

fn is_running_sample(task: &MoveTask) -> bool {
    task.max_messages_per_second == Some(1) && task.status == TaskStatus::Running
}

#[tokio::test(start_paused = true)]
async fn healthy_consumer_gets_all_whatever_is_drawn_and_a_sample_first() {
    for draws in draws() {
        let mut world = World::new(draws, false);
        let mut sent_all = false;
        for look in 0..120 {
            let (_, moved) = world.fake.left_and_moved(&world.dlq);
            world.look(None).await;
            if !sent_all && world.sends_all().await {
                sent_all = true;
                let samples = world.fake.starts(&world.dlq).len() as u64 - 1;
                assert!(samples > 0, "{draws:?}: no sample went first");
                // A sample whose start is not known to have worked runs until the next look.
                let lost = world.fake.lost_starts(&world.dlq) * 330;
                let most = samples * A_SAMPLE + lost;
                assert!(moved <= most, "{draws:?}: {moved} of at most {most}");
            }
            let (left, moved) = world.fake.left_and_moved(&world.dlq);
            assert_eq!(left + moved, LETTERS, "{draws:?}, look {look}");
            if left == 0 {
                break;
            }
            world.five_minutes();
        }
        let (left, _) = world.fake.left_and_moved(&world.dlq);
        assert_eq!(left, 0, "{draws:?}");
        assert!(sent_all, "{draws:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn poison_moves_in_samples_and_whole_once_whatever_is_drawn() {
    let policy = Policy::default();
    let looks = policy.attempt_window.as_secs() / 300;
    let mut broken = Vec::new();
    for draws in draws() {
        let mut world = World::new(draws, true);
        for _ in 0..looks {
            world.look(None).await;
            world.five_minutes();
        }
        let (_, moved) = world.fake.left_and_moved(&world.dlq);
        let lost = world.fake.lost_starts(&world.dlq) * 330;
        // A count to move that is too high by half of what SQS says has moved, or more, hides
        // that the sample came back. The DLQ then moves whole again, with some seeds twice.
        let whole = if draws.miscounts {
            3 * LETTERS
        } else {
            LETTERS
        };
        let most = u64::from(policy.max_attempts) * A_SAMPLE + whole + lost;
        if moved > most {
            let starts = world.fake.starts(&world.dlq).len();
            broken.push(format!(
                "{draws:?}: {moved} of at most {most}, {starts} starts"
            ));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test(start_paused = true)]
async fn invocation_that_ends_anywhere_loses_nothing_whatever_is_drawn() {
    for draws in draws() {
        let mut dice = fastrand::Rng::with_seed(draws.seed);
        let mut world = World::new(draws, false);
        let (at, polls) = (dice.u64(0..4), dice.usize(1..30));
        for look in 0..120 {
            world.look((look == at).then_some(polls)).await;
            let (left, moved) = world.fake.left_and_moved(&world.dlq);
            assert_eq!(left + moved, LETTERS, "{draws:?}, look {look}");
            world.five_minutes();
            if left == 0 {
                break;
            }
        }
        let (left, moved) = world.fake.left_and_moved(&world.dlq);
        let ended = format!("{draws:?}, after {polls} polls of look {at}");
        assert_eq!((left, moved), (0, LETTERS), "{ended}");
    }
}
