//! The tagging API: MiniStack's, in pages and with every call recorded, and others that fail.

use super::http::{Answer, Request, Server};
use super::local::{sdk, servers};
use super::queues::queue_arn;
use aws_sdk_sqs::Client;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// Panics if SQS would refuse this tag. The local servers and the fakes take any
/// (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-tags.html>).
#[track_caller]
pub fn assert_sqs_takes(key: &str, value: &str) {
    let is_allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    let is_short = key.chars().count() <= 128 && value.chars().count() <= 256;
    assert!(
        is_short && key.chars().chain(value.chars()).all(is_allowed),
        "SQS refuses the tag {key:?} = {value:?}"
    );
}

/// Tags queues in MiniStack's own SQS: its tagging API knows no other queues.
pub async fn tag(queues: impl IntoIterator<Item = String>, tags: &[(&str, &str)]) {
    for (key, value) in tags {
        assert_sqs_takes(key, value);
    }
    let client = &Client::new(&sdk(&servers().cloudwatch_url));
    let made = stream::iter(queues).map(async |name| {
        let mut request = client.create_queue().queue_name(name);
        for (key, value) in tags {
            request = request.tags(*key, *value);
        }
        request.send().await.unwrap();
    });
    made.buffer_unordered(8).collect::<()>().await;
}

/// A tagging API that records its calls.
pub struct Tagging {
    /// Its URL.
    pub url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Tagging {
    /// Passes calls on to MiniStack, and returns pages as AWS does: MiniStack returns all resources
    /// in one.
    pub fn of_ministack() -> Self {
        Self::start(|request, question| {
            let mut question = question.clone();
            for paging in ["PaginationToken", "ResourcesPerPage"] {
                question.as_object_mut().unwrap().remove(paging);
            }
            let mut forwarded = request.clone();
            forwarded.body = question.to_string().into_bytes();
            let answer = forwarded.forward(&servers().cloudwatch_url).unwrap();
            let answer: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(answer["PaginationToken"], "", "MiniStack pages");
            let listed = answer["ResourceTagMappingList"].as_array().unwrap();
            Ok(listed.as_slice().into())
        })
    }

    /// Returns these queues, all with this one tag.
    pub fn of(queues: impl IntoIterator<Item = String>, tag: (&str, &str)) -> Self {
        let resources = resources(queues, tag);
        Self::start(move |_, _| Ok(Arc::clone(&resources)))
    }

    /// Refuses every call with this error.
    pub fn refusing(status: u16, code: &'static str, message: &'static str) -> Self {
        Self::start(move |_, _| Err(Answer::error(status, code, message)))
    }

    /// Returns a page of these queues, and then an error: the token for the next page has expired.
    pub fn expiring(queues: impl IntoIterator<Item = String>, tag: (&str, &str)) -> Self {
        let resources = resources(queues, tag);
        Self::start(move |_, question| match question.get("PaginationToken") {
            None => Ok(Arc::clone(&resources)),
            Some(_) => Err(Answer::error(
                400,
                "PaginationTokenExpiredException",
                "A PaginationToken is valid for a maximum of 15 minutes.",
            )),
        })
    }

    /// Returns a page of these queues, and then empty pages without end, each with a new token and
    /// after this time.
    pub fn endless(
        queues: impl IntoIterator<Item = String>,
        tag: (&str, &str),
        latency: Duration,
    ) -> Self {
        let resources = resources(queues, tag);
        Self::start(move |_, question| {
            sleep(latency);
            let token = question["PaginationToken"].as_str().unwrap_or("0");
            let page: usize = token.parse().unwrap();
            let listed = if page == 0 { &*resources } else { &[] };
            let next = (page + 1).to_string();
            let body = json!({"PaginationToken": next, "ResourceTagMappingList": listed});
            Err(Answer::ok(body))
        })
    }

    /// Throttles the first `calls` calls for its second page.
    pub fn throttling(
        queues: impl IntoIterator<Item = String>,
        tag: (&str, &str),
        calls: usize,
    ) -> Self {
        let resources = resources(queues, tag);
        let left = Mutex::new(calls);
        Self::start(move |_, question| {
            let mut left = left.lock().unwrap();
            if question.get("PaginationToken").is_some() && *left > 0 {
                *left -= 1;
                return Err(Answer::error(400, "ThrottledException", "Rate exceeded"));
            }
            Ok(Arc::clone(&resources))
        })
    }

    fn start(
        resources: impl Fn(&Request, &Value) -> Result<Arc<[Value]>, Answer> + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let questions = Arc::clone(&asked);
        let server = Server::start(move |request| {
            assert_eq!(request.operation(), "GetResources");
            let question = request.json();
            questions.lock().unwrap().push(question.clone());
            match resources(request, &question) {
                Ok(resources) => page(&question, &resources),
                Err(error) => error,
            }
        });
        Self {
            url: server.url,
            asked,
        }
    }

    /// The parameters of the calls since the last time this was asked.
    pub fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Queues as the tagging API returns them, each with this tag.
fn resources(queues: impl IntoIterator<Item = String>, (key, value): (&str, &str)) -> Arc<[Value]> {
    assert_sqs_takes(key, value);
    let tags = json!([{"Key": key, "Value": value}]);
    let queues = queues.into_iter();
    let resource = |name: String| json!({"ResourceARN": queue_arn(&name), "Tags": tags});
    queues.map(resource).collect()
}

/// The resources of a list, or a page of all, by AWS's rules
/// (<https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>).
fn page(question: &Value, resources: &[Value]) -> Answer {
    if let Some(arns) = question["ResourceARNList"].as_array() {
        if question.as_object().unwrap().len() > 1 || arns.len() > 100 {
            let message = "a list takes at most 100 ARNs, and no other parameter";
            return Answer::error(400, "InvalidParameterException", message);
        }
        let listed = resources.iter();
        let listed = listed.filter(|resource| arns.contains(&resource["ResourceARN"]));
        let listed: Vec<&Value> = listed.collect();
        return Answer::ok(json!({"PaginationToken": "", "ResourceTagMappingList": listed}));
    }
    let size = question["ResourcesPerPage"].as_u64().unwrap_or(50);
    if !(1..=100).contains(&size) {
        return Answer::error(400, "InvalidParameterException", "ResourcesPerPage");
    }
    let token = question["PaginationToken"].as_str().unwrap_or_default();
    let begin = token.parse().unwrap_or(0);
    let end = resources.len().min(begin + usize::try_from(size).unwrap());
    let token = if end < resources.len() {
        end.to_string()
    } else {
        String::new()
    };
    let page = &resources[begin..end];
    Answer::ok(json!({"PaginationToken": token, "ResourceTagMappingList": page}))
}
