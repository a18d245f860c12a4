//! Which DLQs a trigger concerns, and their policies.

use crate::config::Config;
use crate::event::QueueRef;
use crate::policy::Policy;
use crate::queue::QueueArn;
use std::sync::Arc;

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
}

/// A DLQ that may be touched, and the rules for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The DLQ.
    pub dlq: QueueArn,
    /// Its policy; shared, since most DLQs have the same.
    pub policy: Arc<Policy>,
}

/// What a trigger is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The DLQs to look at.
    pub enrolled: Vec<Target>,
    /// The ARNs of the queues that were named and may not be touched.
    pub not_enrolled: Vec<String>,
}

/// Every enrolled DLQ, under `policy`.
pub fn all(config: &Config, policy: &Arc<Policy>) -> Targets {
    let target = |dlq: &QueueArn| Target {
        dlq: dlq.clone(),
        policy: Arc::clone(policy),
    };
    Targets {
        enrolled: config.queues.iter().map(target).collect(),
        not_enrolled: Vec::new(),
    }
}

/// The queues that were named, each once, as far as they are enrolled. To be named enrols nothing.
pub fn named(config: &Config, policy: &Arc<Policy>, queues: &[QueueRef], home: &Home) -> Targets {
    let mut targets = Targets::default();
    for queue in queues {
        let region = queue.region.as_ref().unwrap_or(&home.region);
        let account = queue.account.as_ref().or(home.account.as_ref());
        let is_named = |dlq: &&QueueArn| {
            (dlq.name(), dlq.region()) == (&queue.name, region)
                && account.is_none_or(|account| dlq.account() == account)
        };
        let Some(listed) = config.queues.iter().find(is_named) else {
            let account = account.map_or("", String::as_str);
            let (partition, name) = (&home.partition, &queue.name);
            let arn = format!("arn:{partition}:sqs:{region}:{account}:{name}");
            if !targets.not_enrolled.contains(&arn) {
                targets.not_enrolled.push(arn);
            }
            continue;
        };
        if targets.enrolled.iter().all(|target| target.dlq != *listed) {
            targets.enrolled.push(Target {
                dlq: listed.clone(),
                policy: Arc::clone(policy),
            });
        }
    }
    targets
}
