//! Describes the machine and the software of a run.

use std::fs;
use std::process::Command;

/// The description as one line of Markdown.
pub fn describe() -> Result<String, String> {
    let cpus = read("/proc/cpuinfo")?;
    let models: Vec<&str> = cpus
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| Some(line.split_once(':')?.1.trim()))
        .collect();
    let model = models.first().copied().unwrap_or(std::env::consts::ARCH);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = read("/proc/meminfo")?;
    let memory: f64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .ok_or("/proc/meminfo has no MemTotal")?;
    Ok(format!(
        "{cores} cores ({model}), {:.0} GiB, Linux {}; {}; Node.js {}, AWS SDK {}; {}, boto3 {}; \
         load average at the start {}; commit {}.",
        memory / 1024.0 / 1024.0,
        read("/proc/sys/kernel/osrelease")?.trim(),
        output_of("rustc", &["--version"])?,
        output_of("node", &["--version"])?,
        locked_sdk()?,
        output_of(".venv/bin/python", &["--version"])?,
        locked_boto3()?,
        load()?,
        commit(),
    ))
}

/// The load average of the last minute.
pub fn load() -> Result<f64, String> {
    let loads = read("/proc/loadavg")?;
    let first = loads.split_whitespace().next();
    first
        .and_then(|load| load.parse().ok())
        .ok_or_else(|| format!("/proc/loadavg is `{loads}`"))
}

fn locked_sdk() -> Result<String, String> {
    let lock = read("node/package-lock.json")?;
    let lock: serde_json::Value = serde_json::from_str(&lock).map_err(|error| error.to_string())?;
    let version = &lock["packages"]["node_modules/@aws-sdk/client-sqs"]["version"];
    let version = version.as_str().map(str::to_owned);
    version.ok_or_else(|| "node/package-lock.json does not lock @aws-sdk/client-sqs".to_owned())
}

fn locked_boto3() -> Result<String, String> {
    let lock = read("python/requirements.txt")?;
    let version = lock.lines().find_map(|line| line.strip_prefix("boto3=="));
    let version = version.map(|version| version.trim_end_matches([' ', '\\']).to_owned());
    version.ok_or_else(|| "python/requirements.txt does not lock boto3".to_owned())
}

/// The commit of the sources, and whether they have uncommitted changes. `unknown` in a copy without git.
fn commit() -> String {
    let hash = output_of("git", &["rev-parse", "--short", "HEAD"]);
    let changed = output_of(
        "git",
        &["status", "--porcelain", "--untracked-files=no", ".."],
    );
    match (hash, changed) {
        (Ok(hash), Ok(changed)) if changed.is_empty() => hash,
        (Ok(hash), _) => hash + " with changes",
        (Err(_), _) => "unknown".to_owned(),
    }
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{program} failed: {}", output.status)),
    }
}
