//! The port to CloudWatch, in our own types: brake alarms and depth history.

use crate::aws_error::AwsError;
use crate::decision::{Brake, BrakeState, DepthHistory};
use crate::queue::QueueArn;
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

/// The calls to CloudWatch that redriving needs. A fact that cannot be read is an answer here, not an
/// error: the decision says what follows from it.
pub trait CloudWatch {
    /// The states of these alarms of the function's own account and region, in the same order.
    fn brakes(&self, alarms: &[String]) -> impl Future<Output = Vec<Brake>>;

    /// How deep these DLQs were until `now`, in the same order. One call per 500 DLQs of a region.
    fn depth_histories(
        &self,
        queries: &[DepthQuery],
        now: SystemTime,
    ) -> impl Future<Output = Vec<DepthHistory>>;
}

/// A question for the depth history of one DLQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthQuery {
    /// The DLQ.
    pub dlq: QueueArn,
    /// How far back the history goes.
    pub quiet_period: Duration,
}

/// CloudWatch itself, with one client per region that may have an enrolled queue.
pub struct CloudWatchClients {
    own_region: Lazy,
    by_region: HashMap<String, Lazy>,
}

/// A client that is created on first use. Most invocations ask CloudWatch nothing, and creating a
/// client takes a tenth of the start-up.
type Lazy = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

/// The most names per `DescribeAlarms` call.
const ALARMS_PER_CALL: usize = 100;
/// The most queries per `GetMetricData` call.
const METRICS_PER_CALL: usize = 500;
/// How late SQS's datapoints may arrive.
const METRICS_DELAY: Duration = Duration::from_secs(120);

impl CloudWatchClients {
    /// Prepares a client for the function's own region and for each of these regions.
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

    /// The states of the alarms that exist, by name: metric alarms and composite alarms.
    async fn states(&self, alarms: &[String]) -> Result<HashMap<String, BrakeState>, String> {
        let answer = self
            .own_region
            .describe_alarms()
            .set_alarm_names(Some(alarms.to_vec()))
            .alarm_types(AlarmType::MetricAlarm)
            .alarm_types(AlarmType::CompositeAlarm)
            // The default page holds 50. One call asks for at most 100 alarms, so one page is enough.
            .max_records(100)
            .send()
            .await
            .map_err(describe)?;
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

    /// The histories of DLQs of one region, in the same order; `Err` if none could be read.
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
            .start_time(window_start(furthest.unwrap_or_default(), now).into())
            .end_time(now.into())
            .set_metric_data_queries(Some(queries.iter().zip(0..).map(metric_query).collect()))
            .into_paginator()
            .send();
        let mut histories = vec![Err("CloudWatch did not return it".to_owned()); queries.len()];
        while let Some(page) = pages.next().await {
            let page = page.map_err(describe)?;
            for result in page.metric_data_results() {
                let n = result
                    .id()
                    .and_then(|id| id.strip_prefix('q')?.parse::<usize>().ok());
                if let Some(n) = n
                    && let (Some(query), Some(history)) = (queries.get(n), histories.get_mut(n))
                {
                    merge_page(history, result, window_start(query.quiet_period, now));
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
            "CloudWatch returned the state `{}`",
            other.map_or("", StateValue::as_str)
        )),
    }
}

/// Start of the window for a quiet period that ends now, extended by the metrics' delay.
fn window_start(quiet_period: Duration, now: SystemTime) -> SystemTime {
    now.checked_sub(quiet_period + METRICS_DELAY)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Asks for a DLQ's depth, the maximum of each minute.
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

/// Adds one page's result to the history of a DLQ so far: the fewest messages, or why it cannot be
/// read.
fn merge_page(
    history: &mut Result<Option<u64>, String>,
    result: &MetricDataResult,
    since: SystemTime,
) {
    if let Some(StatusCode::Forbidden | StatusCode::InternalError) = result.status_code() {
        let said = result
            .messages()
            .iter()
            .filter_map(|message| message.value())
            .next();
        // An earlier page with datapoints stays valid.
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

fn describe<E>(error: SdkError<E>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
{
    AwsError::new("CloudWatch", &error).to_string()
}

#[cfg(test)]
mod tests;
