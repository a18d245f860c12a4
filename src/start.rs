//! From the environment to a function that is ready to be called.

use crate::cloudwatch::CloudWatchClients;
use crate::config::{Config, InvalidConfig};
use crate::handler::Function;
use crate::sqs::SqsClients;
use crate::tagging::TaggingClient;
use crate::trust;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Makes the function, with all its clients. `Err` lists everything that is wrong with the environment.
pub async fn function()
-> Result<Function<SqsClients, CloudWatchClients, TaggingClient>, InvalidConfig> {
    let trusted = trust::context(&variable("AWS_CA_BUNDLE"), &variable("AWS_REGION"));
    let (config, trusted) = match (Config::from_vars(variables()), trusted) {
        (Ok(config), Ok(trusted)) => (config, trusted),
        (config, trusted) => {
            let faults = config.err().map_or_else(Vec::new, |invalid| invalid.0);
            return Err(InvalidConfig(
                faults.into_iter().chain(trusted.err()).collect(),
            ));
        }
    };
    let sdk = sdk_config(trusted).await;
    let region = sdk.region().map_or_else(String::new, ToString::to_string);
    let regions = config.queues.iter().map(|queue| queue.region().to_owned());
    let regions: BTreeSet<String> = regions.chain([region.clone()]).collect();
    let sqs = SqsClients::new(&sdk, regions.clone());
    // Lambda gives the start a whole CPU, and an invocation as much as its memory is worth.
    sqs.connect(&region).await;
    let cloudwatch = CloudWatchClients::new(&sdk, regions);
    // Its limit is low, and a page that is given up loses the whole list. One call at a time needs
    // no rate of its own.
    let patient = RetryConfig::standard()
        .with_max_attempts(10)
        .with_max_backoff(Duration::from_secs(1));
    let tagging = TaggingClient::new(&sdk.into_builder().retry_config(patient).build());
    if config.enroll_tag.is_some() {
        tagging.make();
    }
    Ok(Function::new(config, region, sqs, cloudwatch, tagging))
}

/// One variable, empty if it is not set.
fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

/// The environment. What is not UTF-8 cannot be one of our values; it is read as far as it goes.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

async fn sdk_config(trusted: TlsContext) -> SdkConfig {
    let connect = Duration::from_secs(2);
    // How long all attempts may take is for the invocation to say, by Lambda's deadline.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connect)
        .operation_attempt_timeout(Duration::from_secs(5))
        .build();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12());
    let config = if credentials_are_given() {
        config.credentials_provider(EnvironmentVariableCredentialsProvider::new())
    } else {
        config
    };
    config
        .http_client(http_client(trusted, connect))
        // Throttled early, the adaptive rate has the first retry wait for 20 s; a second is enough.
        .retry_config(RetryConfig::adaptive().with_max_backoff(Duration::from_secs(1)))
        .timeout_config(timeouts)
        // Answers are small, and come whole or not within the time of their attempt.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await
}

/// Whether the environment holds credentials, as Lambda's does. The SDK's chain of providers looks there
/// first; to make the rest of it takes longer than to make all clients.
fn credentials_are_given() -> bool {
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .iter()
        .all(|name| !variable(name).trim().is_empty())
}

/// One TLS stack and one pool of connections for all clients. The SDK's own HTTP client would decode
/// the roots once more for every client that is made with it.
fn http_client(trusted: TlsContext, connect_timeout: Duration) -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_timeout);
    let connector = Connector::builder()
        .connector_settings(settings.build())
        // It does not gather entropy for half a second in the first invocation.
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(trusted)
        .build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}
