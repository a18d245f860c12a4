//! Setup: from the environment to a function that is ready to be called.

use crate::cloudwatch::CloudWatchClients;
use crate::config::{Config, ConfigError, Faults, VariableError, boolean};
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

/// Creates the function, with all its clients. `Err` lists everything that is wrong with the
/// environment.
pub async fn function()
-> Result<Function<SqsClients, CloudWatchClients, TaggingClient>, ConfigError> {
    let Environment {
        config,
        region,
        sdk,
        endpoints: [sqs, cloudwatch, tagging],
    } = environment()?;
    if let Some(why) = config.policy.too_many_attempts() {
        tracing::warn!("`REDRIVE_MAX_ATTEMPTS`: {why}");
    }
    let regions = config.queues.iter().map(|queue| queue.region().to_owned());
    let regions: BTreeSet<String> = regions.chain([region.clone()]).collect();
    let sqs = SqsClients::new(&with_endpoint(&sdk, sqs), regions.clone());
    // Init runs on a full vCPU. Invocations get CPU in proportion to memory.
    sqs.connect(&region).await;
    let cloudwatch = CloudWatchClients::new(&with_endpoint(&sdk, cloudwatch), regions);
    // The tagging API has a low rate limit, and one failed page loses the list, so retry patiently.
    let patient = RetryConfig::standard()
        .with_max_attempts(10)
        .with_max_backoff(Duration::from_secs(1));
    let sdk = with_endpoint(&sdk, tagging);
    let tagging = TaggingClient::new(&sdk.into_builder().retry_config(patient).build());
    if config.enroll_tag.is_some() {
        tagging.create();
    }
    Ok(Function::new(config, region, sqs, cloudwatch, tagging))
}

/// What the environment sets.
struct Environment {
    config: Config,
    region: String,
    /// What all clients share.
    sdk: SdkConfig,
    /// The endpoints of SQS, CloudWatch and the tagging API; `None` means AWS's own.
    endpoints: [Option<String>; 3],
}

fn environment() -> Result<Environment, ConfigError> {
    let region = variable("AWS_REGION");
    let mut faults = Faults::default();
    let config = faults.keep(Config::from_vars(variables()));
    let trusted = faults.keep(tls::context(&variable("AWS_CA_BUNDLE"), &region));
    let switches = ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"];
    let switches = switches.map(|name| faults.keep(boolean_variable(name)));
    let endpoints = ["SQS", "CLOUDWATCH", "RESOURCE_GROUPS_TAGGING_API"];
    let endpoints = endpoints.map(|service| faults.keep(endpoint(service)));
    let (
        Some(config),
        Some(trusted),
        [Some(fips), Some(dual_stack)],
        [Some(sqs), Some(cloudwatch), Some(tagging)],
    ) = (config, trusted, switches, endpoints)
    else {
        return Err(faults.into());
    };
    let sdk = sdk_config(trusted, &region)
        .into_builder()
        .use_fips(fips)
        .use_dual_stack(dual_stack)
        .build();
    Ok(Environment {
        config,
        region,
        sdk,
        endpoints: [sqs, cloudwatch, tagging],
    })
}

/// One variable, empty if it is not set.
fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

/// The environment. A value that is not UTF-8 cannot be valid for us; its readable part is used.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

/// The configuration that all clients share. AWS's own loader would also look for profiles, roles
/// to assume and instance metadata. Lambda has none of these, and the loader makes the binary 14 %
/// larger.
fn sdk_config(trusted: TlsContext, region: &str) -> SdkConfig {
    let connect = Duration::from_secs(2);
    // No total timeout here: each invocation is bounded by Lambda's deadline.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connect)
        .operation_attempt_timeout(Duration::from_secs(5))
        .build();
    let http_client = http_client(trusted, connect);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials(&http_client))
        // All clients share one cache.
        .identity_cache(IdentityCache::lazy().build())
        .http_client(http_client)
        // By default the first throttled call would wait up to 20 s before its retry.
        .retry_config(RetryConfig::adaptive().with_max_backoff(Duration::from_secs(1)))
        .timeout_config(timeouts)
        // Answers are small. The attempt timeout already covers one that stalls.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

/// Reads a variable that is `true` or `false`. `Ok(false)` if it is not set.
fn boolean_variable(name: &str) -> Result<bool, VariableError> {
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

/// The endpoint of one service, from its own variable or the one for all services
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>). `Ok(None)` means
/// AWS's own.
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

/// The configuration with the endpoint of one service; `None` means AWS's own.
fn with_endpoint(sdk: &SdkConfig, url: Option<String>) -> SdkConfig {
    let mut config = sdk.clone().into_builder();
    config.set_endpoint_url(url);
    config.build()
}

/// The role's credentials. Lambda puts them into the environment or, for some kinds of start,
/// serves them at an address that the environment contains
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

/// One TLS stack and one connection pool for all clients. The SDK's own HTTP client would decode
/// the root certificates again for every client.
fn http_client(trusted: TlsContext, connect_timeout: Duration) -> SharedHttpClient {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_timeout);
    let connector = Connector::builder()
        .connector_settings(settings.build())
        // The other provider collects entropy for half a second in the first invocation.
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(trusted)
        .build();
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}
