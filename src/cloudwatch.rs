//! The port to CloudWatch, in our own types: brake alarms and depth history.

use crate::policy::{Brake, BrakeState, DepthHistory};
use crate::queue::QueueArn;
use crate::sqs::without_code;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    AlarmType, Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StateValue,
    StatusCode,
};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// The calls to CloudWatch that redriving takes. What cannot be read is an answer, not an error: the
/// policy says what follows from it.
pub trait CloudWatch {
    /// How these alarms of the function's own account and region stand, in their order.
    fn brakes(&self, alarms: &[String]) -> impl Future<Output = Vec<Brake>>;

    /// How deep these DLQs were until `now`, in their order. One call for every 500 of a region.
    fn depth_histories(
        &self,
        queries: &[DepthQuery],
        now: SystemTime,
    ) -> impl Future<Output = Vec<DepthHistory>>;
}

/// Asks how deep a DLQ was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthQuery {
    /// The DLQ.
    pub dlq: QueueArn,
    /// How far back to look.
    pub quiet_period: Duration,
}

/// CloudWatch itself, with a client for each region that an enrolled queue may be in.
pub struct CloudWatchClients {
    own_region: Lazy,
    by_region: HashMap<String, Lazy>,
}

/// A client that is made when it is first used. Most invocations ask CloudWatch nothing, and to make a
/// client is a tenth of a start.
type Lazy = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

/// `DescribeAlarms` takes so many names.
const ALARMS_PER_CALL: usize = 100;
/// `GetMetricData` takes so many queries.
const METRICS_PER_CALL: usize = 500;
/// Datapoints of SQS's metrics come so much late.
const METRICS_DELAY: Duration = Duration::from_secs(120);

impl CloudWatchClients {
    /// Makes a client for the function's own region and for each of these.
    pub fn new(config: &aws_config::SdkConfig, regions: impl IntoIterator<Item = String>) -> Self {
        let lazy = |config: aws_sdk_cloudwatch::config::Builder| -> Lazy {
            LazyLock::new(Box::new(|| Client::from_conf(config.build())))
        };
        let client = |region: &String| {
            let region = aws_sdk_cloudwatch::config::Region::new(region.clone());
            lazy(aws_sdk_cloudwatch::config::Builder::from(config).region(region))
        };
        Self {
            own_region: lazy(config.into()),
            by_region: regions
                .into_iter()
                .map(|region| (region.clone(), client(&region)))
                .collect(),
        }
    }

    /// The states of the alarms that exist, metric and composite alarms alike, by name.
    async fn states(&self, alarms: &[String]) -> Result<HashMap<String, BrakeState>, String> {
        let answer = self
            .own_region
            .describe_alarms()
            .set_alarm_names(Some(alarms.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            // There are 50 to a page unless more are asked for; this is all there can be.
            .max_records(100)
            .send()
            .await
            .map_err(|error| describe(&error))?;
        let metric = answer
            .metric_alarms()
            .iter()
            .map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        let composite = answer
            .composite_alarms()
            .iter()
            .map(|alarm| (alarm.alarm_name(), alarm.state_value()));
        Ok(metric
            .chain(composite)
            .filter_map(|(name, state)| Some((name?.to_owned(), brake_state(state))))
            .collect())
    }

    /// The histories of DLQs of one region; `Err` if none could be read.
    async fn histories(
        &self,
        queries: &[&DepthQuery],
        now: SystemTime,
    ) -> Result<Vec<DepthHistory>, String> {
        let region = queries.first().map_or("", |query| query.dlq.region());
        let client = self
            .by_region
            .get(region)
            .ok_or("there is no client for its region")?;
        let furthest = queries.iter().map(|query| query.quiet_period).max();
        let mut pages = client
            .get_metric_data()
            .start_time(since(furthest.unwrap_or_default(), now).into())
            .end_time(now.into())
            .set_metric_data_queries(Some(queries.iter().zip(0..).map(metric_query).collect()))
            .into_paginator()
            .send();
        let mut histories = vec![Err("CloudWatch left it out".to_owned()); queries.len()];
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| describe(&error))?;
            for result in page.metric_data_results() {
                let n = result
                    .id()
                    .and_then(|id| id.strip_prefix('q')?.parse::<usize>().ok());
                if let Some(n) = n
                    && let (Some(query), Some(history)) = (queries.get(n), histories.get_mut(n))
                {
                    take(history, result, since(query.quiet_period, now));
                }
            }
        }
        Ok(histories.into_iter().map(depth_history).collect())
    }
}

impl CloudWatch for CloudWatchClients {
    async fn brakes(&self, alarms: &[String]) -> Vec<Brake> {
        let mut brakes = Vec::with_capacity(alarms.len());
        for names in alarms.chunks(ALARMS_PER_CALL) {
            let states = self.states(names).await;
            brakes.extend(names.iter().map(|name| Brake {
                alarm: name.clone(),
                state: match &states {
                    Ok(states) => states.get(name).cloned().unwrap_or_else(|| {
                        BrakeState::Unknown(
                            "there is no such alarm in this account and region".to_owned(),
                        )
                    }),
                    Err(why) => BrakeState::Unknown(why.clone()),
                },
            }));
        }
        brakes
    }

    async fn depth_histories(&self, queries: &[DepthQuery], now: SystemTime) -> Vec<DepthHistory> {
        let mut by_region: BTreeMap<&str, Vec<(usize, &DepthQuery)>> = BTreeMap::new();
        for (n, query) in queries.iter().enumerate() {
            by_region
                .entry(query.dlq.region())
                .or_default()
                .push((n, query));
        }
        let mut histories = vec![DepthHistory::NoData; queries.len()];
        for asked in by_region
            .values()
            .flat_map(|asked| asked.chunks(METRICS_PER_CALL))
        {
            let queries: Vec<&DepthQuery> = asked.iter().map(|(_, query)| *query).collect();
            let answers = match self.histories(&queries, now).await {
                Ok(answers) => answers,
                Err(why) => vec![DepthHistory::Unreadable(why); asked.len()],
            };
            for ((n, _), answer) in asked.iter().zip(answers) {
                if let Some(history) = histories.get_mut(*n) {
                    *history = answer;
                }
            }
        }
        histories
    }
}

fn brake_state(state: Option<&StateValue>) -> BrakeState {
    match state {
        Some(StateValue::Alarm) => BrakeState::On,
        Some(StateValue::Ok | StateValue::InsufficientData) => BrakeState::Off,
        other => BrakeState::Unknown(format!(
            "CloudWatch says its state is `{}`",
            other.map_or("", StateValue::as_str)
        )),
    }
}

/// From when a quiet period that ends now is looked at. Lateness of the metrics must not shorten it.
fn since(quiet_period: Duration, now: SystemTime) -> SystemTime {
    now.checked_sub(quiet_period + METRICS_DELAY)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The depth of a DLQ, the most in each minute.
fn metric_query((query, n): (&&DepthQuery, usize)) -> MetricDataQuery {
    let queue_name = Dimension::builder()
        .name("QueueName")
        .value(query.dlq.name())
        .build();
    let metric = Metric::builder()
        .namespace("AWS/SQS")
        .metric_name("ApproximateNumberOfMessagesVisible")
        .dimensions(queue_name)
        .build();
    let stat = MetricStat::builder()
        .metric(metric)
        .period(60)
        .stat("Maximum")
        .build();
    MetricDataQuery::builder()
        .id(format!("q{n}"))
        .metric_stat(stat)
        .build()
}

/// Adds a page's result to what is known of one DLQ: the fewest messages so far, or why it cannot be read.
fn take(history: &mut Result<Option<u64>, String>, result: &MetricDataResult, since: SystemTime) {
    if let Some(StatusCode::Forbidden | StatusCode::InternalError) = result.status_code() {
        let said = result
            .messages()
            .iter()
            .filter_map(|message| message.value())
            .next();
        // What an earlier page told is known all the same.
        if !matches!(history, Ok(Some(_))) {
            *history = Err(said.unwrap_or("CloudWatch refused it").to_owned());
        }
        return;
    }
    let since = DateTime::from(since);
    let fewest = result
        .timestamps()
        .iter()
        .zip(result.values())
        .filter(|(time, _)| **time >= since)
        .map(|(_, value)| value.round() as u64)
        .min();
    let known = history.as_ref().ok().copied().flatten();
    *history = Ok(known.into_iter().chain(fewest).min());
}

fn depth_history(history: Result<Option<u64>, String>) -> DepthHistory {
    match history {
        Ok(Some(fewest)) => DepthHistory::Fewest(fewest),
        Ok(None) => DepthHistory::NoData,
        Err(why) => DepthHistory::Unreadable(why),
    }
}

/// What CloudWatch said went wrong, or what did on the way to it.
fn describe<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), message) => {
            format!("{code}: {}", message.unwrap_or("CloudWatch gave no reason"))
        }
        (None, _) => without_code("CloudWatch", error),
    }
}

#[cfg(test)]
mod tests;
