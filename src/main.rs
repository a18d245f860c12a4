//! Starts the log and Lambda's runtime around the function.

// The nested futures of an invocation are deeper than the compiler's default limit.
#![recursion_limit = "256"]

use lambda_runtime::{LambdaEvent, run, service_fn};
use serde_json::value::RawValue;
use sqs_auto_redrive::handler::InvocationError;
use sqs_auto_redrive::setup;
use tracing_subscriber::filter::LevelFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    init_log();
    match setup::function().await {
        Ok(function) => {
            let function = &function;
            run(service_fn(async move |event| function.handle(event).await)).await
        }
        // Exiting would make Lambda restart us in a loop; answer every invocation with the error
        // instead.
        Err(invalid) => {
            let invalid = &invalid;
            run(service_fn(
                async move |_: LambdaEvent<Box<RawValue>>| -> Result<(), InvocationError> {
                    Err(invalid.clone().into())
                },
            ))
            .await
        }
    }
}

/// Follows Lambda's log settings: `AWS_LAMBDA_LOG_FORMAT` (`JSON` or text) and
/// `AWS_LAMBDA_LOG_LEVEL`. DEBUG and TRACE count as INFO: the release has no events below it
/// (`release_max_level_info` in Cargo.toml).
fn init_log() {
    let setting = |name| std::env::var(name).unwrap_or_default();
    let level = match setting("AWS_LAMBDA_LOG_LEVEL").to_uppercase().as_str() {
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
