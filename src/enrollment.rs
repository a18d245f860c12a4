//! Which DLQs a trigger concerns, and their policies: the environment's, then what the DLQ's tags
//! say, then what a request says.

use crate::config::{self, Config};
use crate::event::{Request, Selection};
use crate::policy::{Policy, PolicyError};
use crate::queue::{Location, QueueArn, QueuesByName, TaggedQueue};
use crate::text::excerpt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A DLQ that may be touched, and the rules for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The DLQ.
    pub dlq: QueueArn,
    /// Its policy; shared, since most DLQs have the same.
    pub policy: Arc<Policy>,
    /// Whether `REDRIVE_QUEUES` lists it. One that only bears the tag may have been deleted lately.
    pub listed: bool,
}

/// What a trigger is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The DLQs to look at, in the order of their ARNs.
    pub enrolled: Vec<Target>,
    /// The enrolled DLQs whose policy cannot be followed, with what of it could be read, and why.
    pub invalid: Vec<(Target, String)>,
    /// The ARNs of the queues that were named and may not be touched.
    pub not_enrolled: Vec<String>,
}

/// The DLQs that a selection is about. `tagged` are those of them that bear the enrol tag. To be named
/// enrols nothing.
pub fn targets(
    selection: &Selection,
    request: Option<&Request>,
    config: &Config,
    tagged: Vec<TaggedQueue>,
    location: &Location,
) -> Targets {
    let listed: BTreeSet<&QueueArn> = config.queues.iter().collect();
    let tagged: BTreeMap<QueueArn, Vec<(String, String)>> = tagged
        .into_iter()
        .map(|tagged| (tagged.dlq, tagged.settings))
        .collect();
    let enrolled: BTreeSet<&QueueArn> = listed.iter().copied().chain(tagged.keys()).collect();
    let mut targets = Targets::default();

    let wanted: BTreeSet<&QueueArn> = match selection {
        Selection::All => enrolled.clone(),
        Selection::Named(queues) => {
            let mut by_name = QueuesByName::new();
            for dlq in &enrolled {
                by_name
                    .entry((dlq.name(), dlq.region()))
                    .or_default()
                    .push(dlq);
            }
            let mut wanted = BTreeSet::new();
            for queue in queues {
                match location.resolve(queue, &by_name) {
                    Some(dlq) => drop(wanted.insert(dlq)),
                    None => targets.not_enrolled.push(location.queue_arn(queue)),
                }
            }
            targets.not_enrolled.sort();
            targets.not_enrolled.dedup();
            wanted
        }
    };

    let shared = Arc::new(as_requested(config.policy.clone(), request));
    for dlq in wanted {
        let settings = tagged.get(dlq).map_or(&[][..], Vec::as_slice);
        let (policy, mut faults) = match settings {
            [] => (Arc::clone(&shared), Vec::new()),
            settings => {
                let (policy, faults) = as_tagged(config, settings);
                (Arc::new(as_requested(policy, request)), faults)
            }
        };
        if let Err(why) = check(&policy, dlq, &enrolled) {
            let blame = blame(config, settings, &["destination-arn", "parking-arn"]);
            faults.push(format!("{blame}{why}"));
        }
        let target = Target {
            dlq: dlq.clone(),
            policy,
            listed: listed.contains(dlq),
        };
        if faults.is_empty() {
            targets.enrolled.push(target);
        } else {
            targets.invalid.push((target, faults.join("; ")));
        }
    }
    targets
}

/// The environment's policy, with what a DLQ's own tags say instead, and the faults: every bad tag,
/// what it holds and what is accepted. A tag can add a pause or a dry run, and not lift one.
fn as_tagged(config: &Config, settings: &[(String, String)]) -> (Policy, Vec<String>) {
    let mut policy = config.policy.clone();
    let mut faults: Vec<String> = settings
        .iter()
        .filter_map(|(name, value)| {
            let expected = config::set(&mut policy, name, value.trim()).err()?;
            Some(format!("{}{expected}", blame(config, settings, &[name])))
        })
        .collect();
    policy.paused |= config.policy.paused;
    policy.dry_run |= config.policy.dry_run;
    if faults.is_empty() {
        faults.extend(policy.contradictions().iter().map(|contradiction| {
            let blame = match contradiction {
                PolicyError::ParkingIsDestination => {
                    blame(config, settings, &["destination-arn", "parking-arn"])
                }
                PolicyError::WindowTooShort { .. } => blame(
                    config,
                    settings,
                    &["cooldown", "attempt-window", "max-attempts"],
                ),
            };
            format!("{blame}{contradiction}")
        }));
    }
    (policy, faults)
}

/// Which of a DLQ's tags say these settings, and what they hold: the beginning of a sentence that
/// goes on with what is wrong. Empty if none of them does.
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

/// A policy, with what a request says instead.
fn as_requested(policy: Policy, request: Option<&Request>) -> Policy {
    let Some(request) = request else {
        return policy;
    };
    let policy = if request.force {
        policy.forced()
    } else {
        policy
    };
    Policy {
        // Who names a destination does not mean the parking queue.
        may_park: request.destination.is_none(),
        // A deployed dry run stays one.
        dry_run: policy.dry_run || request.dry_run,
        max_messages_per_second: request
            .max_messages_per_second
            .or(policy.max_messages_per_second),
        destination: request.destination.clone().or(policy.destination),
        ..policy
    }
}

/// `Err` if messages of this DLQ would go where SQS does not move them, or round.
fn check(policy: &Policy, dlq: &QueueArn, enrolled: &BTreeSet<&QueueArn>) -> Result<(), String> {
    policy.check(dlq).map_err(|invalid| invalid.to_string())?;
    let mut destinations = [&policy.destination, &policy.parking].into_iter().flatten();
    match destinations.find(|destination| enrolled.contains(destination)) {
        Some(destination) => Err(format!(
            "the destination `{destination}` is itself an enrolled DLQ"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
