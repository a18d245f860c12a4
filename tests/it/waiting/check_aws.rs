//! `make check-aws`, against the local AWS: its table, its record, its exit status, and that it leaves nothing behind.

use crate::support::http::{Answer, Request, Server, agent};
use crate::support::local::{ACCOUNT, REGION, project_file, sdk, servers};
use aws_sdk_sqs::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PAGE: &str = include_str!("../../../docs/check-aws.md");
const PROGRAM: &str = include_str!("../../../local/check_aws.py");
const PREFIX: &str = "sqs-auto-redrive-check-";
/// Several times what the slowest run takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Rows that compare times or rates. A slow machine may decide them in any way.
const TIMED: [&str; 7] = [
    "pace-",
    "start-1",
    "start-5",
    "lag-",
    // Whether a message falls back while the task still runs.
    "moves-once",
    "overshoot",
    "sample-size",
];

/// A run of the program, with a folder of its own.
struct Run {
    process: Child,
    folder: PathBuf,
    printed: PathBuf,
}

impl Run {
    /// Starts it with these variables and options. No other AWS settings reach it.
    fn start(folder: &str, variables: &[(&str, &str)], options: &[&str]) -> Self {
        let python = project_file(".venv/local/bin/python");
        assert!(python.exists(), "run `make setup`, which installs boto3");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("check-{folder}"));
        fs::create_dir_all(&folder).unwrap();
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let printed = folder.join(format!("output-{number}"));
        let output = File::create(&printed).unwrap();
        let process = Command::new(python)
            .arg(project_file("local/check_aws.py"))
            .args(["--quick", "--folder", folder.to_str().unwrap()])
            .args(options)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &folder)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // LocalStack has few services. Its refusals are final.
            .env("AWS_MAX_ATTEMPTS", "1")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self {
            process,
            folder,
            printed,
        }
    }

    /// Its output so far.
    fn output(&self) -> String {
        fs::read_to_string(&self.printed).unwrap()
    }

    /// The name of everything that it creates, from its output.
    fn name(&self) -> String {
        let output = self.output();
        let (_, rest) = output.split_once("under the name ").expect(&output);
        rest.split_once(':').unwrap().0.to_owned()
    }

    /// Waits for its end, and returns the exit status; `None` if a signal ended it.
    fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            sleep(Duration::from_millis(100));
        }
        panic!("it did not end:\n{}", self.output())
    }

    fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            let late = started.elapsed() > PATIENCE;
            assert!(!late, "timed out: {what}\n{}", self.output());
            sleep(Duration::from_millis(100));
        }
    }

    /// The text of its record.
    fn record(&self) -> String {
        fs::read_to_string(self.folder.join("record.json")).unwrap()
    }

    /// Asserts that table, record and exit status agree, and returns what holds, by the ID of the row.
    fn rows(&self, status: Option<i32>) -> BTreeMap<String, String> {
        let record: Value = serde_json::from_str(&self.record()).unwrap();
        assert_eq!(
            (&record["aws"], &record["quick"]),
            (&false.into(), &true.into())
        );
        assert_eq!(record["leftBehind"], 0);
        let output = self.output();
        let (_, table) = output
            .split_once("\n| assumption | seen | holds |\n|---|---|---|\n")
            .expect(&output);
        let lines: Vec<&str> = table
            .lines()
            .take_while(|line| line.starts_with('|'))
            .collect();
        let rows = record["rows"].as_array().unwrap();
        assert_eq!(lines.len(), rows.len());
        let mut holds = BTreeMap::new();
        for (line, row) in lines.iter().zip(rows) {
            let [id, assumption, seen, is] =
                ["id", "assumption", "seen", "holds"].map(|key| row[key].as_str().unwrap());
            assert!(
                line.starts_with(&format!("| {assumption} (`{id}`) | ")),
                "{line}"
            );
            assert!(line.ends_with(&format!(" | {is} |")), "{line}");
            assert!(
                !seen.is_empty(),
                "{id} says what was seen, or why nothing was"
            );
            holds.insert(id.to_owned(), is.to_owned());
        }
        let broken = holds.values().any(|is| is == "no");
        assert_eq!(status, Some(i32::from(broken)), "{output}");
        holds
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The variables of a run against these servers, with credentials.
fn against<'a>(sqs: &'a str, others: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("AWS_ENDPOINT_URL_SQS", sqs),
        ("AWS_ENDPOINT_URL", others),
        ("AWS_ACCESS_KEY_ID", ACCOUNT),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_DEFAULT_REGION", REGION),
    ]
}

fn sqs() -> Client {
    Client::new(&sdk(&servers().sqs_url))
}

/// The names of the queues of LocalStack that begin like this.
async fn queues(prefix: &str) -> Vec<String> {
    let listed = sqs()
        .list_queues()
        .queue_name_prefix(prefix)
        .send()
        .await
        .unwrap();
    let urls = listed.queue_urls().iter();
    urls.map(|url| url.rsplit('/').next().unwrap().to_owned())
        .collect()
}

/// What a service of MiniStack answers to a call without parameters.
fn ministack(service: &str, body: &str) -> String {
    let credential = format!("Credential={ACCOUNT}/20260101/{REGION}/{service}/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=none");
    let url = &servers().cloudwatch_url;
    let mut answer = match body {
        "" => agent()
            .get(url)
            .header("authorization", authorization)
            .call(),
        form => agent()
            .post(url)
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .send(form),
    }
    .unwrap();
    answer.body_mut().read_to_string().unwrap()
}

/// The stacks and buckets of MiniStack, as it lists them.
fn stacks_and_buckets() -> String {
    ministack("cloudformation", "Action=DescribeStacks&Version=2010-05-15") + &ministack("s3", "")
}

/// The path of a deployment package with the binary of the tests.
fn package() -> &'static str {
    static PACKAGE: LazyLock<String> = LazyLock::new(|| {
        let zip = format!("{}/check-bootstrap.zip", env!("CARGO_TARGET_TMPDIR"));
        let pack = "import pathlib, sys; sys.path.insert(0, 'local'); import deploy; \
                    pathlib.Path(sys.argv[2]).write_bytes(deploy.package(pathlib.Path(sys.argv[1])))";
        let status = Command::new(project_file(".venv/local/bin/python"))
            .args(["-c", pack, env!("CARGO_BIN_EXE_sqs-auto-redrive"), &zip])
            .current_dir(project_file(""))
            .status()
            .unwrap();
        assert!(status.success());
        zip
    });
    &PACKAGE
}

/// The rows of a table of the page: their cells.
fn table(name: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = PAGE.split_once(&format!("<!-- {name} -->")).unwrap();
    let (table, _) = rest.split_once(&format!("<!-- /{name} -->")).unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(1).map(|row| row.split(" | ").collect()).collect()
}

/// Asserts that exactly the documented rows do not hold or are not seen. `column` is that of the emulators.
fn assert_documented(holds: &BTreeMap<String, String>, column: usize, except: &[&str]) {
    let is_timed = |id: &str| TIMED.iter().any(|timed| id.starts_with(timed));
    let mut expected = BTreeMap::new();
    for row in table("differences") {
        let id = row[0].trim_matches('`');
        assert!(
            holds.contains_key(id),
            "the page lists `{id}`, which is no row"
        );
        if row[column] != "yes" && !except.contains(&id) && !is_timed(id) {
            expected.insert(id, row[column]);
        }
    }
    let mut seen = BTreeMap::new();
    for (id, is) in holds {
        if is != "yes" && !is_timed(id) {
            seen.insert(id.as_str(), is.as_str());
        }
    }
    assert_eq!(seen, expected);
    let timed = holds.iter().filter(|(id, _)| is_timed(id));
    let (unseen, others): (Vec<_>, Vec<_>) = timed.partition(|(_, is)| *is == "not seen");
    assert!(
        unseen.len() < others.len(),
        "most are seen, but not {unseen:?}"
    );
}

/// A server in front of LocalStack's SQS, whose caller is the user alice. `special` may answer calls to SQS itself.
fn alices_sqs(special: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        if request
            .header("content-type")
            .starts_with("application/x-www-form")
        {
            let body = format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>arn:aws:iam::{ACCOUNT}:user/alice</Arn><UserId>A</UserId><Account>{ACCOUNT}</Account>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
            return xml(200, body);
        }
        let answer = special(request).or_else(|| request.forward(&servers().sqs_url));
        answer.unwrap_or_else(|| Answer::error(503, "ServiceUnavailable", "no answer"))
    })
}

/// An answer in the protocol of STS.
fn xml(status: u16, body: String) -> Answer {
    Answer {
        status,
        headers: vec![("content-type".to_owned(), "text/xml".to_owned())],
        body: body.into_bytes(),
        is_cut: false,
    }
}

fn denial(action: &str, resource: &str) -> Answer {
    let message = format!(
        "User: arn:aws:iam::{ACCOUNT}:user/alice is not authorized to perform: {action} on resource: {resource}"
    );
    Answer::error(403, "AccessDenied", &message)
}

#[tokio::test(flavor = "multi_thread")]
async fn against_localstack_it_ends_with_its_table_and_a_record_without_names() {
    let server = alices_sqs(|request| {
        let source = request.json()["SourceArn"].as_str()?.to_owned();
        let is_denied =
            request.operation() == "StartMessageMoveTask" && source.ends_with("-denied-dlq");
        is_denied.then(|| denial("sqs:receivemessage", &source))
    });
    let mut variables = against(&server.url, &servers().sqs_url).to_vec();
    variables.push(("AWS_ENDPOINT_URL_STS", &server.url));
    let mut run = Run::start("localstack", &variables, &["--yes", "--zip", package()]);

    let status = run.end();

    let holds = run.rows(status);
    assert_documented(&holds, 1, &["access-denied", "connect"]);
    assert_eq!(
        (&*holds["access-denied"], &*holds["connect"]),
        ("yes", "yes")
    );
    assert_eq!(queues(&run.name()).await, [""; 0]);
    let record = run.record();
    assert!(record.contains(
        "User: <arn> is not authorized to perform: sqs:receivemessage on resource: <arn>"
    ));
    for secret in [ACCOUNT, "arn:", "alice", "TaskHandle\": "] {
        assert!(!record.contains(secret), "the record has `{secret}`");
        let output = run.output();
        assert!(!output.contains(secret), "the table has `{secret}`");
    }
}

/// Creates a queue of a run that this machine does not know, which began so long ago.
async fn foreign(hours: u64, is_tagged: bool) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let run = format!(
        "{:08x}{:06x}",
        now - hours * 3600,
        hours + u64::from(is_tagged)
    );
    let name = format!("{PREFIX}{run}-foreign");
    let mut create = sqs().create_queue().queue_name(&name);
    if is_tagged {
        create = create.tags("sqs-auto-redrive-check", run);
    }
    create.send().await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_half_way_the_next_run_cleans_up_and_leaves_nothing() {
    let variables = against(&servers().sqs_url, &servers().cloudwatch_url);
    let options = ["--yes", "--zip", package()];
    let mut killed = Run::start("killed", &variables, &options);
    killed.wait_for("its stack", || {
        killed.output().contains("under the name")
            && stacks_and_buckets().contains(&format!("<StackName>{}<", killed.name()))
    });
    killed.process.kill().unwrap();
    assert_eq!(killed.end(), None);
    let first = killed.name();
    assert!(queues(&first).await.len() > 20);
    let (old, young, untagged) = (
        foreign(7, true).await,
        foreign(1, true).await,
        foreign(8, false).await,
    );

    let mut run = Run::start("killed", &variables, &options);
    let status = run.end();

    let holds = run.rows(status);
    assert_documented(&holds, 2, &[]);
    let listed = stacks_and_buckets();
    for name in [&first, &run.name()] {
        assert_eq!(queues(name).await, [""; 0]);
        let left: Vec<&str> = listed
            .split('<')
            .filter(|it| it.contains(name.as_str()))
            .collect();
        let is_deleted = |it: &&str| it.starts_with("StackName>") || it.starts_with("StackId>");
        assert!(left.iter().all(is_deleted), "{left:?}");
    }
    assert_eq!(queues(&old).await, [""; 0]);
    for name in [young, untagged] {
        assert_eq!(queues(&name).await, [name.as_str()]);
        let url = format!("{}/{ACCOUNT}/{name}", servers().sqs_url);
        sqs().delete_queue().queue_url(url).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_deletes_its_own_and_nothing_of_a_run_that_is_alive() {
    let variables = against(&servers().sqs_url, &servers().cloudwatch_url);
    let options = ["--yes", "--zip", package()];
    let (mut runs, mut created) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let run = Run::start("interrupted", &variables, &options);
        run.wait_for("its measurement", || run.output().contains("==> Measuring"));
        while queues(&run.name()).await.len() < 10 {
            sleep(Duration::from_millis(50));
        }
        created.push(queues(&run.name()).await);
        runs.push(run);
    }
    let still_there = queues(&runs[0].name()).await;
    // One step deletes its own destination.
    created[0].retain(|queue| !queue.ends_with("no-queue-stash"));
    assert!(
        created[0].iter().all(|queue| still_there.contains(queue)),
        "the second run deleted queues of the first: {created:?}, {still_there:?}"
    );

    for (run, (signal, status)) in runs.iter_mut().zip([("-INT", 130), ("-TERM", 143)]) {
        let id = run.process.id().to_string();
        Command::new("kill").args([signal, &id]).status().unwrap();

        assert_eq!(run.end(), Some(status), "{}", run.output());

        assert_eq!(queues(&run.name()).await, [""; 0]);
        let is_half = !run.output().contains("| assumption |");
        assert!(is_half, "there is no table of half a run");
    }
}

#[test]
fn without_credentials_or_a_region_it_says_so_and_calls_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let server = Server::start(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Answer::html(500)
    });
    for (missing, says) in [
        ("AWS_ACCESS_KEY_ID", "error: no credentials: "),
        ("AWS_DEFAULT_REGION", "error: no region: "),
    ] {
        let mut variables = against(&server.url, &server.url).to_vec();
        variables.retain(|(name, _)| {
            *name != missing && (missing != "AWS_ACCESS_KEY_ID" || *name != "AWS_SECRET_ACCESS_KEY")
        });
        let mut run = Run::start(
            &missing.to_lowercase(),
            &variables,
            &["--yes", "--zip", package()],
        );
        assert_eq!(run.end(), Some(2));
        assert!(run.output().starts_with(says), "{}", run.output());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[test]
fn credentials_that_aws_refuses_are_reported() {
    let server = Server::start(|_| {
        let error =
            "<Code>InvalidClientTokenId</Code><Message>The security token is invalid.</Message>";
        xml(
            403,
            format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>"),
        )
    });
    let variables = against(&server.url, &server.url);
    let mut run = Run::start(
        "bad-credentials",
        &variables,
        &["--yes", "--zip", package()],
    );

    assert_eq!(run.end(), Some(2));

    let says = "error: AWS refuses the credentials: InvalidClientTokenId: The security token is invalid.\n";
    assert_eq!(run.output(), says);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_permission_is_named_and_nothing_is_created() {
    let created = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&created);
    let server = alices_sqs(move |request| match request.operation() {
        "CancelMessageMoveTask" => Some(denial("sqs:cancelmessagemovetask", "none")),
        "CreateQueue" => {
            let answer = request.forward(&servers().sqs_url)?;
            counter.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
            Some(answer)
        }
        _ => None,
    });
    let mut run = Run::start(
        "refused",
        &against(&server.url, &servers().sqs_url),
        &["--yes", "--zip", package()],
    );

    assert_eq!(run.end(), Some(2), "{}", run.output());

    let says = "error: the credentials lack these permissions: sqs:CancelMessageMoveTask. Nothing was created\n";
    assert_eq!(run.output(), says);
    assert_eq!(created.load(Ordering::Relaxed), 0);
}

/// MiniStack's simulator knows no user alice, so it denies everything.
#[test]
fn a_permission_that_only_the_simulator_denies_is_named_too() {
    let server = alices_sqs(|_| None);
    let mut variables = against(&server.url, &servers().cloudwatch_url).to_vec();
    variables.push(("AWS_ENDPOINT_URL_STS", &server.url));
    let mut run = Run::start("simulated", &variables, &["--yes", "--zip", package()]);

    assert_eq!(run.end(), Some(2), "{}", run.output());

    for action in ["iam:CreateRole", "kms:CreateKey", "sqs:CreateQueue"] {
        assert!(
            run.output().contains(&format!(" {action},")),
            "{}",
            run.output()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_consent_it_says_what_it_would_create_and_creates_nothing() {
    let variables = against(&servers().sqs_url, &servers().cloudwatch_url);
    let mut run = Run::start("consent", &variables, &["--zip", package()]);

    assert_eq!(run.end(), Some(2), "{}", run.output());

    for said in ["minutes", "USD", "queues", "a stack", "error: no consent"] {
        assert!(run.output().contains(said), "{said}: {}", run.output());
    }
    assert_eq!(queues(&run.name()).await, [""; 0]);
}

#[test]
fn the_page_has_the_permissions_that_the_program_asks_for() {
    let (_, policy) = PAGE.split_once("```json\n").unwrap();
    let policy: Value = serde_json::from_str(policy.split_once("```").unwrap().0).unwrap();
    let on_page = policy["Statement"][0]["Action"].as_array().unwrap().iter();
    let on_page: BTreeSet<String> = on_page
        .map(|action| action.as_str().unwrap().to_owned())
        .collect();
    let (_, rest) = PROGRAM.split_once("\nACTIONS = {\n").unwrap();
    let (dictionary, _) = rest.split_once("\n}\n").unwrap();
    let mut service = "";
    let mut in_program = BTreeSet::new();
    for text in dictionary.split('"').skip(1).step_by(2) {
        match text.chars().next() {
            Some(first) if first.is_lowercase() => service = text,
            _ => in_program.extend(
                text.split(' ')
                    .filter(|it| !it.is_empty())
                    .map(|it| format!("{service}:{it}")),
            ),
        }
    }
    assert!(in_program.len() > 50, "{in_program:?}");
    assert_eq!(on_page, in_program);
}
