//! The port to CloudWatch, in our own types: brake alarms and depth history.

use crate::aws_error::{AwsError, Kind};
use crate::metrics::{METRICS_DELAY, Metrics, MetricsQuery, Reading};
use crate::observation::{Brake, BrakeState};
use crate::queue::QueueArn;
use crate::sender::Sender;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::types::{
    AlarmType, Dimension, EvaluationState, Metric, MetricDataQuery, MetricDataResult, MetricStat,
    ScanBy, StateValue, StatusCode,
};
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// The calls to CloudWatch that redriving needs. If a fact cannot be read, the answer says so: it
/// is no error, and the decision says what follows. Answers that came by `until` count, even if others
/// did not.
pub trait CloudWatch {
    /// The states of these alarms of the function's own account and region, in the same order.
    fn brakes(&self, alarms: &[String], until: Instant) -> impl Future<Output = Vec<Brake>>;

    /// What CloudWatch knows about these DLQs, in the same order. Takes one call per 500 metrics of
    /// a region and period.
    fn metrics(
        &self,
        queries: Vec<MetricsQuery>,
        until: Instant,
    ) -> impl Future<Output = Vec<Metrics>>;

    /// The age of the oldest message of each of these DLQs, in the same order; `None` if it cannot
    /// be read.
    fn oldest_ages(
        &self,
        dlqs: &[QueueArn],
        now: SystemTime,
        until: Instant,
    ) -> impl Future<Output = Vec<Option<Duration>>>;
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
/// CloudWatch throttles `GetMetricData` at 50 calls a second.
const CONCURRENT_CALLS: usize = 8;
/// The most queries per `GetMetricData` call.
const METRICS_PER_CALL: usize = 500;
/// The most pages of one answer that are read. Two weeks of 500 metrics have twenty.
const MAX_PAGES: usize = 200;

impl CloudWatchClients {
    /// Prepares a client for the function's own region and for each of these regions.
    pub fn new(config: &aws_config::SdkConfig, regions: impl IntoIterator<Item = String>) -> Self {
        let lazy = |config: aws_sdk_cloudwatch::config::Builder| -> Lazy {
            let config = config.interceptor(Sender);
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

    /// The states of the alarms that exist, by name. `DescribeAlarms` returns only the types that
    /// it is asked for.
    async fn states(&self, alarms: &[String]) -> Result<HashMap<String, BrakeState>, String> {
        let answer = self
            .own_region
            .describe_alarms()
            .set_alarm_names(Some(alarms.to_vec()))
            .set_alarm_types(Some(
                AlarmType::values()
                    .iter()
                    .copied()
                    .map(AlarmType::from)
                    .collect(),
            ))
            // The default page holds 50. One call asks for at most 100 alarms, so one page is
            // enough.
            .max_records(100)
            .send()
            .await
            .map_err(|error| in_words(&AwsError::new("CloudWatch", &error)))?;
        let metric = answer.metric_alarms().iter().map(|alarm| {
            let evaluation = alarm.evaluation_state();
            let state = evaluated(alarm.state_value(), evaluation, alarm.state_reason());
            (alarm.alarm_name(), state)
        });
        let log = answer.log_alarms().iter().map(|alarm| {
            let evaluation = alarm.evaluation_state();
            let state = evaluated(alarm.state_value(), evaluation, alarm.state_reason());
            (alarm.alarm_name(), state)
        });
        // CloudWatch does not report how a composite alarm is evaluated.
        let composite = answer
            .composite_alarms()
            .iter()
            .map(|alarm| (alarm.alarm_name(), brake_state(alarm.state_value())));
        let states = metric.chain(log).chain(composite);
        Ok(states
            .filter_map(|(name, state)| Some((name?.to_owned(), state)))
            .collect())
    }

    /// Reads these series of one region, starting at `from`, and hands each datapoint to `take` in
    /// time order. The inner `Err` says why one series cannot be read; the outer `Err` concerns all
    /// of them.
    async fn series(
        &self,
        region: &str,
        series: &[Series],
        from: SystemTime,
        now: SystemTime,
        take: &mut dyn FnMut(usize, SystemTime, u64),
    ) -> Result<Vec<Result<(), SeriesError>>, SeriesError> {
        let no_client = || SeriesError::Failed("there is no client for its region".to_owned());
        let client = self.by_region.get(region).ok_or_else(no_client)?;
        let queries = series.iter().zip(0..).map(Series::query).collect();
        let mut pages = client
            .get_metric_data()
            .start_time(from.into())
            .end_time(now.into())
            .scan_by(ScanBy::TimestampAscending)
            .set_metric_data_queries(Some(queries))
            .into_paginator()
            .send();
        let mut answers: Vec<_> = series.iter().map(|_| Err(left_out())).collect();
        let mut pages_left = MAX_PAGES;
        while let Some(page) = pages.next().await {
            let page = page.map_err(SeriesError::from)?;
            if pages_left == 0 {
                let why = format!("CloudWatch's answer has more than {MAX_PAGES} pages");
                return Err(SeriesError::Failed(why));
            }
            pages_left -= 1;
            for result in page.metric_data_results() {
                let id = result.id().and_then(|id| id.strip_prefix('q'));
                let Some(n) = id.and_then(|id| id.parse::<usize>().ok()) else {
                    continue;
                };
                if let Some(answer) = answers.get_mut(n) {
                    *answer = merge_page(answer, result, &mut |time, value| take(n, time, value));
                }
            }
        }
        Ok(answers)
    }
}

/// One metric of one queue.
struct Series {
    queue: QueueArn,
    metric: &'static str,
    stat: &'static str,
    period: i32,
}

/// Why a series cannot be read.
#[derive(Clone, Debug)]
enum SeriesError {
    Denied(String),
    Failed(String),
}

impl<E> From<SdkError<E>> for SeriesError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let error = AwsError::new("CloudWatch", &error);
        match error.kind {
            Kind::AccessDenied => Self::Denied(in_words(&error)),
            _ => Self::Failed(in_words(&error)),
        }
    }
}

/// What to do if CloudWatch cannot be reached or does not answer. In a VPC without an endpoint for
/// it, no call gets an answer.
const CHECK_NETWORK: &str =
    "check the function's network, and in a VPC the endpoint for CloudWatch (`monitoring`)";

fn no_answer() -> String {
    format!("CloudWatch did not answer in time; {CHECK_NETWORK}")
}

fn left_out() -> SeriesError {
    SeriesError::Failed("CloudWatch did not return it".to_owned())
}

fn in_words(error: &AwsError) -> String {
    match error.kind {
        Kind::Unreachable => format!("{error}; {CHECK_NETWORK}"),
        _ => error.to_string(),
    }
}

impl From<SeriesError> for Metrics {
    fn from(error: SeriesError) -> Self {
        match error {
            SeriesError::Denied(why) => Self::Denied(why),
            SeriesError::Failed(why) => Self::Failed(why),
        }
    }
}

impl CloudWatch for CloudWatchClients {
    async fn brakes(&self, alarms: &[String], until: Instant) -> Vec<Brake> {
        let mut brakes = Vec::with_capacity(alarms.len());
        for names in alarms.chunks(ALARMS_PER_CALL) {
            let states = timeout_at(until, self.states(names)).await;
            let states = states.unwrap_or_else(|_| Err(no_answer()));
            brakes.extend(names.iter().map(|name| Brake {
                alarm: name.clone(),
                state: match &states {
                    Ok(states) => states.get(name).cloned().unwrap_or_else(no_such_alarm),
                    Err(why) => BrakeState::Unknown(why.clone()),
                },
            }));
        }
        brakes
    }

    async fn metrics(&self, queries: Vec<MetricsQuery>, until: Instant) -> Vec<Metrics> {
        let mut answers: Vec<Metrics> = queries.iter().map(|_| left_out().into()).collect();
        let mut batches: BTreeMap<(String, Duration), Vec<(usize, MetricsQuery)>> = BTreeMap::new();
        for (n, query) in queries.into_iter().enumerate() {
            let key = (query.dlq.region().to_owned(), query.period());
            batches.entry(key).or_default().push((n, query));
        }
        let mut calls = Vec::new();
        for ((region, period), mut queries) in batches {
            while !queries.is_empty() {
                let rest = queries.split_off(queries_per_call(&queries));
                calls.push((region.clone(), period, queries));
                queries = rest;
            }
        }
        let calls = calls.into_iter().map(async |(region, period, queries)| {
            let (places, batch): (Vec<usize>, Vec<MetricsQuery>) = queries.into_iter().unzip();
            let read = self.read_batch(&region, period, batch, until).await;
            places.into_iter().zip(read)
        });
        fill(&mut answers, calls).await;
        answers
    }

    async fn oldest_ages(
        &self,
        dlqs: &[QueueArn],
        now: SystemTime,
        until: Instant,
    ) -> Vec<Option<Duration>> {
        let mut by_region: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (n, dlq) in dlqs.iter().enumerate() {
            by_region.entry(dlq.region()).or_default().push(n);
        }
        let calls = by_region.iter().flat_map(|(region, places)| {
            let calls = places.chunks(METRICS_PER_CALL);
            calls.map(move |places| (*region, places))
        });
        let from = now - (METRICS_DELAY + Duration::from_secs(10 * 60));
        let calls = calls.map(async |(region, places)| {
            let queue = |n: &usize| dlqs.get(*n).cloned();
            let series = places.iter().filter_map(queue).map(|queue| Series {
                queue,
                metric: "ApproximateAgeOfOldestMessage",
                stat: "Maximum",
                period: 60,
            });
            let series: Vec<Series> = series.collect();
            let mut read = Vec::new();
            let mut take = |n: usize, _: SystemTime, seconds: u64| {
                let age = Some(Duration::from_secs(seconds));
                read.extend(places.get(n).map(|place| (*place, age)));
            };
            // A state that cannot be read stays unknown.
            let _ = timeout_at(until, self.series(region, &series, from, now, &mut take)).await;
            read
        });
        let mut ages = vec![None; dlqs.len()];
        fill(&mut ages, calls).await;
        ages
    }
}

/// Makes these calls concurrently, so that a region that hangs does not take the time of the others. Puts
/// each answer in its place.
async fn fill<T, R: IntoIterator<Item = (usize, T)>>(
    answers: &mut [T],
    calls: impl Iterator<Item = impl Future<Output = R>>,
) {
    let mut read = stream::iter(calls).buffer_unordered(CONCURRENT_CALLS);
    while let Some(read) = read.next().await {
        for (n, it) in read {
            if let Some(answer) = answers.get_mut(n) {
                *answer = it;
            }
        }
    }
}

impl CloudWatchClients {
    /// What CloudWatch knows about DLQs of one region, in the same order.
    async fn read_batch(
        &self,
        region: &str,
        period: Duration,
        queries: Vec<MetricsQuery>,
        until: Instant,
    ) -> Vec<Metrics> {
        let seconds = i32::try_from(period.as_secs()).unwrap_or(i32::MAX);
        let from = queries.iter().map(|query| query.from).min();
        let now = queries.iter().map(|query| query.now).max();
        let (Some(from), Some(now)) = (from, now) else {
            return Vec::new();
        };
        let (owners, series) = series_of(&queries, seconds);
        let mut readings: Vec<Reading> = queries.into_iter().map(Reading::new).collect();
        let mut take = |n: usize, time, value| {
            let owner = owners.get(n).copied();
            let reading = owner.and_then(|(n, is_depth)| Some((readings.get_mut(n)?, is_depth)));
            match reading {
                Some((reading, true)) => reading.depth(time, value),
                Some((reading, false)) => reading.handled(time, value),
                None => {}
            }
        };
        let answers = self.series(region, &series, from, now, &mut take);
        let answers = timeout_at(until, answers).await;
        let answers = answers.unwrap_or_else(|_| Err(SeriesError::Failed(no_answer())));
        let mut errors: Vec<Option<SeriesError>> = vec![None; readings.len()];
        match answers {
            Ok(answers) => {
                for (answer, (n, _)) in answers.into_iter().zip(&owners) {
                    if let (Err(error), Some(slot)) = (answer, errors.get_mut(*n)) {
                        slot.get_or_insert(error);
                    }
                }
            }
            Err(error) => errors.fill(Some(error)),
        }
        let readings = readings.into_iter().zip(errors);
        let metrics = |(reading, error): (Reading, Option<SeriesError>)| match error {
            None => Metrics::Read(reading.finish()),
            Some(error) => Metrics::from(error),
        };
        readings.map(metrics).collect()
    }
}

/// The series that answer these queries. With each series: the index of its query, and whether it
/// is the depth.
fn series_of(queries: &[MetricsQuery], period: i32) -> (Vec<(usize, bool)>, Vec<Series>) {
    let mut owners = Vec::new();
    let mut series = Vec::new();
    for (n, query) in queries.iter().enumerate() {
        owners.push((n, true));
        series.push(Series::depth(query, period));
        for queue in &query.consumed {
            owners.push((n, false));
            series.push(Series::handled(queue, period));
        }
    }
    (owners, series)
}

/// The number of these queries that fit into one call.
fn queries_per_call(queries: &[(usize, MetricsQuery)]) -> usize {
    let mut metrics = 0;
    let fits = |(_, query): &&(usize, MetricsQuery)| {
        metrics += 1 + query.consumed.len();
        metrics <= METRICS_PER_CALL
    };
    queries.iter().take_while(fits).count().max(1)
}

/// The state of an alarm, unless its evaluation fails: it then keeps its last state, which may be
/// out of date.
fn evaluated(
    state: Option<&StateValue>,
    evaluation: Option<&EvaluationState>,
    reason: Option<&str>,
) -> BrakeState {
    let Some(failure) = evaluation.filter(|it| **it != EvaluationState::PartialData) else {
        return brake_state(state);
    };
    let (last, failure) = (state.map_or("", StateValue::as_str), failure.as_str());
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    BrakeState::Unknown(format!(
        "CloudWatch cannot evaluate the alarm ({failure}), and its last state, {last}, may be out of date{reason}"
    ))
}

/// An alarm of a type that the SDK does not know is not in the answer either.
fn no_such_alarm() -> BrakeState {
    BrakeState::Unknown(format!(
        "there is no such alarm in this account and region; this version reads only the types {}",
        AlarmType::values().join(", ")
    ))
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

impl Series {
    /// A DLQ's depth: the highest of each period, or the lowest where dips matter.
    fn depth(query: &MetricsQuery, period: i32) -> Self {
        Self {
            queue: query.dlq.clone(),
            metric: "ApproximateNumberOfMessagesVisible",
            stat: if query.shows_dips {
                "Minimum"
            } else {
                "Maximum"
            },
            period,
        }
    }

    /// The number of messages that a queue's consumer handled in each period. Dead-lettering is not
    /// a `DeleteMessage` call, so it does not count.
    fn handled(queue: &QueueArn, period: i32) -> Self {
        Self {
            queue: queue.clone(),
            metric: "NumberOfMessagesDeleted",
            stat: "Sum",
            period,
        }
    }

    fn query((series, n): (&Self, usize)) -> MetricDataQuery {
        let queue_name = Dimension::builder()
            .name("QueueName")
            .value(series.queue.name())
            .build();
        let metric = Metric::builder()
            .namespace("AWS/SQS")
            .metric_name(series.metric)
            .dimensions(queue_name)
            .build();
        let stat = MetricStat::builder()
            .metric(metric)
            .period(series.period)
            .stat(series.stat)
            .build();
        MetricDataQuery::builder()
            .id(format!("q{n}"))
            .metric_stat(stat)
            .build()
    }
}

/// Takes the datapoints of one page. `Err` says why the series cannot be read.
fn merge_page(
    answer: &Result<(), SeriesError>,
    result: &MetricDataResult,
    take: &mut dyn FnMut(SystemTime, u64),
) -> Result<(), SeriesError> {
    let said = || {
        let said = result.messages().iter().find_map(|message| message.value());
        said.unwrap_or("CloudWatch refused it").to_owned()
    };
    match result.status_code() {
        // An earlier page with datapoints stays valid.
        Some(StatusCode::Forbidden | StatusCode::InternalError) if answer.is_ok() => {
            return answer.clone();
        }
        Some(StatusCode::Forbidden) => return Err(SeriesError::Denied(said())),
        Some(StatusCode::InternalError) => return Err(SeriesError::Failed(said())),
        _ => {}
    }
    let points = result.timestamps().iter().zip(result.values());
    let mut points: Vec<(SystemTime, u64)> = points
        .filter_map(|(time, value)| Some((SystemTime::try_from(*time).ok()?, value.round() as u64)))
        .collect();
    // Some emulators ignore `ScanBy`.
    points.sort_unstable();
    points
        .into_iter()
        .for_each(|(time, value)| take(time, value));
    Ok(())
}

#[cfg(test)]
mod tests;
