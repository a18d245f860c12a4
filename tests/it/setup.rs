//! What the function reads from AWS's own variables: the roots that it trusts, endpoints, and
//! credentials.

use crate::support::function::sample;
use crate::support::http::{Answer, Server};
use crate::support::queues::queue_arn;
use crate::support::runtime::Process;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TIME: Duration = Duration::from_secs(20);

/// An SQS with a certificate of its own CA; `make setup` installs what it needs.
struct TlsServer {
    url: String,
    ca: String,
    process: Child,
}

impl TlsServer {
    fn start() -> Self {
        let ca = std::env::temp_dir().join(format!("ca-{}.pem", std::process::id()));
        let root = env!("CARGO_MANIFEST_DIR");
        let mut process = Command::new(format!("{root}/.venv/local/bin/python"))
            .arg(format!("{root}/tests/it/support/tls_server.py"))
            .arg(&ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python is installed: run `make setup`");
        let mut url = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut url).unwrap();
        Self {
            url: url.trim().to_owned(),
            ca: ca.into_os_string().into_string().unwrap(),
            process,
        }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.ca);
    }
}

#[test]
fn server_is_trusted_only_by_the_roots_of_the_bundle() {
    let server = TlsServer::start();
    let queue = queue_arn("trusted-dlq");
    let variables = [
        ("REDRIVE_QUEUES", queue.as_str()),
        ("AWS_ENDPOINT_URL_SQS", &server.url),
    ];
    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);

    let mut without = Process::start(&variables);
    let error = without.invoke(&schedule, TIME).unwrap_err();
    let message = error["errorMessage"].as_str().unwrap();
    assert!(message.contains("service-error"), "{message}");

    let bundle = [("AWS_CA_BUNDLE", server.ca.as_str())];
    let mut with = Process::start(&[&variables[..], &bundle].concat());
    let report = with.invoke(&schedule, TIME).unwrap();
    assert_eq!(report["counts"]["skipped"], 1, "{report:#}");
}

#[test]
fn bundle_that_cannot_be_read_fails_every_invocation_and_says_why() {
    let mut function = Process::start(&[
        ("REDRIVE_COOLDOWN", "soon"),
        ("AWS_CA_BUNDLE", "/nowhere/ca.pem"),
        ("AWS_USE_FIPS_ENDPOINT", "yes"),
    ]);
    for _ in 0..2 {
        let error = function.invoke("{}", TIME).unwrap_err();
        assert_eq!(error["errorType"], "InvalidConfiguration");
        let message = error["errorMessage"].as_str().unwrap();
        for part in [
            "`REDRIVE_COOLDOWN` holds `soon`",
            "`AWS_CA_BUNDLE` holds `/nowhere/ca.pem`: it cannot be read: No such file",
            "`AWS_USE_FIPS_ENDPOINT` holds `yes`",
        ] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}

#[test]
fn more_attempts_than_sqs_list_has_room_for_are_logged_once() {
    let ignored = sample("ignored-ok.json", &[]);
    let queue = queue_arn("orders-dlq");
    let start = |variables: &[(&str, &str)]| {
        let variables = [&[("REDRIVE_QUEUES", queue.as_str())], variables].concat();
        Process::start(&variables)
    };
    let warnings = |function: &mut Process| {
        let (result, log) = function.invoke_and_log(&ignored, TIME);
        assert!(result.is_ok(), "{result:?}");
        let warnings = log.iter().filter(|line| line["level"] == "WARN");
        warnings
            .map(|line| line["message"].clone())
            .collect::<Vec<_>>()
    };
    for (sample, most) in [("", 5), ("0", 8)] {
        let mut function = start(&[("REDRIVE_MAX_ATTEMPTS", "9"), ("REDRIVE_SAMPLE", sample)]);
        let expected = format!(
            "`REDRIVE_MAX_ATTEMPTS`: at most {most} attempts count, not 9: SQS lists ten tasks, an attempt with a sample takes two of them, and canceled tasks take places too; set 1 to {most}"
        );
        assert_eq!(warnings(&mut function), [expected]);
        assert_eq!(warnings(&mut function), Vec::<Value>::new());
    }

    let mut fits = start(&[("REDRIVE_MAX_ATTEMPTS", "8"), ("REDRIVE_SAMPLE", "0")]);
    assert_eq!(warnings(&mut fits), Vec::<Value>::new());
}

#[test]
fn endpoints_are_those_of_fips_and_dual_stack_if_aws_variables_say_so() {
    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);
    for (name, kind) in [
        ("AWS_USE_FIPS_ENDPOINT", "FIPS"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "Dualstack"),
    ] {
        let start = |value| {
            Process::start(&[
                ("REDRIVE_QUEUES", &queue_arn("orders-dlq")),
                ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9"),
                (name, value),
            ])
        };
        // There is no such endpoint here. That the SDK would use it follows from what the SDK
        // refuses.
        let (result, log) = start("True").invoke_and_log(&schedule, TIME);
        assert!(result.is_err(), "{result:?}");
        let refused = format!("{kind} and custom endpoint are not supported");
        let is_refused = |line: &Value| line["message"].to_string().contains(&refused);
        assert!(log.iter().any(is_refused), "{log:#?}");

        let error = start("yes").invoke(&schedule, TIME).unwrap_err();
        let message = error["errorMessage"].as_str().unwrap();
        assert!(
            message.contains(&format!("`{name}` holds `yes`: `true` or `false`")),
            "{message}"
        );
    }
}

#[test]
fn endpoint_that_is_no_url_fails_every_invocation_and_says_which() {
    let error = |variables: &[(&str, &str)]| {
        let error = Process::start(variables).invoke("{}", TIME).unwrap_err();
        assert_eq!(error["errorType"], "InvalidConfiguration");
        error["errorMessage"].as_str().unwrap().to_owned()
    };
    let host = "vpce-1.sqs.us-east-1.vpce.amazonaws.com";
    let dlq = queue_arn("orders-dlq");
    let queues = ("REDRIVE_QUEUES", dlq.as_str());

    let of_sqs = error(&[queues, ("AWS_ENDPOINT_URL_SQS", host)]);
    let expected = format!("`AWS_ENDPOINT_URL_SQS` holds `{host}`: a URL, `https://…`");
    assert_eq!(of_sqs, format!("configuration: {expected}"));

    let of_all = error(&[
        queues,
        ("AWS_ENDPOINT_URL", host),
        ("AWS_ENDPOINT_URL_SQS", " "),
    ]);
    assert_eq!(
        of_all.matches("`AWS_ENDPOINT_URL` holds").count(),
        1,
        "{of_all}"
    );
}

#[test]
fn credentials_come_from_the_container_where_the_environment_has_none() {
    let signed = Arc::new(Mutex::new(Vec::new()));
    let signatures = Arc::clone(&signed);
    let server = Server::start(move |request| {
        if request.path.starts_with("/credentials") {
            return Answer::ok(
                r#"{"AccessKeyId": "OFTHECONTAINER", "SecretAccessKey": "none", "Token": "none", "Expiration": "2100-01-01T00:00:00Z"}"#,
            );
        }
        let signature = request.header("authorization").to_owned();
        signatures.lock().unwrap().push(signature);
        Answer::ok(
            r#"{"Attributes": {"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "0"}}"#,
        )
    });
    let mut function = Process::start(&[
        ("REDRIVE_QUEUES", &queue_arn("signed-dlq")),
        ("AWS_ENDPOINT_URL_SQS", &server.url),
        ("AWS_ACCESS_KEY_ID", ""),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &format!("{}/credentials", server.url),
        ),
    ]);
    let schedule = sample("schedule-eventbridge-scheduler.json", &[]);

    let report = function.invoke(&schedule, TIME).unwrap();

    assert_eq!(report["counts"]["skipped"], 1, "{report:#}");
    let signed = signed.lock().unwrap();
    assert!(
        signed
            .iter()
            .all(|signature| signature.contains("Credential=OFTHECONTAINER/")),
        "{signed:?}"
    );
}
