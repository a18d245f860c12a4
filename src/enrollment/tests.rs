use super::*;
use crate::config::{EnrollTag, Limits};
use crate::queue::QueueRef;

const OWN: &str = "arn:aws:sqs:us-east-1:123456789012:orders-dlq";

fn location() -> Location {
    Location::new(
        "arn:aws:lambda:us-east-1:123456789012:function:redrive",
        "us-east-1",
    )
}

fn queue(account: Option<&str>, region: Option<&str>) -> QueueRef {
    QueueRef {
        name: "orders-dlq".to_owned(),
        account: account.map(str::to_owned),
        region: region.map(str::to_owned),
    }
}

#[test]
fn only_queues_of_the_own_account_and_region_are_asked_for_their_tags() {
    let own = |account, region| location().taggable_here(&[queue(account, region)]);
    let asked: QueueArn = OWN.parse().unwrap();
    assert_eq!(own(None, None), std::slice::from_ref(&asked));
    assert_eq!(own(Some("123456789012"), Some("us-east-1")), [asked]);
    assert_eq!(own(Some("999999999999"), Some("us-east-1")), []);
    assert_eq!(own(Some("123456789012"), Some("eu-west-1")), []);
    assert_eq!(own(Some("999999999999"), Some("eu-west-1")), []);
}

fn with_tag(policy: Policy) -> Config {
    Config {
        queues: Vec::new(),
        enroll_tag: Some(EnrollTag {
            key: "k\n\u{202e}".to_owned(),
            value: None,
        }),
        policy,
        limits: Limits {
            max_starts: 20,
            concurrency: 64,
        },
    }
}

/// What is wrong with the policy of the one queue that bears the tag.
fn fault(policy: Policy, settings: &[(&str, &str)]) -> String {
    let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let tagged = TaggedQueue {
        dlq: OWN.parse().unwrap(),
        settings: settings.iter().map(setting).collect(),
    };
    let config = with_tag(policy);
    let mut found = targets(&Selection::All, None, &config, vec![tagged], &location());
    assert_eq!(found.enrolled.len(), 1);
    found.enrolled.remove(0).policy_error.unwrap()
}

#[test]
fn fault_of_the_environment_blames_no_tag() {
    let policy = Policy {
        parking: OWN.parse().ok(),
        ..Policy::default()
    };
    let why = format!("the destination `{OWN}` is the DLQ itself");
    assert_eq!(fault(policy.clone(), &[]), why);
    assert_eq!(fault(policy, &[("cooldown", "20m")]), why);
}

/// Found by the seeded run of tests/it/properties.rs.
#[test]
fn fault_of_a_tag_shows_the_enrol_tag_on_one_line() {
    let why = fault(Policy::default(), &[("cooldown", "soon")]);
    assert!(
        why.starts_with("tag `k\\n\\u{202e}:cooldown` holds `soon`: "),
        "{why}"
    );
}
