use super::*;
use crate::wire::Wire;
use serde_json::{Value, json};

const KEY: &str = "auto-redrive";
const DENIED: &str = "User: arn:aws:sts::123456789012:assumed-role/redrive/redrive is not authorized to perform: tag:GetResources because no identity-based policy allows the tag:GetResources action";

// The real client, answered with recorded bytes.

/// Answers each request with what this function returns for its body.
struct Server(Wire);

impl Server {
    fn answering(answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Wire::answering(move |request| {
            let operation = "ResourceGroupsTaggingAPI_20170126.GetResources";
            assert_eq!(request.target, operation);
            answer(&request.body)
        }))
    }

    fn client(&self) -> TaggingClient {
        TaggingClient::new(&self.0.config())
    }

    /// The bodies of the requests so far.
    fn requests(&self) -> Vec<Value> {
        let requests = self.0.requests().into_iter();
        requests.map(|request| request.body).collect()
    }
}

fn answer(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {length}\r\nconnection: close\r\nx-amzn-requestid: 5f0c1bb8-0000-5000-8000-000000000000\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A page of resources; the token of the last one is empty.
fn page(resources: &[Value], token: &str) -> Vec<u8> {
    let body = json!({"ResourceTagMappingList": resources, "PaginationToken": token});
    answer("200 OK", &body)
}

fn error(code: &str, message: &str) -> Vec<u8> {
    answer(
        "400 Bad Request",
        &json!({"__type": code, "Message": message}),
    )
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:123456789012:{name}")
}

fn resource(arn: &str, tags: &[(&str, &str)]) -> Value {
    let tags: Vec<_> = tags
        .iter()
        .map(|(key, value)| json!({"Key": key, "Value": value}))
        .collect();
    json!({"ResourceARN": arn, "Tags": tags})
}

fn queue(name: &str, tags: &[(&str, &str)]) -> Value {
    resource(&arn(name), tags)
}

/// The enroll tag, with this value or any.
fn tag(value: Option<&str>) -> EnrollTag {
    EnrollTag {
        key: KEY.to_owned(),
        value: value.map(str::to_owned),
    }
}

fn tagged_queue_of(name: &str, settings: &[(&str, &str)]) -> TaggedQueue {
    TaggedQueue {
        enrolled: true,
        dlq: arn(name).parse().unwrap(),
        settings: settings
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    }
}

fn arns(names: impl IntoIterator<Item = String>) -> Vec<QueueArn> {
    names
        .into_iter()
        .map(|name| arn(&name).parse().unwrap())
        .collect()
}

// Requests.

#[tokio::test]
async fn tagged_queues_are_asked_for_by_type_and_tag_a_hundred_a_page() {
    for (value, filter) in [
        (None, json!({"Key": KEY})),
        (Some("yes"), json!({"Key": KEY, "Values": ["yes"]})),
        (Some(""), json!({"Key": KEY, "Values": [""]})),
    ] {
        let server = Server::answering(|_| page(&[], ""));
        let listed = server.client().page(&tag(value), None).await;
        assert_eq!(listed, Ok(Page::default()));
        let expected = json!({
            "ResourceTypeFilters": ["sqs"],
            "TagFilters": [filter],
            "ResourcesPerPage": 100,
        });
        assert_eq!(server.requests(), [expected], "{value:?}");
    }
}

#[tokio::test]
async fn a_page_is_asked_for_with_its_token_and_has_that_of_the_next_unless_it_is_the_last() {
    let server = Server::answering(|request| {
        let of = |name| [queue(name, &[(KEY, "")])];
        match request["PaginationToken"].as_str() {
            None => page(&of("first-dlq"), "token-1"),
            Some("token-1") => page(&[], "token-2"),
            Some("token-2") => page(&of("last-dlq"), ""),
            // The API may also leave out the token after the last page.
            Some("token-3") => {
                let resources = of("last-dlq");
                answer("200 OK", &json!({"ResourceTagMappingList": resources}))
            }
            other => panic!("{other:?}"),
        }
    });
    for (token, name, next) in [
        (None, Some("first-dlq"), Some("token-1")),
        (Some("token-1"), None, Some("token-2")),
        (Some("token-2"), Some("last-dlq"), None),
        (Some("token-3"), Some("last-dlq"), None),
    ] {
        let queues = name.map(|name| tagged_queue_of(name, &[]));
        let expected = Page {
            queues: Vec::from_iter(queues),
            next: next.map(str::to_owned),
        };
        let listed = server.client().page(&tag(None), token).await;
        assert_eq!(listed, Ok(expected));
    }
    let asked = |token: Option<&str>| {
        let mut request = json!({
            "ResourceTypeFilters": ["sqs"],
            "TagFilters": [{"Key": KEY}],
            "ResourcesPerPage": 100,
        });
        if let Some(token) = token {
            request["PaginationToken"] = json!(token);
        }
        request
    };
    let expected = [None, Some("token-1"), Some("token-2"), Some("token-3")].map(asked);
    assert_eq!(server.requests(), expected);
}

/// With a list of ARNs the API refuses filters and a page size.
#[tokio::test]
async fn queues_that_are_known_are_asked_for_by_their_arns_alone_a_hundred_a_call() {
    let server = Server::answering(|request| {
        let arns = request["ResourceARNList"].as_array().unwrap();
        let resources: Vec<_> = arns
            .iter()
            .map(|arn| resource(arn.as_str().unwrap(), &[(KEY, "yes")]))
            .collect();
        page(&resources, "")
    });
    let names: Vec<_> = (0..101).map(|n| format!("dlq-{n}")).collect();
    let asked = arns(names.clone());
    let tagged = server
        .client()
        .tagged_among(&asked, &tag(Some("yes")))
        .await;
    let expected: Vec<_> = names.iter().map(|it| tagged_queue_of(it, &[])).collect();
    assert_eq!(tagged, Ok(expected));
    let texts: Vec<_> = asked.iter().map(QueueArn::as_str).collect();
    let expected = [&texts[..100], &texts[100..]].map(|arns| json!({"ResourceARNList": arns}));
    assert_eq!(server.requests(), expected);
}

#[tokio::test]
async fn no_queues_take_no_call() {
    let server = Server::answering(|_| error("AccessDeniedException", DENIED));
    let tagged = server.client().tagged_among(&[], &tag(None)).await;
    assert_eq!(tagged, Ok(Vec::new()));
    assert_eq!(server.requests().len(), 0);
}

// Answers.

/// What both calls return for these resources: it must be the same.
async fn both(resources: Vec<Value>, tag: &EnrollTag) -> Vec<TaggedQueue> {
    let server = Server::answering(move |_| page(&resources, ""));
    let client = server.client();
    let tagged = client.page(tag, None).await.unwrap().queues;
    let asked = arns(["orders-dlq".to_owned()]);
    let among = client.tagged_among(&asked, tag).await;
    assert_eq!(among.as_ref(), Ok(&tagged));
    tagged
}

#[tokio::test]
async fn resource_that_is_no_queue_is_left_out() {
    let tags = [(KEY, "yes")];
    let resources = vec![
        resource("arn:aws:sns:us-east-1:123456789012:orders", &tags),
        resource(
            "arn:aws:lambda:us-east-1:123456789012:function:orders",
            &tags,
        ),
        resource("arn:aws:sqs:us-east-1:123456789012:no name", &tags),
        resource("", &tags),
        json!({"Tags": [{"Key": KEY, "Value": "yes"}]}),
        queue("orders-dlq", &tags),
    ];
    let expected = [tagged_queue_of("orders-dlq", &[])];
    assert_eq!(both(resources, &tag(Some("yes"))).await, expected);
}

#[tokio::test]
async fn a_queue_that_does_not_have_the_tag_as_it_must_be_is_not_enrolled() {
    let resources = vec![
        queue("yes", &[("team", "orders"), (KEY, "yes")]),
        queue("no", &[(KEY, "no")]),
        queue("empty", &[(KEY, "")]),
        queue("capitals", &[(KEY, "Yes")]),
        queue("value-of-another-tag", &[("team", "yes"), (KEY, "no")]),
        queue("capital-key", &[("Auto-Redrive", "yes")]),
        queue("longer-key", &[("auto-redrive-2", "yes")]),
        queue("setting-only", &[("auto-redrive:minimum", "yes")]),
        queue("no-tags", &[]),
        json!({"ResourceARN": arn("tags-left-out")}),
    ];
    let names = |tagged: Vec<TaggedQueue>| -> Vec<String> {
        let name = |it: TaggedQueue| it.enrolled.then(|| it.dlq.name().to_owned());
        tagged.into_iter().filter_map(name).collect()
    };
    let tagged = both(resources.clone(), &tag(Some("yes"))).await;
    assert_eq!(names(tagged), ["yes"]);
    let tagged = both(resources.clone(), &tag(Some(""))).await;
    assert_eq!(names(tagged), ["empty"]);
    let tagged = both(resources, &tag(None)).await;
    let any = ["yes", "no", "empty", "capitals", "value-of-another-tag"];
    assert_eq!(names(tagged), any, "any value will do");
}

#[tokio::test]
async fn settings_are_the_tags_below_the_key() {
    let resources = vec![
        queue(
            "orders-dlq",
            &[
                ("auto-redrive:cooldown", "10m"),
                ("team", "orders"),
                (KEY, "yes"),
                ("auto-redrive-2:minimum", "7"),
                ("my:auto-redrive:minimum", "8"),
                ("Auto-Redrive:minimum", "9"),
                ("auto-redrive:a:b", "c:d"),
                ("auto-redrive:destination", ""),
            ],
        ),
        queue("billing-dlq", &[(KEY, "yes")]),
    ];
    let settings = [("cooldown", "10m"), ("a:b", "c:d"), ("destination", "")];
    let expected = [
        tagged_queue_of("orders-dlq", &settings),
        tagged_queue_of("billing-dlq", &[]),
    ];
    assert_eq!(both(resources, &tag(Some("yes"))).await, expected);
}

// Errors.

/// The error of both calls for this answer: it must be the same.
async fn fault_of(bytes: Vec<u8>) -> TaggingError {
    let server = Server::answering(move |_| bytes.clone());
    let client = server.client();
    let fault = client.page(&tag(None), None).await.unwrap_err();
    let asked = arns(["orders-dlq".to_owned()]);
    let among = client.tagged_among(&asked, &tag(None)).await;
    assert_eq!(among.as_ref(), Err(&fault));
    assert_eq!(server.requests().len(), 2);
    fault
}

#[tokio::test]
async fn refused_permission_is_distinguished_and_names_what_to_grant() {
    for code in [
        "AccessDeniedException",
        "com.amazon.coral.service#AccessDeniedException",
        "AccessDenied",
        "UnauthorizedOperation",
    ] {
        let fault = fault_of(error(code, DENIED)).await;
        assert_eq!(fault, TaggingError::AccessDenied(DENIED.to_owned()));
        let text = format!("access denied; grant `tag:GetResources`: {DENIED}");
        assert_eq!(fault.to_string(), text);
    }
    let body = json!({"__type": "AccessDeniedException"});
    let fault = fault_of(answer("400 Bad Request", &body)).await;
    let why = "the tagging API gave no reason".to_owned();
    assert_eq!(fault, TaggingError::AccessDenied(why));
}

#[tokio::test]
async fn other_errors_keep_their_code_and_message() {
    for code in ["ThrottledException", "InternalServiceException"] {
        let fault = fault_of(error(code, "Try later.")).await;
        let text = format!("{code}: Try later.");
        assert_eq!(fault, TaggingError::Service(text));
    }
}

#[tokio::test]
async fn a_later_call_that_fails_fails_the_whole() {
    let server =
        Server::answering(
            |request| match request["ResourceARNList"].as_array().unwrap().len() {
                100 => page(&[queue("dlq-0", &[(KEY, "")])], ""),
                _ => error("AccessDeniedException", DENIED),
            },
        );
    let asked = arns((0..101).map(|n| format!("dlq-{n}")));
    let tagged = server.client().tagged_among(&asked, &tag(None)).await;
    assert_eq!(tagged, Err(TaggingError::AccessDenied(DENIED.to_owned())));
}

#[tokio::test]
async fn a_message_is_on_one_line() {
    for code in ["AccessDeniedException", "InvalidParameterException"] {
        let long = format!("first\nsecond {}", "x".repeat(2000));
        let text = fault_of(error(code, &long)).await.to_string();
        assert!(text.contains("first\\nsecond x"), "{text}");
        assert!(text.chars().count() < 600, "{text}");
    }
}

#[track_caller]
fn assert_words(case: &str, expected: &str, fault: &TaggingError) {
    let kind = match fault {
        TaggingError::Service(_) => "failed",
        TaggingError::Unreachable(_) => "unreachable",
        TaggingError::BadAnswer(_) => "bad answer",
        TaggingError::AccessDenied(_) => "denied",
        TaggingError::Endless => "endless",
    };
    assert_eq!(kind, expected, "{case}: {fault:?}");
    let text = fault.to_string();
    let rust = [
        "::",
        "Unhandled",
        "Error {",
        "Error(",
        "hyper",
        "SdkError",
        "Some(",
    ];
    let is_rust = rust.iter().any(|rust| text.contains(rust));
    let is_line = text.len() >= 10 && !text.contains(char::is_control);
    assert!(is_line && !is_rust, "{case}: {text}");
}

#[tokio::test]
async fn answer_that_is_not_the_apis_is_an_error_in_words() {
    let html = "content-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";
    for (case, bytes, expected) in [
        (
            "html, 500",
            format!("HTTP/1.1 500 Internal Server Error\r\n{html}").into_bytes(),
            "failed",
        ),
        (
            "html, 200",
            format!("HTTP/1.1 200 OK\r\n{html}").into_bytes(),
            "bad answer",
        ),
        (
            "JSON of another type",
            answer("200 OK", &json!({"ResourceTagMappingList": "many"})),
            "bad answer",
        ),
        ("closed without an answer", Vec::new(), "unreachable"),
    ] {
        assert_words(case, expected, &fault_of(bytes).await);
    }
}

#[tokio::test]
async fn an_error_without_a_code_is_reported_in_words() {
    for body in [json!({}), json!({"message": DENIED})] {
        let case = body.to_string();
        let fault = fault_of(answer("400 Bad Request", &body)).await;
        assert_words(&case, "bad answer", &fault);
    }
}
