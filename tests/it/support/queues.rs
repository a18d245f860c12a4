//! Real queues in the local SQS, and messages that SQS itself moves to a DLQ.

use super::local::{ACCOUNT, REGION, sdk, servers};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ListMessageMoveTasksResultEntry as ListedTask, QueueAttributeName, SendMessageBatchRequestEntry,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Far longer than any wait here takes, so that no test fails on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source queue and its DLQ, into which SQS moves a message at its second delivery.
pub struct Queues {
    /// The source queue.
    pub source: Queue,
    /// Its DLQ, named after it with `-dlq` at the end.
    pub dlq: Queue,
}

impl Queues {
    /// Creates both. Every test uses names of its own, because all share one SQS.
    pub async fn create(source: &str) -> Self {
        let dlq = Queue::create(&format!("{source}-dlq")).await;
        Self::with_dlq(source, dlq).await
    }

    /// Creates another source queue with the same DLQ.
    pub async fn sharing_dlq(&self, source: &str) -> Self {
        Self::with_dlq(source, self.dlq.clone()).await
    }

    async fn with_dlq(source: &str, dlq: Queue) -> Self {
        let redrive_policy = json!({"deadLetterTargetArn": dlq.arn, "maxReceiveCount": 1});
        let policy = (
            QueueAttributeName::RedrivePolicy,
            redrive_policy.to_string(),
        );
        let source = Queue::create_with(source, [policy]).await;
        Self { source, dlq }
    }

    /// Sends `count` messages to the source queue and receives them there until SQS has moved them
    /// all to the DLQ: SQS knows the source queue of such messages only. Returns their texts.
    pub async fn dead_letter(&self, count: usize) -> BTreeSet<String> {
        let wanted = self.dlq.depth().await.total() + count;
        let texts = (1..=count).map(|n| format!("{} {n}", self.source.name));
        let texts: BTreeSet<String> = texts.collect();
        self.source.send(&texts).await;
        self.fall(wanted).await;
        texts
    }

    /// Receives what is in the source queue, until `wanted` messages are in the DLQ.
    pub async fn fall(&self, wanted: usize) {
        let what = format!("{wanted} messages in {}", self.dlq.name);
        eventually(&what, async || {
            self.source.receive(0).await;
            (self.dlq.depth().await.visible == wanted).then_some(())
        })
        .await;
    }
}

/// A queue.
#[derive(Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    url: String,
    client: Client,
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Waiting to be received.
    pub visible: usize,
    /// Received but not yet deleted.
    pub in_flight: usize,
}

impl Depth {
    fn total(self) -> usize {
        self.visible + self.in_flight
    }
}

impl Queue {
    /// Creates a queue without a redrive policy; a FIFO queue if its name ends in `.fifo`.
    pub async fn create(name: &str) -> Self {
        let fifo = name.ends_with(".fifo");
        let fifo = fifo.then(|| (QueueAttributeName::FifoQueue, "true".to_owned()));
        Self::create_with(name, fifo).await
    }

    /// The queue of this name, whether there is one or not.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arn: queue_arn(name),
            url: format!("{}/{ACCOUNT}/{name}", servers().sqs_url),
            client: client(),
        }
    }

    async fn create_with(
        name: &str,
        attributes: impl IntoIterator<Item = (QueueAttributeName, String)>,
    ) -> Self {
        let client = client();
        let attributes = attributes.into_iter().collect();
        let request = client.create_queue().queue_name(name);
        let created = request.set_attributes(Some(attributes)).send().await;
        Self {
            name: name.to_owned(),
            arn: queue_arn(name),
            url: created.unwrap().queue_url.unwrap(),
            client,
        }
    }

    /// Sends messages straight into the queue.
    pub async fn send(&self, texts: &BTreeSet<String>) {
        let fifo = self.name.ends_with(".fifo");
        let texts: Vec<&String> = texts.iter().collect();
        for ten in texts.chunks(10) {
            let entries = ten.iter().enumerate().map(|(n, text)| {
                SendMessageBatchRequestEntry::builder()
                    .id(n.to_string())
                    .message_body(*text)
                    .set_message_group_id(fifo.then(|| "group".to_owned()))
                    .set_message_deduplication_id(fifo.then(|| n.to_string()))
                    .build()
                    .unwrap()
            });
            let request = self.client.send_message_batch().queue_url(&self.url);
            let sent = request.set_entries(Some(entries.collect())).send().await;
            assert!(sent.unwrap().failed.is_empty(), "every message is accepted");
        }
    }

    /// How many messages the queue holds.
    pub async fn depth(&self) -> Depth {
        let visible = QueueAttributeName::ApproximateNumberOfMessages;
        let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let request = request.attribute_names(visible.clone());
        let answer = request.attribute_names(in_flight.clone()).send().await;
        let attributes = answer.unwrap().attributes.unwrap();
        let count = |name| attributes[&name].parse().unwrap();
        Depth {
            visible: count(visible),
            in_flight: count(in_flight),
        }
    }

    /// Asserts that the queue holds this many messages, all of them visible.
    pub async fn assert_holds(&self, count: usize) {
        let depth = self.depth().await;
        let wanted = Depth {
            visible: count,
            in_flight: 0,
        };
        assert_eq!(depth, wanted, "messages in {}", self.name);
    }

    /// Waits until the queue holds this many messages, all of them visible.
    pub async fn wait_until_holds(&self, count: usize) {
        let wanted = Depth {
            visible: count,
            in_flight: 0,
        };
        eventually(&format!("{count} messages in {}", self.name), async || {
            (self.depth().await == wanted).then_some(())
        })
        .await;
    }

    /// Takes all messages out of the queue, and returns their texts.
    pub async fn take_all(&self) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        while self.depth().await.visible > 0 {
            for (text, receipt) in self.receive(60).await {
                let request = self.client.delete_message().queue_url(&self.url);
                request.receipt_handle(receipt).send().await.unwrap();
                assert!(texts.insert(text), "every message is there once");
            }
        }
        texts
    }

    /// Text and receipt handle of ten messages at most, which then are invisible for this long.
    async fn receive(&self, invisible_seconds: i32) -> Vec<(String, String)> {
        let request = self.client.receive_message().queue_url(&self.url);
        let request = request
            .max_number_of_messages(10)
            .visibility_timeout(invisible_seconds);
        let messages = request.send().await.unwrap().messages.unwrap_or_default();
        let both = messages
            .into_iter()
            .map(|message| (message.body.unwrap(), message.receipt_handle.unwrap()));
        both.collect()
    }

    /// The message move tasks out of this queue, newest first.
    pub async fn tasks(&self) -> Vec<ListedTask> {
        let request = self.client.list_message_move_tasks().source_arn(&self.arn);
        let answer = request.max_results(10).send().await;
        answer.unwrap().results.unwrap_or_default()
    }

    /// Asserts that no message move task was ever started on this queue.
    pub async fn assert_no_task(&self) {
        let tasks = self.tasks().await;
        assert!(tasks.is_empty(), "tasks of {}: {tasks:?}", self.name);
    }

    /// Waits until the newest task is COMPLETED.
    pub async fn wait_for_task(&self) {
        let what = format!("the end of the newest task of {}", self.name);
        eventually(&what, async || {
            let tasks = self.tasks().await;
            (tasks.first()?.status()? == "COMPLETED").then_some(())
        })
        .await;
    }
}

/// The ARN of a queue of this name, whether there is one or not.
pub fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// Polls until there is an answer.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A client of the local SQS. One for each queue: its connections belong to the runtime of one
/// test.
fn client() -> Client {
    Client::new(&sdk(&servers().sqs_url))
}
