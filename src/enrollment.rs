//! Which DLQs an event concerns, and the policy of each: the environment's, changed by the DLQ's
//! own tags, changed by a request.

use crate::config::{self, Config};
use crate::event::request::{Request, Selection};
use crate::policy::{Policy, PolicyError, Rate, SAMPLE_PACE};
use crate::queue::{Location, QueueArn, QueueRef, QueuesByName, TaggedQueue};
use crate::text::excerpt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A DLQ that the function may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The DLQ.
    pub dlq: QueueArn,
    /// Its policy, shared by all DLQs without settings of their own. Where `policy_error` is set,
    /// the part of the policy that could be read.
    pub policy: Arc<Policy>,
    /// Why the policy cannot be followed; `None` if it can.
    pub policy_error: Option<String>,
    /// Whether `REDRIVE_QUEUES` lists the DLQ. A DLQ that only has the tag may already be deleted.
    pub listed: bool,
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The enrolled DLQs, in the order of their ARNs.
    pub enrolled: Vec<Target>,
    /// The ARNs of the named queues that are not enrolled, sorted.
    pub not_enrolled: Vec<String>,
    /// Whether the environment or a request makes this invocation a dry run.
    pub dry_run: bool,
}

/// Which tags to read before it is known which DLQs the event concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagsToRead {
    /// No tags: there is no enroll tag, or the event calls for nothing.
    None,
    /// The tags of every queue with the enroll tag, and those of these listed DLQs.
    All(Vec<QueueArn>),
    /// The tags of these queues.
    Of(Vec<QueueArn>),
}

/// The tags that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// What they say.
    pub found: Vec<TaggedQueue>,
    /// Why some could not be read; `None` if all could.
    pub unread: Option<String>,
}

/// The tags to read for this selection: of the selected queues, of the queues that delivered the
/// event, and of the destinations, which must not be enrolled.
pub fn tags_to_read(
    selection: &Selection,
    request: Option<&Request>,
    event_source_arns: &[String],
    config: &Config,
    location: &Location,
) -> TagsToRead {
    let queues = match selection {
        _ if config.enroll_tag.is_none() => return TagsToRead::None,
        Selection::All => {
            let listed = config.queues.iter();
            let listed = listed.filter(|dlq| location.is_taggable_here(dlq));
            return TagsToRead::All(listed.cloned().collect());
        }
        Selection::Named(queues) => queues,
    };
    if queues.is_empty() && event_source_arns.is_empty() {
        return TagsToRead::None;
    }
    let policy = &config.policy;
    let requested = request.and_then(|request| request.destination.as_ref());
    let destinations = destinations(policy).chain(requested);
    let destinations = destinations.map(QueueRef::from);
    let event_sources = event_source_arns.iter().filter_map(|arn| arn.parse().ok());
    let others: Vec<QueueRef> = destinations.chain(event_sources).collect();
    TagsToRead::Of(location.taggable_here(queues.iter().chain(&others)))
}

/// The destinations in these tags whose own tags are still to be read. `read` lists the queues
/// whose tags were read.
pub fn destinations_to_read(
    tagged: &[TaggedQueue],
    read: &[QueueArn],
    location: &Location,
) -> Vec<QueueArn> {
    let destinations: Vec<QueueRef> = tagged.iter().flat_map(TaggedQueue::destinations).collect();
    let mut destinations = location.taggable_here(&destinations);
    destinations.retain(|arn| !read.contains(arn));
    destinations
}

/// The enrolled DLQ that delivered the event; `None` if none did. Its messages are dead letters,
/// and Lambda deletes them if the invocation succeeds.
pub fn dlq_among<'a>(
    event_source_arns: &'a [String],
    config: &Config,
    tagged: &[TaggedQueue],
) -> Option<&'a String> {
    let enrolled = enrolled(config, tagged);
    let is_enrolled = |arn: &&String| enrolled.iter().any(|dlq| dlq.as_str() == arn.as_str());
    event_source_arns.iter().find(is_enrolled)
}

/// The DLQs that are enrolled by the list or by their tags.
fn enrolled<'a>(config: &'a Config, tagged: &'a [TaggedQueue]) -> BTreeSet<&'a QueueArn> {
    let by_tag = tagged.iter().filter(|tagged| tagged.enrolled);
    let by_tag = by_tag.map(|tagged| &tagged.dlq);
    config.queues.iter().chain(by_tag).collect()
}

/// The targets of a selection. Naming a queue does not enroll it. `tags` are those of the queues it
/// concerns. A listed DLQ whose tags could not be read is held, and so is a DLQ whose messages would go to a
/// queue that may be enrolled, because not all tags could be read. `timeout` is how long the invocation may
/// run.
pub fn targets(
    selection: &Selection,
    request: Option<&Request>,
    config: &Config,
    tags: &Tags,
    location: &Location,
    timeout: Duration,
) -> Targets {
    let listed: BTreeSet<&QueueArn> = config.queues.iter().collect();
    let enrolled = enrolled(config, &tags.found);
    let settings = tags.found.iter();
    let settings = settings.map(|tagged| (&tagged.dlq, tagged.settings.as_slice()));
    let settings_of: BTreeMap<&QueueArn, &[Setting]> = settings.collect();
    let (selected, not_enrolled) = match selection {
        Selection::All => (enrolled.clone(), Vec::new()),
        Selection::Named(queues) => resolve(queues, &enrolled, location),
    };
    let final_policy = |policy| Arc::new(as_requested(policy, request, timeout));
    let shared = final_policy(config.policy.clone());
    let held = held(&shared, tags, OWN_TAGS);
    let target = |&dlq: &&QueueArn| {
        let own = settings_of.get(dlq);
        let settings = own.copied().unwrap_or_default();
        let (policy, mut faults) = match (own, settings) {
            (None, _) if location.is_taggable_here(dlq) => (Arc::clone(&held), Vec::new()),
            (_, []) => (Arc::clone(&shared), Vec::new()),
            _ => as_tagged(config, settings, final_policy),
        };
        let is_read =
            |it: &QueueArn| settings_of.contains_key(it) || !location.is_taggable_here(it);
        let policy = unless_read(policy, tags, is_read);
        let found = contradiction(&policy, dlq, &enrolled, config, settings);
        if let Some(found) = found.filter(|found| !faults.iter().any(|it| it.contains(found))) {
            faults.push(found);
        }
        Target {
            dlq: dlq.clone(),
            policy,
            policy_error: (!faults.is_empty()).then(|| faults.join("; ")),
            listed: listed.contains(dlq),
        }
    };
    Targets {
        enrolled: selected.iter().map(target).collect(),
        not_enrolled,
        dry_run: shared.dry_run,
    }
}

/// What cannot be read of a listed DLQ.
const OWN_TAGS: &str = "the DLQ's tags cannot be read, and they may pause it";

/// This policy, with which nothing starts if some tags could not be read.
fn held(policy: &Arc<Policy>, tags: &Tags, what: &str) -> Arc<Policy> {
    match &tags.unread {
        None => Arc::clone(policy),
        Some(why) => Arc::new(Policy {
            unread_tags: Some(format!("{what}: {why}")),
            ..Policy::clone(policy)
        }),
    }
}

/// This policy, with which nothing starts if a destination may be enrolled, because its tags could not be
/// read.
fn unless_read(
    policy: Arc<Policy>,
    tags: &Tags,
    is_read: impl Fn(&QueueArn) -> bool,
) -> Arc<Policy> {
    let unread = destinations(&policy).find(|it| !is_read(it));
    match unread.filter(|_| policy.unread_tags.is_none()) {
        None => Arc::clone(&policy),
        Some(it) => {
            let what =
                format!("the tags of `{it}`, which may itself be an enrolled DLQ, cannot be read");
            held(&policy, tags, &what)
        }
    }
}

/// The queues that messages may go to, apart from source queues.
fn destinations(policy: &Policy) -> impl Iterator<Item = &QueueArn> {
    [&policy.destination, &policy.parking].into_iter().flatten()
}

/// Why the final policy of a DLQ cannot be followed, if so: messages would go to an invalid place,
/// or a request sets a pace or a sample that contradicts the rest of the policy.
fn contradiction(
    policy: &Policy,
    dlq: &QueueArn,
    enrolled: &BTreeSet<&QueueArn>,
    config: &Config,
    settings: &[(String, String)],
) -> Option<String> {
    if let Err(why) = check(policy, dlq, enrolled) {
        let blame = blame(config, settings, &["destination-arn", "parking-arn"]);
        return Some(format!("{blame}{why}"));
    }
    // Later looks follow the deployed policy, and would take a redrive at this pace for a sample, even if
    // the request turns samples off.
    let has_samples = match settings.iter().find(|(name, _)| name == "sample") {
        Some((_, text)) => text.trim() != "0",
        None => !config.policy.sample.is_zero(),
    };
    let is_pace_of_sample = policy.max_messages_per_second == Rate::new(SAMPLE_PACE.into());
    let has_samples = has_samples || !policy.sample.is_zero();
    (has_samples && is_pace_of_sample).then(|| PolicyError::PaceOfSample.to_string())
}

/// A setting of a DLQ's own, as name and text, from its tags.
type Setting = (String, String);

/// The enrolled DLQs among the named queues, and the ARNs of the other named queues.
fn resolve<'a>(
    queues: &[QueueRef],
    enrolled: &BTreeSet<&'a QueueArn>,
    location: &Location,
) -> (BTreeSet<&'a QueueArn>, Vec<String>) {
    let mut by_name = QueuesByName::new();
    for dlq in enrolled {
        let namesakes = by_name.entry((dlq.name(), dlq.region())).or_default();
        namesakes.push(dlq);
    }
    let mut selected = BTreeSet::new();
    let mut others = BTreeSet::new();
    for queue in queues {
        match location.resolve(queue, &by_name) {
            Some(dlq) => drop(selected.insert(dlq)),
            None => drop(others.insert(location.queue_arn(queue))),
        }
    }
    (selected, others.into_iter().collect())
}

/// The environment's policy, changed by a DLQ's own settings, and everything that is wrong with
/// them. A tag can add a brake, a pause or a dry run but not lift one.
fn as_tagged(
    config: &Config,
    settings: &[Setting],
    final_policy: impl Fn(Policy) -> Arc<Policy>,
) -> (Arc<Policy>, Vec<String>) {
    let mut policy = config.policy.clone();
    let mut faults = Vec::new();
    for (name, value) in settings {
        if let Err(expected) = config::set(&mut policy, name, value.trim()) {
            faults.push(format!("{}{expected}", blame(config, settings, &[name])));
            // A dry run in doubt is one, also where its name is mistyped, such as `dry_run`.
            let letters = name.chars().filter(char::is_ascii_alphabetic);
            let letters: String = letters.collect();
            policy.dry_run |= letters.eq_ignore_ascii_case("dryrun");
        }
    }
    policy.paused |= config.policy.paused;
    policy.dry_run |= config.policy.dry_run;
    for alarm in &config.policy.brake_alarms {
        if !policy.brake_alarms.contains(alarm) {
            policy.brake_alarms.push(alarm.clone());
        }
    }
    if faults.is_empty() {
        let is_sample_set = settings.iter().any(|(name, _)| name == "sample");
        let sets_attempts = settings.iter().any(|(name, _)| name == "max-attempts");
        let too_many = policy.too_many_attempts();
        let too_many =
            too_many.filter(|_| is_sample_set && sets_attempts && !policy.sample.is_zero());
        let contradictions = policy.contradictions().into_iter().chain(too_many);
        faults.extend(contradictions.map(|contradiction| {
            let blame = blame(config, settings, settings_behind(&contradiction));
            format!("{blame}{contradiction}")
        }));
    }
    (final_policy(policy), faults)
}

/// The settings that contradict each other.
fn settings_behind(contradiction: &PolicyError) -> &'static [&'static str] {
    match contradiction {
        PolicyError::ParkingIsDestination => &["destination-arn", "parking-arn"],
        PolicyError::WindowTooShort { .. } => &["cooldown", "attempt-window", "max-attempts"],
        PolicyError::ScheduleTooSlow { .. } => &["attempt-window", "max-attempts"],
        PolicyError::PaceOfSample => &["max-messages-per-second", "sample"],
        PolicyError::TooManyAttempts { .. } => &["max-attempts", "sample"],
    }
}

/// The start of an error message: the tags that set these settings, with their values. Empty if
/// these settings come from no tag.
fn blame(config: &Config, settings: &[(String, String)], names: &[&str]) -> String {
    let key = excerpt(config.enroll_tag.as_ref().map_or("", |tag| &tag.key));
    let tags: Vec<String> = settings
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| format!("tag `{key}:{}` holds `{}`", excerpt(name), excerpt(value)))
        .collect();
    match tags[..] {
        [] => String::new(),
        _ => format!("{}: ", tags.join(", ")),
    }
}

/// The policy to follow: a policy, changed by a request.
fn as_requested(policy: Policy, request: Option<&Request>, timeout: Duration) -> Policy {
    // Before the request: without a sample, more attempts would fit.
    let policy = policy.with_attempts_that_fit();
    let Some(request) = request else {
        return policy;
    };
    let sample = request.sample.unwrap_or(policy.sample);
    let policy = Policy { sample, ..policy };
    // A forced redrive sends all messages, whatever the sample.
    let policy = if request.force {
        policy.forced(timeout)
    } else {
        policy
    };
    let policy = Policy {
        // A request with its own destination is never diverted to the parking queue.
        may_park: policy.may_park && request.destination.is_none(),
        // A request cannot lift a deployed dry run.
        dry_run: policy.dry_run || request.dry_run,
        max_messages_per_second: request
            .max_messages_per_second
            .or(policy.max_messages_per_second),
        destination: request.destination.clone().or(policy.destination),
        ..policy
    };
    policy.with_attempts_that_fit()
}

/// `Err` if SQS cannot move messages to the destination, or if they would loop.
fn check(policy: &Policy, dlq: &QueueArn, enrolled: &BTreeSet<&QueueArn>) -> Result<(), String> {
    policy.check(dlq).map_err(|invalid| invalid.to_string())?;
    match destinations(policy).find(|destination| enrolled.contains(destination)) {
        Some(destination) => Err(format!(
            "the destination `{destination}` is itself an enrolled DLQ, so its messages would loop"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
