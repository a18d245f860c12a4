//! Two invocations that take turns at every call, brakes that go on and off between any two of their
//! calls, limits and outages. A seed draws each order. `INTERLEAVED_SEED=<seed>` repeats one.

use super::sample::dropped_after;
use super::*;
use futures_util::future::join3;
use sqs_auto_redrive::config::EnrollTag;
use sqs_auto_redrive::handler::{Answer, Function};
use sqs_auto_redrive::policy::Rate;

/// The brake of the environment, by the name in the sample events.
const OF_ALL: &str = "orders consumer is down";
const BRAKE_ON: &str = include_str!("../../../events/brake-alarm.json");
const BRAKE_OFF: &str = include_str!("../../../events/brake-ok.json");
const REDRIVE: &str = r#"{"action": "redrive", "queues": "all"}"#;
const FORCE: &str = r#"{"action": "redrive", "queues": "all", "force": true}"#;

/// This many seeds, printed so that a failure shows its own as the last one; or the one to repeat.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("INTERLEAVED_SEED").ok();
    let only: Option<u64> = only.map(|seed| seed.parse().expect("INTERLEAVED_SEED is a number"));
    let first = only.unwrap_or_else(|| fastrand::u64(..u64::MAX - count));
    let seeds = first..=first + if only.is_some() { 0 } else { count - 1 };
    seeds.inspect(|seed| println!("INTERLEAVED_SEED={seed}"))
}

/// Shuffles a world's parts.
struct Dice(fastrand::Rng);

impl Dice {
    fn one_in(&mut self, n: u8) -> bool {
        self.0.u8(0..n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.0.usize(0..all.len())]
    }
}

// Brakes

/// Three DLQs, of which two have a brake of their own in a tag.
struct Braked<'a> {
    fake: &'a Fake,
    dlqs: &'a [QueueArn; 3],
    /// Two processes.
    functions: [Function<&'a Fake, &'a Fake, &'a Fake>; 2],
    dice: Dice,
}

/// The brakes of the DLQs' own tags. The first DLQ has none.
const OWN: [&str; 3] = ["", "own of b", "own of c"];

fn braked_fake(dlqs: &[QueueArn; 3], seed: u64, has_samples: bool) -> Fake {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let mut fake = Fake::default().with_jitter(seed);
    for (queue, own) in dlqs.iter().zip(OWN) {
        let visible = dice.0.u64(5..2000);
        fake = match has_samples {
            true => with_source(fake, queue, visible),
            false => fake.with(queue, visible),
        };
        let tags = [("brake-alarms", own)];
        fake = fake.with_tags(queue, &tags[..usize::from(!own.is_empty())]);
        if dice.one_in(4) {
            fake = fake.with_throttling(queue, dice.0.usize(1..8));
        }
        if dice.one_in(4) {
            let (repeated, unreachable) = (LostAnswer::Repeated, LostAnswer::Unreachable);
            let how = dice.of(&[repeated, unreachable, LostAnswer::Silence]);
            fake = fake.with_lost_start(queue, how);
        }
        if dice.one_in(4) {
            let latency = Duration::from_secs(dice.0.u64(1..12));
            fake = fake.with_slow_start(queue, latency);
        }
    }
    for alarm in [OF_ALL, OWN[1], OWN[2]] {
        fake.alarm_is(alarm, BrakeState::Off);
    }
    fake
}

impl<'a> Braked<'a> {
    fn new(fake: &'a Fake, dlqs: &'a [QueueArn; 3], seed: u64, has_samples: bool) -> Self {
        let mut dice = Dice(fastrand::Rng::with_seed(seed ^ 1));
        let tag = EnrollTag {
            key: "auto-redrive".to_owned(),
            value: Some("enabled".to_owned()),
        };
        let policy = Policy {
            cooldown: MINUTE,
            // So slow that tasks are still RUNNING when the brake goes on.
            max_messages_per_second: Rate::new(2),
            sample: Duration::from_secs(if has_samples { 20 } else { 0 }),
            ..braked(OF_ALL)
        };
        let concurrency = dice.0.usize(1..4);
        let config = || Config {
            queues: vec![dlqs[0].clone()],
            enroll_tag: Some(tag.clone()),
            policy: policy.clone(),
            limits: Limits {
                concurrency,
                ..fake.config().limits
            },
        };
        Self {
            fake,
            dlqs,
            functions: [fake.function(config()), fake.function(config())],
            dice,
        }
    }

    /// Two invocations at once, of one process or of two, while the brakes go on and off. Either may be
    /// killed. Lambda retries one that fails.
    async fn round(&mut self) {
        let event = |dice: &mut Dice| {
            let alarm = ALARM.replace("orders-dlq", "a-dlq");
            let alarm = alarm.as_str();
            let events = [SWEEP, SWEEP, alarm, BRAKE_ON, BRAKE_OFF, FORCE, CANCEL];
            dice.of(&events).to_owned()
        };
        let events = [event(&mut self.dice), event(&mut self.dice)];
        let polls = [0, 1].map(|_| match self.dice.one_in(4) {
            true => self.dice.0.usize(1..60),
            false => usize::MAX,
        });
        let which = [self.dice.0.usize(0..2), self.dice.0.usize(0..2)];
        let (fake, functions) = (self.fake, &self.functions);
        let invoke = async |n: usize| {
            for _ in 0..2 {
                let (event, invocation) = (&events[n], fake.invocation());
                let answer = functions[which[n]].invoke(event, &invocation);
                let answer = dropped_after(polls[n], answer).await;
                let is_failed = answer.is_some_and(|it| it.and_then(Answer::result).is_err());
                if !is_failed {
                    return;
                }
            }
        };
        let flips = flip(fake, &mut self.dice);
        join3(invoke(0), invoke(1), flips).await;
        for queue in self.dlqs {
            for _ in 0..self.dice.0.usize(0..4) {
                fake.minute_passes(queue);
            }
            if self.dice.one_in(3) {
                fake.fall(queue, self.dice.0.u64(1..100));
            }
        }
    }

    /// A brake goes on and stays on, and the function looks once more. Returns how many tasks were
    /// RUNNING before.
    async fn look_under_a_brake(&mut self) -> usize {
        let alarm = self.dice.of(&[OF_ALL, OF_ALL, OWN[1], OWN[2]]);
        for other in [OF_ALL, OWN[1], OWN[2]] {
            self.fake.alarm_is(other, BrakeState::Off);
        }
        self.fake.alarm_is(alarm, BrakeState::On);
        // SQS's counts settle.
        self.dlqs
            .iter()
            .for_each(|queue| _ = self.fake.minute_passes(queue));
        let guarded = self.dlqs.iter().zip(OWN);
        let guarded = guarded.filter(|(_, own)| alarm == OF_ALL || alarm == *own);
        let guarded: Vec<&QueueArn> = guarded.map(|(queue, _)| queue).collect();
        let running = guarded.iter().filter(|queue| self.fake.is_running(queue));
        let before = running.count();
        let starts = |queue: &QueueArn| self.fake.starts(queue).len();
        let started: Vec<usize> = guarded.iter().map(|queue| starts(queue)).collect();
        // The event of a brake of a tag wakes nobody.
        let looks = [SWEEP, FORCE, BRAKE_ON];
        let event = self.dice.of(&looks[..2 + usize::from(alarm == OF_ALL)]);
        let function = &self.functions[self.dice.0.usize(0..2)];
        let invocation = self.fake.invocation();
        function.invoke(event, &invocation).await.unwrap();
        for (queue, started) in guarded.iter().zip(started) {
            assert!(!self.fake.is_running(queue), "{queue} under `{alarm}`");
            assert_eq!(starts(queue), started, "{queue} under `{alarm}`");
        }
        self.fake.alarm_is(alarm, BrakeState::Off);
        before
    }
}

/// The brakes go on and off, now and then.
async fn flip(fake: &Fake, dice: &mut Dice) {
    for _ in 0..dice.0.usize(0..6) {
        match dice.0.bool() {
            true => tokio::time::sleep(Duration::from_millis(dice.0.u64(0..15_000))).await,
            false => {
                for _ in 0..dice.0.usize(0..40) {
                    tokio::task::yield_now().await;
                }
            }
        }
        let alarm = dice.of(&[OF_ALL, OWN[1], OWN[2]]);
        let states = [BrakeState::On, BrakeState::Off];
        fake.alarm_is(alarm, states[usize::from(dice.0.bool())].clone());
    }
}

async fn no_task_runs_on_under_a_brake(has_samples: bool) {
    let dlqs = ["a-dlq", "b-dlq", "c-dlq"].map(dlq);
    let (mut looks, mut were_running) = (0, 0);
    for seed in seeds(150) {
        let fake = braked_fake(&dlqs, seed, has_samples);
        let mut world = Braked::new(&fake, &dlqs, seed, has_samples);
        for _ in 0..4 {
            for _ in 0..world.dice.0.usize(1..3) {
                world.round().await;
            }
            looks += 1;
            were_running += world.look_under_a_brake().await;
        }
    }
    println!("{were_running} tasks were RUNNING before {looks} looks");
    assert!(were_running * 20 > looks, "{were_running} of {looks}");
}

#[tokio::test(start_paused = true)]
async fn no_order_of_events_leaves_a_task_running_under_a_brake_after_the_next_look() {
    no_task_runs_on_under_a_brake(false).await;
}

#[tokio::test(start_paused = true)]
async fn no_order_of_events_leaves_a_sample_or_its_rest_running_under_a_brake() {
    no_task_runs_on_under_a_brake(true).await;
}

// Requests

/// DLQs in any state behind an SQS with any limits.
struct Limited {
    fake: Fake,
    dlqs: Vec<QueueArn>,
    config: Config,
    time_left: Duration,
}

/// Without limits, SQS and the function do all that is asked.
fn limited(seed: u64, has_limits: bool) -> Limited {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let dlqs: Vec<QueueArn> = (0..dice.0.usize(1..7))
        .map(|n| dlq(&format!("dlq-{n}")))
        .collect();
    let has_samples = dice.one_in(2);
    let mut fake = Fake::default().with_jitter(seed);
    for queue in &dlqs {
        let visible = if dice.one_in(5) {
            0
        } else {
            dice.0.u64(1..400)
        };
        fake = match has_samples {
            true => with_source(fake, queue, visible),
            false => fake.with(queue, visible),
        };
        if dice.one_in(3) {
            let (status, ago) = dice.of(&[
                ("COMPLETED", 5 * MINUTE),
                ("COMPLETED", 20 * HOUR),
                ("RUNNING", MINUTE),
                ("CANCELLING", MINUTE),
            ]);
            let past = task(&fake, status, visible.max(1), ago);
            fake = fake.with_task(queue, past);
        }
        let limit = dice.0.u8(0..12);
        let (calls, seconds) = (dice.0.usize(1..200), dice.0.u64(1..10));
        if has_limits {
            fake = with_limit(fake, queue, limit, calls, Duration::from_secs(seconds));
        }
    }
    let mut config = fake.config();
    config.policy.sample = Duration::from_secs(if has_samples { 20 } else { 0 });
    let (concurrency, max_starts) = (dice.0.usize(1..4), dice.0.usize(1..5));
    let time_left = Duration::from_secs(dice.of(&[6, 30, 60]));
    if has_limits {
        config.limits = Limits {
            concurrency,
            max_starts,
        };
    }
    Limited {
        fake,
        dlqs,
        config,
        time_left: if has_limits { time_left } else { HOUR },
    }
}

fn with_limit(fake: Fake, queue: &QueueArn, n: u8, calls: usize, time: Duration) -> Fake {
    let fault = |operation| {
        let error = SqsError::AccessDenied("not authorized".to_owned());
        (operation, error)
    };
    let (operation, error) = match n {
        0 => return fake.with_throttling(queue, calls),
        1 => return fake.with_latency(queue, HOUR),
        2 => return fake.with_slow_start(queue, HOUR),
        3 => return fake.with_account_limit(queue, "100 active tasks, the maximum"),
        4 => return fake.with_lost_start(queue, LostAnswer::Silence),
        5 => return fake.with_lost_start(queue, LostAnswer::Repeated),
        6 => return fake.with_slow_start(queue, time),
        7 => return fake.with_refused_cancel(queue),
        8 => fault("StartMessageMoveTask"),
        9 => fault("ListMessageMoveTasks"),
        10 => return fake.with_latency(queue, time),
        _ => return fake,
    };
    fake.with_fault(queue, operation, error)
}

impl Limited {
    async fn ask(&self, request: &str) -> Answer {
        let function = self.fake.function(self.config.clone());
        let invocation = Invocation {
            time_left: self.time_left,
            ..self.fake.invocation()
        };
        function.invoke(request, &invocation).await.unwrap()
    }

    /// The DLQs on which this request started or canceled a task.
    async fn done(&self, request: &str) -> (BTreeSet<&QueueArn>, Answer) {
        let state = |queue| (self.fake.starts(queue).len(), self.fake.is_running(queue));
        let before: Vec<(usize, bool)> = self.dlqs.iter().map(state).collect();
        let answer = self.ask(request).await;
        let done = self.dlqs.iter().zip(before);
        let done = done.filter(|(queue, (starts, was_running))| {
            let is_canceled = *was_running && !self.fake.is_running(queue);
            self.fake.starts(queue).len() > *starts || is_canceled
        });
        (done.map(|(queue, _)| queue).collect(), answer)
    }
}

#[tokio::test(start_paused = true)]
async fn request_is_done_or_fails_and_says_how_many_dlqs_it_left() {
    let (mut done, mut left) = (0, 0);
    for seed in seeds(1500) {
        let mut dice = Dice(fastrand::Rng::with_seed(seed));
        let aside = dlq("aside");
        let aside = json!({"action": "redrive", "destinationArn": aside.as_str()}).to_string();
        let named = r#"{"action": "redrive", "queues": ["dlq-0", "dlq-2"]}"#;
        let request = dice.of(&[REDRIVE, FORCE, CANCEL, aside.as_str(), named]);
        let free = limited(seed, false);
        let (wanted, _) = free.done(request).await;
        let world = limited(seed, true);
        let (reached, answer) = world.done(request).await;
        let missed: Vec<&QueueArn> = wanted.difference(&reached).copied().collect();
        (done, left) = (done + reached.len(), left + missed.len());
        let report = &answer.report;
        for queue in &missed {
            let of_it = report.queues.iter();
            let of_it = of_it.filter(|it| it.queue_arn == queue.as_str());
            let codes = of_it.map(|it| format!("{}/{}", it.outcome.code(), it.reason.code()));
            let codes: Vec<String> = codes.collect();
            let is_left = |it: &str| {
                it.starts_with("deferred")
                    || it.starts_with("failed")
                    || it.ends_with("/metrics-unreadable")
            };
            let is_told = matches!(&codes[..], [one] if is_left(one));
            assert!(is_told, "{request}: {queue} is {codes:?}");
        }
        let (undone, failed) = (report.undone(), report.counts.failed);
        let message = answer.result().map(drop).map_err(|error| error.to_string());
        if missed.is_empty() && undone == 0 && failed == 0 {
            assert_eq!(message, Ok(()), "{request}");
            continue;
        }
        let message = message.expect_err("it is not done");
        let count = |n: u64| format!("{n} DLQ{}", if n == 1 { "" } else { "s" });
        let is_left = format!(
            "the request is not done for {}; send it again",
            count(undone)
        );
        assert_eq!(message.contains(&is_left), undone > 0, "{message}");
        let has_failed = format!("{} failed: ", count(failed));
        assert_eq!(message.contains(&has_failed), failed > 0, "{message}");
    }
    assert!(done > 500 && left > 500, "{done} done, {left} left");
}

// Doubt

/// A DLQ, its policy, and what happens around it.
struct Doubtful {
    fake: Fake,
    config: Config,
}

/// Tags that are drawn from can add a pause, a dry run or a brake.
fn safety_tags(dice: &mut Dice) -> Vec<(&'static str, &'static str)> {
    let mut tags = Vec::new();
    for (name, values) in [
        ("paused", ["true", "false", "perhaps"]),
        ("dry-run", ["true", "false", "yes"]),
        ("brake-alarms", ["own", "other", "missing"]),
    ] {
        if dice.one_in(3) {
            // A tag that cannot be read is rare: it fails its DLQ.
            let few = if dice.one_in(4) { 3 } else { 2 };
            tags.push((name, dice.of(&values[..few])));
        }
    }
    tags
}

/// The tags of the DLQ: those before, and those of them that are added.
type Added = [Vec<(&'static str, &'static str)>; 2];

fn doubtful(queue: &QueueArn, seed: u64, tags: &[(&str, &str)]) -> Doubtful {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    let visible = dice.0.u64(5..300);
    let fake = Fake::default().with_jitter(seed);
    let mut fake = match dice.0.bool() {
        true => with_source(fake, queue, visible),
        false => fake.with(queue, visible),
    };
    match dice.0.u8(0..6) {
        0 => {
            let since = if dice.one_in(2) { 0 } else { 3 };
            for hours in (1..=5).rev() {
                let past = task(&fake, "COMPLETED", visible, (since + hours) * HOUR);
                fake = fake.with_task(queue, past);
            }
        }
        1 => {
            let past = task(&fake, "RUNNING", visible, MINUTE);
            fake = fake.with_task(queue, past);
        }
        _ => {}
    }
    for alarm in ["own", "other", OF_ALL] {
        let states = [BrakeState::Off, BrakeState::On];
        fake.alarm_is(alarm, states[usize::from(dice.one_in(4))].clone());
    }
    let has_enroll_tag = dice.0.bool();
    fake = match has_enroll_tag {
        true => fake.with_tags(queue, tags),
        false => fake.with_settings(queue, tags),
    };
    let mut config = fake.config();
    config.queues = vec![queue.clone()];
    config.enroll_tag = Some(EnrollTag {
        key: "auto-redrive".to_owned(),
        value: None,
    });
    config.policy.paused = dice.one_in(5);
    config.policy.dry_run = dice.one_in(5);
    if dice.one_in(2) {
        config.policy.max_attempts = 9;
    }
    if dice.one_in(2) {
        config.policy.brake_alarms = vec![OF_ALL.to_owned()];
    }
    Doubtful { fake, config }
}

/// What fails meanwhile. Returns what it is.
fn break_down(fake: Fake, queue: &QueueArn, dice: &mut Dice) -> (Fake, &'static str) {
    let service = || SqsError::Service("InternalError: try again".to_owned());
    match dice.0.u8(0..9) {
        0 => {
            let fault = TaggingError::Service("InternalServiceException".to_owned());
            (fake.with_tagging_fault(fault), "tags")
        }
        1 => (fake.with_slow_tagging(), "tags hang"),
        2 => {
            for alarm in ["own", "other", OF_ALL] {
                fake.alarm_is(alarm, BrakeState::Unknown("not authorized".to_owned()));
            }
            (fake, "brakes")
        }
        3 => (
            fake.with_fault(queue, "GetQueueAttributes", service()),
            "look",
        ),
        4 => (
            fake.with_fault(queue, "ListMessageMoveTasks", service()),
            "list",
        ),
        5 => (
            fake.with_fault(queue, "ListDeadLetterSourceQueues", service()),
            "sources",
        ),
        6 => (fake.with_throttling(queue, dice.0.usize(1..5)), "throttled"),
        7 => (fake.with_unreadable_metrics(dice.0.bool()), "metrics"),
        _ => (fake, "nothing"),
    }
}

/// Whether this holds a DLQ for safety: it is paused, braked, dry, exhausted, active or in doubt.
fn is_safely_held(outcome: &str) -> bool {
    let held = [
        "held/paused",
        "held/braked",
        "held/brake-unknown",
        "held/tags-unreadable",
        "held/attempts-exhausted",
        "wouldStart/",
        "wouldCancel/",
        "failed/invalid-policy",
    ];
    held.iter().any(|held| outcome.starts_with(held))
}

#[tokio::test(start_paused = true)]
async fn no_tag_no_request_and_no_outage_starts_what_is_held_or_dry_without_it() {
    let queue = dlq("orders-dlq");
    let (mut held, mut free) = (0, 0);
    for seed in seeds(3000) {
        let mut dice = Dice(fastrand::Rng::with_seed(seed ^ 1));
        let [before, added]: Added = [safety_tags(&mut dice), safety_tags(&mut dice)];
        let Doubtful { fake, config } = doubtful(&queue, seed, &before);
        let answer = fake
            .function(config)
            .invoke(SWEEP, &fake.invocation())
            .await;
        let outcome = outcomes(&serde_json::to_value(answer.unwrap().report).unwrap()).concat();
        if !is_safely_held(&outcome) {
            free += 1;
            continue;
        }
        held += 1;
        let is_dry = outcome.starts_with("would");

        let new = added.into_iter();
        let new = new.filter(|(name, _)| before.iter().all(|(known, _)| known != name));
        let tags: Vec<(&str, &str)> = before.iter().copied().chain(new).collect();
        let Doubtful { fake, config } = doubtful(&queue, seed, &tags);
        let starts = fake.starts(&queue).len();
        let (fake, outage) = break_down(fake, &queue, &mut dice);
        let event = dice.of(&[
            SWEEP,
            ALARM,
            BRAKE_OFF,
            REDRIVE,
            r#"{"action": "redrive", "queues": ["orders-dlq"], "dryRun": false}"#,
            r#"{"action": "redrive", "dryRun": true, "sample": 0}"#,
            r#"{"action": "redrive", "sample": 0}"#,
            r#"{"action": "redrive", "sample": 10, "maxMessagesPerSecond": 7}"#,
        ]);
        let event = if is_dry && dice.one_in(3) {
            CANCEL
        } else {
            event
        };
        // The invocation itself may fail; what counts is what it did.
        let _ = fake
            .function(config)
            .invoke(event, &fake.invocation())
            .await;
        let told = format!("{outcome} with {before:?}; {tags:?}, {outage} broken, {event}");
        assert_eq!(fake.starts(&queue).len(), starts, "{told}");
        let calls = fake.calls();
        let has_canceled = calls.iter().any(|call| call.starts_with("Cancel"));
        // While tags cannot be read, a cancel counts more than a dry run that a tag may ask for.
        let is_known = !outage.starts_with("tags");
        assert!(!(is_dry && is_known && has_canceled), "{told}");
    }
    assert!(held > 500 && free > 200, "{held} held, {free} free");
}
