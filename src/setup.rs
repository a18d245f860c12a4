//! From the environment to a function that is ready to be called.

use crate::cloudwatch::CloudWatchClients;
use crate::config::{Config, ConfigError, VariableError, boolean};
use crate::handler::Function;
use crate::sqs::SqsClients;
use crate::tagging::TaggingClient;
use crate::tls;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
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
-> Result<Function<SqsClients, CloudWatchClients, TaggingClient>, ConfigError> {
    let region = variable("AWS_REGION");
    let trusted = tls::context(&variable("AWS_CA_BUNDLE"), &region);
    let switches = ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"].map(switch);
    let urls = ["SQS", "CLOUDWATCH", "RESOURCE_GROUPS_TAGGING_API"].map(endpoint);
    let (config, trusted, [fips, dual_stack], [sqs_url, cloudwatch_url, tagging_url]) =
        match (Config::from_vars(variables()), trusted, switches, urls) {
            (
                Ok(config),
                Ok(trusted),
                [Ok(fips), Ok(dual_stack)],
                [Ok(sqs), Ok(cloudwatch), Ok(tagging)],
            ) => (
                config,
                trusted,
                [fips, dual_stack],
                [sqs, cloudwatch, tagging],
            ),
            (config, trusted, switches, urls) => {
                let mut faults = config.err().map_or_else(Vec::new, |invalid| invalid.0);
                faults.extend(trusted.err());
                faults.extend(switches.into_iter().filter_map(Result::err));
                faults.extend(urls.into_iter().filter_map(Result::err));
                // One variable may be at fault for all services.
                faults.dedup();
                return Err(ConfigError(faults));
            }
        };
    let sdk = sdk_config(trusted, &region)
        .into_builder()
        .use_fips(fips)
        .use_dual_stack(dual_stack)
        .build();
    let regions = config.queues.iter().map(|queue| queue.region().to_owned());
    let regions: BTreeSet<String> = regions.chain([region.clone()]).collect();
    let sqs = SqsClients::new(&at(&sdk, sqs_url), regions.clone());
    // Lambda gives the start a whole CPU, and an invocation as much as its memory is worth.
    sqs.connect(&region).await;
    let cloudwatch = CloudWatchClients::new(&at(&sdk, cloudwatch_url), regions);
    // Its limit is low, and a page that is given up loses the whole list. One call at a time needs
    // no rate of its own.
    let patient = RetryConfig::standard()
        .with_max_attempts(10)
        .with_max_backoff(Duration::from_secs(1));
    let sdk = at(&sdk, tagging_url);
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

/// What all clients are made of. It takes from the environment what Lambda and its operators put there. AWS's
/// loader would also look for profiles, roles to assume and instance metadata, which Lambda has not: it
/// makes the binary a seventh larger.
fn sdk_config(trusted: TlsContext, region: &str) -> SdkConfig {
    let connect = Duration::from_secs(2);
    // How long all attempts may take is for the invocation to say, by Lambda's deadline.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connect)
        .operation_attempt_timeout(Duration::from_secs(5))
        .build();
    let http_client = http_client(trusted, connect);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials(&http_client))
        // One for all clients.
        .identity_cache(IdentityCache::lazy().build())
        .http_client(http_client)
        // Throttled early, the adaptive rate has the first retry wait for 20 s; a second is enough.
        .retry_config(RetryConfig::adaptive().with_max_backoff(Duration::from_secs(1)))
        .timeout_config(timeouts)
        // Answers are small, and come whole or not within the time of their attempt.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

/// A variable that turns something on. `Ok(false)` if it is not set.
fn switch(name: &str) -> Result<bool, VariableError> {
    let value = variable(name);
    match value.trim() {
        "" => Ok(false),
        text => boolean(text).map_err(|expected| VariableError {
            variable: name.to_owned(),
            value: Some(text.to_owned()),
            expected,
        }),
    }
}

/// The URL that the environment names for one of AWS's services, by the service's own variable or that of all
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>). `Ok(None)` means AWS's own.
fn endpoint(service: &str) -> Result<Option<String>, VariableError> {
    let names = [
        format!("AWS_ENDPOINT_URL_{service}"),
        "AWS_ENDPOINT_URL".to_owned(),
    ];
    let values = names.map(|name| (variable(&name).trim().to_owned(), name));
    match values.into_iter().find(|(url, _)| !url.is_empty()) {
        None => Ok(None),
        Some((url, _)) if url.starts_with("https://") || url.starts_with("http://") => {
            Ok(Some(url))
        }
        Some((url, variable)) => Err(VariableError {
            variable,
            value: Some(url),
            expected: "a URL, `https://…`".to_owned(),
        }),
    }
}

/// The configuration with the endpoint of one service; `None` is AWS's own.
fn at(sdk: &SdkConfig, url: Option<String>) -> SdkConfig {
    let mut config = sdk.clone().into_builder();
    config.set_endpoint_url(url);
    config.build()
}

/// Where Lambda keeps the role's credentials: in the environment, or with some ways to start a function behind
/// an address that the environment names
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>).
fn credentials(http_client: &SharedHttpClient) -> SharedCredentialsProvider {
    let are_given = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .iter()
        .all(|name| !variable(name).trim().is_empty());
    if are_given {
        SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new())
    } else {
        let config = ProviderConfig::without_region().with_http_client(http_client.clone());
        let provider = EcsCredentialsProvider::builder().configure(&config);
        SharedCredentialsProvider::new(provider.build())
    }
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
