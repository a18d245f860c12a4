//! The local CloudWatch, and one that refuses every call.

use super::http::{Answer, Server};
use super::local::{sdk, servers};
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{ComparisonOperator, Dimension, MetricDatum, StateValue};
use std::time::SystemTime;

/// An alarm in the local CloudWatch.
pub struct Alarm {
    /// Its name.
    pub name: String,
    client: Client,
}

impl Alarm {
    /// Creates an alarm on the errors of a consumer; its state is INSUFFICIENT_DATA. Every test
    /// uses names of its own, because all share one CloudWatch.
    pub async fn create(name: &str) -> Self {
        let client = client();
        let request = client.put_metric_alarm().alarm_name(name);
        let request = request
            .namespace("AWS/Lambda")
            .metric_name("Errors")
            .statistic(aws_sdk_cloudwatch::types::Statistic::Sum)
            .period(60)
            .evaluation_periods(1)
            .threshold(1.0)
            .comparison_operator(ComparisonOperator::GreaterThanOrEqualToThreshold);
        request.send().await.unwrap();
        let name = name.to_owned();
        Self { name, client }
    }

    /// Creates an alarm that is in ALARM.
    pub async fn in_alarm(name: &str) -> Self {
        let alarm = Self::create(name).await;
        alarm.becomes(StateValue::Alarm).await;
        alarm
    }

    /// Creates a composite alarm of this name, which is in ALARM while this alarm is.
    pub async fn composite(&self, name: &str) {
        let rule = format!("ALARM(\"{}\")", self.name);
        let request = self.client.put_composite_alarm().alarm_name(name);
        request.alarm_rule(rule).send().await.unwrap();
    }

    /// Changes its state.
    pub async fn becomes(&self, state: StateValue) {
        let request = self.client.set_alarm_state().alarm_name(&self.name);
        let request = request.state_value(state).state_reason("a test says so");
        request.send().await.unwrap();
    }
}

/// Publishes the number of visible messages in a queue at each of these times.
pub async fn saw(queue: &str, depths: impl IntoIterator<Item = (SystemTime, u32)>) {
    publish("ApproximateNumberOfMessagesVisible", queue, depths).await;
}

/// Publishes how many messages the consumer of a queue acknowledged at each of these times, as
/// AWS's SQS does.
pub async fn acknowledged(queue: &str, messages: impl IntoIterator<Item = (SystemTime, u32)>) {
    publish("NumberOfMessagesDeleted", queue, messages).await;
}

async fn publish(metric: &str, queue: &str, values: impl IntoIterator<Item = (SystemTime, u32)>) {
    let dimension = Dimension::builder().name("QueueName").value(queue).build();
    let data = values.into_iter().map(|(time, value)| {
        MetricDatum::builder()
            .metric_name(metric)
            .dimensions(dimension.clone())
            .timestamp(time.into())
            .value(value.into())
            .build()
    });
    let request = client().put_metric_data().namespace("AWS/SQS");
    let request = request.set_metric_data(Some(data.collect()));
    request.send().await.unwrap();
}

fn client() -> Client {
    Client::new(&sdk(&servers().cloudwatch_url))
}

/// The URL of a CloudWatch that refuses every call, as AWS does if a permission is missing.
pub fn refusing_url() -> String {
    let server = Server::start(|request| {
        let operation = request.operation();
        let message =
            format!("User: function is not authorized to perform: cloudwatch:{operation}");
        Answer::cbor_error(403, "AccessDenied", &message)
    });
    server.url
}
