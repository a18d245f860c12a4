//! What the start of the function and a look at a DLQ cost, in allocations: the same on every
//! machine.
//!
//! The function is measured in a process of its own, which this test starts from its own binary:
//! there the environment is the function's, and the server that it calls is not counted.

use crate::support::local::{ACCOUNT, REGION};
use crate::support::many::{Behavior, ManyQueues};
use crate::support::queues::queue_arn;
use crate::support::tagging::Tagging;
use allocation_counter::measure;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::value::RawValue;
use sqs_auto_redrive::setup;
use std::env;
use std::process::Command;

/// The allocations at the last change of this table. A count that differs by more than a tenth
/// fails the test; if that is intended, change the table.
const RECORDED: [(&str, u64); 7] = [
    ("start", 1356),
    ("first invocation, one empty DLQ", 516),
    ("first invocation, one start", 1812),
    ("look at an empty DLQ", 317),
    ("look at a DLQ with a task", 649),
    ("start by tag", 1928),
    ("list and look at an empty DLQ by tag", 327),
];

/// This variable is set in the process that is measured.
const MEASURED: &str = "MEASURED";

#[test]
fn cost_is_as_recorded() {
    if env::var_os(MEASURED).is_some() {
        return print_cost();
    }
    let (empty, one) = (cost(1, 0, By::List), cost(1, 1, By::List));
    let (few, many) = (cost(100, 1, By::List), cost(300, 1, By::List));
    let half_full = cost(100, 51, By::List);
    let (tagged, many_tagged) = (cost(100, 1, By::Tag), cost(300, 1, By::Tag));
    let counted = [
        one.start,
        empty.first,
        one.first,
        (many.warm - few.warm) / 200,
        (half_full.warm - few.warm) / 50 + (many.warm - few.warm) / 200,
        tagged.start,
        (many_tagged.warm - tagged.warm) / 200,
    ];
    let counted: Vec<(&str, u64)> = RECORDED.iter().map(|(of, _)| *of).zip(counted).collect();
    let is_near = |((_, counted), (_, recorded)): (&(&str, u64), &(&str, u64))| {
        counted.abs_diff(*recorded) * 10 <= *recorded
    };
    assert!(
        counted.iter().zip(&RECORDED).all(is_near),
        "counted {counted:#?}, recorded {RECORDED:#?}"
    );
}

/// How DLQs are enrolled.
enum By {
    List,
    Tag,
}

/// Allocations of a process.
struct Cost {
    /// The start, until the function is ready to be invoked.
    start: u64,
    /// The first sweep.
    first: u64,
    /// The third sweep, when all connections are open.
    warm: u64,
}

/// What a sweep of this many DLQs costs. The first `full` of them have messages.
fn cost(queues: usize, full: usize, enrolled: By) -> Cost {
    let sqs = ManyQueues::start(Behavior::default());
    let names = (0..queues).map(|n| format!("dlq-{n:03}-d{}", usize::from(n < full)));
    let names: Vec<String> = names.collect();
    let arns: Vec<String> = names.iter().map(|name| queue_arn(name)).collect();
    let tagging = Tagging::of(names, ("auto-redrive", "enabled"));
    let enrolled = match enrolled {
        By::List => ("REDRIVE_QUEUES", arns.join(",")),
        By::Tag => ("REDRIVE_ENROLL_TAG", "auto-redrive=enabled".to_owned()),
    };
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cost::cost_is_as_recorded", "--nocapture"])
        .env_clear()
        .envs([
            (MEASURED, "1"),
            ("AWS_ENDPOINT_URL", sqs.url()),
            ("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", &tagging.url),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCOUNT),
            ("AWS_SECRET_ACCESS_KEY", "none"),
            (enrolled.0, &enrolled.1),
            ("REDRIVE_QUIET_PERIOD", "0s"),
            ("REDRIVE_MAX_STARTS", "100"),
        ])
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let counted = output
        .lines()
        .find_map(|line| line.strip_prefix("cost: "))
        .unwrap_or_else(|| panic!("no cost in: {output}"));
    let counted: Vec<u64> = counted.split(' ').map(|n| n.parse().unwrap()).collect();
    let started = if full == 0 { None } else { Some(&full) };
    assert_eq!(sqs.seen().calls.get("StartMessageMoveTask"), started);
    // The process remembers source facts: those of a DLQ with messages are read in the first sweep.
    let facts = full;
    assert_eq!(sqs.seen().calls["GetQueueAttributes"], 3 * queues + facts);
    Cost {
        start: counted[0],
        first: counted[1],
        warm: counted[2],
    }
}

fn print_cost() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut function = None;
    let start = measure(|| function = runtime.block_on(setup::function()).ok());
    let function = function.unwrap();
    let sweep = || {
        let request = r#"{"action": "redrive", "queues": "all"}"#.to_owned();
        let event = LambdaEvent::new(RawValue::from_string(request).unwrap(), Context::default());
        let swept = measure(|| {
            runtime.block_on(function.handle(event)).unwrap();
        });
        swept.count_total
    };
    let [first, _, warm] = [(); 3].map(|()| sweep());
    println!("\ncost: {} {first} {warm}", start.count_total);
}
