//! Which DLQs a trigger concerns, and their policies: the environment's, then what the DLQ's tags
//! say, then what a request says.

use crate::config::{self, Config};
use crate::event::{QueueRef, Request, Selection};
use crate::policy::{Contradiction, Policy};
use crate::queue::QueueArn;
use crate::tagging::TaggedQueue;
use crate::text::excerpt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// DLQs by name and region. Accounts may have queues of the same name.
type ByName<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a QueueArn>>;

/// Where the function runs. What a trigger leaves open about a queue is this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// `aws`, `aws-cn`, `aws-us-gov`, ….
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account; `None` under an emulator that does not say, and then any account will do.
    pub account: Option<String>,
}

impl Home {
    /// Reads the ARN of the function, `arn:<partition>:lambda:<region>:<account>:function:…`. Where it
    /// is none, as under some emulators, `region` is all that is known.
    pub fn new(function_arn: &str, region: &str) -> Self {
        match function_arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, "lambda", region, account, "function", ..] => Self {
                partition: partition.to_owned(),
                region: region.to_owned(),
                account: Some(account.to_owned()),
            },
            _ => Self {
                partition: "aws".to_owned(),
                region: region.to_owned(),
                account: None,
            },
        }
    }

    /// The ARN of a queue that an event names.
    fn arn(&self, queue: &QueueRef) -> String {
        let region = queue.region.as_ref().unwrap_or(&self.region);
        let account = queue.account.as_ref().or(self.account.as_ref());
        let account = account.map_or("", String::as_str);
        format!(
            "arn:{}:sqs:{region}:{account}:{}",
            self.partition, queue.name
        )
    }

    /// Which of these DLQs, found by name and region, an event means that names `queue`.
    fn meant<'a>(&self, queue: &QueueRef, dlqs: &ByName<'a>) -> Option<&'a QueueArn> {
        let region = queue.region.as_ref().unwrap_or(&self.region);
        let account = queue.account.as_ref().or(self.account.as_ref());
        let namesakes = dlqs.get(&(queue.name.as_str(), region.as_str()))?;
        let is_own = |dlq: &&&QueueArn| account.is_none_or(|account| dlq.account() == account);
        namesakes.iter().find(is_own).copied()
    }

    /// Those of the named queues whose tags can be read: the tagging API knows its own account and region.
    pub fn own<'a>(&self, queues: impl IntoIterator<Item = &'a QueueRef>) -> Vec<QueueArn> {
        let arns = queues
            .into_iter()
            .filter_map(|queue| self.arn(queue).parse().ok());
        let own = arns.filter(|arn: &QueueArn| {
            arn.region() == self.region
                && self.account.as_ref().is_none_or(|own| arn.account() == own)
        });
        own.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

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
    home: &Home,
) -> Targets {
    let listed: BTreeSet<&QueueArn> = config.queues.iter().collect();
    let tagged: BTreeMap<QueueArn, Vec<(String, String)>> = tagged
        .into_iter()
        .map(|tagged| (tagged.queue, tagged.settings))
        .collect();
    let enrolled: BTreeSet<&QueueArn> = listed.iter().copied().chain(tagged.keys()).collect();
    let mut targets = Targets::default();

    let wanted: BTreeSet<&QueueArn> = match selection {
        Selection::All => enrolled.clone(),
        Selection::Named(queues) => {
            let mut by_name = ByName::new();
            for dlq in &enrolled {
                by_name
                    .entry((dlq.name(), dlq.region()))
                    .or_default()
                    .push(dlq);
            }
            let mut wanted = BTreeSet::new();
            for queue in queues {
                match home.meant(queue, &by_name) {
                    Some(dlq) => drop(wanted.insert(dlq)),
                    None => targets.not_enrolled.push(home.arn(queue)),
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
                Contradiction::ParkingIsDestination => {
                    blame(config, settings, &["destination-arn", "parking-arn"])
                }
                Contradiction::WindowTooShort { .. } => blame(
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
        parks: request.destination.is_none(),
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
