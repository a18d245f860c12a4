//! Every shape of an alarm notification → [`Alarm`]. Facts only: [`crate::plan`] decides.

use super::{MAX_ARN_CHARS, read_as};
use crate::queue::{QueueArn, QueueRef, is_account_id, is_queue_name, is_region};
use crate::text::{excerpt, one_line};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::BTreeMap;

/// An alarm that entered a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its ARN; `None` if the notification does not have it.
    pub source: Option<String>,
    /// Its name; empty if the notification has neither the name nor the ARN.
    pub name: String,
    /// The state it entered.
    pub state: AlarmState,
    /// The account it is in, 12 digits; `None` if the notification does not have it.
    pub account: Option<String>,
    /// The region it is in; `None` if the notification does not have it.
    pub region: Option<String>,
    /// Why CloudWatch does not run its actions; `None` if it does.
    pub silenced: Option<Silence>,
    /// Whether this is a composite alarm, which watches other alarms instead of a metric.
    pub composite: bool,
    /// The SQS queues it watches, each once; empty if it watches none.
    pub queues: Result<Vec<QueueRef>, AlarmQueueError>,
}

/// The state of an alarm
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-concepts.html>).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum AlarmState {
    /// `ALARM`
    Alarm,
    /// `OK`
    Ok,
    /// `INSUFFICIENT_DATA`, or a state that CloudWatch does not document today.
    Other(String),
}

/// Why CloudWatch does not run an alarm's actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// `actionsSuppressedBy`: `Alarm`, `WaitPeriod` or `ExtensionPeriod`.
    SuppressedBy(String),
    /// An alarm mute rule applies.
    Muted,
}

/// Why an alarm names no queue that the function could look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlarmQueueError {
    /// SQS would not accept the queue's name.
    #[error("the alarm names `{}`, which is not a queue name", excerpt(.0))]
    Name(String),
    /// The metric's account is not 12 digits.
    #[error("the alarm names `{}`, which is not an account ID", excerpt(.0))]
    Account(String),
    /// It names more queues than an alarm of CloudWatch can.
    #[error("the alarm names {0} queues, more than {MAX_QUEUES}")]
    TooMany(usize),
    /// The contributor has a `QueueName`, which services other than SQS have too.
    #[error(
        "the alarm's contributor has the `QueueName` `{}`, but the alarm's query does not select from `AWS/SQS`; in PromQL, group by `{ARN_LABEL}`, the label with the queue's ARN",
        excerpt(.0)
    )]
    OtherService(String),
    /// The contributor's attributes have neither a queue's name nor its ARN.
    #[error(
        "the alarm's contributor names no SQS queue; group the query by `QueueName`; in PromQL, group by `{ARN_LABEL}`, the label with the queue's ARN"
    )]
    NoQueueLabel,
}

/// The label of a resource's ARN in PromQL
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-OTelEnrichment.html>).
const ARN_LABEL: &str = "@resource.cloud.resource_id";

impl AlarmState {
    /// CloudWatch's text for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Alarm => "ALARM",
            Self::Ok => "OK",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for AlarmState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "ALARM" => Self::Alarm,
            "OK" => Self::Ok,
            _ => Self::Other(text),
        }
    }
}

impl Alarm {
    /// Reads what an alarm's own Lambda action sends (`events/alarm-lambda-action.json`).
    pub(super) fn from_lambda_action(value: Value) -> Result<Self, String> {
        let action: LambdaAction = read_as(KIND, value)?;
        let origin = Origin {
            arn: action.alarm_arn,
            account: action.account_id,
            region: action.region,
        };
        Ok(Notification::from(action.alarm_data).located(origin))
    }

    /// Reads a state change: the detail of an EventBridge event (`events/alarm-eventbridge.json`),
    /// or that detail alone (`events/alarm-eventbridge-input-path.json`).
    pub(super) fn from_state_change(value: Value, origin: Origin) -> Result<Self, String> {
        let change: StateChange = read_as(KIND, value)?;
        Ok(Notification::from(change).located(origin))
    }

    /// Reads what an alarm sends to an SNS topic (`events/alarm-sns.json`).
    pub(super) fn from_sns(value: Value) -> Result<Self, String> {
        let mut alarm: SnsAlarm = read_as(KIND, value)?;
        let origin = Origin {
            arn: alarm.alarm_arn.take(),
            account: alarm.aws_account_id.take(),
            // The message's `Region` is a display name such as `EU (Ireland)`.
            region: None,
        };
        Ok(Notification::from(alarm).located(origin))
    }
}

const KIND: &str = "alarm notification";

/// Where an alarm is, by the fields around its state change.
#[derive(Default)]
pub(super) struct Origin {
    pub arn: Option<String>,
    pub account: Option<String>,
    pub region: Option<String>,
}

/// What an alarm's own Lambda action sends (`events/alarm-lambda-action.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an alarm's Lambda action")]
struct LambdaAction {
    alarm_arn: Option<String>,
    account_id: Option<String>,
    region: Option<String>,
    alarm_data: StateChange,
}

/// The state change of an alarm (`events/alarm-eventbridge-input-path.json`) or of one of its
/// contributors (`events/contributor-eventbridge.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an alarm's state change")]
struct StateChange {
    alarm_name: Option<String>,
    state: State,
    configuration: Option<Configuration>,
    alarm_contributor: Option<Contributor>,
    /// Present while an alarm mute rule applies (`events/ignored-muted.json`).
    mute_detail: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an alarm's state")]
struct State {
    value: AlarmState,
    /// Present while a composite alarm's actions are suppressed (`events/ignored-suppressed.json`).
    actions_suppressed_by: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an alarm's configuration")]
struct Configuration {
    metrics: Option<Vec<MetricEntry>>,
    /// Only composite alarms have it (`events/composite-eventbridge.json`).
    alarm_rule: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an alarm's contributor")]
struct Contributor {
    attributes: Option<Attributes>,
}

type Attributes = BTreeMap<String, Option<String>>;

/// One entry of an alarm's metrics: a metric, or an expression over other entries. SNS writes the
/// same with capitals, and the dimensions as a list (`events/alarm-sns-metric-math.json`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an entry of an alarm's metrics")]
struct MetricEntry {
    #[serde(alias = "MetricStat")]
    metric_stat: Option<MetricStat>,
    #[serde(alias = "AccountId")]
    account_id: Option<String>,
    #[serde(alias = "Expression")]
    expression: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a metric and its statistic")]
struct MetricStat {
    #[serde(alias = "Metric")]
    metric: Option<Metric>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "a metric")]
struct Metric {
    #[serde(alias = "Namespace")]
    namespace: Option<String>,
    #[serde(alias = "Dimensions")]
    dimensions: Option<Dimensions>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a metric's dimensions")]
enum Dimensions {
    Map(Attributes),
    List(Vec<Dimension>),
}

#[derive(Deserialize)]
#[serde(expecting = "a metric's dimension")]
struct Dimension {
    name: Option<String>,
    value: Option<String>,
}

/// What an alarm sends to an SNS topic (`events/alarm-sns.json`, `events/contributor-sns.json`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an alarm")]
struct SnsAlarm {
    alarm_name: Option<String>,
    #[serde(rename = "AWSAccountId")]
    aws_account_id: Option<String>,
    new_state_value: AlarmState,
    alarm_arn: Option<String>,
    alarm_rule: Option<String>,
    alarm_contributor_attributes: Option<Attributes>,
    trigger: Option<SnsTrigger>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an alarm's trigger")]
struct SnsTrigger {
    /// The metric of an alarm on a single metric; the others have `Metrics`.
    #[serde(flatten)]
    metric: Metric,
    metrics: Option<Vec<MetricEntry>>,
}

/// What every shape has in common.
struct Notification {
    name: Option<String>,
    state: AlarmState,
    silenced: Option<Silence>,
    composite: bool,
    mentions: Result<Vec<Mention>, AlarmQueueError>,
}

/// A queue as a contributor or a metric names it, unchecked.
struct Mention {
    queue: String,
    /// The account that the metric or the ARN has; `None` if it is the alarm's.
    account: Option<String>,
    /// The region that the ARN has; `None` if it is the alarm's.
    region: Option<String>,
}

impl From<StateChange> for Notification {
    fn from(change: StateChange) -> Self {
        let suppressor = change.state.actions_suppressed_by;
        let suppressor = suppressor.filter(|suppressor| !suppressor.is_empty());
        let muted = change.mute_detail.map(|_| Silence::Muted);
        let contributor = change.alarm_contributor;
        let contributor = contributor.and_then(|contributor| contributor.attributes);
        let configuration = change.configuration.unwrap_or_default();
        Self {
            name: change.alarm_name,
            state: change.state.value,
            silenced: suppressor.map(Silence::SuppressedBy).or(muted),
            composite: configuration.alarm_rule.is_some(),
            mentions: mentions(contributor, configuration.metrics.unwrap_or_default()),
        }
    }
}

impl From<SnsAlarm> for Notification {
    fn from(alarm: SnsAlarm) -> Self {
        let SnsTrigger { metric, metrics } = alarm.trigger.unwrap_or_default();
        let mut entries = vec![MetricEntry::from(metric)];
        entries.extend(metrics.unwrap_or_default());
        Self {
            name: alarm.alarm_name,
            state: alarm.new_state_value,
            // CloudWatch sends nothing to SNS while an alarm is suppressed or muted.
            silenced: None,
            composite: alarm.alarm_rule.is_some(),
            mentions: mentions(alarm.alarm_contributor_attributes, entries),
        }
    }
}

impl Notification {
    fn located(self, origin: Origin) -> Alarm {
        let (account, region) = origin.account_and_region();
        // `arn:<partition>:cloudwatch:<region>:<account>:alarm:<name>`; a name may contain colons.
        let name_in_arn = || {
            origin
                .arn
                .as_deref()?
                .splitn(7, ':')
                .nth(6)
                .map(str::to_owned)
        };
        Alarm {
            source: origin.arn.as_ref().map(|arn| one_line(arn, MAX_ARN_CHARS)),
            name: self.name.or_else(name_in_arn).unwrap_or_default(),
            state: self.state,
            silenced: self.silenced,
            composite: self.composite,
            queues: self
                .mentions
                .and_then(|mentions| queues(mentions, account.as_ref(), region.as_ref())),
            account,
            region,
        }
    }
}

impl Origin {
    /// Where the alarm is: from the ARN if it is an alarm's, or else from the fields beside it.
    fn account_and_region(&self) -> (Option<String>, Option<String>) {
        let arn = self.arn.as_deref().unwrap_or_default();
        if let ["arn", _, "cloudwatch", region, account, "alarm", ..] =
            arn.split(':').collect::<Vec<_>>()[..]
            && is_account_id(account)
            && is_region(region)
        {
            return (Some(account.to_owned()), Some(region.to_owned()));
        }
        let account = self
            .account
            .clone()
            .filter(|account| is_account_id(account));
        let region = self.region.clone().filter(|region| is_region(region));
        (account, region)
    }
}

/// The queues that a contributor's attributes and an alarm's metrics name. An SQS ARN names a queue
/// by itself. A `QueueName` needs a query over SQS's metrics.
fn mentions(
    contributor: Option<Attributes>,
    metrics: Vec<MetricEntry>,
) -> Result<Vec<Mention>, AlarmQueueError> {
    let of_sqs: Vec<bool> = metrics.iter().filter_map(MetricEntry::is_of_sqs).collect();
    let is_over_sqs = !of_sqs.is_empty() && of_sqs.iter().all(|is_of_sqs| *is_of_sqs);
    let mut found: Vec<Mention> = metrics
        .into_iter()
        .filter_map(MetricEntry::mention)
        .collect();
    let Some(mut attributes) = contributor else {
        return Ok(found);
    };
    let name = attributes.remove("QueueName").flatten();
    let account = attributes.remove("AWS.AccountId").flatten();
    let arns = attributes.into_values().flatten();
    let arns = arns.filter_map(|text| text.parse::<QueueArn>().ok());
    found.extend(arns.map(|arn| Mention::from(&arn)));
    match name {
        Some(queue) if is_over_sqs => found.push(Mention {
            queue,
            account,
            region: None,
        }),
        Some(queue) if found.is_empty() => return Err(AlarmQueueError::OtherService(queue)),
        None if found.is_empty() => return Err(AlarmQueueError::NoQueueLabel),
        _ => {}
    }
    Ok(found)
}

impl From<&QueueArn> for Mention {
    fn from(arn: &QueueArn) -> Self {
        Self {
            queue: arn.name().to_owned(),
            account: Some(arn.account().to_owned()),
            region: Some(arn.region().to_owned()),
        }
    }
}

/// Whether a Metrics Insights query selects from SQS's metrics; `None` if the expression is no
/// query
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-metrics-insights-querylanguage.html>).
fn selects_from_sqs(expression: &str) -> Option<bool> {
    let compact: String = expression.split_whitespace().collect();
    let words = compact.to_ascii_lowercase();
    if !words.starts_with("select") {
        return None;
    }
    let rest = words.split_once(")from").map_or("", |(_, rest)| rest);
    let from = compact.get(compact.len() - rest.len()..)?;
    let table = match rest.strip_prefix("schema(") {
        Some(table) => from.get(from.len() - table.len()..)?,
        None => from,
    };
    Some(table.starts_with("\"AWS/SQS\""))
}

/// Checks the names. A queue is in the account and region of its ARN or metric, or else in the
/// alarm's. One name that cannot be does not silence the others.
fn queues(
    mentions: Vec<Mention>,
    alarm_account: Option<&String>,
    alarm_region: Option<&String>,
) -> Result<Vec<QueueRef>, AlarmQueueError> {
    if mentions.len() > MAX_QUEUES {
        return Err(AlarmQueueError::TooMany(mentions.len()));
    }
    let mut queues = Vec::new();
    let mut fault = None;
    for Mention {
        queue,
        account,
        region,
    } in mentions
    {
        if !is_queue_name(&queue) {
            fault = fault.or(Some(AlarmQueueError::Name(queue)));
            continue;
        }
        if let Some(account) = account.as_ref().filter(|account| !is_account_id(account)) {
            fault = fault.or(Some(AlarmQueueError::Account(account.clone())));
            continue;
        }
        let queue = QueueRef {
            name: queue,
            account: account.or_else(|| alarm_account.cloned()),
            region: region.or_else(|| alarm_region.cloned()),
        };
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    match fault {
        Some(fault) if queues.is_empty() => Err(fault),
        _ => Ok(queues),
    }
}

/// The most queues an alarm may name. A metric alarm has at most ten metrics
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html>).
const MAX_QUEUES: usize = 100;

impl From<Metric> for MetricEntry {
    fn from(metric: Metric) -> Self {
        let metric = Some(metric);
        Self {
            metric_stat: Some(MetricStat { metric }),
            account_id: None,
            expression: None,
        }
    }
}

impl MetricEntry {
    /// Whether it is a metric of SQS, or a query over SQS's metrics; `None` if it is neither a
    /// metric nor a query.
    fn is_of_sqs(&self) -> Option<bool> {
        let metric = self.metric_stat.as_ref().and_then(|it| it.metric.as_ref());
        match metric.and_then(|metric| metric.namespace.as_deref()) {
            Some(namespace) => Some(namespace == "AWS/SQS"),
            None => selects_from_sqs(self.expression.as_deref()?),
        }
    }

    /// `None` for an expression and for a metric of anything but an SQS queue.
    fn mention(self) -> Option<Mention> {
        let metric = self.metric_stat?.metric?;
        if metric.namespace? != "AWS/SQS" {
            return None;
        }
        let queue = match metric.dimensions? {
            Dimensions::Map(mut map) => map.remove("QueueName")?,
            Dimensions::List(list) => {
                let is_queue =
                    |dimension: &Dimension| dimension.name.as_deref() == Some("QueueName");
                list.into_iter().find(is_queue)?.value
            }
        }?;
        let (account, region) = (self.account_id, None);
        Some(Mention {
            queue,
            account,
            region,
        })
    }
}

#[cfg(test)]
mod tests;
