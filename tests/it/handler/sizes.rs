//! How large a report is, which `docs/fleet.md` says: Lambda and EventBridge have limits.

use super::*;

const PAGE: &str = include_str!("../../../docs/fleet.md");

/// AWS's words about a permission that is missing.
fn not_authorized(action: &str, resource: &str) -> String {
    format!(
        "User: arn:aws:sts::123456789012:assumed-role/sqs-auto-redrive-RedriveFunctionRole-0123456789AB/sqs-auto-redrive is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows the {action} action"
    )
}

/// A DLQ of this fleet, whose name has this many characters.
fn named(n: usize, characters: usize) -> QueueArn {
    let end = format!("-{n:05}-dlq");
    let team = "orders-of-the-team-for-payments-and-refunds-".repeat(2);
    dlq(&format!(
        "{}{end}",
        team.get(..characters - end.len()).unwrap()
    ))
}

/// A sweep's report about this many DLQs, in bytes.
async fn size(
    dlqs: usize,
    characters: usize,
    policy: &Policy,
    with: fn(Fake, &QueueArn) -> Fake,
) -> u64 {
    let queues = (0..dlqs).map(|n| named(n, characters));
    let fake = queues.fold(Fake::default(), |fake, queue| with(fake, &queue));
    let report = fake.invoke(SWEEP).policy(policy.clone()).answer().await;
    let report = report.result().unwrap();
    assert_eq!(report.queues.len(), dlqs);
    serde_json::to_string(&report).unwrap().len() as u64
}

/// Redrives of messages that came back, each with SQS's reason if it FAILED.
fn past(fake: Fake, queue: &QueueArn, statuses: &[&str], reason: &str) -> Fake {
    let tasks = (1..).zip(statuses).map(|(n, status)| {
        let hours = statuses.len() as u32 + 1 - n;
        MoveTask {
            failure_reason: (*status == "FAILED").then(|| reason.to_owned()),
            ..task(&fake, status, 5000, HOUR * hours)
        }
    });
    let tasks: Vec<MoveTask> = tasks.collect();
    tasks
        .into_iter()
        .fold(fake, |fake, task| fake.with_task(queue, task))
}

fn full(fake: Fake, queue: &QueueArn) -> Fake {
    with_source(fake, queue, 5000)
}

fn came_back(fake: Fake, queue: &QueueArn) -> Fake {
    past(full(fake, queue), queue, &["COMPLETED"; 5], "")
}

fn tasks_failed(fake: Fake, queue: &QueueArn) -> Fake {
    let reason = not_authorized("sqs:receivemessage", queue.as_str());
    past(full(fake, queue), queue, &["FAILED"; 5], &reason)
}

fn sources_denied(fake: Fake, queue: &QueueArn) -> Fake {
    let why = not_authorized("sqs:listdeadlettersourcequeues", queue.as_str());
    let denied = SqsError::AccessDenied(why);
    full(fake, queue).with_fault(queue, "ListDeadLetterSourceQueues", denied)
}

/// Everything that a detail can say, each as long as it can be.
fn everything(fake: Fake, queue: &QueueArn) -> Fake {
    let long = "x".repeat(600);
    let denied = SqsError::AccessDenied(long.clone());
    let fake = fake
        .with(queue, 5000)
        .with_fault(queue, "ListDeadLetterSourceQueues", denied);
    let statuses = ["CANCELLED", "CANCELLED", "CANCELLED", "FAILED"];
    // The port cuts SQS's reason.
    let reason = format!(
        "CouldNotDetermineMessageSource: {}",
        long.get(..468).unwrap()
    );
    let fake = past(fake, queue, &statuses, &reason).with_unreadable_metrics(true);
    fake.alarm_is("brake", BrakeState::Unknown(long));
    fake.oldest_age_is(queue, 13 * 24 * HOUR + 8 * HOUR);
    fake
}

fn with_comma(n: u64) -> String {
    match (n / 1000, n % 1000) {
        (0, n) => n.to_string(),
        (thousands, n) => format!("{thousands},{n:03}"),
    }
}

/// The numbers in the page's table, to the nearest ten bytes and hundred DLQs.
#[tokio::test(start_paused = true)]
async fn report_is_as_large_as_the_page_about_fleets_says() {
    let usual = Policy::default();
    let braked = braked("brake");
    let mut rows = Vec::new();
    for (what, characters, policy, with) in [
        (
            "it has messages, and the limit of starts is reached",
            30,
            &usual,
            full as fn(_, &_) -> _,
        ),
        (
            "its redrives came back, and it is held",
            30,
            &usual,
            came_back,
        ),
        (
            "the role lacks `sqs:ListDeadLetterSourceQueues`",
            30,
            &usual,
            sources_denied,
        ),
        (
            "its move tasks FAILED, and it is held",
            30,
            &usual,
            tasks_failed,
        ),
        (
            "everything that can be said is said, each as long as it can be",
            80,
            &braked,
            everything,
        ),
    ] {
        let (few, many) = (200, 1200);
        let size_of = async |dlqs| size(dlqs, characters, policy, with).await;
        let (small, large) = (size_of(few).await, size_of(many).await);
        let each = (large - small + 500) / 1000;
        // What is not about a DLQ is small.
        assert!(
            small.abs_diff(each * 200) < 6000,
            "{small} for 200 of {each}"
        );
        let each = each.div_ceil(10) * 10;
        let fit = |bytes: u64| bytes / each / 10 * 10;
        let numbers = [each, fit(256 * 1024), fit(6 * 1024 * 1024)].map(with_comma);
        rows.push(format!("| {what} | {} |", numbers.join(" | ")));
    }
    let missing: Vec<&String> = rows.iter().filter(|row| !PAGE.contains(*row)).collect();
    assert!(missing.is_empty(), "the table should have: {missing:#?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_dlqs_take_ten_times_the_bytes_of_a_thousand() {
    let policy = Policy::default();
    let thousand = size(1000, 30, &policy, tasks_failed).await;
    let ten_thousand = size(10_000, 30, &policy, tasks_failed).await;
    assert!(
        ten_thousand.abs_diff(10 * thousand) < thousand / 10,
        "{thousand}, {ten_thousand}"
    );
    let megabytes = ten_thousand as f64 / 1e6;
    let said = format!("their report has {megabytes:.1} MB");
    assert!(PAGE.contains(&said), "{said}");
}
