use super::*;
use crate::ask::read_fall_time;
use crate::decision::Purpose;
use crate::fall::{Fall, FallTime};
use crate::policy::Rate;
use crate::wire::{self, REGION, Wire};
use aws_config::SdkConfig;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::Mutex;

const ORDERS: &str = "arn:aws:sqs:us-east-1:123456789012:orders";

// SQS's messages, word for word.
const ALREADY_RUNNING: &str = "There is already a task running. Only one active task is allowed for a source queue arn at a given time.";
const NOT_A_DLQ: &str = "Source queue must be configured as a Dead Letter Queue.";
const NO_SOURCE: &str =
    "The resource that you specified for the SourceArn parameter doesn't exist.";
const NO_DESTINATION: &str =
    "The resource that you specified for the DestinationArn parameter doesn't exist.";
const NO_QUEUE: &str = "The specified queue does not exist.";
const DENIED: &str = "User: arn:aws:sts::123456789012:assumed-role/redrive/redrive is not authorized to perform: sqs:receivemessage on resource: arn:aws:sqs:us-east-1:123456789012:orders-dlq because no identity-based policy allows the sqs:receivemessage action";

#[test]
fn url_is_in_the_queues_own_region_and_partition() {
    let url_of = |arn: &str| url(&arn.parse().unwrap());
    assert_eq!(
        url_of("arn:aws:sqs:eu-west-1:123456789012:orders-dlq"),
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders-dlq"
    );
    assert_eq!(
        url_of("arn:aws-cn:sqs:cn-north-1:123456789012:orders-dlq.fifo"),
        "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/orders-dlq.fifo"
    );
}

// The real client, answered with recorded bytes.

fn answering(bytes: Vec<u8>) -> Wire {
    Wire::answering(move |_| bytes.clone())
}

fn clients(config: &SdkConfig) -> SqsClients {
    SqsClients::new(config, [REGION, "ap-south-1"].map(str::to_owned))
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\nx-amzn-requestid: 5f0c1bb8-0000-5000-8000-000000000000\r\n\r\n{body}"
    )
    .into_bytes()
}

fn json_answer(status: &str, headers: &str, body: &Value) -> Vec<u8> {
    let headers = format!("content-type: application/x-amz-json-1.0\r\n{headers}");
    answer(status, &headers, &body.to_string())
}

fn ok(body: &Value) -> Vec<u8> {
    json_answer("200 OK", "", body)
}

fn dlq() -> QueueArn {
    "arn:aws:sqs:us-east-1:123456789012:orders-dlq"
        .parse()
        .unwrap()
}

fn a_start(destination: Option<QueueArn>, max_messages_per_second: Option<Rate>) -> Start {
    Start {
        destination,
        max_messages_per_second,
        purpose: Purpose::All,
    }
}

async fn start_answered(bytes: Vec<u8>) -> Result<Option<String>, StartError> {
    let wire = answering(bytes);
    clients(&wire.config())
        .start(&dlq(), &a_start(None, None))
        .await
}

async fn counts_answered(bytes: Vec<u8>) -> Result<Depth, SqsError> {
    let wire = answering(bytes);
    let counts = clients(&wire.config()).depth(&dlq()).await;
    counts.map(|(depth, _)| depth)
}

async fn list_answered(bytes: Vec<u8>) -> Result<Vec<MoveTask>, SqsError> {
    let wire = answering(bytes);
    clients(&wire.config()).list_tasks(&dlq()).await
}

async fn cancel_answered(bytes: Vec<u8>) -> Result<u64, CancelError> {
    let wire = answering(bytes);
    clients(&wire.config()).cancel(&dlq(), "handle").await
}

// Errors.

/// A code in the header `x-amzn-query-error`, and the `__type` in the body.
type Codes = (&'static str, &'static str);

// `INVALID` and `UNSUPPORTED` stand for several errors; only the message distinguishes them.
const INVALID: Codes = (
    "InvalidParameterValue",
    "com.amazon.coral.service#InvalidParameterValueException",
);
const UNSUPPORTED: Codes = (
    "AWS.SimpleQueueService.UnsupportedOperation",
    "com.amazonaws.sqs#UnsupportedOperation",
);
const NOT_FOUND: Codes = (
    "ResourceNotFoundException",
    "com.amazonaws.sqs#ResourceNotFoundException",
);
const NO_SUCH_QUEUE: Codes = (
    "AWS.SimpleQueueService.NonExistentQueue",
    "com.amazonaws.sqs#QueueDoesNotExist",
);
const ACCESS: Codes = (
    "AccessDenied",
    "com.amazon.coral.service#AccessDeniedException",
);
const THROTTLED: Codes = ("RequestThrottled", "com.amazonaws.sqs#RequestThrottled");
const THROTTLING: Codes = (
    "ThrottlingException",
    "com.amazon.coral.availability#ThrottlingException",
);

const S400: &str = "400 Bad Request";
const S403: &str = "403 Forbidden";
const S404: &str = "404 Not Found";

/// One error on the wire: status, message, code in the header and `__type` in the body.
fn error(status: &str, (code, r#type): (&str, &str), message: &str) -> Vec<u8> {
    let header = format!("x-amzn-query-error: {code};Sender\r\n");
    json_answer(
        status,
        &header,
        &json!({"__type": r#type, "message": message}),
    )
}

/// The same without the header, as from some emulators: only the `__type` contains the code.
fn error_without_header(status: &str, r#type: &str, message: &str) -> Vec<u8> {
    json_answer(status, "", &json!({"__type": r#type, "message": message}))
}

#[tokio::test]
async fn every_refusal_of_a_start_is_distinguished() {
    use SqsError::*;
    type Expected = fn(String) -> StartError;
    let unsupported = "UnsupportedOperation";
    #[rustfmt::skip]
    let table: [(&str, &str, Codes, &str, Expected); 19] = [
        ("a task is running", S400, INVALID, ALREADY_RUNNING, |_| StartError::TaskActive { is_repeated: false }),
        ("not a DLQ", S400, INVALID, NOT_A_DLQ, |it| NotADeadLetterQueue(it).into()),
        ("no such source", S404, NOT_FOUND, NO_SOURCE, |it| QueueNotFound(it).into()),
        ("no such destination", S404, NOT_FOUND, NO_DESTINATION, |it| DestinationNotFound(it).into()),
        ("permission missing", S403, ACCESS, DENIED, |it| AccessDenied(it).into()),
        ("throttled", S403, THROTTLED, "Rate exceeded", |it| Throttled(it).into()),
        ("throttled, status 400", S400, THROTTLED, "Rate exceeded", |it| Throttled(it).into()),
        ("throttled, another code", S400, THROTTLING, "Rate exceeded", |it| Throttled(it).into()),
        // Emulators.
        ("a task is running", S400, UNSUPPORTED, ALREADY_RUNNING, |_| StartError::TaskActive { is_repeated: false }),
        ("not a DLQ", S400, UNSUPPORTED, NOT_A_DLQ, |it| NotADeadLetterQueue(it).into()),
        ("a task is running", S400, (unsupported, unsupported), ALREADY_RUNNING, |_| StartError::TaskActive { is_repeated: false }),
        ("not a DLQ", S400, (unsupported, unsupported), NOT_A_DLQ, |it| NotADeadLetterQueue(it).into()),
        ("a task is running", S400, ("UnsupportedOperationException", "UnsupportedOperationException"), ALREADY_RUNNING, |_| StartError::TaskActive { is_repeated: false }),
        ("not a DLQ", S400, ("InvalidParameterValueException", "InvalidParameterValueException"), NOT_A_DLQ, |it| NotADeadLetterQueue(it).into()),
        ("no such source", S400, NO_SUCH_QUEUE, NO_QUEUE, |it| QueueNotFound(it).into()),
        ("no such source", S400, ("QueueDoesNotExist", "com.amazonaws.sqs#QueueDoesNotExistException"), NO_QUEUE, |it| QueueNotFound(it).into()),
        ("no such source", S404, ("AWS.SimpleQueueService.ResourceNotFoundException", "ResourceNotFound"), NO_SOURCE, |it| QueueNotFound(it).into()),
        ("permission missing", S403, ("AccessDeniedException", "AccessDenied"), DENIED, |it| AccessDenied(it).into()),
        ("throttled", S400, ("AWS.SimpleQueueService.RequestThrottled", "RequestThrottledException"), "Rate exceeded", |it| Throttled(it).into()),
    ];
    for (situation, status, codes, message, expected) in table {
        let expected = Err(expected(message.to_owned()));
        let got = start_answered(error(status, codes, message)).await;
        assert_eq!(got, expected, "{situation}, {codes:?}");
        let got = start_answered(error_without_header(status, codes.1, message)).await;
        assert_eq!(got, expected, "{situation}, {} and no header", codes.1);
    }
}

#[tokio::test]
async fn one_code_of_aws_becomes_two_errors_by_its_message() {
    let running = start_answered(error(S400, INVALID, ALREADY_RUNNING)).await;
    let no_dlq = start_answered(error(S400, INVALID, NOT_A_DLQ)).await;
    assert_eq!(running, Err(StartError::TaskActive { is_repeated: false }));
    let no_dlq_expected = SqsError::NotADeadLetterQueue(NOT_A_DLQ.to_owned());
    assert_eq!(no_dlq, Err(StartError::Sqs(no_dlq_expected)));
}

#[tokio::test]
async fn every_refusal_of_a_look_is_distinguished() {
    use SqsError::*;
    type Expected = fn(String) -> SqsError;
    #[rustfmt::skip]
    let table: [(&str, &str, Codes, &str, Expected); 8] = [
        ("missing queue", S400, NO_SUCH_QUEUE, NO_QUEUE, QueueNotFound),
        ("missing queue or permission", S400, NO_SUCH_QUEUE, "The specified queue does not exist or you do not have access to it.", QueueNotFound),
        ("missing queue", S400, ("QueueDoesNotExist", "QueueDoesNotExist"), NO_QUEUE, QueueNotFound),
        ("missing queue", S404, NOT_FOUND, NO_SOURCE, QueueNotFound),
        ("not a DLQ", S400, INVALID, NOT_A_DLQ, NotADeadLetterQueue),
        ("permission missing", S403, ACCESS, DENIED, AccessDenied),
        ("throttled", S403, THROTTLED, "Rate exceeded", Throttled),
        ("throttled", S400, THROTTLING, "Rate exceeded", Throttled),
    ];
    for (situation, status, codes, message, expected) in table {
        let expected = expected(message.to_owned());
        for (how, bytes) in [
            ("with header", error(status, codes, message)),
            (
                "without header",
                error_without_header(status, codes.1, message),
            ),
        ] {
            let case = format!("{situation}, {codes:?}, {how}");
            assert_eq!(
                counts_answered(bytes.clone()).await,
                Err(expected.clone()),
                "counts: {case}"
            );
            assert_eq!(
                list_answered(bytes).await,
                Err(expected.clone()),
                "list: {case}"
            );
        }
    }
}

/// SQS has one wording, emulators have others.
#[tokio::test]
async fn refusal_of_a_second_task_is_task_active_in_every_wording() {
    for message in [
        ALREADY_RUNNING,
        "There is already an active message movement task for this queue",
        "A message move task is already in progress.",
        "A redrive is already running on this queue.",
        "An active task already exists for this source queue.",
    ] {
        for bytes in [
            error(S400, INVALID, message),
            error_without_header(S400, UNSUPPORTED.1, message),
            error(S400, ("Novelty", "com.amazonaws.sqs#Novelty"), message),
        ] {
            let got = start_answered(bytes).await;
            assert_eq!(
                got,
                Err(StartError::TaskActive { is_repeated: false }),
                "{message}"
            );
        }
    }
}

/// These messages have words of that refusal, but mean something else.
#[tokio::test]
async fn only_a_task_that_is_already_running_is_reported_as_active() {
    for message in [
        "The queue is not running.",
        "A queue of this name exists already.",
    ] {
        let got = start_answered(error(S400, INVALID, message)).await;
        let expected = SqsError::Service(format!("InvalidParameterValue: {message}"));
        assert_eq!(got, Err(expected.into()));
    }
    let denied = start_answered(error(S403, ACCESS, ALREADY_RUNNING)).await;
    let expected = SqsError::AccessDenied(ALREADY_RUNNING.to_owned());
    assert_eq!(denied, Err(expected.into()));
    let throttled = start_answered(error(S400, THROTTLED, ALREADY_RUNNING)).await;
    let expected = SqsError::Throttled(ALREADY_RUNNING.to_owned());
    assert_eq!(throttled, Err(expected.into()));
}

/// SQS takes a start, and its answer is lost. The SDK sends the start again, and SQS refuses it because of
/// its own task.
#[tokio::test(start_paused = true)]
async fn refusal_of_a_repeated_start_says_that_the_task_may_be_its_own() {
    let lost = answer("500 Internal Server Error", "", "");
    let refused = || error(S400, INVALID, ALREADY_RUNNING);
    for (before, is_repeated) in [
        (vec![], false),
        (vec![lost.clone()], true),
        (vec![lost.clone(), lost], true),
    ] {
        let attempts = before.len() + 1;
        let answers = Mutex::new(before.into_iter().chain([refused()]));
        let wire = Wire::answering(move |_| answers.lock().unwrap().next().unwrap());
        let config = wire.config().into_builder();
        let three = RetryConfig::standard().with_max_attempts(3);
        let config = config.retry_config(three).build();
        let got = clients(&config).start(&dlq(), &a_start(None, None)).await;
        assert_eq!(got, Err(StartError::TaskActive { is_repeated }));
        assert_eq!(wire.requests().len(), attempts);
    }
}

/// Nobody has recorded how SQS words it.
#[tokio::test]
async fn task_beyond_the_accounts_limit_is_recognized_in_any_words_about_a_limit_on_tasks() {
    let table = [
        (
            "LimitExceededException",
            "The limit of 100 active message move tasks is reached.",
        ),
        (
            "OverLimit",
            "There are already 100 active message movement tasks in this account.",
        ),
        ("OverLimit", "Another message move task cannot be started."),
        (
            "ServiceQuotaExceededException",
            "Quota for message move tasks per account reached.",
        ),
        ("TooManyTasks", "No further task is accepted."),
        (
            "InvalidParameterValue",
            "You have reached the maximum number of active message move tasks.",
        ),
        (
            "InvalidParameterValue",
            "There are 100 active tasks in this account already.",
        ),
        (
            "InvalidParameterValue",
            "Too many active message move tasks.",
        ),
        (
            "UnsupportedOperation",
            "Number of running DLQ redrives exceeds the allowed number.",
        ),
        (
            "OverLimit",
            "The maximum number of active message movements is reached.",
        ),
    ];
    for (code, message) in table {
        for status in [S400, S403] {
            let got = start_answered(error(status, (code, code), message)).await;
            let code = code.strip_prefix("AWS.").unwrap_or(code);
            let expected = StartError::AccountLimit(format!("{code}: {message}"));
            assert_eq!(got, Err(expected), "{code}: {message}");
        }
    }
}

/// These messages have words of that limit, but mean something else.
#[tokio::test]
async fn only_a_limit_on_tasks_is_reported_as_the_accounts_limit() {
    type IsIt = fn(&StartError) -> bool;
    let is_active: IsIt = |it| matches!(it, StartError::TaskActive { .. });
    let has_failed: IsIt = |it| matches!(it, StartError::Sqs(SqsError::Service(_)));
    let is_throttled: IsIt = |it| matches!(it, StartError::Sqs(SqsError::Throttled(_)));
    let is_denied: IsIt = |it| matches!(it, StartError::Sqs(SqsError::AccessDenied(_)));
    let pace = "The maximum of MaxNumberOfMessagesPerSecond for a message move task is 500.";
    let in_words = "A task moves 500 messages per second at the maximum.";
    let in_arn = "The queue arn:aws:sqs:us-east-1:123456789100:task-dlq cannot be read.";
    let too_many = "Rate exceeded: too many requests for message move tasks.";
    let denied = "no identity-based policy allows the task: limit by a boundary";
    for (codes, message, is_it) in [
        (INVALID, ALREADY_RUNNING, is_active),
        (INVALID, pace, has_failed),
        (INVALID, in_words, has_failed),
        (INVALID, in_arn, has_failed),
        (
            INVALID,
            "The queue has reached its limit of messages.",
            has_failed,
        ),
        (THROTTLING, too_many, is_throttled),
        (ACCESS, denied, is_denied),
    ] {
        let got = start_answered(error(S400, codes, message))
            .await
            .unwrap_err();
        assert!(is_it(&got), "{message}: {got:?}");
    }
}

#[tokio::test]
async fn refused_credentials_are_denied_access_and_keep_their_code() {
    for code in [
        "ExpiredToken",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ] {
        let message = "The security token is wrong.";
        let expected = SqsError::AccessDenied(format!("{code}: {message}"));
        for status in [S400, S403] {
            let got = counts_answered(error(status, (code, code), message)).await;
            assert_eq!(got, Err(expected.clone()), "{code}, {status}");
        }
    }
}

/// SQS's own codes for a missing or throttled key, from its API model.
#[tokio::test]
async fn refusals_of_kms_are_distinguished() {
    let (denied, throttled) = (
        "The ciphertext refers to a key you may not use.",
        "Rate exceeded",
    );
    for (codes, message, expected) in [
        (
            (
                "KMS.AccessDeniedException",
                "com.amazonaws.sqs#KmsAccessDenied",
            ),
            denied,
            SqsError::AccessDenied(denied.to_owned()),
        ),
        (
            ("KMS.ThrottlingException", "com.amazonaws.sqs#KmsThrottled"),
            throttled,
            SqsError::Throttled(throttled.to_owned()),
        ),
    ] {
        let got = start_answered(error_without_header(S400, codes.1, message)).await;
        assert_eq!(
            got,
            Err(expected.clone().into()),
            "{} and no header",
            codes.1
        );
        let got = start_answered(error(S400, codes, message)).await;
        assert_eq!(got, Err(expected.into()), "{codes:?}");
    }
}

#[tokio::test]
async fn unknown_error_keeps_its_code_and_message() {
    let code = ("OverLimit", "com.amazonaws.sqs#OverLimit");
    let text = "OverLimit: Too many queues.";
    let expected = SqsError::Service(text.to_owned());
    let bytes = error(S403, code, "Too many queues.");
    assert_eq!(start_answered(bytes).await, Err(expected.into()));

    let bytes = json_answer(S400, "", &json!({"__type": "com.amazonaws.sqs#OverLimit"}));
    let expected = SqsError::Service("OverLimit: SQS gave no reason".to_owned());
    assert_eq!(counts_answered(bytes).await, Err(expected), "no message");

    let bytes = json_answer(
        S400,
        "",
        &json!({"__type": "OverLimit", "Message": "capital"}),
    );
    let expected = SqsError::Service("OverLimit: capital".to_owned());
    assert_eq!(
        counts_answered(bytes).await,
        Err(expected),
        "`Message` in capitals"
    );
}

#[tokio::test]
async fn canceling_what_no_longer_runs_is_not_a_failure() {
    let unknown = "Task does not exist.";
    let malformed = "Value for parameter TaskHandle is invalid.";
    for (situation, status, codes, message) in [
        ("unknown task", S404, NOT_FOUND, unknown),
        ("malformed handle", S400, INVALID, malformed),
        (
            "no longer running",
            S400,
            UNSUPPORTED,
            "The task is not running.",
        ),
        (
            "something new",
            S400,
            ("Novelty", "com.amazonaws.sqs#Novelty"),
            "No.",
        ),
    ] {
        for bytes in [
            error(status, codes, message),
            error_without_header(status, codes.1, message),
        ] {
            let got = cancel_answered(bytes).await;
            assert!(
                matches!(&got, Err(CancelError::NothingToCancel(why)) if why.contains(message)),
                "{situation}: {got:?}"
            );
        }
    }
}

#[tokio::test]
async fn canceling_that_could_not_be_tried_is_a_failure() {
    let kind = |fault: &CancelError| match fault {
        CancelError::Sqs(SqsError::AccessDenied(_)) => "denied",
        CancelError::Sqs(SqsError::Throttled(_)) => "throttled",
        CancelError::Sqs(SqsError::Service(_)) => "failed",
        CancelError::Sqs(SqsError::Unreachable(_)) => "unreachable",
        _ => "other",
    };
    for (situation, bytes, expected) in [
        ("permission missing", error(S403, ACCESS, DENIED), "denied"),
        (
            "throttled",
            error(S400, THROTTLING, "Rate exceeded"),
            "throttled",
        ),
        (
            "throttled",
            error(S403, THROTTLED, "Rate exceeded"),
            "throttled",
        ),
        (
            "service error",
            error(
                "500 Internal Server Error",
                ("InternalFailure", "InternalFailure"),
                "Sorry.",
            ),
            "failed",
        ),
        ("no answer", Vec::new(), "unreachable"),
    ] {
        let got = cancel_answered(bytes).await.unwrap_err();
        assert_eq!(kind(&got), expected, "{situation}: {got:?}");
    }
}

/// If SQS refuses the credentials, the task keeps running. The outcome must not be "nothing to
/// cancel".
#[tokio::test]
async fn canceling_with_refused_credentials_is_a_failure() {
    for code in [
        "ExpiredToken",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "InvalidSecurity",
    ] {
        let got = cancel_answered(error(S403, (code, code), "The security token is wrong.")).await;
        assert!(matches!(got, Err(CancelError::Sqs(_))), "{code}: {got:?}");
    }
}

/// Checks that an error without a code is of this kind, and that it is worded for an operator, not
/// for a Rust programmer.
fn check_readable(case: &str, expected: &str, fault: &SqsError) -> Result<(), String> {
    let kind = match fault {
        SqsError::Service(_) => "failed",
        SqsError::Unreachable(_) => "unreachable",
        SqsError::BadAnswer(_) => "bad answer",
        _ => "other",
    };
    if kind != expected {
        return Err(format!("{case}: expected {expected}, got {fault:?}"));
    }
    let text = fault.to_string();
    if !(10..500).contains(&text.len()) || text.contains(char::is_control) {
        return Err(format!("{case}: not a line of text: {text:?}"));
    }
    let rust = [
        "::",
        "Unhandled",
        "Error {",
        "Error(",
        "hyper",
        "SdkError",
        "Os {",
        "Some(",
        "kind:",
    ];
    match rust.iter().find(|rust| text.contains(**rust)) {
        Some(rust) => Err(format!("{case}: `{rust}` in: {text}")),
        None => Ok(()),
    }
}

#[track_caller]
fn assert_readable(case: &str, expected: &str, fault: &SqsError) {
    check_readable(case, expected, fault).unwrap();
}

#[tokio::test]
async fn unreadable_answer_shows_whether_sqs_failed_or_was_unreachable() {
    let html = "<html><body><h1>500 Internal Server Error</h1></body></html>";
    let cut = |status: &str| {
        let json = "content-type: application/x-amz-json-1.0\r\ncontent-length: 500\r\n";
        format!("HTTP/1.1 {status}\r\n{json}connection: close\r\n\r\n{{\"Attributes\":")
            .into_bytes()
    };
    let mut wrong = Vec::new();
    for (case, bytes, expected) in [
        (
            "html, 500",
            answer(
                "500 Internal Server Error",
                "content-type: text/html\r\n",
                html,
            ),
            "failed",
        ),
        (
            "html, 200",
            answer("200 OK", "content-type: text/html\r\n", html),
            "failed",
        ),
        (
            "empty, 503",
            answer("503 Service Unavailable", "", ""),
            "failed",
        ),
        ("empty, 403", answer(S403, "", ""), "failed"),
        (
            "JSON without a code",
            json_answer(S400, "", &json!({})),
            "failed",
        ),
        (
            "JSON of another type",
            ok(&json!({"Attributes": "many", "Results": 7, "TaskHandle": {}})),
            "failed",
        ),
        ("body cut off, 200", cut("200 OK"), "failed"),
        ("body cut off, 400", cut(S400), "failed"),
        ("closed without an answer", Vec::new(), "unreachable"),
        (
            "no HTTP",
            b"ERR unknown command\r\n\r\n".to_vec(),
            "unreachable",
        ),
    ] {
        let counts = counts_answered(bytes.clone()).await.unwrap_err();
        let list = list_answered(bytes.clone()).await.unwrap_err();
        let start = match start_answered(bytes).await {
            Err(StartError::Sqs(fault)) => fault,
            other => panic!("{case}: {other:?}"),
        };
        for fault in [counts, list, start] {
            wrong.extend(check_readable(case, expected, &fault).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn refused_connection_means_that_sqs_is_unreachable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fault = clients(&wire::config(&endpoint, wire::http_over_tcp()))
        .depth(&dlq())
        .await
        .unwrap_err();
    assert_readable("refused", "unreachable", &fault);
    let text = fault.to_string();
    assert!(text.to_lowercase().contains("refused"), "{text}");
    assert!(
        text.ends_with("; check the function's network, and in a VPC the endpoint for SQS (`sqs`)"),
        "{text}"
    );
}

#[tokio::test]
async fn queue_of_a_region_without_a_client_is_an_error_that_names_it() {
    let elsewhere: QueueArn = "arn:aws:sqs:eu-west-1:123456789012:orders-dlq"
        .parse()
        .unwrap();
    let clients = clients(&answering(Vec::new()).config());
    let fault = clients.depth(&elsewhere).await.unwrap_err();
    assert_readable("no client", "failed", &fault);
    assert!(fault.to_string().contains(elsewhere.as_str()), "{fault}");
}

// Requests.

#[tokio::test]
async fn counts_and_retention_take_one_call_by_a_path_style_url() {
    let attributes = json!({
        "ApproximateNumberOfMessages": "50",
        "ApproximateNumberOfMessagesNotVisible": "3",
        "MessageRetentionPeriod": "345600",
    });
    let wire = answering(ok(&json!({"Attributes": attributes})));
    let counts = clients(&wire.config()).depth(&dlq()).await;
    let depth = Depth {
        visible: 50,
        in_flight: 3,
    };
    let retention = Duration::from_secs(345_600);
    assert_eq!(counts, Ok((depth, Some(retention))));
    let request = wire.only_request();
    assert_eq!(request.target, "AmazonSQS.GetQueueAttributes");
    let expected = json!({
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders-dlq",
        "AttributeNames": [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "MessageRetentionPeriod",
        ],
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn counts_without_a_retention_that_can_be_read_are_counts() {
    for retention in [None, Some("long"), Some("-1")] {
        let mut attributes = json!({
            "ApproximateNumberOfMessages": "50",
            "ApproximateNumberOfMessagesNotVisible": "3",
        });
        if let Some(retention) = retention {
            attributes["MessageRetentionPeriod"] = json!(retention);
        }
        let wire = answering(ok(&json!({"Attributes": attributes})));
        let (depth, retention) = clients(&wire.config()).depth(&dlq()).await.unwrap();
        assert_eq!((depth.total(), retention), (53, None));
    }
}

#[tokio::test]
async fn list_asks_for_ten_tasks_of_the_dlq() {
    let wire = answering(ok(&json!({"Results": []})));
    assert_eq!(
        clients(&wire.config()).list_tasks(&dlq()).await,
        Ok(Vec::new())
    );
    let request = wire.only_request();
    assert_eq!(request.target, "AmazonSQS.ListMessageMoveTasks");
    let expected = json!({"SourceArn": dlq().as_str(), "MaxResults": 10});
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn start_sends_destination_and_rate_only_if_they_are_set() {
    let destination = Some(ORDERS.parse::<QueueArn>().unwrap());
    let source = dlq();
    let source = source.as_str();
    for (case, destination, rate, expected) in [
        ("neither", None, None, json!({"SourceArn": source})),
        (
            "rate",
            None,
            Rate::new(50),
            json!({"SourceArn": source, "MaxNumberOfMessagesPerSecond": 50}),
        ),
        (
            "destination",
            destination.clone(),
            None,
            json!({"SourceArn": source, "DestinationArn": ORDERS}),
        ),
        (
            "both",
            destination,
            Rate::new(500),
            json!({
                "SourceArn": source,
                "DestinationArn": ORDERS,
                "MaxNumberOfMessagesPerSecond": 500,
            }),
        ),
    ] {
        let wire = answering(ok(&json!({"TaskHandle": "handle-1"})));
        let start = a_start(destination, rate);
        let handle = clients(&wire.config()).start(&dlq(), &start).await;
        assert_eq!(handle, Ok(Some("handle-1".to_owned())), "{case}");
        let request = wire.only_request();
        assert_eq!(request.target, "AmazonSQS.StartMessageMoveTask", "{case}");
        assert_eq!(request.body, expected, "{case}");
    }
}

#[tokio::test]
async fn cancel_sends_the_handle_and_returns_how_many_messages_were_moved() {
    let answer = ok(&json!({"ApproximateNumberOfMessagesMoved": 7}));
    let wire = answering(answer);
    assert_eq!(
        clients(&wire.config()).cancel(&dlq(), "handle-1").await,
        Ok(7)
    );
    let request = wire.only_request();
    assert_eq!(request.target, "AmazonSQS.CancelMessageMoveTask");
    assert_eq!(request.body, json!({"TaskHandle": "handle-1"}));
}

#[tokio::test]
async fn source_queues_are_asked_for_by_url_one_more_than_are_read() {
    let wire = answering(ok(&json!({"queueUrls": []})));
    let sources = clients(&wire.config()).source_queues(&dlq()).await;
    assert_eq!(sources, Ok(Vec::new()));
    let request = wire.only_request();
    assert_eq!(request.target, "AmazonSQS.ListDeadLetterSourceQueues");
    let expected = json!({
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders-dlq",
        "MaxResults": 11,
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn facts_ask_for_exactly_three_attributes() {
    let wire = answering(facts_of_orders(json!({})));
    let facts = clients(&wire.config()).facts(&orders()).await;
    let expected = QueueFacts {
        visibility_timeout: Duration::from_secs(30),
        delay: Duration::from_secs(5),
        redrive_policy: Some(RedrivePolicy {
            dlq_arn: dlq().to_string(),
            max_receive_count: 5,
        }),
    };
    assert_eq!(facts, Ok(expected));
    let request = wire.only_request();
    assert_eq!(request.target, "AmazonSQS.GetQueueAttributes");
    let expected = json!({
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/orders",
        "AttributeNames": [
            "VisibilityTimeout",
            "DelaySeconds",
            "RedrivePolicy",
        ],
    });
    assert_eq!(request.body, expected);
}

// Answers.

#[tokio::test]
async fn count_that_is_missing_or_no_number_is_an_error_that_names_it() {
    let names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
    ];
    for name in names {
        for value in [
            None,
            Some(""),
            Some("many"),
            Some("-1"),
            Some("1.5"),
            Some("18446744073709551616"),
        ] {
            let mut attributes = json!({names[0]: "1", names[1]: "1"});
            match value {
                Some(value) => attributes[name] = json!(value),
                None => _ = attributes.as_object_mut().unwrap().remove(name),
            }
            let case = format!("{name} = {value:?}");
            let got = counts_answered(ok(&json!({"Attributes": attributes}))).await;
            let fault = got.expect_err(&case);
            assert_readable(&case, "bad answer", &fault);
            assert!(
                fault.to_string().contains(&format!("`{name}`"))
                    && fault.to_string().contains(dlq().as_str()),
                "{case}: {fault}"
            );
        }
    }
    for body in [
        json!({}),
        json!({"Attributes": {}}),
        json!({"Attributes": null}),
    ] {
        let fault = counts_answered(ok(&body))
            .await
            .expect_err(&body.to_string());
        assert_readable(&body.to_string(), "bad answer", &fault);
    }
}

#[tokio::test]
async fn largest_counts_are_read() {
    let attributes = json!({
        "ApproximateNumberOfMessages": "18446744073709551615",
        "ApproximateNumberOfMessagesNotVisible": "0",
    });
    let got = counts_answered(ok(&json!({"Attributes": attributes}))).await;
    assert_eq!(
        got,
        Ok(Depth {
            visible: u64::MAX,
            in_flight: 0
        })
    );
}

#[tokio::test]
async fn tasks_are_read_as_sqs_shows_them() {
    let at = |millis| Some(UNIX_EPOCH + Duration::from_millis(millis));
    let bare = MoveTask {
        status: TaskStatus::Completed,
        handle: None,
        started_at: None,
        moved: 0,
        to_move: None,
        destination_arn: None,
        max_messages_per_second: None,
        failure_reason: None,
    };
    let unknown = |text: &str| TaskStatus::Unknown(text.to_owned());
    #[rustfmt::skip]
    let table = [
        (
            "running",
            json!({
                "TaskHandle": "handle-1", "Status": "RUNNING", "SourceArn": dlq().as_str(), "DestinationArn": ORDERS,
                "MaxNumberOfMessagesPerSecond": 50, "ApproximateNumberOfMessagesMoved": 20,
                "ApproximateNumberOfMessagesToMove": 50, "StartedTimestamp": 1_791_193_351_826_i64,
            }),
            MoveTask {
                status: TaskStatus::Running, handle: Some("handle-1".into()), started_at: at(1_791_193_351_826),
                moved: 20, to_move: Some(50), destination_arn: Some(ORDERS.into()),
                max_messages_per_second: Some(50), failure_reason: None,
            },
        ),
        (
            "failed",
            json!({"Status": "FAILED", "FailureReason": "AccessDenied", "StartedTimestamp": 1}),
            MoveTask { status: TaskStatus::Failed, failure_reason: Some("AccessDenied".into()), started_at: at(1), ..bare.clone() },
        ),
        ("cancelling", json!({"Status": "CANCELLING"}), MoveTask { status: TaskStatus::Cancelling, ..bare.clone() }),
        ("cancelled", json!({"Status": "CANCELLED"}), MoveTask { status: TaskStatus::Cancelled, ..bare.clone() }),
        ("unknown status", json!({"Status": "PONDERING"}), MoveTask { status: unknown("PONDERING"), ..bare.clone() }),
        ("missing status", json!({}), MoveTask { status: unknown(""), ..bare.clone() }),
        ("status null", json!({"Status": null}), MoveTask { status: unknown(""), ..bare.clone() }),
        ("started at zero", json!({"Status": "COMPLETED", "StartedTimestamp": 0}), bare.clone()),
        ("started before 1970", json!({"Status": "COMPLETED", "StartedTimestamp": -1}), bare.clone()),
        ("started long before", json!({"Status": "COMPLETED", "StartedTimestamp": i64::MIN}), bare.clone()),
        (
            "started far from now",
            json!({"Status": "COMPLETED", "StartedTimestamp": i64::MAX}),
            MoveTask { started_at: at(i64::MAX as u64), ..bare.clone() },
        ),
        ("no counts", json!({"Status": "COMPLETED"}), bare.clone()),
        ("negative moved", json!({"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": -5}), bare.clone()),
        ("negative to move", json!({"Status": "COMPLETED", "ApproximateNumberOfMessagesToMove": -5}), bare.clone()),
        (
            "largest counts",
            json!({"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": i64::MAX, "ApproximateNumberOfMessagesToMove": i64::MAX}),
            MoveTask { moved: i64::MAX as u64, to_move: Some(i64::MAX as u64), ..bare.clone() },
        ),
        (
            "nothing to move",
            json!({"Status": "COMPLETED", "ApproximateNumberOfMessagesToMove": 0}),
            MoveTask { to_move: Some(0), ..bare.clone() },
        ),
        (
            "the sample pace",
            json!({"Status": "CANCELLED", "MaxNumberOfMessagesPerSecond": 1}),
            MoveTask { status: TaskStatus::Cancelled, max_messages_per_second: Some(1), ..bare.clone() },
        ),
        ("a negative pace", json!({"Status": "COMPLETED", "MaxNumberOfMessagesPerSecond": -1}), bare.clone()),
        (
            "the fastest pace",
            json!({"Status": "COMPLETED", "MaxNumberOfMessagesPerSecond": i32::MAX}),
            MoveTask { max_messages_per_second: Some(i32::MAX as u32), ..bare },
        ),
    ];
    for (case, wire, expected) in &table {
        let got = list_answered(ok(&json!({"Results": [wire]}))).await;
        assert_eq!(got, Ok(vec![expected.clone()]), "{case}");
    }
    // Several tasks keep the order in which SQS lists them.
    let wire: Vec<_> = table.iter().map(|(_, wire, _)| wire).collect();
    let expected: Vec<_> = table.iter().map(|row| row.2.clone()).collect();
    assert_eq!(
        list_answered(ok(&json!({"Results": wire}))).await,
        Ok(expected)
    );
}

#[tokio::test]
async fn start_without_a_handle_is_a_start() {
    for body in [
        json!({}),
        json!({"TaskHandle": null}),
        json!({"TaskHandle": ""}),
    ] {
        assert_eq!(start_answered(ok(&body)).await, Ok(None), "{body}");
    }
}

#[tokio::test]
async fn cancel_without_a_count_moved_nothing_that_sqs_knows_of() {
    for body in [
        json!({}),
        json!({"ApproximateNumberOfMessagesMoved": 0}),
        json!({"ApproximateNumberOfMessagesMoved": -1}),
    ] {
        assert_eq!(cancel_answered(ok(&body)).await, Ok(0), "{body}");
    }
}

// Fall time: the source queues and their facts.

fn orders() -> QueueArn {
    ORDERS.parse().unwrap()
}

/// The attributes of the source queue `orders` as SQS returns them, with these changes. Null leaves
/// an attribute out.
fn facts_of_orders(changes: Value) -> Vec<u8> {
    let redrive_policy = json!({"deadLetterTargetArn": dlq().as_str(), "maxReceiveCount": 5});
    let mut attributes = json!({
        "VisibilityTimeout": "30",
        "DelaySeconds": "5",
        "RedrivePolicy": redrive_policy.to_string(),
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => _ = attributes.as_object_mut().unwrap().remove(name),
            value => attributes[name] = value.clone(),
        }
    }
    ok(&json!({"Attributes": attributes}))
}

async fn sources_answered(bytes: Vec<u8>) -> Result<Vec<QueueArn>, SqsError> {
    let wire = answering(bytes);
    clients(&wire.config()).source_queues(&dlq()).await
}

async fn facts_answered(bytes: Vec<u8>) -> Result<QueueFacts, SqsError> {
    let wire = answering(bytes);
    clients(&wire.config()).facts(&orders()).await
}

#[tokio::test]
async fn source_queues_are_read_from_the_urls_of_aws_and_of_emulators() {
    for url in [
        "https://sqs.us-east-1.amazonaws.com/123456789012/orders",
        "https://queue.amazonaws.com/123456789012/orders",
        "https://sqs-fips.us-east-1.amazonaws.com/123456789012/orders",
        "http://sqs.us-east-1.localhost.localstack.cloud:4566/123456789012/orders",
        "http://localhost:4566/queue/us-east-1/123456789012/orders",
        "http://127.0.0.1:9324/123456789012/orders",
    ] {
        let got = sources_answered(ok(&json!({"queueUrls": [url]}))).await;
        assert_eq!(got, Ok(vec![orders()]), "{url}");
    }
    let fifo = "https://sqs.us-east-1.amazonaws.com/999999999999/orders.fifo";
    let got = sources_answered(ok(&json!({"queueUrls": [fifo]}))).await;
    let expected = "arn:aws:sqs:us-east-1:999999999999:orders.fifo";
    assert_eq!(got, Ok(vec![expected.parse().unwrap()]));
    let empty = sources_answered(ok(&json!({}))).await;
    assert_eq!(empty, Ok(Vec::new()), "no list");
}

#[tokio::test]
async fn url_of_a_source_queue_that_cannot_be_read_is_an_error_that_shows_it() {
    for url in [
        "",
        "orders",
        "https://sqs.us-east-1.amazonaws.com/123456789012/",
        "https://sqs.us-east-1.amazonaws.com/1234/orders",
        "http://localhost:9324/queue/orders",
        "https://sqs.us-east-1.amazonaws.com/123456789012/or ders",
    ] {
        let good = "https://sqs.us-east-1.amazonaws.com/123456789012/orders";
        let got = sources_answered(ok(&json!({"queueUrls": [good, url]}))).await;
        let fault = got.expect_err(url);
        assert_readable(url, "bad answer", &fault);
        assert!(fault.to_string().contains(&format!("`{url}`")), "{fault}");
    }
}

#[tokio::test]
async fn refused_source_facts_are_distinguished() {
    let denied = SqsError::AccessDenied(DENIED.to_owned());
    let missing = SqsError::QueueNotFound(NO_QUEUE.to_owned());
    let throttled = SqsError::Throttled("Rate exceeded".to_owned());
    for (bytes, expected) in [
        (error(S403, ACCESS, DENIED), denied),
        (error(S400, NO_SUCH_QUEUE, NO_QUEUE), missing),
        (error(S400, THROTTLED, "Rate exceeded"), throttled),
    ] {
        let sources = sources_answered(bytes.clone()).await;
        assert_eq!(sources, Err(expected.clone()), "sources");
        assert_eq!(facts_answered(bytes).await, Err(expected), "facts");
    }
}

#[tokio::test]
async fn receive_count_may_be_a_number_or_a_text() {
    for (count, expected) in [
        (json!(3), 3),
        (json!("3"), 3),
        (json!(1000), 1000),
        (json!("1000"), 1000),
    ] {
        let policy = json!({"deadLetterTargetArn": dlq().as_str(), "maxReceiveCount": count});
        let facts = facts_answered(facts_of_orders(
            json!({"RedrivePolicy": policy.to_string()}),
        ));
        let policy = facts.await.unwrap().redrive_policy.unwrap();
        assert_eq!(policy.max_receive_count, expected, "{count}");
    }
}

#[tokio::test]
async fn redrive_policy_that_cannot_be_read_is_an_error_that_names_queue_and_text() {
    let with_count = |count: &str| {
        let dlq = dlq();
        format!("{{\"deadLetterTargetArn\":\"{dlq}\",\"maxReceiveCount\":{count}}}")
    };
    for text in [
        "".to_owned(),
        "redrive".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        r#"{"maxReceiveCount":5}"#.to_owned(),
        r#"{"deadLetterTargetArn":7,"maxReceiveCount":5}"#.to_owned(),
        with_count("-1"),
        with_count("1.5"),
        with_count("null"),
        with_count("\"five\""),
        with_count("\"\""),
        with_count("4294967296"),
    ] {
        let got = facts_answered(facts_of_orders(json!({"RedrivePolicy": text}))).await;
        let fault = got.expect_err(&text);
        assert_readable(&text, "bad answer", &fault);
        let said = fault.to_string();
        let start: String = text.chars().take(50).collect();
        assert!(said.contains(ORDERS) && said.contains(&start), "{said}");
    }
}

#[tokio::test]
async fn queue_without_a_redrive_policy_or_a_delay_has_none() {
    let changes = json!({"RedrivePolicy": null, "DelaySeconds": null});
    let facts = facts_answered(facts_of_orders(changes)).await.unwrap();
    assert_eq!(facts.redrive_policy, None);
    assert_eq!(facts.delay, Duration::ZERO);
}

#[tokio::test]
async fn visibility_timeout_that_is_missing_or_no_number_is_an_error_that_names_the_queue() {
    for value in [json!(null), json!(""), json!("soon"), json!("-1")] {
        let got = facts_answered(facts_of_orders(json!({"VisibilityTimeout": value}))).await;
        let fault = got.expect_err(&value.to_string());
        assert_readable(&value.to_string(), "bad answer", &fault);
        let said = fault.to_string();
        assert!(
            said.contains("`VisibilityTimeout`") && said.contains(ORDERS),
            "{said}"
        );
    }
}

/// The fall time, from a list of the sources with these URLs, and from these answers about each
/// queue by its name.
async fn fall_time_of(
    urls: Vec<String>,
    facts: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
) -> (Result<FallTime, SqsError>, usize) {
    let wire = Wire::answering(move |request| match request.target.as_str() {
        "AmazonSQS.ListDeadLetterSourceQueues" => ok(&json!({"queueUrls": urls})),
        "AmazonSQS.GetQueueAttributes" => {
            let url = request.body["QueueUrl"].as_str().unwrap();
            facts(url.rsplit('/').next().unwrap())
        }
        other => panic!("{other}"),
    });
    let fall_time = read_fall_time(&clients(&wire.config()), &dlq(), None).await;
    (fall_time, wire.requests().len())
}

fn url_of(account: &str, name: &str) -> String {
    format!("https://sqs.us-east-1.amazonaws.com/{account}/{name}")
}

/// The facts about a DLQ, and these about any source.
fn of_source(changes: Value) -> impl Fn(&str) -> Vec<u8> + Send + Sync + 'static {
    move |name| match name {
        "orders-dlq" => panic!("the settings of the DLQ do not matter"),
        _ => facts_of_orders(changes.clone()),
    }
}

#[tokio::test]
async fn fall_time_is_what_all_receives_take_and_the_delay() {
    let urls = vec![url_of("123456789012", "orders")];
    let (fall_time, calls) = fall_time_of(urls, of_source(json!({}))).await;
    let expected = Fall {
        time: Duration::from_secs(5 * (30 + 20) + 5),
        consumed: vec![orders()],
    };
    assert_eq!(fall_time, Ok(FallTime::Known(expected)));
    assert_eq!(calls, 2, "one source takes two calls");
}

#[tokio::test]
async fn fall_time_is_the_longest_over_the_source_queues() {
    let urls = ["orders", "slow"]
        .map(|name| url_of("123456789012", name))
        .to_vec();
    let (fall_time, calls) = fall_time_of(urls, |name| match name {
        "slow" => facts_of_orders(json!({"VisibilityTimeout": "60"})),
        _ => facts_of_orders(json!({})),
    })
    .await;
    let Ok(FallTime::Known(fall)) = fall_time else {
        panic!("{fall_time:?}");
    };
    assert_eq!(fall.time, Duration::from_secs(5 * (60 + 20) + 5));
    assert_eq!(fall.consumed.len(), 2);
    assert_eq!(calls, 3);
}

#[tokio::test]
async fn twelve_hours_by_a_thousand_receives_are_long() {
    let policy = json!({"deadLetterTargetArn": dlq().as_str(), "maxReceiveCount": 1000});
    let changes = json!({"VisibilityTimeout": "43200", "RedrivePolicy": policy.to_string()});
    let urls = vec![url_of("123456789012", "orders")];
    let (fall_time, _) = fall_time_of(urls, of_source(changes)).await;
    let expected = Duration::from_secs(1000 * (43_200 + 20) + 5);
    assert_eq!(fall_time, Ok(FallTime::Long(expected)));
}

#[tokio::test]
async fn fall_time_that_cannot_be_read_is_unknown_for_a_reason_that_names_the_queue() {
    type Facts = Box<dyn Fn(&str) -> Vec<u8> + Send + Sync>;
    let source = |changes: Value| -> Facts { Box::new(of_source(changes)) };
    let deleted: Facts = Box::new(|name| match name {
        "orders" => error(S400, NO_SUCH_QUEUE, NO_QUEUE),
        _ => facts_of_orders(json!({})),
    });
    let other_dlq = json!({"deadLetterTargetArn": ORDERS, "maxReceiveCount": 5});
    let text_count = json!({"deadLetterTargetArn": dlq().as_str(), "maxReceiveCount": "often"});
    for (case, account, facts, why) in [
        (
            "another account",
            "999999999999",
            source(json!({})),
            "another account",
        ),
        (
            "not JSON",
            "123456789012",
            source(json!({"RedrivePolicy": "5"})),
            "redrive policy",
        ),
        (
            "no number of receives",
            "123456789012",
            source(json!({"RedrivePolicy": text_count.to_string()})),
            "redrive policy",
        ),
        (
            "another DLQ by now",
            "123456789012",
            source(json!({"RedrivePolicy": other_dlq.to_string()})),
            "do not come to this DLQ",
        ),
        (
            "no DLQ any more",
            "123456789012",
            source(json!({"RedrivePolicy": null})),
            "do not come to this DLQ",
        ),
        (
            "no visibility timeout",
            "123456789012",
            source(json!({"VisibilityTimeout": null})),
            "`VisibilityTimeout`",
        ),
        ("just deleted", "123456789012", deleted, "queue not found"),
    ] {
        let (fall_time, _) = fall_time_of(vec![url_of(account, "orders")], facts).await;
        let Ok(FallTime::Unknown(said)) = fall_time else {
            panic!("{case}: {fall_time:?}");
        };
        let queue = format!("`arn:aws:sqs:us-east-1:{account}:orders`");
        assert!(
            said.contains(why) && said.contains(&queue),
            "{case}: {said}"
        );
    }
}

#[tokio::test]
async fn fall_time_of_eleven_sources_or_none_is_unknown() {
    let sources = |n: usize| {
        let urls = (0..n).map(|n| url_of("123456789012", &format!("orders-{n}")));
        urls.collect::<Vec<_>>()
    };
    let (ten, _) = fall_time_of(sources(10), of_source(json!({}))).await;
    assert!(matches!(ten, Ok(FallTime::Known(_))), "{ten:?}");
    for (n, why) in [(11, "more than 10 source queues"), (0, "no queue uses")] {
        let (fall_time, calls) = fall_time_of(sources(n), of_source(json!({}))).await;
        let Ok(FallTime::Unknown(said)) = fall_time else {
            panic!("{n}: {fall_time:?}");
        };
        assert_eq!(calls, 1, "{n}: no facts are read");
        assert!(said.contains(why), "{n}: {said}");
    }
}

#[tokio::test]
async fn fall_time_of_a_fifo_queue_is_unknown_without_a_call() {
    let wire = answering(error(S403, ACCESS, DENIED));
    let dlq = "arn:aws:sqs:us-east-1:123456789012:orders-dlq.fifo"
        .parse()
        .unwrap();
    let fall_time = read_fall_time(&clients(&wire.config()), &dlq, None).await;
    assert!(
        matches!(fall_time, Ok(FallTime::Unknown(_))),
        "{fall_time:?}"
    );
    assert_eq!(wire.requests().len(), 0);
}

#[tokio::test]
async fn fall_time_to_a_destination_is_that_of_the_destination_if_it_falls_back_here() {
    let other_dlq = json!({"deadLetterTargetArn": ORDERS, "maxReceiveCount": 5});
    for (changes, falls_back) in [
        (json!({}), true),
        (json!({"RedrivePolicy": other_dlq.to_string()}), false),
        (json!({"RedrivePolicy": null}), false),
    ] {
        let facts = of_source(changes);
        let wire = Wire::answering(move |request| {
            assert_eq!(request.target, "AmazonSQS.GetQueueAttributes");
            let url = request.body["QueueUrl"].as_str().unwrap();
            facts(url.rsplit('/').next().unwrap())
        });
        let destination = orders();
        let clients = clients(&wire.config());
        let fall_time = read_fall_time(&clients, &dlq(), Some(&destination)).await;
        match fall_time.unwrap() {
            FallTime::Known(fall) if falls_back => assert_eq!(fall.consumed, [destination]),
            FallTime::Unknown(why) if !falls_back => assert!(why.contains(ORDERS), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn throttled_source_facts_are_an_error_so_that_they_are_tried_again() {
    let urls = vec![url_of("123456789012", "orders")];
    let (fall_time, _) = fall_time_of(urls, |name| match name {
        "orders" => error(S400, THROTTLED, "Rate exceeded"),
        _ => facts_of_orders(json!({})),
    })
    .await;
    assert_eq!(
        fall_time,
        Err(SqsError::Throttled("Rate exceeded".to_owned()))
    );
}

#[tokio::test]
async fn list_without_results_is_an_empty_one() {
    for body in [json!({}), json!({"Results": null}), json!({"Results": []})] {
        assert_eq!(list_answered(ok(&body)).await, Ok(Vec::new()), "{body}");
    }
}

#[tokio::test]
async fn queue_of_another_region_is_asked_for_in_its_region() {
    let attributes = json!({"Attributes": {
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
    }});
    for region in [REGION, "ap-south-1"] {
        let wire = answering(ok(&attributes));
        let queue = format!("arn:aws:sqs:{region}:123456789012:orders-dlq");
        let counts = clients(&wire.config()).depth(&queue.parse().unwrap()).await;
        assert_eq!(counts, Ok((Depth::default(), None)));
        let request = wire.only_request();
        let scope = format!("/{region}/sqs/aws4_request");
        assert!(
            request.authorization.contains(&scope),
            "{}",
            request.authorization
        );
        let url = format!("https://sqs.{region}.amazonaws.com/123456789012/orders-dlq");
        assert_eq!(request.body["QueueUrl"], url);
    }
}
