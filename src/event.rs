//! JSON → [`Trigger`]s. The only file that knows the shapes of AWS's events.
//!
//! An event is read in two steps. First its coats come off: SQS, SNS, EventBridge and Pipes each
//! wrap what they deliver, and one another. Then what is left is told apart by the fields it has.
//! The event wakes us and names queues; it is never believed about depths, and never enrols a queue.
//! A sample of every shape is in `events/`.

use crate::policy::Rate;
use crate::queue::{QueueArn, QueueRef, is_account_id, is_queue_name, is_region, queue_arn};
use crate::text::{excerpt, first_three, one_line};
use aws_lambda_events::sqs::SqsMessage;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many coats are taken off before an event counts as unreadable. Pipes over SQS over SNS over
/// EventBridge, the deepest that AWS makes by itself, is four.
const MAX_ENVELOPES: usize = 4;

/// What one event says: a trigger for each notification in it, one at least.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// What was understood, in the order in which it came.
    pub triggers: Vec<Trigger>,
    /// The records that could not be read. The invocation must fail for them after it has acted on
    /// the others: to succeed would be to have them deleted unread.
    pub unreadable: Vec<RecordError>,
    /// The ARNs of the queues whose messages Lambda delivered, and deletes if the invocation succeeds.
    pub event_source_arns: Vec<String>,
}

/// One thing that wakes us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The ARN of the schedule, rule or alarm.
    pub source: Option<String>,
    /// The alarm, if this is an alarm notification: it may be a brake.
    pub alarm: Option<Alarm>,
    /// What it calls for, if the alarm is no brake.
    pub calls_for: CallsFor,
}

/// What a trigger calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallsFor {
    /// To look at every enrolled DLQ: a schedule, or a composite alarm, which names no queue.
    Sweep,
    /// To look at these queues: an alarm is in ALARM and names them.
    Queues(Vec<QueueRef>),
    /// To do what a person or another system asks.
    Request(Request),
    /// Nothing, and why: an English clause.
    Nothing(String),
}

/// The alarm a notification is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its name; empty if the notification does not say.
    pub name: String,
    /// Its state: `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// The account it is in, as far as the notification says.
    pub account: Option<String>,
    /// The region it is in, as far as the notification says.
    pub region: Option<String>,
}

/// What a person or another system asks for: the event is our own JSON, and bare. Inside a coat it
/// would be anybody's who may publish to a topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(expecting = "a request")]
pub struct Request {
    /// What to do.
    pub action: Action,
    /// With which DLQs; every enrolled one if the request does not say.
    #[serde(default)]
    pub queues: Selection,
    /// Decide and report, start nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Pass the gates that spare effort or wait for better times.
    #[serde(default)]
    pub force: bool,
    /// In place of the policy's rate.
    #[serde(default, deserialize_with = "rate")]
    pub max_messages_per_second: Option<Rate>,
    /// In place of the policy's destination.
    #[serde(default, rename = "destinationArn", deserialize_with = "destination")]
    pub destination: Option<QueueArn>,
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// Start a redrive wherever every gate agrees.
    Redrive,
    /// Cancel the tasks that are RUNNING.
    Cancel,
}

/// Which DLQs a request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Selection {
    /// Every enrolled one.
    #[default]
    All,
    /// These, by ARN or by name.
    Named(Vec<QueueRef>),
}

/// A record of a batch that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's message id, or its place in the batch; `None` if the event is no batch.
    pub record: Option<String>,
    /// What is wrong with it: an English clause.
    pub why: String,
}

/// An event that is none of ours. Nothing was touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event rejected: {0}; expected a schedule, a CloudWatch alarm notification (by EventBridge, Lambda action, SNS, SQS or Pipes) or a request such as {{\"action\": \"redrive\", \"queues\": \"all\"}}"
)]
pub struct EventError(String);

impl EventError {
    /// The event holds the messages of this DLQ: the function is mapped onto it by mistake.
    pub fn dead_letters(queue: &str) -> Self {
        Self(format!(
            "it holds messages of the dead-letter queue `{}`, which are deleted if this invocation succeeds; remove the event source mapping from that queue",
            excerpt(queue)
        ))
    }
}

/// Reads an event.
///
/// `Err` if nothing in it could be understood, or if it holds dead letters: a function that is
/// mapped onto a DLQ would have them deleted by succeeding.
pub fn parse(payload: &str) -> Result<Event, EventError> {
    let value: Value = serde_json::from_str(payload)
        .map_err(|error| EventError(format!("it is not JSON that can be read ({error})")))?;

    if value.get("action").is_some() {
        // From the text, not from the value: of a field that stands there twice, a value keeps the last.
        let text = &mut serde_json::Deserializer::from_str(payload);
        let request = serde_path_to_error::deserialize(text).map_err(|error| {
            let field = error.path().to_string();
            let fault = one_line(&error.inner().to_string(), 200);
            EventError(match field.as_str() {
                "." => format!("the request is not valid: {fault}"),
                field => format!("the request is not valid: `{}`: {fault}", excerpt(field)),
            })
        })?;
        return Ok(Event {
            triggers: vec![Trigger {
                source: None,
                alarm: None,
                calls_for: CallsFor::Request(request),
            }],
            unreadable: Vec::new(),
            event_source_arns: Vec::new(),
        });
    }

    let mut event = Event {
        triggers: Vec::new(),
        unreadable: Vec::new(),
        event_source_arns: Vec::new(),
    };
    event.read(value, None, 0)?;
    if event.triggers.is_empty() {
        let whys: Vec<String> = event
            .unreadable
            .iter()
            .map(RecordError::to_string)
            .collect();
        return Err(EventError(first_three(&whys, "; ")));
    }
    Ok(event)
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.record {
            Some(record) => write!(f, "record `{record}`: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl Event {
    /// Takes the coats off `value` and notes what is inside, be it a trigger or unreadable. `record`
    /// names the outermost record, the one that would be deleted. `Err` only for dead letters.
    fn read(&mut self, value: Value, record: Option<&str>, coats: usize) -> Result<(), EventError> {
        if coats > MAX_ENVELOPES {
            self.note(record, "it is wrapped more than four deep".to_owned());
            return Ok(());
        }
        let inner = match peel(value) {
            Ok(Peeled::Batch { records, .. }) if records.is_empty() => {
                self.note(record, "it is an empty batch".to_owned());
                return Ok(());
            }
            Ok(Peeled::Batch {
                records,
                coats: more,
            }) => {
                for (n, value) in records.into_iter().enumerate() {
                    let name = match record {
                        Some(outer) => outer.to_owned(),
                        None => record_name(&value, n),
                    };
                    self.read(value, Some(&name), coats + more)?;
                }
                return Ok(());
            }
            Ok(Peeled::DeadLetter { queue }) => return Err(EventError::dead_letters(&queue)),
            Ok(Peeled::Message { queue, text }) => {
                self.event_source_arns.extend(queue);
                serde_json::from_str(&text)
                    .map_err(|error| format!("its message is not JSON that can be read ({error})"))
            }
            Ok(Peeled::Bare(value)) => {
                match notification(value) {
                    Ok(trigger) => self.triggers.push(trigger),
                    Err(why) => self.note(record, why),
                }
                return Ok(());
            }
            Err(why) => Err(why),
        };
        match inner {
            Ok(value) => self.read(value, record, coats + 1),
            Err(why) => {
                self.note(record, why);
                Ok(())
            }
        }
    }

    fn note(&mut self, record: Option<&str>, why: String) {
        self.unreadable.push(RecordError {
            record: record.map(str::to_owned),
            why,
        });
    }
}

/// What is left of a value when its outermost coat is off.
enum Peeled {
    /// Several values, and how many coats have come off: none with the `Records` of Lambda, each of
    /// which has one of its own, and one with the bare array of a pipe.
    Batch { records: Vec<Value>, coats: usize },
    /// The text of an SQS or SNS message, and the queue it was delivered from.
    Message { queue: Option<String>, text: String },
    /// A message that SQS has moved to a DLQ, and the DLQ.
    DeadLetter { queue: String },
    /// It has no coat.
    Bare(Value),
}

/// An SNS message: in a Lambda record, or as the body of an SQS message (`events/alarm-sns-sqs.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "an SNS message")]
struct SnsMessage {
    r#type: Option<String>,
    message: String,
}

/// A record of SNS to Lambda (`events/alarm-sns.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "a record of SNS")]
struct SnsRecord {
    sns: SnsMessage,
}

/// So many characters of the ARN of what woke us go into reports and logs.
const MAX_ARN_CHARS: usize = 500;

/// The attribute of a message that SQS itself has moved to a DLQ. A redriven message has lost it.
const DEAD_LETTER_ATTRIBUTE: &str = "DeadLetterQueueSourceArn";

fn peel(mut value: Value) -> Result<Peeled, String> {
    if let Value::Array(records) = value {
        return Ok(Peeled::Batch { records, coats: 1 });
    }
    if let Some(Value::Array(records)) = value.get_mut("Records").map(Value::take) {
        return Ok(Peeled::Batch { records, coats: 0 });
    }
    let has = |field| value.get(field).is_some();
    let sns = if has("body") {
        let message =
            SqsMessage::deserialize(value).map_err(|error| misread("an SQS message", &error))?;
        let queue = message.event_source_arn;
        if message.attributes.contains_key(DEAD_LETTER_ATTRIBUTE) {
            let queue = queue.unwrap_or_default();
            return Ok(Peeled::DeadLetter { queue });
        }
        let text = message.body.unwrap_or_default();
        return Ok(Peeled::Message { queue, text });
    } else if has("Sns") {
        SnsRecord::deserialize(value).map(|record| record.sns)
    } else if has("Message") && has("Type") {
        SnsMessage::deserialize(value)
    } else {
        return Ok(Peeled::Bare(value));
    };
    let SnsMessage { r#type, message } = sns.map_err(|error| misread("an SNS message", &error))?;
    match r#type.as_deref() {
        None | Some("Notification") => Ok(Peeled::Message {
            queue: None,
            text: message,
        }),
        Some(other) => Err(format!(
            "it is an SNS `{}`, not a Notification",
            excerpt(other)
        )),
    }
}

/// Why something is not what it seemed to be. The error may quote the whole of a foreign text.
fn misread(what: &str, error: &serde_json::Error) -> String {
    format!("as {what}: {}", one_line(&error.to_string(), 200))
}

/// The id of a record's message, or its place in the batch, counted from 1.
fn record_name(record: &Value, n: usize) -> String {
    record
        .get("messageId")
        .or_else(|| record.get("Sns")?.get("MessageId"))
        .and_then(Value::as_str)
        .map_or_else(|| format!("number {}", n + 1), excerpt)
}

/// An EventBridge event (`events/schedule-eventbridge-rule.json`, `events/alarm-eventbridge.json`).
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(expecting = "an EventBridge event")]
struct EventBridgeEvent {
    detail_type: String,
    source: Option<String>,
    account: Option<String>,
    region: Option<String>,
    resources: Option<Vec<String>>,
    // Some published samples have a state change in the field of a Lambda action.
    #[serde(alias = "alarmData")]
    detail: Option<Value>,
}

/// What an alarm's own Lambda action sends (`events/alarm-lambda-action.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an alarm's Lambda action")]
struct LambdaAction {
    alarm_arn: Option<String>,
    account_id: Option<String>,
    region: Option<String>,
    alarm_data: StateChange,
}

/// The state change of an alarm or of one of its contributors (`events/alarm-eventbridge-input-path.json`,
/// `events/contributor-eventbridge.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an alarm's state change")]
struct StateChange {
    alarm_name: Option<String>,
    state: State,
    configuration: Option<Configuration>,
    alarm_contributor: Option<Contributor>,
    mute_detail: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an alarm's state")]
struct State {
    value: String,
    actions_suppressed_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an alarm's configuration")]
struct Configuration {
    metrics: Option<Vec<MetricEntry>>,
    alarm_rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an alarm's contributor")]
struct Contributor {
    attributes: Option<BTreeMap<String, Option<String>>>,
}

/// One entry of an alarm's metrics: a metric, or an expression over others. SNS writes the same in
/// capitals, with the dimensions as a list (`events/alarm-sns-metric-math.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "an entry of an alarm's metrics")]
struct MetricEntry {
    #[serde(alias = "MetricStat")]
    metric_stat: Option<MetricStat>,
    #[serde(alias = "AccountId")]
    account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[serde(expecting = "a metric and its statistic")]
struct MetricStat {
    #[serde(alias = "Metric")]
    metric: Option<Metric>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[serde(expecting = "a metric")]
struct Metric {
    #[serde(alias = "Namespace")]
    namespace: Option<String>,
    #[serde(alias = "Dimensions")]
    dimensions: Option<Dimensions>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a metric's dimensions")]
enum Dimensions {
    Map(BTreeMap<String, Option<String>>),
    List(Vec<Dimension>),
}

#[derive(Deserialize)]
#[serde(expecting = "a metric's dimension")]
struct Dimension {
    name: Option<String>,
    value: Option<String>,
}

/// What an alarm sends to an SNS topic (`events/alarm-sns.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "an alarm")]
struct SnsAlarm {
    alarm_name: Option<String>,
    #[serde(rename = "AWSAccountId")]
    aws_account_id: Option<String>,
    new_state_value: String,
    alarm_arn: Option<String>,
    alarm_rule: Option<String>,
    alarm_contributor_attributes: Option<BTreeMap<String, Option<String>>>,
    trigger: Option<SnsTrigger>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "an alarm's trigger")]
struct SnsTrigger {
    /// The metric itself, of an alarm on a single one.
    #[serde(flatten)]
    metric: Metric,
    metrics: Option<Vec<MetricEntry>>,
}

/// Tells apart what has no coat. `Err` says why it is none of ours.
fn notification(value: Value) -> Result<Trigger, String> {
    let has = |field| value.get(field).is_some();
    if has("detail-type") {
        return eventbridge_event(value);
    }
    let notification = if has("alarmData") {
        LambdaAction::deserialize(value).map(Notification::from)
    } else if has("AlarmName") && has("NewStateValue") {
        SnsAlarm::deserialize(value).map(Notification::from)
    } else if has("alarmName") && has("operation") {
        return Ok(configuration_change(None));
    } else if has("alarmName") && has("state") {
        StateChange::deserialize(value).map(|change| Notification::new(change, None, None, None))
    } else if has("action") {
        return Err("a request counts only as the bare payload of an invocation".to_owned());
    } else {
        return Err(format!("it is {}", describe(&value)));
    };
    let notification = notification.map_err(|error| misread("an alarm notification", &error))?;
    Ok(notification.trigger())
}

fn eventbridge_event(value: Value) -> Result<Trigger, String> {
    let event = EventBridgeEvent::deserialize(value)
        .map_err(|error| misread("an EventBridge event", &error))?;
    let source = event.resources.unwrap_or_default().into_iter().next();
    let source = source.map(|source| one_line(&source, MAX_ARN_CHARS));
    match (
        event.source.as_deref().unwrap_or_default(),
        event.detail_type.as_str(),
    ) {
        ("aws.events" | "aws.scheduler", "Scheduled Event") => Ok(Trigger {
            source,
            alarm: None,
            calls_for: CallsFor::Sweep,
        }),
        ("aws.cloudwatch", "CloudWatch Alarm Configuration Change") => {
            Ok(configuration_change(source))
        }
        (
            "aws.cloudwatch",
            "CloudWatch Alarm State Change" | "CloudWatch Alarm Contributor State Change",
        ) => {
            let change = StateChange::deserialize(event.detail.unwrap_or_default())
                .map_err(|error| misread("an alarm notification", &error))?;
            Ok(Notification::new(change, source, event.account, event.region).trigger())
        }
        (source, detail_type) => Err(format!(
            "it is an EventBridge event `{}` from `{}`",
            excerpt(detail_type),
            excerpt(source)
        )),
    }
}

fn configuration_change(source: Option<String>) -> Trigger {
    let why = "the alarm's configuration changed, not its state".to_owned();
    Trigger {
        source,
        alarm: None,
        calls_for: CallsFor::Nothing(why),
    }
}

/// An alarm notification, whatever its shape was.
struct Notification {
    alarm_name: Option<String>,
    alarm_arn: Option<String>,
    account: Option<String>,
    region: Option<String>,
    state: String,
    suppressed_by: Option<String>,
    muted: bool,
    composite: bool,
    contributor: BTreeMap<String, Option<String>>,
    metrics: Vec<(Metric, Option<String>)>,
}

impl Notification {
    fn new(
        change: StateChange,
        alarm_arn: Option<String>,
        account: Option<String>,
        region: Option<String>,
    ) -> Self {
        let (metrics, rule) = match change.configuration {
            Some(Configuration {
                metrics,
                alarm_rule,
            }) => (metrics.unwrap_or_default(), alarm_rule),
            None => (Vec::new(), None),
        };
        let contributor = change.alarm_contributor.and_then(|c| c.attributes);
        Self {
            alarm_name: change.alarm_name,
            alarm_arn,
            account,
            region,
            state: change.state.value,
            suppressed_by: change.state.actions_suppressed_by,
            muted: change.mute_detail.is_some(),
            composite: rule.is_some(),
            contributor: contributor.unwrap_or_default(),
            metrics: metrics
                .into_iter()
                .filter_map(MetricEntry::metric)
                .collect(),
        }
    }

    fn trigger(self) -> Trigger {
        let calls_for = self.calls_for();
        let (account, region) = self.place();
        // `arn:<partition>:cloudwatch:<region>:<account>:alarm:<name>`; a name may contain colons.
        let name_in_arn = || self.alarm_arn.as_deref()?.splitn(7, ':').nth(6);
        let name = self.alarm_name.as_deref().or_else(name_in_arn);
        let alarm = Alarm {
            name: name.unwrap_or_default().to_owned(),
            state: self.state,
            account,
            region,
        };
        let source = self.alarm_arn.map(|arn| one_line(&arn, MAX_ARN_CHARS));
        Trigger {
            source,
            alarm: Some(alarm),
            calls_for,
        }
    }

    fn calls_for(&self) -> CallsFor {
        let nothing = |why: &str| CallsFor::Nothing(why.to_owned());
        if self.state != "ALARM" {
            let state = excerpt(&self.state);
            return nothing(&format!("the alarm is in {state}, not in ALARM"));
        }
        if let Some(suppressor) = self.suppressed_by.as_ref().filter(|by| !by.is_empty()) {
            let suppressor = excerpt(suppressor);
            return nothing(&format!(
                "the alarm's actions are suppressed by {suppressor}"
            ));
        }
        if self.muted {
            return nothing("the alarm is muted");
        }
        match (self.queues(), self.composite) {
            (Ok(queues), _) if !queues.is_empty() => CallsFor::Queues(queues),
            (Ok(_), true) => CallsFor::Sweep,
            (Ok(_), false) => nothing("the alarm names no SQS queue"),
            (Err(why), _) => CallsFor::Nothing(why),
        }
    }

    /// The SQS queues that the alarm watches, each once. They are where the alarm is; the metric's
    /// own account goes before the alarm's. `Err` if it names one that cannot exist.
    fn queues(&self) -> Result<Vec<QueueRef>, String> {
        let mut named: Vec<(&str, Option<&str>)> = Vec::new();
        named.extend(
            self.contributor
                .get("QueueName")
                .and_then(|name| Some((name.as_deref()?, None))),
        );
        for (metric, account) in &self.metrics {
            if metric.namespace.as_deref() == Some("AWS/SQS")
                && let Some(name) = metric.dimension("QueueName")
            {
                named.push((name, account.as_deref()));
            }
        }
        let (alarm_account, region) = self.place();
        let mut queues: Vec<QueueRef> = Vec::new();
        for (name, account) in named {
            if !is_queue_name(name) {
                let name = excerpt(name);
                return Err(format!("the alarm names `{name}`, which is no queue name"));
            }
            if let Some(account) = account.filter(|account| !is_account_id(account)) {
                let account = excerpt(account);
                return Err(format!(
                    "the alarm names `{account}`, which is no account id"
                ));
            }
            let queue = QueueRef {
                name: name.to_owned(),
                account: account.map(str::to_owned).or_else(|| alarm_account.clone()),
                region: region.clone(),
            };
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        Ok(queues)
    }

    /// The alarm's account and region: by its ARN, or else by the fields beside it.
    fn place(&self) -> (Option<String>, Option<String>) {
        let arn = self.alarm_arn.as_deref().unwrap_or_default();
        match arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "cloudwatch", region, account, "alarm", ..]
                if is_account_id(account) && is_region(region) =>
            {
                (Some(account.to_owned()), Some(region.to_owned()))
            }
            _ => (
                self.account
                    .clone()
                    .filter(|account| is_account_id(account)),
                self.region.clone().filter(|region| is_region(region)),
            ),
        }
    }
}

impl From<LambdaAction> for Notification {
    fn from(action: LambdaAction) -> Self {
        Self::new(
            action.alarm_data,
            action.alarm_arn,
            action.account_id,
            action.region,
        )
    }
}

impl From<SnsAlarm> for Notification {
    fn from(alarm: SnsAlarm) -> Self {
        let metrics = alarm.trigger.into_iter().flat_map(|trigger| {
            let many = trigger.metrics.unwrap_or_default();
            std::iter::once((trigger.metric, None))
                .chain(many.into_iter().filter_map(MetricEntry::metric))
        });
        Self {
            alarm_name: alarm.alarm_name,
            alarm_arn: alarm.alarm_arn,
            account: alarm.aws_account_id,
            // The message's `Region` is a display name such as `EU (Ireland)`.
            region: None,
            state: alarm.new_state_value,
            // SNS is told nothing while actions are suppressed or muted.
            suppressed_by: None,
            muted: false,
            composite: alarm.alarm_rule.is_some(),
            contributor: alarm.alarm_contributor_attributes.unwrap_or_default(),
            metrics: metrics.collect(),
        }
    }
}

impl MetricEntry {
    /// The metric and the account it is in, if that is said. `None` for an expression.
    fn metric(self) -> Option<(Metric, Option<String>)> {
        Some((self.metric_stat?.metric?, self.account_id))
    }
}

impl Metric {
    fn dimension(&self, name: &str) -> Option<&str> {
        match self.dimensions.as_ref()? {
            Dimensions::Map(map) => map.get(name)?.as_deref(),
            Dimensions::List(list) => list
                .iter()
                .find(|dimension| dimension.name.as_deref() == Some(name))?
                .value
                .as_deref(),
        }
    }
}

impl TryFrom<String> for Action {
    type Error = String;

    fn try_from(action: String) -> Result<Self, Self::Error> {
        match action.as_str() {
            "redrive" => Ok(Self::Redrive),
            "cancel" => Ok(Self::Cancel),
            other => Err(format!(
                "`{}` is not an action; accepted are `redrive` and `cancel`",
                excerpt(other)
            )),
        }
    }
}

/// So many queues a request may name.
const MAX_NAMED_QUEUES: usize = 1000;

impl TryFrom<Value> for Selection {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::String(all) if all == "all" => Ok(Self::All),
            Value::Array(queues) if queues.len() > MAX_NAMED_QUEUES => Err(format!(
                "`queues` names {} queues; {MAX_NAMED_QUEUES} are accepted, or `\"all\"`",
                queues.len()
            )),
            Value::Array(queues) if !queues.is_empty() => queues
                .iter()
                .map(|queue| {
                    let queue = queue
                        .as_str()
                        .ok_or("`queues` holds something that is not text")?;
                    queue.parse()
                })
                .collect::<Result<_, String>>()
                .map(Self::Named),
            _ => Err(
                "`queues` must be `\"all\"` or a list of ARNs or names, with one at least"
                    .to_owned(),
            ),
        }
    }
}

fn rate<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Rate>, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let rate = number.as_u64().and_then(Rate::new).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`maxMessagesPerSecond` is `{number}`; accepted is a whole number from 1 to 500"
        ))
    })?;
    Ok(Some(rate))
}

fn destination<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<QueueArn>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let arn = queue_arn(&text)
        .map_err(|invalid| serde::de::Error::custom(format!("`destinationArn`: {invalid}")))?;
    Ok(Some(arn))
}

/// What a value that is none of ours looks like: an English phrase.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(_) => "a number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
        Value::Object(fields) => {
            let names: Vec<String> = fields
                .keys()
                .take(5)
                .map(|name| format!("`{}`", excerpt(name)))
                .collect();
            let more = if fields.len() > 5 { ", …" } else { "" };
            format!("an object with the fields {}{more}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
