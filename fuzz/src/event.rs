//! What holds for any event: it can wake the function and name queues, but nothing else.

use super::text::{assert_reads_well, assert_report_reads_well};
use serde_json::{Value, json};
use sqs_auto_redrive::config::{Config, EnrollTag, Limits};
use sqs_auto_redrive::decision::{Decision, decide};
use sqs_auto_redrive::enrollment::{Tags, Target, Targets, targets};
use sqs_auto_redrive::event::{self, Event, Request, Selection, Trigger, request};
use sqs_auto_redrive::fall::FallTime;
use sqs_auto_redrive::handler::{Answer, InvocationError};
use sqs_auto_redrive::observation::{Brake, BrakeState, Observation};
use sqs_auto_redrive::outcome::{Failed, Finding, Findings, Outcome, Skipped};
use sqs_auto_redrive::plan::{Action, Cause, Kind, Plan, plan};
use sqs_auto_redrive::policy::{Policy, check_destination};
use sqs_auto_redrive::queue::{
    Depth, Location, QueueArn, QueueRef, TaggedQueue, is_account_id, is_queue_name, is_region,
};
use sqs_auto_redrive::report::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

/// The most characters of an invocation's error, and of a text in a report.
const MOST_OF_A_TEXT: usize = 3000;

/// A deployed function: its environment, the queues that bear the tag, and where it runs.
pub struct World {
    pub config: Config,
    pub tags: Tags,
    pub location: Location,
    /// The policy of each DLQ if no request changes it; `Err` if it is not valid.
    policies: BTreeMap<QueueArn, Result<Policy, Policy>>,
}

/// How long the function may run.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Every event is checked in each of these. The queues and alarms are those of the samples in `events/`.
pub static WORLDS: LazyLock<[World; 3]> = LazyLock::new(|| {
    let listed = ["orders-dlq", "payments-dlq", "invoices-dlq.fifo"].map(arn);
    let tagged = |name: &str, settings: &[(&str, &str)]| TaggedQueue {
        dlq: arn(name),
        enrolled: true,
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let tag = |key: &str| {
        Some(EnrollTag {
            key: key.to_owned(),
            value: None,
        })
    };
    let config = |queues: &[QueueArn], enroll_tag, policy| Config {
        queues: queues.to_vec(),
        enroll_tag,
        policy,
        limits: Limits {
            max_starts: 20,
            concurrency: 64,
        },
    };
    let plain = Policy {
        parking: Some(arn("parking")),
        brake_alarms: vec!["orders consumer is down".to_owned()],
        ..Policy::default()
    };
    let careful = Policy {
        destination: Some(arn("elsewhere")),
        brake_alarms: vec!["orders-dlq-depth".to_owned(), "line\nbreak".to_owned()],
        paused: true,
        dry_run: true,
        ..Policy::default()
    };
    let function = "arn:aws:lambda:us-east-1:123456789012:function:redrive";
    [
        World::new(
            config(&listed, tag("redrive"), plain.clone()),
            vec![
                tagged(
                    "tagged-dlq",
                    &[("destination-arn", arn("refunds").as_str())],
                ),
                tagged("paused-dlq", &[("paused", "true")]),
                tagged(
                    "mistyped-dlq",
                    &[("pau\nsed", "\u{1b}[31m"), ("cooldown", "soon")],
                ),
                tagged("orders-dlq", &[("dry-run", "true"), ("paused", "false")]),
            ],
            Location::new(function, "us-east-1"),
        ),
        World::new(
            config(&listed[..1], tag("k"), careful),
            vec![tagged(
                "tagged-dlq",
                &[("paused", "false"), ("dry-run", "false")],
            )],
            Location::new("", "us-east-1"),
        ),
        World::new(
            config(&[], tag("k"), plain),
            vec![tagged("orders-dlq", &[])],
            Location::new(
                "arn:aws:lambda:eu-west-1:999999999999:function:redrive:live",
                "",
            ),
        ),
    ]
});

fn arn(name: &str) -> QueueArn {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
        .parse()
        .unwrap()
}

impl World {
    fn new(config: Config, tagged: Vec<TaggedQueue>, location: Location) -> Self {
        let tags = Tags {
            found: tagged,
            unread: None,
        };
        let all = targets(&Selection::All, None, &config, &tags, &location, TIMEOUT);
        let policies = all.enrolled.into_iter().map(|target| {
            let policy = (*target.policy).clone();
            let is_valid = target.policy_error.is_none();
            (target.dlq, if is_valid { Ok(policy) } else { Err(policy) })
        });
        Self {
            policies: policies.collect(),
            config,
            tags,
            location,
        }
    }

    /// The DLQs that somebody enrolled, by list or by tag.
    fn enrolled(&self) -> BTreeSet<&QueueArn> {
        let tagged = self.tags.found.iter().map(|tagged| &tagged.dlq);
        self.config.queues.iter().chain(tagged).collect()
    }
}

/// Panics if something does not hold of this payload.
pub fn check(payload: &[u8]) {
    // Lambda accepts no other payload.
    let Ok(payload) = std::str::from_utf8(payload) else {
        return;
    };
    let event = event::parse(payload);
    check_envelopes(payload, event.as_ref().ok());
    let event = match event {
        Ok(event) => event,
        Err(rejected) => return assert_fails_well(rejected.into()),
    };
    assert!(!event.triggers.is_empty());
    check_event(payload, &event);
    for world in &*WORLDS {
        check_world(&event, world);
    }
    let faults = Answer {
        report: Report::new(
            &plan(Vec::new(), &[], &[], &WORLDS[0].location),
            false,
            Findings::default(),
        ),
        unreadable: event.unreadable,
        tags_error: None,
    };
    if let Err(failure) = faults.result() {
        assert_fails_well(failure);
    }
}

/// What an invocation fails with reads well in the answer and in the log.
fn assert_fails_well(failure: InvocationError) {
    assert_reads_well(&failure.to_string(), MOST_OF_A_TEXT);
    assert_reads_well(&format!("{failure:?}"), MOST_OF_A_TEXT);
}

/// What was read is what the types promise.
fn check_event(payload: &str, event: &Event) {
    for trigger in &event.triggers {
        let source = match trigger {
            Trigger::Schedule { source } | Trigger::ConfigurationChange { source } => source,
            Trigger::Alarm(alarm) => {
                assert!(alarm.account.as_deref().is_none_or(is_account_id));
                assert!(alarm.region.as_deref().is_none_or(is_region));
                match &alarm.queues {
                    Ok(queues) => queues.iter().for_each(assert_may_exist),
                    Err(error) => assert_reads_well(&error.to_string(), 300),
                }
                &alarm.source
            }
            Trigger::Request(request) => {
                assert_eq!(event.triggers.len(), 1, "a request is alone");
                assert_eq!(event.unreadable, []);
                assert_eq!(event.event_source_arns, [""; 0]);
                check_request(payload, request);
                &None
            }
        };
        if let Some(source) = source {
            assert_reads_well(source, 501);
        }
    }
    for unreadable in &event.unreadable {
        assert_reads_well(&unreadable.to_string(), 1000);
    }
}

/// A request is what the bare payload says.
fn check_request(payload: &str, request: &Request) {
    let value: Value = serde_json::from_str(payload).unwrap();
    let action = match request.action {
        request::Action::Redrive => "redrive",
        request::Action::Cancel => "cancel",
    };
    assert_eq!(value["action"], action);
    let destination = request.destination.as_ref().map(QueueArn::as_str);
    assert_eq!(value["destinationArn"].as_str(), destination);
    let rate = request.max_messages_per_second.map(|rate| rate.get());
    assert!(rate.is_none_or(|rate| (1..=500).contains(&rate)));
    assert_eq!(value["maxMessagesPerSecond"].as_u64(), rate.map(u64::from));
    assert_eq!(value["force"] == true, request.force);
    assert_eq!(value["dryRun"] == true, request.dry_run);
    match &request.queues {
        Selection::All => assert!(matches!(value["queues"].as_str(), None | Some("all"))),
        Selection::Named(queues) => {
            assert_eq!(value["queues"].as_array().map(Vec::len), Some(queues.len()));
            assert!((1..=1000).contains(&queues.len()));
            queues.iter().for_each(assert_may_exist);
        }
    }
}

fn assert_may_exist(queue: &QueueRef) {
    assert!(is_queue_name(&queue.name), "{queue:?}");
    assert!(
        queue.account.as_deref().is_none_or(is_account_id),
        "{queue:?}"
    );
    assert!(queue.region.as_deref().is_none_or(is_region), "{queue:?}");
}

/// In an envelope an event means what it means bare, except a request, which is then rejected.
fn check_envelopes(payload: &str, bare: Option<&Event>) {
    let sqs = json!({"Records": [{"messageId": "m", "body": payload, "eventSource": "aws:sqs"}]});
    let sns = json!({"Records": [{"Sns": {"Type": "Notification", "Message": payload}}]});
    let sns_sqs = json!({"Type": "Notification", "Message": payload}).to_string();
    let sns_sqs = json!([{"messageId": "m", "body": sns_sqs, "eventSource": "aws:sqs"}]);
    for wrapped in [sqs, sns, sns_sqs] {
        let wrapped = match event::parse(&wrapped.to_string()) {
            Ok(wrapped) => wrapped,
            Err(error) => {
                let is_request =
                    |event: &Event| matches!(event.triggers[..], [Trigger::Request(_)]);
                // What was just readable bare may now be too deep. A record is noted once, so another
                // fault may hide that.
                let error = error.to_string();
                let has_faults = |event: &Event| !event.unreadable.is_empty();
                assert!(
                    bare.is_none_or(is_request)
                        || error.contains("more than four deep")
                        || bare.is_some_and(has_faults),
                    "{error}"
                );
                continue;
            }
        };
        // Whatever a message claims, its queue is the one that Lambda read it from.
        assert_eq!(wrapped.event_source_arns, [""; 0]);
        let is_cut = wrapped.unreadable.iter().any(|one| {
            one.why.contains("more than four deep") || one.why.contains("notifications")
        });
        match bare {
            Some(bare) if !is_cut && bare.unreadable.is_empty() => {
                assert_eq!(wrapped.triggers, bare.triggers);
                assert_eq!(wrapped.unreadable, []);
            }
            // A record is noted once, whatever is wrong with the batch in it.
            Some(bare) => {
                assert!(is_cut || wrapped.unreadable.len() == bare.unreadable.len().min(1))
            }
            // A field `action` makes a request of a bare payload, whatever else it has. The dead letters
            // that are an error bare make a message unreadable.
            None => {
                let is_noted = !wrapped.unreadable.is_empty();
                assert!(is_noted || has_action(payload), "{wrapped:?}");
            }
        }
        for trigger in wrapped.triggers {
            assert!(!matches!(trigger, Trigger::Request(_)), "{trigger:?}");
        }
    }
}

fn has_action(payload: &str) -> bool {
    let value: Value = serde_json::from_str(payload).unwrap_or_default();
    value.get("action").is_some()
}

/// What an event can do to a deployed function, and what it cannot.
fn check_world(event: &Event, world: &World) {
    let World {
        config,
        tags,
        location,
        policies,
    } = world;
    let plan = check_plan(event, &config.policy.brake_alarms, location);
    let request = plan.request.as_ref();
    let enrolled = world.enrolled();
    let found = targets(&plan.selection, request, config, tags, location, TIMEOUT);
    check_selection(&plan.selection, &found, &enrolled);
    for target in &found.enrolled {
        check_policy(target, request, policies);
        let is_valid = policies[&target.dlq].is_ok();
        if let Some(why) = &target.policy_error {
            assert_reads_well(why, MOST_OF_A_TEXT);
            // A rate of one message a second is that of a sample.
            let may_contradict = |request: &Request| {
                request.destination.is_some()
                    || request.max_messages_per_second.is_some()
                    || request.sample.is_some()
            };
            assert!(!is_valid || request.is_some_and(may_contradict));
            continue;
        }
        assert!(is_valid || request.is_some());
        let goes_to = [&target.policy.destination, &target.policy.parking];
        for destination in goes_to.into_iter().flatten() {
            assert_eq!(check_destination(&target.dlq, destination), Ok(()));
            assert!(!enrolled.contains(destination), "{destination}");
        }
        check_decision(target, request, policies);
    }

    let invalid = found.enrolled.iter().filter_map(|target| {
        let failed = Failed::InvalidPolicy(target.policy_error.clone()?);
        Some((target.dlq.as_str(), Outcome::Failed(failed)))
    });
    let not_enrolled = found.not_enrolled.iter();
    let not_enrolled =
        not_enrolled.map(|arn| (arn.as_str(), Outcome::Skipped(Skipped::NotEnrolled)));
    let findings = invalid.chain(not_enrolled);
    let findings = findings.map(|(arn, outcome)| Finding::unseen(arn, outcome));
    let findings = Findings {
        others: findings.collect(),
        ..Findings::default()
    };
    let report = Report::new(&plan, false, findings);
    assert!(report.trigger.queues.len() <= 100);
    assert_report_reads_well(&report, MOST_OF_A_TEXT);
}

/// The plan states why an event is ignored, and asks for nothing that no trigger calls for.
fn check_plan(event: &Event, brake_alarms: &[String], location: &Location) -> Plan {
    for trigger in &event.triggers {
        let alone = plan(vec![trigger.clone()], brake_alarms, &[], location);
        assert_eq!(alone.why.is_some(), alone.kind == Kind::Ignored);
        assert_reads_well(&alone.why.unwrap_or_default(), 300);
        let names_none = alone.selection == Selection::Named(Vec::new());
        assert_eq!(names_none, alone.kind == Kind::Ignored);
    }
    let plan = plan(event.triggers.clone(), brake_alarms, &[], location);
    let request = plan.request.as_ref();
    let asked = event.triggers.iter().find_map(|trigger| match trigger {
        Trigger::Request(request) => Some(request),
        _ => None,
    });
    assert_eq!(request, asked);
    assert_eq!(plan.kind == Kind::Request, asked.is_some());
    match &plan.action {
        Action::Redrive => {
            assert!(request.is_none_or(|request| request.action == request::Action::Redrive));
        }
        Action::Cancel(Cause::Requested) => {
            let action = request.map(|request| request.action);
            assert_eq!(action, Some(request::Action::Cancel));
        }
        Action::Cancel(Cause::Braked(alarm)) => {
            assert!(brake_alarms.contains(alarm), "{alarm:?}");
            assert_eq!(plan.kind, Kind::Brake);
        }
        Action::Cancel(cause) => panic!("no event asks for this: {cause:?}"),
    }
    plan
}

/// Naming a queue does not enroll it: only DLQs that were enrolled before are checked, each once.
fn check_selection(selection: &Selection, found: &Targets, enrolled: &BTreeSet<&QueueArn>) {
    let looked_at: Vec<&QueueArn> = found.enrolled.iter().map(|target| &target.dlq).collect();
    let distinct: BTreeSet<&QueueArn> = looked_at.iter().copied().collect();
    assert_eq!(distinct.len(), looked_at.len());
    assert!(distinct.is_subset(enrolled), "{distinct:?}");
    assert!(found.enrolled.is_sorted_by_key(|target| &target.dlq));
    for arn in &found.not_enrolled {
        assert!(enrolled.iter().all(|dlq| dlq.as_str() != arn), "{arn}");
    }
    match selection {
        Selection::All => {
            assert_eq!(distinct, *enrolled);
            assert_eq!(found.not_enrolled, [""; 0]);
        }
        Selection::Named(queues) => {
            let names: BTreeSet<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
            assert!(distinct.iter().all(|dlq| names.contains(dlq.name())));
            let reported = distinct.len() + found.not_enrolled.len();
            assert!(reported <= queues.len() && (reported > 0 || queues.is_empty()));
        }
    }
}

/// The policy comes from the environment and the tags, except what a request may set instead.
fn check_policy(
    target: &Target,
    request: Option<&Request>,
    policies: &BTreeMap<QueueArn, Result<Policy, Policy>>,
) {
    let (Ok(deployed) | Err(deployed)) = &policies[&target.dlq];
    let expected = match request {
        None => deployed.clone(),
        Some(request) => {
            let forced = request.force.then(|| deployed.clone().forced(TIMEOUT));
            let policy = forced.unwrap_or_else(|| deployed.clone());
            Policy {
                destination: request.destination.clone().or(policy.destination),
                max_messages_per_second: request
                    .max_messages_per_second
                    .or(policy.max_messages_per_second),
                dry_run: deployed.dry_run || request.dry_run,
                may_park: policy.may_park && request.destination.is_none(),
                ..policy
            }
        }
    };
    assert_eq!(*target.policy, expected);
    assert_eq!(target.policy.paused, deployed.paused);
    assert_eq!(target.policy.brake_alarms, deployed.brake_alarms);
    assert_eq!(target.policy.parking, deployed.parking);
}

/// A redrive goes where the configuration or the request sends it, and never past a safety gate.
fn check_decision(
    target: &Target,
    request: Option<&Request>,
    policies: &BTreeMap<QueueArn, Result<Policy, Policy>>,
) {
    let policy = &target.policy;
    let (Ok(deployed) | Err(deployed)) = &policies[&target.dlq];
    for state in [BrakeState::Off, BrakeState::On] {
        let brake = |alarm: &String| Brake {
            alarm: alarm.clone(),
            state: state.clone(),
        };
        let seen = Observation {
            depth: Depth {
                visible: 5,
                in_flight: 0,
            },
            brakes: Some(policy.brake_alarms.iter().map(brake).collect()),
            fall_time: Some(FallTime::Unknown(String::new())),
            ..Observation::default()
        };
        let is_shut = state == BrakeState::On && !policy.brake_alarms.is_empty();
        match decide(policy, &seen, UNIX_EPOCH) {
            Ok(Decision::Start(start)) => {
                assert!(!deployed.paused && !is_shut);
                let asked = request.and_then(|request| request.destination.clone());
                assert_eq!(start.destination, asked.or(deployed.destination.clone()));
            }
            decision => assert!(deployed.paused || is_shut, "{decision:?}"),
        }
    }
}
