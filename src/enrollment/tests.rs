use super::*;
use crate::config::{EnrollTag, Limits};
use crate::event::request::Action;
use crate::policy::Rate;
use crate::queue::QueueRef;
use std::time::Duration;

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
fn tags_are_read_only_of_queues_in_the_functions_account_and_region() {
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

/// The only queue with the tag.
fn target(policy: Policy, settings: &[(&str, &str)], request: Option<&Request>) -> Target {
    let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let tagged = TaggedQueue {
        dlq: OWN.parse().unwrap(),
        enrolled: true,
        settings: settings.iter().map(setting).collect(),
    };
    let config = with_tag(policy);
    let tags = Tags {
        found: vec![tagged],
        unread: None,
    };
    let mut found = targets(
        &Selection::All,
        request,
        &config,
        &tags,
        &location(),
        Duration::from_secs(60),
    );
    assert_eq!(found.enrolled.len(), 1);
    found.enrolled.remove(0)
}

/// What holds the DLQ with this policy and these tags, if a later page of tags could not be read.
fn held_by(policy: Policy, settings: &[(&str, &str)], unread: Option<&str>) -> Option<String> {
    let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let tagged = TaggedQueue {
        dlq: OWN.parse().unwrap(),
        enrolled: true,
        settings: settings.iter().map(setting).collect(),
    };
    let tags = Tags {
        found: vec![tagged],
        unread: unread.map(str::to_owned),
    };
    let config = with_tag(policy);
    let time = Duration::from_secs(60);
    let found = targets(&Selection::All, None, &config, &tags, &location(), time);
    found.enrolled[0].policy.unread_tags.clone()
}

/// The destination may be on a page of tags that could not be read: enrolled itself.
#[test]
fn dlq_whose_destination_has_unread_tags_is_held_and_others_are_not() {
    let other = OWN.replace("dlq", "other");
    assert_ne!(other, OWN);
    let parking = || Policy {
        parking: other.parse().ok(),
        ..Policy::default()
    };
    let to_other = [("destination-arn", other.as_str())];
    let why = Some("no last page");
    let held = Some(format!(
        "the tags of `{other}`, which may itself be an enrolled DLQ, cannot be read: no last page"
    ));
    assert_eq!(held_by(Policy::default(), &to_other, why), held);
    assert_eq!(held_by(parking(), &[], why), held);
    assert_eq!(held_by(Policy::default(), &[], why), None);
    assert_eq!(held_by(Policy::default(), &to_other, None), None);
    assert_eq!(held_by(parking(), &[], None), None);
}

/// What is wrong with its policy.
fn fault(policy: Policy, settings: &[(&str, &str)]) -> String {
    target(policy, settings, None).policy_error.unwrap()
}

fn request(max_messages_per_second: u64, sample: Option<u64>, force: bool) -> Request {
    Request {
        action: Action::Redrive,
        queues: Selection::All,
        dry_run: false,
        force,
        max_messages_per_second: Rate::new(max_messages_per_second),
        sample: sample.map(Duration::from_secs),
        destination: None,
    }
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
fn fault_of_a_tag_shows_the_enroll_tag_on_one_line() {
    let why = fault(Policy::default(), &[("cooldown", "soon")]);
    assert!(
        why.starts_with("tag `k\\n\\u{202e}:cooldown` holds `soon`: "),
        "{why}"
    );
}

#[test]
fn sample_of_a_tag_is_refused_with_what_is_accepted() {
    for value in ["often", "5", "31"] {
        let why = fault(Policy::default(), &[("sample", value)]);
        let expected = format!(
            "tag `k\\n\\u{{202e}}:sample` holds `{value}`: 0, or a whole number of seconds from 10 to 30"
        );
        assert_eq!(why, expected);
    }
}

#[test]
fn tag_with_a_pace_of_1_beside_a_sample_is_refused_and_names_the_tag() {
    let pace = ("max-messages-per-second", "1");
    for settings in [&[pace][..], &[pace, ("sample", "10")]] {
        let why = fault(Policy::default(), settings);
        assert!(why.contains(":max-messages-per-second` holds `1`"), "{why}");
        assert!(why.contains("set 2 to 500 or `auto`"), "{why}");
    }
    let without = target(Policy::default(), &[pace, ("sample", "0")], None);
    assert_eq!(without.policy_error, None);
}

#[test]
fn tags_of_six_attempts_and_a_sample_are_refused_and_six_attempts_alone_count_as_five() {
    let six = ("max-attempts", "6");
    let why = fault(Policy::default(), &[six, ("sample", "20")]);
    assert!(
        why.contains(":max-attempts` holds `6`") && why.contains("at most 5 attempts count"),
        "{why}"
    );
    for (settings, attempts) in [(&[six][..], 5), (&[six, ("sample", "0")], 6)] {
        let target = target(Policy::default(), settings, None);
        assert_eq!(target.policy_error, None);
        assert_eq!(target.policy.max_attempts, attempts, "{settings:?}");
    }
    // The attempts are the environment's, which the log warns about.
    let nine = Policy {
        max_attempts: 9,
        ..Policy::default()
    };
    let sampled = target(nine, &[("sample", "20"), ("cooldown", "20m")], None);
    assert_eq!(sampled.policy_error, None);
}

#[test]
fn six_attempts_of_the_environment_count_as_five_where_a_sample_is_taken() {
    let six = Policy {
        max_attempts: 6,
        ..Policy::default()
    };
    let without = request(50, Some(0), false);
    for (settings, request, attempts) in [
        (&[][..], None, 5),
        (&[("sample", "0")], None, 6),
        // A request starts nothing that is held without it.
        (&[], Some(&without), 5),
    ] {
        let target = target(six.clone(), settings, request);
        assert_eq!(target.policy_error, None);
        assert_eq!(target.policy.max_attempts, attempts, "{settings:?}");
    }
}

#[test]
fn sample_of_a_request_replaces_the_policys_and_force_sends_all() {
    for (sample, force, expected) in [
        (None, false, 20),
        (Some(0), false, 0),
        (Some(12), false, 12),
        (None, true, 0),
        (Some(12), true, 0),
    ] {
        let request = request(50, sample, force);
        let target = target(Policy::default(), &[], Some(&request));
        assert_eq!(
            target.policy.sample,
            Duration::from_secs(expected),
            "{request:?}"
        );
    }
}

#[test]
fn request_with_a_pace_of_1_is_refused_where_a_sample_would_be_taken() {
    let unsampled = Policy {
        sample: Duration::ZERO,
        max_messages_per_second: Rate::new(1),
        ..Policy::default()
    };
    for (policy, request, is_refused) in [
        (Policy::default(), request(1, None, false), true),
        (Policy::default(), request(1, Some(10), false), true),
        // The next look would take the redrive for a sample, and cancel it.
        (Policy::default(), request(1, Some(0), false), true),
        (Policy::default(), request(1, None, true), true),
        (unsampled.clone(), request(1, None, false), false),
        (unsampled.clone(), request(1, Some(10), false), true),
        (unsampled, request(2, Some(10), false), false),
    ] {
        let why = target(policy, &[], Some(&request)).policy_error;
        let is_clear = why
            .as_ref()
            .is_some_and(|why| why.contains("set 2 to 500 or `auto`"));
        assert_eq!(
            (why.is_some(), is_clear),
            (is_refused, is_refused),
            "{request:?}: {why:?}"
        );
    }
}

// What tags and requests change.

#[test]
fn tag_adds_safety_and_never_lifts_it() {
    let policy = |paused, dry_run, brake: Option<&str>| Policy {
        paused,
        dry_run,
        brake_alarms: brake.map(str::to_owned).into_iter().collect(),
        ..Policy::default()
    };
    let (free, safe) = (policy(false, false, None), policy(true, true, Some("all")));
    let lifts = [
        ("paused", "false"),
        ("dry-run", "false"),
        ("brake-alarms", "own"),
    ];
    let adds = [
        ("paused", "true"),
        ("dry-run", "true"),
        ("brake-alarms", "own"),
    ];
    for (environment, tags, expected) in [
        (&free, &[][..], (false, false, vec![])),
        (&free, &adds, (true, true, vec!["own"])),
        (&safe, &lifts, (true, true, vec!["own", "all"])),
        (&safe, &[("brake-alarms", "all")], (true, true, vec!["all"])),
        // A dry run in doubt is one, and another doubt is none.
        (&free, &[("dry-run", "yes")], (false, true, vec![])),
        (&free, &[("paused", "yes")], (false, false, vec![])),
        (
            &free,
            &[("dry-run", "true"), ("cooldown", "5s")],
            (false, true, vec![]),
        ),
    ] {
        let Policy {
            paused,
            dry_run,
            brake_alarms,
            ..
        } = &*target(environment.clone(), tags, None).policy;
        let brakes: Vec<&str> = brake_alarms.iter().map(String::as_str).collect();
        assert_eq!((*paused, *dry_run, brakes), expected, "{tags:?}");
    }
}

#[test]
fn request_adds_a_dry_run_lifts_none_and_is_never_parked_if_it_has_a_destination() {
    for (environment, asked) in [(false, false), (false, true), (true, false), (true, true)] {
        let policy = Policy {
            dry_run: environment,
            ..Policy::default()
        };
        let request = Request {
            dry_run: asked,
            ..request(50, None, false)
        };
        let policy = target(policy, &[], Some(&request)).policy;
        assert_eq!(policy.dry_run, environment || asked);
        assert!(policy.may_park && policy.destination.is_none());
    }
    let aside: QueueArn = arn("aside");
    let request = Request {
        destination: Some(aside.clone()),
        ..request(50, None, false)
    };
    let policy = target(Policy::default(), &[], Some(&request)).policy;
    assert_eq!(
        (policy.may_park, &policy.destination),
        (false, &Some(aside))
    );
}

// Which DLQs, and what may not be known of them.

#[test]
fn tags_are_read_of_what_the_event_concerns_and_without_an_enroll_tag_of_nothing() {
    let (own, abroad): (QueueArn, QueueArn) = (OWN.parse().unwrap(), ABROAD.parse().unwrap());
    let config = listing(&[&own, &abroad]);
    let untagged = Config {
        enroll_tag: None,
        ..config.clone()
    };
    let (all, none) = (Selection::All, Selection::Named(Vec::new()));
    let named = Selection::Named(vec![queue(None, None)]);
    let from = [arn("alarms").to_string()];
    let just = |queue: &QueueArn| vec![queue.clone()];
    for (selection, config, sources, expected) in [
        (&all, &config, &[][..], TagsToRead::All(just(&own))),
        (&none, &config, &[], TagsToRead::None),
        (&none, &config, &from, TagsToRead::Of(just(&arn("alarms")))),
        (&named, &config, &[], TagsToRead::Of(just(&own))),
        (&all, &untagged, &[], TagsToRead::None),
        (&named, &untagged, &from, TagsToRead::None),
    ] {
        let read = tags_to_read(selection, None, sources, config, &location());
        assert_eq!(read, expected, "{selection:?} {sources:?}");
    }
}

const ABROAD: &str = "arn:aws:sqs:eu-west-1:123456789012:orders-dlq";

fn arn(name: &str) -> QueueArn {
    let arn = format!("arn:aws:sqs:us-east-1:123456789012:{name}");
    arn.parse().unwrap()
}

fn tagged(name: &str, settings: &[(&str, &str)]) -> TaggedQueue {
    let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    TaggedQueue {
        dlq: arn(name),
        enrolled: true,
        settings: settings.iter().map(setting).collect(),
    }
}

fn listing(queues: &[&QueueArn]) -> Config {
    Config {
        queues: queues.iter().copied().cloned().collect(),
        ..with_tag(Policy::default())
    }
}

fn found(selection: &Selection, config: &Config, found: &[TaggedQueue]) -> Targets {
    let tags = Tags {
        found: found.to_vec(),
        unread: None,
    };
    let minute = Duration::from_secs(60);
    targets(selection, None, config, &tags, &location(), minute)
}

#[test]
fn naming_a_queue_enrolls_it_not() {
    let config = listing(&[&arn("listed-dlq")]);
    let names = ["listed-dlq", "tagged-dlq", "stranger-dlq"].map(|name| QueueRef {
        name: name.to_owned(),
        account: None,
        region: None,
    });
    let selection = Selection::Named(names.to_vec());
    let targets = found(&selection, &config, &[tagged("tagged-dlq", &[])]);
    let enrolled = targets.enrolled.iter().map(|target| target.dlq.name());
    assert_eq!(enrolled.collect::<Vec<_>>(), ["listed-dlq", "tagged-dlq"]);
    let listed: Vec<bool> = targets.enrolled.iter().map(|it| it.listed).collect();
    assert_eq!(listed, [true, false]);
    assert_eq!(targets.not_enrolled, [arn("stranger-dlq").to_string()]);
}

#[test]
fn dlqs_without_settings_of_their_own_share_one_policy() {
    let tags = [
        tagged("a-dlq", &[]),
        tagged("b-dlq", &[]),
        tagged("c-dlq", &[("cooldown", "1h")]),
    ];
    let targets = found(&Selection::All, &listing(&[]), &tags).enrolled;
    assert!(Arc::ptr_eq(&targets[0].policy, &targets[1].policy));
    assert_ne!(targets[1].policy, targets[2].policy);
}

#[test]
fn listed_dlq_whose_tags_could_not_be_read_is_held_and_others_are_not() {
    let (own, abroad): (QueueArn, QueueArn) = (OWN.parse().unwrap(), ABROAD.parse().unwrap());
    let config = listing(&[&own, &abroad]);
    for (unread, found, expected) in [
        (Some("timeout"), vec![], [false, true]),
        (None, vec![], [false, false]),
        (
            Some("timeout"),
            vec![tagged("orders-dlq", &[])],
            [false, false],
        ),
    ] {
        let tags = Tags {
            found,
            unread: unread.map(str::to_owned),
        };
        let minute = Duration::from_secs(60);
        let targets = targets(&Selection::All, None, &config, &tags, &location(), minute);
        let held = targets.enrolled.iter();
        let held: Vec<bool> = held.map(|it| it.policy.unread_tags.is_some()).collect();
        assert_eq!(held, expected, "{tags:?}");
    }
}

#[test]
fn dlq_is_not_held_for_tags_that_were_read_or_that_nobody_could_read() {
    let refunds = TaggedQueue {
        enrolled: false,
        ..tagged("refunds", &[])
    };
    let to_refunds = [("destination-arn", arn("refunds").to_string())];
    let to_refunds = to_refunds.each_ref().map(|(name, to)| (*name, to.as_str()));
    let abroad: QueueArn = ABROAD.parse().unwrap();
    let mut config = listing(&[&abroad]);
    config.policy.destination = Some(abroad.to_string().replace("dlq", "again").parse().unwrap());
    for (config, found) in [
        (
            &listing(&[]),
            vec![tagged("orders-dlq", &to_refunds), refunds],
        ),
        (&config, vec![]),
    ] {
        let tags = Tags {
            found,
            unread: Some("timeout".to_owned()),
        };
        let minute = Duration::from_secs(60);
        let targets = targets(&Selection::All, None, config, &tags, &location(), minute);
        assert_eq!(targets.enrolled.len(), 1);
        assert_eq!(targets.enrolled[0].policy.unread_tags, None, "{tags:?}");
    }
}

#[test]
fn event_source_that_is_an_enrolled_dlq_is_found() {
    let config = listing(&[&arn("listed-dlq")]);
    let tags = [tagged("tagged-dlq", &[])];
    for (sources, expected) in [
        (vec!["alarms", "listed-dlq"], Some("listed-dlq")),
        (vec!["tagged-dlq"], Some("tagged-dlq")),
        (vec!["alarms"], None),
        (vec![], None),
    ] {
        let sources: Vec<String> = sources.iter().map(|name| arn(name).to_string()).collect();
        let found = dlq_among(&sources, &config, &tags);
        let expected = expected.map(|name| arn(name).to_string());
        assert_eq!(found, expected.as_ref(), "{sources:?}");
    }
}

#[test]
fn tags_of_destinations_are_read_unless_they_were() {
    let to = |destination: &str| {
        let destination = arn(destination).to_string();
        vec![tagged("orders-dlq", &[("destination-arn", &destination)])]
    };
    let read = [arn("orders-dlq"), arn("refunds")];
    let unread = |destination| destinations_to_read(&to(destination), &read, &location());
    assert_eq!(unread("elsewhere"), [arn("elsewhere")]);
    assert_eq!(unread("refunds"), []);
}
