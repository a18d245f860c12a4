//! Properties that hold for any environment and any tags.
//!
//! An input is a list of `name=value` pairs, separated by NUL, which no name or value can contain. A
//! name that starts with `tag:` is a tag of a queue. Any other name is an environment variable.

use super::text::assert_reads_well;
use sqs_auto_redrive::config::{self, Config, EnrollTag, Limits};
use sqs_auto_redrive::enrollment::{Tags, targets};
use sqs_auto_redrive::event::Selection;
use sqs_auto_redrive::policy::{Policy, check_destination};
use sqs_auto_redrive::queue::{Location, QueueArn, TaggedQueue};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The settings of a policy, as tags spell them.
const SETTINGS: [&str; 12] = [
    "max-messages-per-second",
    "min-messages",
    "cooldown",
    "quiet-period",
    "patience",
    "max-attempts",
    "attempt-window",
    "destination-arn",
    "parking-arn",
    "brake-alarms",
    "paused",
    "dry-run",
];

/// The variables outside the policy. They have no tag.
const OTHERS: [&str; 4] = [
    "REDRIVE_QUEUES",
    "REDRIVE_ENROLL_TAG",
    "REDRIVE_MAX_STARTS",
    "REDRIVE_CONCURRENCY",
];

const MINUTE: Duration = Duration::from_secs(60);
const FORTNIGHT: Duration = Duration::from_secs(14 * 24 * 3600);

/// The names of all variables, of all tags after `tag:`, and of a few that do not exist.
pub fn names() -> Vec<String> {
    let variables = SETTINGS
        .map(variable)
        .into_iter()
        .chain(OTHERS.map(str::to_owned));
    let tags = SETTINGS.map(|setting| format!("tag:{setting}"));
    let unknown = ["REDRIVE_PAUSE", "tag:pause", "tag:\n\u{2028}"];
    variables
        .chain(tags)
        .chain(unknown.map(str::to_owned))
        .collect()
}

/// Panics if this input breaks a property.
pub fn check(input: &[u8]) {
    let input = String::from_utf8_lossy(input);
    let mut vars = BTreeMap::new();
    let mut tags = BTreeMap::new();
    for (name, value) in input.split('\0').filter_map(|pair| pair.split_once('=')) {
        match name.strip_prefix("tag:") {
            Some(name) => tags.insert(name.to_owned(), value.to_owned()),
            None => vars.insert(name.to_owned(), value.to_owned()),
        };
    }
    let config = check_vars(&vars);
    let tags: Vec<(String, String)> = tags.into_iter().collect();
    check_tags(config.unwrap_or_else(listing_one), &tags);
    check_tags(listing_one(), &tags);
    let mut careful = listing_one();
    careful.policy.paused = true;
    careful.policy.dry_run = true;
    check_tags(careful, &tags);
}

fn arn(name: &str) -> QueueArn {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
        .parse()
        .unwrap()
}

fn listing_one() -> Config {
    Config {
        queues: vec![arn("listed-dlq")],
        enroll_tag: None,
        policy: Policy {
            parking: Some(arn("parking")),
            ..Policy::default()
        },
        limits: Limits {
            max_starts: 20,
            concurrency: 64,
        },
    }
}

fn variable(setting: &str) -> String {
    format!("REDRIVE_{}", setting.to_uppercase().replace('-', "_"))
}

/// Checks that a valid configuration is in range and has the values of the variables, and that the
/// errors of an invalid one read well. `None` if it is invalid.
fn check_vars(vars: &BTreeMap<String, String>) -> Option<Config> {
    let read = |vars: &BTreeMap<String, String>| Config::from_vars(vars.clone());
    let result = read(vars);
    let backwards = vars.iter().rev();
    let backwards = backwards.map(|(name, value)| (name.clone(), value.clone()));
    assert_eq!(Config::from_vars(backwards), result, "the order matters");
    let strangers = [
        ("PATH", "/"),
        ("REDRIVE_DRY_RUN_", " "),
        ("AWS_REGION", "x\ny"),
    ];
    let mut among_strangers = vars.clone();
    for (name, value) in strangers {
        among_strangers
            .entry(name.to_owned())
            .or_insert(value.to_owned());
    }
    assert_eq!(read(&among_strangers), result, "unrelated variables matter");

    let config = match result {
        Ok(config) => config,
        Err(invalid) => {
            assert!(!invalid.0.is_empty());
            for fault in &invalid.0 {
                assert_reads_well(&fault.to_string(), 2000);
            }
            return None;
        }
    };
    let policy = &config.policy;
    assert!((1..=100).contains(&config.limits.max_starts));
    assert!((1..=1000).contains(&config.limits.concurrency));
    assert!(!config.queues.is_empty() || config.enroll_tag.is_some());
    let distinct: BTreeSet<&QueueArn> = config.queues.iter().collect();
    assert_eq!(distinct.len(), config.queues.len());
    assert_in_range(policy);
    for queue in &config.queues {
        assert_may_move(policy, queue, &distinct);
    }
    if let Some(EnrollTag { key, value }) = &config.enroll_tag {
        assert!((1..=128).contains(&key.chars().count()) && !key.contains([':', '=']));
        assert!(
            value
                .as_ref()
                .is_none_or(|value| value.chars().count() <= 256)
        );
    }

    // No set variable is ignored: a mistyped kill switch must not go unnoticed.
    let settings = SETTINGS.map(variable);
    for (name, value) in vars {
        let is_ours = name.to_uppercase().starts_with("REDRIVE");
        let is_known = settings.contains(name) || OTHERS.contains(&name.as_str());
        assert!(!is_ours || value.trim().is_empty() || is_known, "{name:?}");
    }
    // A variable and a tag with the same value mean the same.
    let mut by_tags = Policy::default();
    for setting in SETTINGS {
        let value = vars
            .get(&variable(setting))
            .map_or("", |value| value.trim());
        if !value.is_empty() {
            assert_eq!(config::set(&mut by_tags, setting, value), Ok(()));
        }
    }
    assert_eq!(by_tags, *policy);
    Some(config)
}

fn assert_in_range(policy: &Policy) {
    let rate = policy.max_messages_per_second.map(|rate| rate.get());
    assert!(rate.is_none_or(|rate| (1..=500).contains(&rate)));
    assert!((1..=1_000_000_000).contains(&policy.min_messages));
    assert!((1..=9).contains(&policy.max_attempts));
    assert!(policy.quiet_period <= MINUTE * 180);
    for duration in [policy.cooldown, policy.patience, policy.attempt_window] {
        assert!((MINUTE..=FORTNIGHT).contains(&duration));
    }
    let brakes = &policy.brake_alarms;
    assert!(
        brakes
            .iter()
            .all(|name| (1..=255).contains(&name.chars().count()))
    );
    assert!(brakes.iter().all(|name| name.trim() == name));
    assert!(policy.may_park);
    // Otherwise the first attempt is forgotten before the last, and poison is redriven forever.
    assert!(policy.cooldown * (policy.max_attempts + 1) <= policy.attempt_window);
    assert!(policy.parking.is_none() || policy.parking != policy.destination);
}

/// Asserts that SQS can move messages of this DLQ to the policy's destinations, and that no
/// destination is enrolled itself.
fn assert_may_move(policy: &Policy, dlq: &QueueArn, enrolled: &BTreeSet<&QueueArn>) {
    for destination in [&policy.destination, &policy.parking].into_iter().flatten() {
        assert_eq!(check_destination(dlq, destination), Ok(()));
        assert!(!enrolled.contains(destination), "{destination}");
    }
}

/// Asserts that a queue with these tags has a valid policy, or is reported with its invalid tags.
fn check_tags(mut config: Config, tags: &[(String, String)]) {
    config.enroll_tag.get_or_insert(EnrollTag {
        key: "redrive".to_owned(),
        value: None,
    });
    let tagged = TaggedQueue {
        dlq: arn("tagged-dlq"),
        enrolled: true,
        settings: tags.to_vec(),
    };
    let destinations = tagged.destinations().count();
    assert!(destinations <= tags.len());
    let dlq = tagged.dlq.clone();
    let location = Location::new("", "us-east-1");
    let read = Tags {
        found: vec![tagged],
        unread: None,
    };
    let found = targets(
        &Selection::All,
        None,
        &config,
        &read,
        &location,
        Duration::from_secs(60),
    );
    let enrolled: BTreeSet<&QueueArn> = config.queues.iter().chain([&dlq]).collect();
    assert_eq!(found.enrolled.len(), enrolled.len());
    assert_eq!(found.not_enrolled, [""; 0]);

    let mut scratch = Policy::default();
    let bad: Vec<&String> = tags
        .iter()
        .filter(|(name, value)| config::set(&mut scratch, name, value.trim()).is_err())
        .map(|(name, _)| name)
        .collect();
    for target in &found.enrolled {
        let policy = &target.policy;
        if let Some(why) = &target.policy_error {
            assert_reads_well(why, 1500 * (tags.len() + 1));
            assert!(policy.paused || !config.policy.paused);
            assert!(policy.dry_run || !config.policy.dry_run);
            if target.dlq == dlq {
                assert_eq!(
                    why.contains("there is no such setting; check the spelling"),
                    bad.iter().any(|name| !SETTINGS.contains(&name.as_str()))
                );
            }
            continue;
        }
        assert_may_move(policy, &target.dlq, &enrolled);
        if target.dlq != dlq {
            let shared = config.policy.clone().with_attempts_that_fit();
            assert_eq!(**policy, shared, "tags of another queue");
            continue;
        }
        assert_eq!(bad, [""; 0]);
        assert_in_range(policy);
        // A tag can add a brake, a pause or a dry run, but cannot remove one.
        let of_function = config.policy.brake_alarms.iter();
        let missing = of_function.filter(|alarm| !policy.brake_alarms.contains(alarm));
        assert_eq!(missing.count(), 0);
        let says = |name: &str| {
            let mut tags = tags.iter();
            tags.any(|(tag, value)| tag == name && value.trim().eq_ignore_ascii_case("true"))
        };
        assert_eq!(policy.paused, config.policy.paused || says("paused"));
        assert_eq!(policy.dry_run, config.policy.dry_run || says("dry-run"));
    }
}
