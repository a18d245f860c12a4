//! The Python programs in `local/` that tests run: JSON in, JSON out.

use super::local::project_file;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a program of `local/` on this input, and returns its output.
pub fn ask(program: &str, arguments: &[&str], question: &Value) -> Value {
    let python = project_file(".venv/local/bin/python");
    assert!(
        python.exists(),
        "the local AWS is not installed: run `make setup`"
    );
    let mut process = Command::new(python)
        .arg(project_file("local").join(program))
        .args(arguments)
        .current_dir(project_file(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "its own error is above; if a package is missing, run `make setup`"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
