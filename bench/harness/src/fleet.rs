//! The queues of a scenario. A queue's name contains its depth, `dlq-<number>-d<depth>`, so no server stores it.

pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "us-east-1";
/// The tag of every queue: key and value.
pub const TAG: (&str, &str) = ("auto-redrive", "enabled");
/// The most redrives per invocation. It is the maximum that `REDRIVE_MAX_STARTS` accepts.
pub const MAX_STARTS: usize = 100;

/// What a peer judges before a start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing: samples are off.
    None,
    /// A sample that ended an hour ago: it stayed away, so the rest starts.
    Rest,
    /// The fall time alone: a sample starts.
    Sample,
}

/// The number of queues, and how many of them hold messages (`full`).
#[derive(Clone, Copy)]
pub struct Fleet {
    pub queues: usize,
    pub full: usize,
    pub judgement: Judgement,
}

impl Fleet {
    /// Whether the queue holds messages. Full queues are spread evenly.
    pub fn is_full(&self, queue: usize) -> bool {
        (queue * self.full) / self.queues != ((queue + 1) * self.full) / self.queues
    }

    /// The number of messages in a queue. A few need no sample.
    pub fn depth(&self, queue: usize) -> u64 {
        match (self.is_full(queue), self.judgement) {
            (false, _) => 0,
            (true, Judgement::None) => 5,
            (true, _) => 1000,
        }
    }

    /// The name of the only source queue of a full queue.
    pub fn source(&self, queue: usize) -> String {
        format!("{}-source", self.name(queue))
    }

    /// The full queue with this source queue. `None` if the fleet has none.
    pub fn queue_of_source(&self, name: &str) -> Option<usize> {
        let queue = self.queue(name.strip_suffix("-source")?)?;
        self.is_full(queue).then_some(queue)
    }

    pub fn name(&self, queue: usize) -> String {
        format!("dlq-{queue:05}-d{}", self.depth(queue))
    }

    pub fn arn(&self, queue: usize) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", self.name(queue))
    }

    /// The queue with this name. `None` if the fleet has no such queue.
    pub fn queue(&self, name: &str) -> Option<usize> {
        let number = name.strip_prefix("dlq-")?.get(..5)?.parse().ok()?;
        (number < self.queues && self.name(number) == name).then_some(number)
    }

    /// The queue with this ARN. `None` if the fleet has no such queue.
    pub fn queue_of_arn(&self, arn: &str) -> Option<usize> {
        let (rest, name) = arn.rsplit_once(':')?;
        let queue = self.queue(name)?;
        (rest == format!("arn:aws:sqs:{REGION}:{ACCOUNT}")).then_some(queue)
    }

    /// The number of redrives that an invocation must start.
    pub fn starts(&self) -> usize {
        self.full.min(MAX_STARTS)
    }

    pub fn arns(&self) -> Vec<String> {
        (0..self.queues).map(|queue| self.arn(queue)).collect()
    }
}

/// The handle of the move task on the queue with this name.
pub fn task_handle(name: &str) -> String {
    format!("dGFzay17{name}")
}
