//! Many concurrent processes, and processes that are killed midway, as Lambda does with functions.
//!
//! SQS is LocalStack's, behind a proxy that counts the calls.

use crate::support::function::sample;
use crate::support::local::servers;
use crate::support::proxy::Proxy;
use crate::support::queues::Queues;
use crate::support::runtime::Process;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

/// Far longer than an invocation takes.
const TIME: Duration = Duration::from_secs(60);

/// The outcome and the reason of the only queue in this report.
#[track_caller]
fn verdict(result: &Result<Value, Value>) -> String {
    let report = result.as_ref().expect("the invocation succeeds");
    let queues = report["queues"].as_array().unwrap();
    assert_eq!(queues.len(), 1, "{report:#}");
    let text = |name: &str| queues[0][name].as_str().unwrap();
    format!("{}/{}", text("outcome"), text("reason"))
}

/// How often there is each.
fn counted(verdicts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(verdict).or_default() += 1;
    }
    counts
}

/// Invokes all functions with the event at the same moment.
fn concurrently(functions: &mut [Process], event: &str) -> BTreeMap<String, usize> {
    let all = Barrier::new(functions.len());
    let verdicts = thread::scope(|scope| {
        let invoke = |function| {
            let all = &all;
            scope.spawn(move || {
                all.wait();
                verdict(&Process::invoke(function, event, TIME))
            })
        };
        let invocations: Vec<_> = functions.iter_mut().map(invoke).collect();
        let verdicts = invocations.into_iter();
        verdicts
            .map(|invocation| invocation.join().unwrap())
            .collect::<Vec<_>>()
    });
    counted(verdicts)
}

#[test]
fn of_50_concurrent_invocations_one_starts_and_the_others_skip() {
    const MESSAGES: usize = 20;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (queues, sent) = runtime.block_on(async {
        let queues = Queues::create("raced-by-50").await;
        let sent = queues.dead_letter(MESSAGES).await;
        (queues, sent)
    });
    let sqs = Proxy::start(&servers().sqs_url);
    let variables = [
        ("REDRIVE_QUEUES", queues.dlq.arn.as_str()),
        // Slow, so that the task is still active when the last of them asks.
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "1"),
        ("REDRIVE_SAMPLE", "0"),
        ("AWS_ENDPOINT_URL", &sqs.url),
    ];
    let mut functions: Vec<Process> = (0..50).map(|_| Process::start(&variables)).collect();
    for function in &mut functions {
        let report = function.invoke(&sample("ignored-ok.json", &[]), TIME);
        report.expect("it has started");
    }
    let alarm = sample(
        "alarm-eventbridge.json",
        &[("orders-dlq", &queues.dlq.name)],
    );

    // None sees a task until all have looked.
    sqs.gather("ListMessageMoveTasks", functions.len());
    let verdicts = concurrently(&mut functions, &alarm);

    let expected = [("skipped/task-active", 49), ("started/ready", 1)];
    assert_eq!(
        verdicts,
        expected.map(|(verdict, n)| (verdict.to_owned(), n)).into()
    );
    let seen = sqs.seen();
    assert_eq!(seen.started.len(), 1);
    let asked = seen.calls_of("StartMessageMoveTask");
    println!("{asked} of 50 asked for a start");
    assert!(asked > 1, "several have raced");

    runtime.block_on(async {
        queues.dlq.wait_for_task().await;
        queues.source.assert_holds(MESSAGES).await;
        queues.fall(MESSAGES).await;
    });
    let verdicts = concurrently(&mut functions, &alarm);

    assert_eq!(verdicts, [("skipped/cooling-down".to_owned(), 50)].into());
    assert_eq!(sqs.seen().started.len(), 1);
    runtime.block_on(async {
        assert_eq!(queues.dlq.tasks().await.len(), 1);
        assert_eq!(queues.dlq.take_all().await, sent);
        queues.source.assert_holds(0).await;
    });
}

/// The number of invocations that are killed, and of threads that do it.
const KILLED: usize = 200;
const THREADS: usize = 8;

/// How far invocations got before they were killed.
#[derive(Default, Debug)]
struct Reached {
    nothing: usize,
    look: usize,
    start: usize,
    answer: usize,
}

#[test]
fn killed_at_any_moment_the_next_invocation_carries_on() {
    let seed = match std::env::var("KILL_SEED") {
        Ok(seed) => seed.parse().expect("KILL_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("for the same moments again: KILL_SEED={seed}");
    let reached = Mutex::new(Reached::default());
    thread::scope(|scope| {
        for n in 0..THREADS {
            let reached = &reached;
            scope.spawn(move || kill_and_carry_on(n, seed.wrapping_add(n as u64), reached));
        }
    });
    let reached = reached.into_inner().unwrap();
    println!("killed after: {reached:?}");
    let Reached {
        nothing,
        look,
        start,
        answer,
    } = reached;
    assert_eq!(nothing + look + start + answer, KILLED);
    assert!(answer < KILLED / 2, "most were killed in the middle");
    assert!(
        look > 0 && start > 0,
        "some between their calls, some after the last"
    );
}

/// Kills its part of the invocations, on a DLQ of its own.
fn kill_and_carry_on(thread: usize, seed: u64, reached: &Mutex<Reached>) {
    const MESSAGES: usize = 3;
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (queues, sent) = runtime.block_on(async {
        let queues = Queues::create(&format!("killed-{thread}")).await;
        let sent = queues.dead_letter(MESSAGES).await;
        (queues, sent)
    });
    // A forced redrive keeps five minutes' distance from the one before.
    let sqs = Proxy::ageing(&servers().sqs_url, Duration::from_secs(3600));
    let variables = [
        ("REDRIVE_QUEUES", queues.dlq.arn.as_str()),
        ("REDRIVE_MAX_MESSAGES_PER_SECOND", "500"),
        ("AWS_ENDPOINT_URL", &sqs.url),
    ];
    // A function that has answered once is warm: an invocation is killed, not a start.
    let warm = || {
        let mut function = Process::start(&variables);
        let report = function.invoke(&sample("ignored-ok.json", &[]), TIME);
        report.expect("it has started");
        function
    };
    // By force: otherwise all but the first would only be cooling down.
    let event = json!({"action": "redrive", "queues": "all", "force": true}).to_string();
    // All messages are back in their source queue; their consumer fails again.
    let come_back = || {
        runtime.block_on(async {
            queues.source.wait_until_holds(MESSAGES).await;
            queues.dlq.wait_for_task().await;
            queues.fall(MESSAGES).await;
        });
    };

    // Of the newest invocations that were not killed: the machine may become slower or faster.
    let mut took = VecDeque::new();
    let mut invoke = |function: &mut Process| {
        let begun = Instant::now();
        let verdict = verdict(&function.invoke(&event, TIME));
        took.push_front(begun.elapsed());
        took.truncate(5);
        let mut sorted: Vec<Duration> = took.iter().copied().collect();
        sorted.sort();
        (verdict, sorted[sorted.len() / 2])
    };
    let mut median = Duration::ZERO;
    for _ in 0..3 {
        let (verdict, so_far) = invoke(&mut warm());
        assert_eq!(verdict, "started/ready");
        median = so_far;
        come_back();
    }

    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..KILLED / THREADS {
        let before = sqs.seen();
        let mut function = warm();
        function.send(&event, TIME);
        // From 0 to just over what an invocation takes.
        thread::sleep(median.mul_f64(1.2 * random.f64()));
        function.kill();
        let at_death = sqs.seen();
        {
            let mut reached = reached.lock().unwrap();
            let place = if function.answered().is_some() {
                &mut reached.answer
            } else if at_death.started.len() > before.started.len() {
                &mut reached.start
            } else if at_death.calls.len() > before.calls.len() {
                &mut reached.look
            } else {
                &mut reached.nothing
            };
            *place += 1;
        }

        let next;
        (next, median) = invoke(&mut warm());

        let normal = [
            "started/ready",
            "skipped/task-active",
            // The redrive of the killed invocation was faster.
            "skipped/in-flight-only",
            "skipped/empty",
        ];
        assert!(normal.contains(&next.as_str()), "{next}");
        come_back();
        let started = sqs.seen().started.len() - before.started.len();
        assert!((1..=2).contains(&started), "{started} redrives");
    }

    runtime.block_on(async {
        let all: BTreeSet<String> = queues.dlq.take_all().await;
        assert_eq!(all, sent);
        queues.source.assert_holds(0).await;
    });
}
