//! Fall time: about how long a message that keeps failing takes to come back to its DLQ.

use crate::queue::QueueArn;
use std::time::Duration;

/// What is known about how a DLQ's messages come back after a redrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallTime {
    /// A failing message comes back.
    Known(Fall),
    /// A failing message takes longer than an hour: no sample could wait for it. Move tasks count
    /// for as long as all attempts take.
    Long(Duration),
    /// SQS failed while the facts were read; the reason. This is a doubt: the next look may
    /// succeed.
    Failed(String),
    /// The fall time is unknown; the reason, an English clause.
    Unknown(String),
}

/// How a failing message comes back to its DLQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fall {
    /// About how long it takes: an estimate, and a lower bound. A consumer that changes the
    /// visibility timeout, a Lambda event source mapping that backs off, and a backlog all make it
    /// longer.
    pub time: Duration,
    /// The queues that the DLQ's messages are moved to, and from which they fall back.
    pub consumed: Vec<QueueArn>,
}

/// The facts about a queue that fall time depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFacts {
    /// `VisibilityTimeout`.
    pub visibility_timeout: Duration,
    /// `DelaySeconds`.
    pub delay: Duration,
    /// `RedrivePolicy`; `None` if the queue has no DLQ.
    pub redrive_policy: Option<RedrivePolicy>,
}

/// Where a queue's failing messages go, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// The ARN of the DLQ.
    pub dlq_arn: String,
    /// `maxReceiveCount`: how many receives a message survives. SQS accepts 1 to 1,000.
    pub max_receive_count: u32,
}

/// The most source queues whose facts are read.
pub const MAX_SOURCES: usize = 10;

/// Sampling does not apply to a longer fall time.
const MAX_FALL_TIME: Duration = Duration::from_secs(3600);

/// About how long a failing message waits for its next receive, in addition to each visibility
/// timeout.
const POLL: Duration = Duration::from_secs(20);

/// The fall time of a DLQ from the facts about the queues that its messages move to: its source
/// queues, or the one destination.
pub fn fall_time(dlq: &QueueArn, queues: Vec<(QueueArn, Result<QueueFacts, String>)>) -> FallTime {
    if dlq.is_fifo() {
        let why = "messages of a FIFO group come back one after another";
        return FallTime::Unknown(why.to_owned());
    }
    if queues.len() > MAX_SOURCES {
        return FallTime::Unknown(format!("the DLQ has more than {MAX_SOURCES} source queues"));
    }
    let mut longest = Duration::ZERO;
    let mut consumed = Vec::with_capacity(queues.len());
    for (queue, facts) in queues {
        match facts.and_then(|facts| way_back(dlq, &queue, &facts)) {
            Ok(time) => longest = longest.max(time),
            Err(why) => return FallTime::Unknown(why),
        }
        consumed.push(queue);
    }
    if consumed.is_empty() {
        return FallTime::Unknown("no queue uses this queue as its DLQ".to_owned());
    }
    if longest > MAX_FALL_TIME {
        return FallTime::Long(longest);
    }
    FallTime::Known(Fall {
        time: longest,
        consumed,
    })
}

fn way_back(dlq: &QueueArn, queue: &QueueArn, facts: &QueueFacts) -> Result<Duration, String> {
    if !queue.is_beside(dlq) {
        return Err(format!("`{queue}` is in another account or region"));
    }
    let policy = facts.redrive_policy.as_ref();
    let policy = policy.filter(|policy| policy.dlq_arn == dlq.as_str());
    let Some(policy) = policy else {
        return Err(format!(
            "failing messages of `{queue}` do not come to this DLQ"
        ));
    };
    let receive = facts.visibility_timeout.saturating_add(POLL);
    let receives = receive.saturating_mul(policy.max_receive_count);
    Ok(receives.saturating_add(facts.delay))
}
