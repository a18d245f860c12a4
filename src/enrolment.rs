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
    /// The account.
    pub account: String,
}

impl Home {
    /// Reads the ARN of a Lambda function, `arn:<partition>:lambda:<region>:<account>:function:…`.
    /// `None` if it is none.
    pub fn from_function_arn(arn: &str) -> Option<Self> {
        match arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, "lambda", region, account, "function", ..] => Some(Self {
                partition: partition.to_owned(),
                region: region.to_owned(),
                account: account.to_owned(),
            }),
            _ => None,
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
        let region = queue.region.as_deref().unwrap_or(&home.region);
        let account = queue.account.as_deref().unwrap_or(&home.account);
        let Some(listed) = config.queues.iter().find(|dlq| {
            (dlq.region(), dlq.account(), dlq.name()) == (region, account, queue.name.as_str())
        }) else {
            let arn = format!(
                "arn:{}:sqs:{region}:{account}:{}",
                home.partition, queue.name
            );
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
