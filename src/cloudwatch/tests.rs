use super::*;
use crate::metrics::Readings;
use crate::wire::{REGION, Request, SILENCE, Wire};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_smithy_cbor::Encoder;
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

const ELSEWHERE: &str = "ap-south-1";
const MINUTE: u64 = 60;
/// The time of every test, in seconds since 1970; a whole minute.
const NOW: u64 = 1_790_000_040;

const DENIED: &str = "User: arn:aws:sts::123456789012:assumed-role/redrive/redrive is not authorized to perform: cloudwatch:GetMetricData because no identity-based policy allows the cloudwatch:GetMetricData action";
/// A time that every answer of a test meets.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

const LEFT_OUT: &str = "CloudWatch did not return it";

// The real client, answered with recorded bytes.

impl Request {
    fn is_for(&self, region: &str) -> bool {
        let scope = format!("/{region}/monitoring/aws4_request");
        self.authorization.contains(&scope)
    }

    /// The id and the queue of every query of a `GetMetricData`.
    fn queries(&self) -> Vec<(&str, &str)> {
        let queries = self.body["MetricDataQueries"].as_array().unwrap();
        queries
            .iter()
            .map(|query| {
                let queue = &query["MetricStat"]["Metric"]["Dimensions"][0]["Value"];
                (query["Id"].as_str().unwrap(), queue.as_str().unwrap())
            })
            .collect()
    }

    fn alarm_names(&self) -> Vec<&str> {
        let names = self.body["AlarmNames"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap()).collect()
    }
}

/// Answers each request with what this function returns.
struct Server(Wire);

impl Server {
    fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Wire::answering(answer))
    }

    fn clients(&self) -> CloudWatchClients {
        CloudWatchClients::new(&self.0.config(), [REGION, ELSEWHERE].map(str::to_owned))
    }

    /// For each DLQ, its lowest depth within the quiet period; `Err` if it could not be read.
    async fn fewest(&self, queries: &[MetricsQuery]) -> Vec<Result<Option<u64>, Metrics>> {
        let metrics = self.clients().metrics(queries.to_vec(), soon()).await;
        let fewest = |metrics| match metrics {
            Metrics::Read(readings) => Ok(readings.fewest),
            other => Err(other),
        };
        metrics.into_iter().map(fewest).collect()
    }

    /// The requests so far, all for this operation.
    fn requests(&self, operation: &str) -> Vec<Request> {
        let path = format!("/service/GraniteServiceVersion20100801/operation/{operation}");
        let requests = self.0.requests();
        assert!(requests.iter().all(|request| request.target == path));
        requests
    }

    /// The only request that was made.
    fn only_request(&self, operation: &str) -> Request {
        self.requests(operation);
        self.0.only_request()
    }
}

/// Writes JSON as CBOR: numbers below `Timestamps` are times, all others are floating-point.
fn encode(to: &mut Encoder, name: &str, value: &Value) {
    match value {
        Value::Null => _ = to.null(),
        Value::Bool(value) => _ = to.boolean(*value),
        Value::String(text) => _ = to.str(text),
        Value::Number(seconds) if name == "Timestamps" => {
            to.timestamp(&DateTime::from_secs(seconds.as_i64().unwrap()));
        }
        Value::Number(number) => _ = to.double(number.as_f64().unwrap()),
        Value::Array(items) => {
            to.array(items.len());
            items.iter().for_each(|item| encode(to, name, item));
        }
        Value::Object(items) => {
            to.map(items.len());
            for (name, item) in items {
                to.str(name);
                encode(to, name, item);
            }
        }
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\nx-amzn-requestid: 5f0c1bb8-0000-5000-8000-000000000000\r\n\r\n"
    )
    .into_bytes();
    answer.extend(body);
    answer
}

fn cbor_answer(status: &str, headers: &str, body: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    encode(&mut encoder, "", body);
    let headers =
        format!("smithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\n{headers}");
    answer(status, &headers, &encoder.into_writer())
}

fn ok(body: &Value) -> Vec<u8> {
    cbor_answer("200 OK", "", body)
}

/// A refusal as CloudWatch words it for clients that know the codes of its older protocol.
fn denied() -> Vec<u8> {
    let r#type = "com.amazon.coral.service#AccessDeniedException";
    cbor_answer(
        "403 Forbidden",
        "x-amzn-query-error: AccessDenied;Sender\r\n",
        &json!({"__type": r#type, "message": DENIED}),
    )
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn before(minutes: u64) -> SystemTime {
    now() - Duration::from_secs(minutes * MINUTE)
}

/// The question about a DLQ that no task moved anything from, without a source.
fn query_in(region: &str, name: &str, quiet_minutes: u64) -> MetricsQuery {
    MetricsQuery {
        dlq: queue_in(region, name),
        consumed: Vec::new(),
        from: before(quiet_minutes + 2),
        now: now(),
        quiet_period: Duration::from_secs(quiet_minutes * MINUTE),
        shows_dips: false,
        tasks: Vec::new(),
    }
}

fn queue_in(region: &str, name: &str) -> QueueArn {
    format!("arn:aws:sqs:{region}:123456789012:{name}")
        .parse()
        .unwrap()
}

fn query(name: &str, quiet_minutes: u64) -> MetricsQuery {
    query_in(REGION, name, quiet_minutes)
}

/// The question about a DLQ and its sources.
fn query_with(name: &str, sources: &[&str]) -> MetricsQuery {
    let sources = sources.iter().map(|source| queue_in(REGION, source));
    MetricsQuery {
        consumed: sources.collect(),
        ..query(name, 10)
    }
}

/// A result for one query. A point is how many minutes ago, and how many messages.
fn result(id: &str, status: &str, points: &[(u64, f64)]) -> Value {
    let times: Vec<u64> = points.iter().map(|(ago, _)| NOW - ago * MINUTE).collect();
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    json!({"Id": id, "StatusCode": status, "Timestamps": times, "Values": values})
}

/// Answers `GetMetricData` with the result for each id and queue name; `None` is left out.
fn by_queue(result_of: impl Fn(&str, &str) -> Option<Value>) -> impl Fn(&Request) -> Vec<u8> {
    move |request| {
        let results: Vec<Value> = request
            .queries()
            .iter()
            .filter_map(|(id, queue)| result_of(id, queue))
            .collect();
        ok(&json!({"MetricDataResults": results}))
    }
}

/// The reading from a page with this one result.
async fn fewest_of(
    result_of: impl Fn(&str) -> Value + Send + Sync + 'static,
) -> Result<Option<u64>, Metrics> {
    let server = Server::answering(by_queue(move |id, _| Some(result_of(id))));
    let mut fewest = server.fewest(&[query("orders-dlq", 10)]).await;
    assert_eq!(fewest.len(), 1);
    fewest.remove(0)
}

fn failed(why: &str) -> Result<Option<u64>, Metrics> {
    Err(Metrics::Failed(why.to_owned()))
}

fn refused(why: &str) -> Result<Option<u64>, Metrics> {
    Err(Metrics::Denied(why.to_owned()))
}

fn read(fewest: u64) -> Result<Option<u64>, Metrics> {
    Ok(Some(fewest))
}

const NO_DATA: Result<Option<u64>, Metrics> = Ok(None);

// Metrics: requests.

#[tokio::test]
async fn depth_is_asked_as_the_most_visible_messages_of_each_minute_in_the_order_of_time() {
    let server = Server::answering(by_queue(|_, _| None));
    let asked = [query("orders-dlq.fifo", 10)];
    server.fewest(&asked).await;
    let request = server.only_request("GetMetricData");
    assert_eq!(request.queries().len(), 1);
    let query = &request.body["MetricDataQueries"][0];
    let expected = json!({
        "Id": query["Id"],
        "MetricStat": {
            "Metric": {
                "Namespace": "AWS/SQS",
                "MetricName": "ApproximateNumberOfMessagesVisible",
                "Dimensions": [{"Name": "QueueName", "Value": "orders-dlq.fifo"}],
            },
            "Period": 60,
            "Stat": "Maximum",
        },
    });
    assert_eq!(*query, expected);
    let since = NOW - 12 * MINUTE;
    assert_eq!(request.body["StartTime"], json!(since as f64));
    assert_eq!(request.body["EndTime"], json!(NOW as f64));
    assert_eq!(request.body["ScanBy"], "TimestampAscending");
}

#[tokio::test]
async fn dlq_with_a_source_takes_two_metrics_its_depth_and_what_the_source_handled() {
    let server = Server::answering(by_queue(|_, _| None));
    server
        .fewest(&[query_with("orders-dlq", &["orders"])])
        .await;
    let request = server.only_request("GetMetricData");
    let queries = request.body["MetricDataQueries"].as_array().unwrap();
    let asked = queries.iter().map(|query| {
        let stat = &query["MetricStat"];
        let metric = &stat["Metric"];
        (
            &metric["Dimensions"][0]["Value"],
            &metric["MetricName"],
            &stat["Stat"],
            &stat["Period"],
        )
    });
    let asked = json!(asked.collect::<Vec<_>>());
    let expected = json!([
        [
            "orders-dlq",
            "ApproximateNumberOfMessagesVisible",
            "Maximum",
            60
        ],
        ["orders", "NumberOfMessagesDeleted", "Sum", 60],
    ]);
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn three_hours_and_more_are_asked_in_five_minute_datapoints_by_a_call_of_their_own() {
    let server = Server::answering(by_queue(|_, _| None));
    let since = |name: &str, minutes: u64| MetricsQuery {
        from: before(minutes),
        ..query_with(name, &["orders"])
    };
    let asked = [
        since("a", 179),
        since("b", 180),
        since("c", 30),
        since("d", 1000),
    ];
    server.fewest(&asked).await;
    let requests = server.requests("GetMetricData");
    assert_eq!(requests.len(), 2);
    for (request, period, dlqs, minutes) in [
        (&requests[0], 60, ["a", "c"], 179),
        (&requests[1], 300, ["b", "d"], 1000),
    ] {
        let queues: Vec<_> = request.queries().iter().map(|query| query.1).collect();
        assert_eq!(queues, [dlqs[0], "orders", dlqs[1], "orders"]);
        let queries = request.body["MetricDataQueries"].as_array().unwrap();
        assert!(
            queries
                .iter()
                .all(|query| query["MetricStat"]["Period"] == period)
        );
        let since = NOW - minutes * MINUTE;
        assert_eq!(request.body["StartTime"], json!(since as f64));
    }
}

#[tokio::test]
async fn the_metrics_of_one_dlq_are_never_asked_in_two_calls() {
    let sources: Vec<String> = (0..10).map(|n| format!("orders-{n}")).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let server = Server::answering(by_queue(|id, queue| {
        let depth = queue
            .strip_prefix("dlq-")
            .map_or(1.0, |n| n.parse().unwrap());
        Some(result(id, "Complete", &[(1, depth)]))
    }));
    let dlqs = (0..46).map(|n| query_with(&format!("dlq-{n}"), &sources));
    let fewest = server.fewest(&dlqs.collect::<Vec<_>>()).await;
    assert_eq!(fewest, (0..46).map(read).collect::<Vec<_>>());
    let requests = server.requests("GetMetricData");
    let sizes: Vec<_> = requests.iter().map(|it| it.queries().len()).collect();
    assert_eq!(sizes, [45 * 11, 11]);
}

#[tokio::test]
async fn two_hundred_and_fifty_dlqs_with_one_source_take_one_call() {
    for (dlqs, expected) in [(250, vec![500]), (251, vec![500, 2])] {
        let server = Server::answering(by_queue(|_, _| None));
        let asked = (0..dlqs).map(|n| query_with(&format!("dlq-{n}"), &["orders"]));
        server.fewest(&asked.collect::<Vec<_>>()).await;
        let requests = server.requests("GetMetricData");
        let sizes: Vec<_> = requests.iter().map(|it| it.queries().len()).collect();
        assert_eq!(sizes, expected);
    }
}

#[tokio::test]
async fn queues_of_different_quiet_periods_are_asked_for_in_one_call_from_the_longest() {
    for minutes in [[30, 10, 20], [10, 30, 20], [10, 20, 30]] {
        let server = Server::answering(by_queue(|_, _| None));
        let asked = minutes.map(|minutes| query(&format!("dlq-{minutes}"), minutes));
        server.fewest(&asked).await;
        let request = server.only_request("GetMetricData");
        assert_eq!(request.queries().len(), 3);
        let since = NOW - 32 * MINUTE;
        assert_eq!(request.body["StartTime"], json!(since as f64));
    }
}

#[tokio::test]
async fn five_hundred_and_one_queues_take_a_call_for_500_and_one_for_1() {
    let depth_is_in_the_name = |id: &str, queue: &str| {
        let depth = queue.strip_prefix("dlq-").unwrap().parse().unwrap();
        Some(result(id, "Complete", &[(1, depth)]))
    };
    let server = Server::answering(by_queue(depth_is_in_the_name));
    let asked: Vec<_> = (0..501).map(|n| query(&format!("dlq-{n}"), 10)).collect();
    let fewest = server.fewest(&asked).await;
    let expected: Vec<_> = (0..501).map(read).collect();
    assert_eq!(fewest, expected);
    let requests = server.requests("GetMetricData");
    let sizes: Vec<_> = requests.iter().map(|it| it.queries().len()).collect();
    assert_eq!(sizes, [500, 1]);
}

#[tokio::test]
async fn a_refusal_of_the_second_500_leaves_the_first_readable() {
    let first = by_queue(|id, _| Some(result(id, "Complete", &[(1, 4.0)])));
    let server = Server::answering(move |request| match request.queries().len() {
        500 => first(request),
        _ => denied(),
    });
    let asked: Vec<_> = (0..501).map(|n| query(&format!("dlq-{n}"), 10)).collect();
    let fewest = server.fewest(&asked).await;
    assert_eq!(fewest[..500], vec![read(4); 500]);
    assert_eq!(fewest[500..], [refused(&format!("AccessDenied: {DENIED}"))]);
}

#[tokio::test]
async fn queues_of_two_regions_take_a_call_to_each() {
    let answer = by_queue(|id, queue| {
        let depth = queue.strip_prefix("dlq-").unwrap().parse().unwrap();
        Some(result(id, "Complete", &[(1, depth)]))
    });
    let server = Server::answering(answer);
    let asked = [
        query_in(REGION, "dlq-0", 10),
        query_in(ELSEWHERE, "dlq-1", 60),
        query_in(REGION, "dlq-2", 10),
        query_in(ELSEWHERE, "dlq-3", 10),
    ];
    let fewest = server.fewest(&asked).await;
    let expected: Vec<_> = (0..4).map(read).collect();
    assert_eq!(fewest, expected);
    let requests = server.requests("GetMetricData");
    assert_eq!(requests.len(), 2);
    for (region, queues, minutes) in [
        (REGION, ["dlq-0", "dlq-2"], 12),
        (ELSEWHERE, ["dlq-1", "dlq-3"], 62),
    ] {
        let mut here = requests.iter().filter(|request| request.is_for(region));
        let request = here.next().expect(region);
        let asked: Vec<_> = request.queries().iter().map(|(_, queue)| *queue).collect();
        assert_eq!(asked, queues);
        let since = NOW - minutes * MINUTE;
        assert_eq!(request.body["StartTime"], json!(since as f64), "{region}");
    }
}

#[tokio::test]
async fn nothing_to_ask_takes_no_call() {
    let server = Server::answering(|_| denied());
    let clients = server.clients();
    assert_eq!(clients.metrics(Vec::new(), soon()).await, []);
    assert_eq!(clients.brakes(&[], soon()).await, []);
    assert_eq!(server.0.requests().len(), 0);
}

// Metrics: answers.

#[tokio::test]
async fn the_fewest_of_all_pages_counts() {
    let server = Server::answering(|request| {
        let queries = request.queries();
        let id_of = |queue: &str| queries.iter().find(|query| query.1 == queue).unwrap().0;
        let page = |results: &[(&str, &[(u64, f64)])], token: Option<&str>| {
            let results: Vec<_> = results
                .iter()
                .map(|(queue, points)| result(id_of(queue), "Complete", points))
                .collect();
            ok(&json!({"MetricDataResults": results, "NextToken": token}))
        };
        match request.body["NextToken"].as_str() {
            None => page(
                &[
                    ("first-page", &[(1, 7.0), (2, 4.0), (3, 8.0)]),
                    ("last-page", &[(1, 2.0)]),
                    ("only-first-page", &[(1, 6.0)]),
                    ("empty-last-page", &[(1, 5.0)]),
                ],
                Some("page-2"),
            ),
            Some("page-2") => page(
                &[
                    ("first-page", &[(4, 9.0)]),
                    ("last-page", &[(4, 3.0), (5, 1.0)]),
                    ("only-last-page", &[(4, 3.0)]),
                    ("empty-last-page", &[]),
                ],
                None,
            ),
            other => panic!("{other:?}"),
        }
    });
    let asked = [
        ("first-page", 4),
        ("last-page", 1),
        ("only-first-page", 6),
        ("only-last-page", 3),
        ("empty-last-page", 5),
    ];
    let queries = asked.map(|(queue, _)| query(queue, 10));
    let fewest = server.fewest(&queries).await;
    assert_eq!(fewest, asked.map(|(_, fewest)| read(fewest)));
    assert_eq!(server.requests("GetMetricData").len(), 2);
}

#[tokio::test]
async fn each_queue_is_judged_by_its_own_quiet_period_and_two_minutes() {
    let points = [(5, 9.0), (11, 6.0), (12, 5.0), (13, 3.0), (32, 2.0)];
    let server = Server::answering(by_queue(move |id, _| Some(result(id, "Complete", &points))));
    let asked = [10, 9, 8, 30, 11].map(|minutes| query(&format!("dlq-{minutes}"), minutes));
    let fewest = server.fewest(&asked).await;
    assert_eq!(fewest, [5, 6, 9, 2, 3].map(read));
    server.only_request("GetMetricData");
}

#[tokio::test]
async fn datapoints_that_are_all_older_than_the_quiet_period_are_none() {
    let server = Server::answering(by_queue(|id, _| Some(result(id, "Complete", &[(20, 0.0)]))));
    let asked = [query("short", 10), query("long", 30)];
    let fewest = server.fewest(&asked).await;
    assert_eq!(fewest, [NO_DATA, read(0)]);
}

#[tokio::test]
async fn partial_data_counts_as_far_as_it_goes() {
    let fewest = fewest_of(|id| result(id, "PartialData", &[(3, 8.0), (4, 5.0)])).await;
    assert_eq!(fewest, read(5));
}

#[tokio::test]
async fn no_datapoints_are_no_data() {
    for status in ["Complete", "PartialData"] {
        let fewest = fewest_of(move |id| result(id, status, &[])).await;
        assert_eq!(fewest, NO_DATA, "{status}");
    }
    let fewest = fewest_of(|id| json!({"Id": id})).await;
    assert_eq!(fewest, NO_DATA, "neither times nor values");
}

#[tokio::test]
async fn a_queue_that_the_answer_leaves_out_is_unreadable() {
    let server = Server::answering(by_queue(|id, queue| {
        (queue != "left-out").then(|| result(id, "Complete", &[(1, 4.0)]))
    }));
    let asked = ["first", "left-out", "last"].map(|queue| query(queue, 10));
    let fewest = server.fewest(&asked).await;
    assert_eq!(fewest, [read(4), failed(LEFT_OUT), read(4)]);
}

#[tokio::test]
async fn a_result_without_a_query_is_ignored() {
    for stranger in ["q1", "q-1", "q", "x0", "q18446744073709551616", ""] {
        let server = Server::answering(by_queue(move |id, _| {
            assert_ne!(id, stranger);
            Some(result(stranger, "Complete", &[(1, 4.0)]))
        }));
        let asked = [query("orders-dlq", 10)];
        let fewest = server.fewest(&asked).await;
        assert_eq!(fewest, [failed(LEFT_OUT)], "{stranger}");
    }
}

#[tokio::test]
async fn a_queue_that_is_refused_is_unreadable_for_the_reason_given_and_the_others_are_not() {
    let why = "The metric may not be read.";
    type Expected = fn(&str) -> Result<Option<u64>, Metrics>;
    let table: [(&str, Expected); 2] = [("Forbidden", refused), ("InternalError", failed)];
    for (status, unreadable) in table {
        let server = Server::answering(by_queue(move |id, queue| {
            if queue != "refused" {
                return Some(result(id, "Complete", &[(1, 4.0)]));
            }
            let mut refused = result(id, status, &[(1, 4.0)]);
            refused["Messages"] = json!([{"Code": "Refused", "Value": why}]);
            Some(refused)
        }));
        let asked = ["refused", "orders-dlq"].map(|queue| query(queue, 10));
        let fewest = server.fewest(&asked).await;
        let expected = [unreadable(why), read(4)];
        assert_eq!(fewest, expected, "{status}");

        let fewest = fewest_of(move |id| result(id, status, &[])).await;
        let expected = unreadable("CloudWatch refused it");
        assert_eq!(fewest, expected, "{status} without a message");
    }
}

#[tokio::test]
async fn a_refused_call_makes_all_its_queues_unreadable_with_code_and_message() {
    let server = Server::answering(|_| denied());
    let asked = ["orders-dlq", "billing-dlq"].map(|queue| query(queue, 10));
    let fewest = server.fewest(&asked).await;
    let why = refused(&format!("AccessDenied: {DENIED}"));
    assert_eq!(fewest, [why.clone(), why]);

    for (message, why) in [
        (json!(DENIED), format!("AccessDeniedException: {DENIED}")),
        (
            Value::Null,
            "AccessDeniedException: CloudWatch gave no reason".to_owned(),
        ),
    ] {
        let r#type = "com.amazon.coral.service#AccessDeniedException";
        let body = if message.is_null() {
            json!({"__type": r#type})
        } else {
            json!({"__type": r#type, "Message": message})
        };
        let server = Server::answering(move |_| cbor_answer("400 Bad Request", "", &body));
        let asked = [query("orders-dlq", 10)];
        let fewest = server.fewest(&asked).await;
        assert_eq!(fewest, [refused(&why)], "code in the body alone");
    }
}

#[tokio::test]
async fn a_region_that_fails_leaves_the_other_readable() {
    for failing in [REGION, ELSEWHERE] {
        let readable = by_queue(|id, _| Some(result(id, "Complete", &[(1, 4.0)])));
        let server = Server::answering(move |request| {
            if request.is_for(failing) {
                denied()
            } else {
                readable(request)
            }
        });
        let regions = [REGION, ELSEWHERE, REGION];
        let asked = regions.map(|region| query_in(region, "orders-dlq", 10));
        let fewest = server.fewest(&asked).await;
        let expected = regions.map(|region| match region == failing {
            true => refused(&format!("AccessDenied: {DENIED}")),
            false => read(4),
        });
        assert_eq!(fewest, expected, "{failing}");
    }
}

#[tokio::test]
async fn a_region_without_a_client_is_unreadable_and_takes_no_call() {
    let server = Server::answering(by_queue(|id, _| Some(result(id, "Complete", &[(1, 4.0)]))));
    let asked = ["eu-west-1", REGION].map(|region| query_in(region, "orders-dlq", 10));
    let fewest = server.fewest(&asked).await;
    let why = failed("there is no client for its region");
    assert_eq!(fewest, [why, read(4)]);
    server.only_request("GetMetricData");
}

/// Why metrics and a brake cannot be read, if the answer is these bytes.
async fn whys(case: &str, bytes: Vec<u8>) -> [String; 2] {
    let server = Server::answering(move |_| bytes.clone());
    let clients = server.clients();
    let asked = [query("orders-dlq", 10)];
    let metrics = clients.metrics(asked.to_vec(), soon()).await;
    let [Metrics::Failed(no_depth)] = &*metrics else {
        panic!("{case}: {metrics:?}");
    };
    let brakes = clients.brakes(&["brake".to_owned()], soon()).await;
    let [
        Brake {
            state: BrakeState::Unknown(no_state),
            ..
        },
    ] = &*brakes
    else {
        panic!("{case}: {brakes:?}");
    };
    [no_depth, no_state].map(String::clone)
}

#[track_caller]
fn assert_words(case: &str, text: &str) {
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
async fn answer_that_is_not_cloudwatchs_is_unreadable_in_words() {
    let html = "<html><body><h1>Service Unavailable</h1></body></html>".as_bytes();
    let header = "content-type: text/html\r\n";
    let many = json!({"MetricDataResults": "many", "MetricAlarms": "many"});
    let whole = ok(&many);
    let cut = whole[..whole.len() - 3].to_vec();
    for (case, bytes) in [
        (
            "html, 500",
            answer("500 Internal Server Error", header, html),
        ),
        ("html, 200", answer("200 OK", header, html)),
        ("empty, 503", answer("503 Service Unavailable", "", &[])),
        ("empty, 200", answer("200 OK", "", &[])),
        ("CBOR of another type", whole),
        ("body cut off", cut),
        ("closed without an answer", Vec::new()),
        ("no HTTP", b"ERR unknown command\r\n\r\n".to_vec()),
    ] {
        for why in whys(case, bytes).await {
            assert_words(case, &why);
        }
    }
}

#[tokio::test]
async fn an_error_without_a_code_is_reported_in_words() {
    for body in [json!({}), json!({"message": DENIED})] {
        let case = body.to_string();
        let bytes = cbor_answer("400 Bad Request", "", &body);
        for why in whys(&case, bytes).await {
            assert_words(&case, &why);
        }
    }
}

#[tokio::test]
async fn depth_and_handled_messages_are_reduced_page_by_page() {
    let server = Server::answering(|request| {
        let points: [&[(u64, f64)]; 3] = match request.body["NextToken"].as_str() {
            None => [&[(9, 7.0), (8, 4.0)], &[(9, 10.0), (8, 0.0)], &[(9, 1.0)]],
            Some(_) => [&[(3, 6.0)], &[(3, 20.0), (2, 5.0)], &[]],
        };
        let results = request.queries().into_iter().zip(points);
        let results = results.map(|((id, _), points)| result(id, "Complete", points));
        let results: Vec<Value> = results.collect();
        let is_first = request.body["NextToken"].is_null();
        ok(&json!({"MetricDataResults": results, "NextToken": is_first.then_some("page-2")}))
    });
    let asked = query_with("orders-dlq", &["orders", "late-orders"]);
    let metrics = server.clients().metrics(vec![asked], soon()).await;
    let expected = Readings {
        fewest: Some(4),
        fewest_in_hour: Some(4),
        handled: 36,
        tasks: Vec::new(),
    };
    assert_eq!(metrics, [Metrics::Read(expected)]);
    assert_eq!(server.requests("GetMetricData").len(), 2);
}

/// `Reading` takes each series in the order of time; some emulators return it the other way round.
#[tokio::test]
async fn datapoints_are_read_in_the_order_of_time() {
    let span = crate::metrics::TaskSpan {
        started: before(5),
        until: now(),
        calm_depth: 3,
        calm_for: Duration::from_secs(2 * MINUTE),
    };
    let asked = MetricsQuery {
        tasks: vec![span],
        ..query("orders-dlq", 10)
    };
    for points in [
        [(4, 9.0), (3, 2.0), (2, 1.0), (1, 8.0)],
        [(1, 8.0), (2, 1.0), (3, 2.0), (4, 9.0)],
    ] {
        let server =
            Server::answering(by_queue(move |id, _| Some(result(id, "Complete", &points))));
        let metrics = server.clients().metrics(vec![asked.clone()], soon()).await;
        let [Metrics::Read(readings)] = &*metrics else {
            panic!("{metrics:?}");
        };
        assert_eq!(readings.tasks[0].calm_since, Some(before(3)));
    }
}

#[tokio::test]
async fn one_source_that_may_not_be_read_makes_the_dlq_denied() {
    let why = "The metric may not be read.";
    for refused_queue in ["orders", "late-orders"] {
        let server = Server::answering(by_queue(move |id, queue| {
            let mut result = result(id, "Complete", &[(1, 4.0)]);
            if queue == refused_queue {
                result["StatusCode"] = json!("Forbidden");
                result["Messages"] = json!([{"Code": "Forbidden", "Value": why}]);
            }
            Some(result)
        }));
        let asked = [
            query_with("orders-dlq", &["orders", "late-orders"]),
            query_with("billing-dlq", &["billing"]),
        ];
        let fewest = server.fewest(&asked).await;
        assert_eq!(fewest, [refused(why), read(4)], "{refused_queue}");
    }
}

#[tokio::test]
async fn one_source_that_the_answer_leaves_out_makes_the_dlq_failed() {
    let server = Server::answering(by_queue(|id, queue| {
        (queue != "orders").then(|| result(id, "Complete", &[(1, 4.0)]))
    }));
    let asked = [
        query_with("orders-dlq", &["orders"]),
        query_with("billing-dlq", &["billing"]),
    ];
    let fewest = server.fewest(&asked).await;
    assert_eq!(fewest, [failed(LEFT_OUT), read(4)]);
}

/// Only a refusal is an operator's choice. Everything else is a doubt.
#[tokio::test]
async fn a_call_that_is_throttled_or_fails_is_failed_and_not_denied() {
    for (status, code, why) in [
        ("400 Bad Request", "Throttling", "Throttling: Rate exceeded"),
        (
            "400 Bad Request",
            "ThrottlingException",
            "Throttling: Rate exceeded",
        ),
        (
            "500 Internal Server Error",
            "InternalFailure",
            "InternalFailure: Sorry.",
        ),
        (
            "503 Service Unavailable",
            "ServiceUnavailable",
            "ServiceUnavailable: Sorry.",
        ),
        ("403 Forbidden", "ExpiredToken", "ExpiredToken: Sorry."),
    ] {
        let message = why.split_once(": ").unwrap().1;
        let body = json!({"__type": code, "message": message});
        let server = Server::answering(move |_| cbor_answer(status, "", &body));
        let fewest = server.fewest(&[query("orders-dlq", 10)]).await;
        let [Err(Metrics::Failed(said))] = &*fewest else {
            panic!("{code}: {fewest:?}");
        };
        assert!(said.starts_with(code) && said.ends_with(message), "{said}");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_read_leaves_nothing_half_read() {
    let server = Server::answering(|request| match request.body["NextToken"].as_str() {
        None => {
            let (id, _) = request.queries()[0];
            let results = json!([result(id, "PartialData", &[(1, 4.0)])]);
            ok(&json!({"MetricDataResults": results, "NextToken": "page-2"}))
        }
        Some(_) => denied(),
    });
    let fewest = server.fewest(&[query("orders-dlq", 10)]).await;
    assert_eq!(fewest, [refused(&format!("AccessDenied: {DENIED}"))]);
}

#[tokio::test]
async fn an_answer_whose_pages_have_no_end_is_read_up_to_a_limit_and_failed() {
    let server = Server::answering(|request| {
        let token = request.body["NextToken"].as_str().unwrap_or("0");
        let next = token.parse::<usize>().unwrap() + 1;
        let results = json!([result(request.queries()[0].0, "PartialData", &[(1, 4.0)])]);
        ok(&json!({"MetricDataResults": results, "NextToken": next.to_string()}))
    });
    let fewest = server.fewest(&[query("orders-dlq", 10)]).await;
    assert_eq!(
        fewest,
        [failed("CloudWatch's answer has more than 200 pages")]
    );
    assert_eq!(server.requests("GetMetricData").len(), 201);
}

// The age of the oldest message.

fn seconds(ages: &[u64]) -> Vec<Option<Duration>> {
    let ages = ages.iter().map(|age| Some(Duration::from_secs(*age)));
    ages.collect()
}

#[tokio::test]
async fn age_of_the_oldest_message_is_asked_minute_by_minute_and_the_newest_counts() {
    let points = [(3, 600.0), (2, 660.0), (1, 720.4)];
    let server = Server::answering(by_queue(move |id, _| Some(result(id, "Complete", &points))));
    let dlq = queue_in(REGION, "orders-dlq");
    let ages = server.clients().oldest_ages(&[dlq], now(), soon()).await;
    assert_eq!(ages, seconds(&[720]));
    let request = server.only_request("GetMetricData");
    let stat = &request.body["MetricDataQueries"][0]["MetricStat"];
    assert_eq!(
        stat["Metric"]["MetricName"],
        "ApproximateAgeOfOldestMessage"
    );
    assert_eq!(stat["Metric"]["Dimensions"][0]["Value"], "orders-dlq");
    assert_eq!(
        (&stat["Stat"], &stat["Period"]),
        (&json!("Maximum"), &json!(60))
    );
    assert_eq!(request.body["ScanBy"], "TimestampAscending");
    let since = NOW - 12 * MINUTE;
    assert_eq!(request.body["StartTime"], json!(since as f64));
}

#[tokio::test]
async fn ages_come_in_the_order_of_the_dlqs_whatever_their_region_and_number() {
    let server = Server::answering(by_queue(|id, queue| {
        let age = queue.strip_prefix("dlq-").unwrap().parse().unwrap();
        Some(result(id, "Complete", &[(1, age)]))
    }));
    let region = |n: u64| {
        if n.is_multiple_of(2) {
            REGION
        } else {
            ELSEWHERE
        }
    };
    let dlqs: Vec<_> = (0..1002)
        .map(|n| queue_in(region(n), &format!("dlq-{n}")))
        .collect();
    let ages = server.clients().oldest_ages(&dlqs, now(), soon()).await;
    assert_eq!(ages, seconds(&(0..1002).collect::<Vec<_>>()));
    let requests = server.requests("GetMetricData");
    let mut sizes: Vec<_> = requests.iter().map(|it| it.queries().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 500, 500]);
}

#[tokio::test]
async fn age_that_cannot_be_read_is_unknown() {
    let dlqs = ["orders-dlq", "billing-dlq"].map(|name| queue_in(REGION, name));
    let server = Server::answering(|_| denied());
    let ages = server.clients().oldest_ages(&dlqs, now(), soon()).await;
    assert_eq!(ages, [None, None], "a refusal");

    let server = Server::answering(by_queue(|id, queue| match queue {
        "orders-dlq" => Some(result(id, "Forbidden", &[(1, 4.0)])),
        _ => Some(result(id, "Complete", &[(1, 4.0)])),
    }));
    let ages = server.clients().oldest_ages(&dlqs, now(), soon()).await;
    assert_eq!(ages, [None, Some(Duration::from_secs(4))], "one refused");

    let server = Server::answering(by_queue(|id, _| Some(result(id, "Complete", &[]))));
    let ages = server.clients().oldest_ages(&dlqs, now(), soon()).await;
    assert_eq!(ages, [None, None], "no datapoint");
}

#[tokio::test]
async fn age_is_read_although_another_region_does_not_answer() {
    let server = Server::answering(|request| match request.is_for(ELSEWHERE) {
        true => SILENCE.to_vec(),
        false => by_queue(|id, _| Some(result(id, "Complete", &[(1, 4.0)])))(request),
    });
    let dlqs = [REGION, ELSEWHERE].map(|region| queue_in(region, "orders-dlq"));
    let until = Instant::now() + Duration::from_millis(200);
    let ages = server.clients().oldest_ages(&dlqs, now(), until).await;
    assert_eq!(ages, [Some(Duration::from_secs(4)), None]);
}

#[tokio::test]
async fn no_dlq_to_ask_takes_no_call_for_ages() {
    let server = Server::answering(|_| denied());
    assert_eq!(server.clients().oldest_ages(&[], now(), soon()).await, []);
    assert_eq!(server.0.requests().len(), 0);
}

// Brakes.

/// An alarm as `DescribeAlarms` shows it.
fn alarm(name: &str, state: &str) -> Value {
    json!({"AlarmName": name, "StateValue": state, "ActionsEnabled": true})
}

async fn brakes_answered(body: Value, names: &[&str]) -> Vec<Brake> {
    let server = Server::answering(move |_| ok(&body));
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    server.clients().brakes(&names, soon()).await
}

fn brake(name: &str, state: BrakeState) -> Brake {
    Brake {
        alarm: name.to_owned(),
        state,
    }
}

fn no_such_alarm() -> BrakeState {
    let why = "there is no such alarm in this account and region; this version reads only the types CompositeAlarm, LogAlarm, MetricAlarm";
    BrakeState::Unknown(why.to_owned())
}

#[tokio::test]
async fn brakes_are_asked_for_by_name_in_the_functions_region_in_all_types_on_one_page() {
    let server = Server::answering(|_| ok(&json!({})));
    let names = ["orders consumer: errors", "billing"].map(str::to_owned);
    server.clients().brakes(&names, soon()).await;
    let mut request = server.only_request("DescribeAlarms");
    assert!(request.is_for(REGION), "{}", request.authorization);
    let types = request.body["AlarmTypes"].as_array_mut().unwrap();
    types.sort_by_key(Value::to_string);
    let expected = json!({
        "AlarmNames": names,
        "AlarmTypes": ["CompositeAlarm", "LogAlarm", "MetricAlarm"],
        "MaxRecords": 100,
    });
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn brakes_that_came_in_time_count_although_others_did_not() {
    let server = Server::answering(|request| {
        let names = request.alarm_names();
        if names.contains(&"alarm 100") {
            return SILENCE.to_vec();
        }
        let alarms: Vec<_> = names.iter().map(|name| alarm(name, "OK")).collect();
        ok(&json!({"MetricAlarms": alarms}))
    });
    let names: Vec<_> = (0..200).map(|n| format!("alarm {n}")).collect();
    let until = Instant::now() + Duration::from_millis(200);
    let brakes = server.clients().brakes(&names, until).await;
    let (came, late) = brakes.split_at(100);
    assert!(came.iter().all(|brake| brake.state == BrakeState::Off));
    let unknown = BrakeState::Unknown(no_answer());
    assert!(late.iter().all(|brake| brake.state == unknown), "{late:?}");
}

#[tokio::test]
async fn metrics_that_came_in_time_count_although_others_did_not() {
    let server = Server::answering(|request| match request.is_for(ELSEWHERE) {
        true => SILENCE.to_vec(),
        false => ok(&json!({"MetricDataResults": [{"Id": "q0", "StatusCode": "Complete"}]})),
    });
    let queries = [REGION, ELSEWHERE].map(|region| query_in(region, "orders-dlq", 10));
    let until = Instant::now() + Duration::from_millis(200);
    let metrics = server.clients().metrics(queries.to_vec(), until).await;
    assert!(matches!(metrics[0], Metrics::Read(_)), "{metrics:?}");
    assert_eq!(metrics[1], Metrics::Failed(no_answer()));
}

#[tokio::test]
async fn one_hundred_and_one_brakes_take_a_call_for_100_and_one_for_1() {
    let server = Server::answering(|request| {
        let names = request.alarm_names();
        let alarms: Vec<_> = names.iter().map(|name| alarm(name, "ALARM")).collect();
        ok(&json!({"MetricAlarms": alarms}))
    });
    let names: Vec<_> = (0..101).map(|n| format!("alarm {n}")).collect();
    let brakes = server.clients().brakes(&names, soon()).await;
    let expected: Vec<_> = names
        .iter()
        .map(|name| brake(name, BrakeState::On))
        .collect();
    assert_eq!(brakes, expected);
    let requests = server.requests("DescribeAlarms");
    let sizes: Vec<_> = requests.iter().map(|it| it.alarm_names().len()).collect();
    assert_eq!(sizes, [100, 1]);
}

#[tokio::test]
async fn a_brake_is_on_in_alarm_off_in_its_other_states_and_unknown_in_any_new_one() {
    let unknown =
        |state: &str| BrakeState::Unknown(format!("CloudWatch returned the state `{state}`"));
    for kind in alarm_lists() {
        let kind = kind.as_str();
        for (state, expected) in [
            ("ALARM", BrakeState::On),
            ("OK", BrakeState::Off),
            ("INSUFFICIENT_DATA", BrakeState::Off),
            ("PONDERING", unknown("PONDERING")),
            ("alarm", unknown("alarm")),
            ("", unknown("")),
        ] {
            let body = json!({kind: [alarm("brake", state)]});
            let brakes = brakes_answered(body, &["brake"]).await;
            let case = format!("{kind}, {state}");
            assert_eq!(brakes, [brake("brake", expected)], "{case}");
        }
        let body = json!({kind: [{"AlarmName": "brake"}]});
        let brakes = brakes_answered(body, &["brake"]).await;
        assert_eq!(brakes, [brake("brake", unknown(""))], "{kind}, no state");
    }
}

/// The lists of `DescribeAlarms`, one for each type that the SDK knows. A new type of a newer SDK
/// must be read too.
fn alarm_lists() -> Vec<String> {
    let types = AlarmType::values().iter();
    types.map(|name| format!("{name}s")).collect()
}

/// By AWS's rule, `DescribeAlarms` returns only the types that it is asked for.
#[tokio::test]
async fn a_brake_of_any_type_that_the_sdk_knows_is_read() {
    for kind in alarm_lists() {
        let list = kind.clone();
        let server = Server::answering(move |request| {
            let asked = request.body["AlarmTypes"].as_array().unwrap().iter();
            let mut asked = asked.map(|name| format!("{}s", name.as_str().unwrap()));
            match asked.any(|asked| asked == list) {
                true => ok(&json!({&*list: [alarm("payment provider refuses (logs)", "ALARM")]})),
                false => ok(&json!({})),
            }
        });
        let names = ["payment provider refuses (logs)".to_owned()];
        let brakes = server.clients().brakes(&names, soon()).await;
        assert_eq!(brakes, [brake(&names[0], BrakeState::On)], "{kind}");
    }
}

#[tokio::test]
async fn a_brake_of_a_type_that_the_sdk_does_not_know_is_unknown_and_the_known_types_are_named() {
    let body = json!({"TraceAlarms": [alarm("brake", "OK")]});
    let brakes = brakes_answered(body, &["brake"]).await;
    assert_eq!(brakes, [brake("brake", no_such_alarm())]);
}

/// An alarm keeps its last state while its evaluation fails.
#[tokio::test]
async fn a_brake_whose_evaluation_fails_is_unknown_with_the_reason_whatever_its_last_state() {
    let why = "The query has a syntax error.";
    for kind in ["MetricAlarms", "LogAlarms"] {
        for failure in ["EVALUATION_FAILURE", "EVALUATION_ERROR", "SOMETHING_NEW"] {
            for state in ["OK", "ALARM", "INSUFFICIENT_DATA"] {
                let mut failing = alarm("brake", state);
                failing["EvaluationState"] = json!(failure);
                let said = format!(
                    "CloudWatch cannot evaluate the alarm ({failure}), and its last state, {state}, may be out of date"
                );
                let brakes = brakes_answered(json!({kind: [failing.clone()]}), &["brake"]).await;
                let unknown = BrakeState::Unknown(said.clone());
                assert_eq!(brakes, [brake("brake", unknown)], "{kind}");

                failing["StateReason"] = json!(why);
                let brakes = brakes_answered(json!({kind: [failing]}), &["brake"]).await;
                let unknown = BrakeState::Unknown(format!("{said}: {why}"));
                assert_eq!(brakes, [brake("brake", unknown)], "{kind}");
            }
        }
    }
}

#[tokio::test]
async fn a_brake_that_is_evaluated_from_partial_data_counts_as_its_state() {
    for kind in ["MetricAlarms", "LogAlarms"] {
        for (state, expected) in [("OK", BrakeState::Off), ("ALARM", BrakeState::On)] {
            let mut partial = alarm("brake", state);
            partial["EvaluationState"] = json!("PARTIAL_DATA");
            let brakes = brakes_answered(json!({kind: [partial]}), &["brake"]).await;
            assert_eq!(brakes, [brake("brake", expected)], "{kind}");
        }
    }
}

#[tokio::test]
async fn a_brake_that_the_answer_lacks_is_unknown() {
    let body = json!({"MetricAlarms": [alarm("there", "OK"), {"StateValue": "OK"}]});
    let brakes = brakes_answered(body, &["gone", "there", "There"]).await;
    let expected = [
        brake("gone", no_such_alarm()),
        brake("there", BrakeState::Off),
        brake("There", no_such_alarm()),
    ];
    assert_eq!(brakes, expected);
    let brakes = brakes_answered(json!({}), &["gone"]).await;
    assert_eq!(brakes, [brake("gone", no_such_alarm())], "no alarms at all");
}

#[tokio::test]
async fn brakes_are_returned_in_the_order_of_the_names() {
    let body = json!({
        "MetricAlarms": [alarm("d", "ALARM"), alarm("a", "OK"), alarm("not asked for", "ALARM")],
        "CompositeAlarms": [alarm("c", "OK"), alarm("b", "ALARM")],
    });
    let brakes = brakes_answered(body, &["c", "a", "d", "x", "b"]).await;
    let expected = [
        brake("c", BrakeState::Off),
        brake("a", BrakeState::Off),
        brake("d", BrakeState::On),
        brake("x", no_such_alarm()),
        brake("b", BrakeState::On),
    ];
    assert_eq!(brakes, expected);
}

#[tokio::test]
async fn refused_brakes_are_all_unknown_for_the_reason_given() {
    let server = Server::answering(|_| denied());
    let names = ["one", "two"].map(str::to_owned);
    let brakes = server.clients().brakes(&names, soon()).await;
    let why = BrakeState::Unknown(format!("AccessDenied: {DENIED}"));
    assert_eq!(brakes, [brake("one", why.clone()), brake("two", why)]);
}

#[tokio::test]
async fn a_refusal_of_the_second_100_brakes_leaves_the_first_known() {
    let server = Server::answering(|request| {
        let names = request.alarm_names();
        if names.len() < 100 {
            return denied();
        }
        let alarms: Vec<_> = names.iter().map(|name| alarm(name, "OK")).collect();
        ok(&json!({"MetricAlarms": alarms}))
    });
    let names: Vec<_> = (0..101).map(|n| format!("alarm {n}")).collect();
    let states = server.clients().brakes(&names, soon()).await;
    let states: Vec<_> = states.into_iter().map(|brake| brake.state).collect();
    assert_eq!(states[..100], vec![BrakeState::Off; 100]);
    let why = format!("AccessDenied: {DENIED}");
    assert_eq!(states[100..], [BrakeState::Unknown(why)]);
}

#[tokio::test]
async fn page_that_fails_does_not_drop_what_an_earlier_one_returned() {
    let server = Server::answering(|request| {
        let id = request.queries()[0].0;
        let (entry, token) = match request.body["NextToken"].as_str() {
            None => (result(id, "PartialData", &[(1, 4.0)]), Some("page-2")),
            Some("page-2") => (result(id, "InternalError", &[]), Some("page-3")),
            _ => (result(id, "Complete", &[(2, 9.0)]), None),
        };
        ok(&json!({"MetricDataResults": [entry], "NextToken": token}))
    });
    let fewest = server.fewest(&[query("orders-dlq", 10)]).await;
    assert_eq!(fewest, [read(4)]);
}
