//! Wiring: the environment, the clients, the log, and Lambda's runtime around [`Function`].

// An invocation is one future of many nested ones, too deep for the compiler's default.
#![recursion_limit = "256"]

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use lambda_runtime::{LambdaEvent, run, service_fn};
use serde_json::value::RawValue;
use sqs_auto_redrive::cloudwatch::CloudWatchClients;
use sqs_auto_redrive::config::{Config, InvalidConfig};
use sqs_auto_redrive::handler::{Failure, Function};
use sqs_auto_redrive::sqs::SqsClients;
use sqs_auto_redrive::tagging::TaggingClient;
use sqs_auto_redrive::trust;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_log();
    let trusted = trust::store(&setting("AWS_CA_BUNDLE"), &setting("AWS_REGION"));
    match (Config::from_vars(vars()), trusted) {
        (Ok(config), Ok(trusted)) => {
            let sdk = sdk_config(trusted).await?;
            let region = sdk.region().map_or_else(String::new, ToString::to_string);
            let regions = config.queues.iter().map(|queue| queue.region().to_owned());
            let regions = regions.chain([region.clone()]);
            let sqs = SqsClients::new(&sdk, regions.clone());
            let cloudwatch = CloudWatchClients::new(&sdk, regions);
            // Its limit is low, and a page that is given up loses the whole list. One call at a time
            // needs no rate of its own.
            let patient = RetryConfig::standard()
                .with_max_attempts(10)
                .with_max_backoff(Duration::from_secs(1));
            let tagging = TaggingClient::new(&sdk.into_builder().retry_config(patient).build());
            let function = &Function::new(config, region, sqs, cloudwatch, tagging);
            run(service_fn(async move |event| function.handle(event).await)).await
        }
        // To exit here would have Lambda start us again and again, without a word to the caller.
        (config, trusted) => {
            let faults = config.err().map_or_else(Vec::new, |invalid| invalid.0);
            let invalid = &InvalidConfig(faults.into_iter().chain(trusted.err()).collect());
            run(service_fn(
                async move |_: LambdaEvent<Box<RawValue>>| -> Result<(), Failure> {
                    Err(invalid.clone().into())
                },
            ))
            .await
        }
    }
}

/// One variable, empty if it is not set.
fn setting(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

/// The environment. What is not UTF-8 cannot be one of our values; it is read as far as it goes.
fn vars() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

async fn sdk_config(trusted: TrustStore) -> Result<SdkConfig, lambda_runtime::Error> {
    // One TLS stack, and one that does not gather entropy for half a second in the first invocation.
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(trusted).build()?)
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        // Throttled early, the adaptive rate has the first retry wait for 20 s; a second is enough.
        .retry_config(RetryConfig::adaptive().with_max_backoff(Duration::from_secs(1)))
        // How long all attempts may take is for the invocation to say, by Lambda's deadline.
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(Duration::from_secs(5))
                .build(),
        )
        .load()
        .await;
    Ok(config)
}

/// Lambda's own log settings: `AWS_LAMBDA_LOG_FORMAT` (`JSON` or text) and `AWS_LAMBDA_LOG_LEVEL`.
fn init_log() {
    let level = match setting("AWS_LAMBDA_LOG_LEVEL").to_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let log = tracing_subscriber::fmt()
        .with_target(false)
        .with_max_level(level);
    if setting("AWS_LAMBDA_LOG_FORMAT").eq_ignore_ascii_case("json") {
        log.json().flatten_event(true).with_span_list(false).init();
    } else {
        log.with_ansi(false).init();
    }
}
