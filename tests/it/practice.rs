//! What people met in practice, on the wire where AWS answers.

use crate::support::account::Account;
use crate::support::function::sample;
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use serde_json::Value;
use std::env::var_os;
use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TIME: Duration = Duration::from_secs(60);

fn schedule() -> String {
    sample("schedule-eventbridge-scheduler.json", &[])
}

/// The function with this DLQ enrolled, and this account for every service.
fn function(account: &Account, dlq: &str, variables: &[(&str, &str)]) -> Process {
    let arn = queue_arn(dlq);
    let ours = [
        ("REDRIVE_QUEUES", arn.as_str()),
        ("AWS_ENDPOINT_URL", &account.url),
    ];
    Process::start(&[&ours, variables].concat())
}

#[test]
fn start_that_sqs_answers_without_a_handle_is_one_start_and_the_report_says_so() {
    let account = Account::start();
    account.add_dlq("orders-dlq", 3, &[]);
    account.hide_handles();
    let report = function(&account, "orders-dlq", &[]).invoke(&schedule(), TIME);
    let report = report.unwrap();
    assert_eq!(report["counts"]["started"], 1, "{report:#}");
    let queue = &report["queues"][0];
    assert_eq!(queue["task"].get("handle"), None::<&Value>, "{report:#}");
    let detail = queue["detail"].as_str().unwrap();
    assert!(detail.contains("the task's handle is unknown"), "{detail}");
    let calls = account.calls();
    let starts = calls
        .iter()
        .filter(|call| call.operation == "StartMessageMoveTask");
    assert_eq!(starts.count(), 1);
}

/// Whether the build script refuses this build.
fn is_refused(script: &Path, profile: &str, out: &Path, variables: &[(&str, &str)]) -> bool {
    create_dir_all(out).unwrap();
    let output = Command::new(script)
        .env_clear()
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .env("OUT_DIR", out)
        .env("PROFILE", profile)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let is_refused = text.contains("cargo::error=");
    assert_eq!(
        is_refused,
        text.contains("`CARGO_TARGET_DIR` is set"),
        "{text}"
    );
    is_refused
}

/// Older versions of `sam build` would package no bootstrap, or an old one.
#[test]
fn build_for_lambda_into_another_target_directory_is_refused() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("build-script");
    create_dir_all(&folder).unwrap();
    let script = folder.join("build-script");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let rustc = var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile
        .args(["--edition", "2024", "-o"])
        .args([&script, Path::new(source)]);
    assert!(compile.status().unwrap().success());

    let elsewhere = std::env::temp_dir().join(format!("elsewhere-{}", std::process::id()));
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/build-script");
    let (lambda, zig) = (
        ("CARGO_LAMBDA_COLOR", "auto"),
        ("CARGO_ZIGBUILD_RUSTC_VERSION", "1.95.0"),
    );
    for (profile, out, variables, expected) in [
        ("release", &elsewhere, &[lambda][..], true),
        ("release", &elsewhere, &[zig], true),
        ("release", &own, &[lambda, zig], false),
        ("release", &elsewhere, &[], false),
        ("debug", &elsewhere, &[lambda], false),
    ] {
        let refused = is_refused(&script, profile, out, variables);
        assert_eq!(refused, expected, "{profile}, {out:?}, {variables:?}");
    }
    std::fs::remove_dir_all(elsewhere).unwrap();
}
