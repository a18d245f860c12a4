"""Checks on a real AWS account what this project assumes of SQS, CloudWatch and Lambda. See docs/check-aws.md.

    check_aws.py [--yes] [--quick] [--tasks] [--zip FILE] [--folder FOLDER]

It creates queues, a stack and a bucket under a random name, and deletes all of them again, however it ends. It prints a
table and writes it to FOLDER/record.json, without account IDs, ARNs and names of the user.

The exit status is 0 if every assumption that was seen holds, 1 if one does not or something is left behind, 2 if the
check could not run, and 130 or 143 if a signal ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import secrets
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import boto3
import check_steps
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from check_steps import PREFIX, QUICK, ROOT, TAG, Check, NotSeen, Queue, Scale, Step, Stopped, refusal
from servers import exit_on_signals

# A run stops by itself after LIMIT. So what is older than DEAD belongs to no living run, on whatever machine.
LIMIT, DEAD = 2 * 3600, 6 * 3600
# The calls of the program, and what CloudFormation calls for it. docs/check-aws.md has them as a policy.
ACTIONS = {
    "sqs": (
        "CancelMessageMoveTask CreateQueue DeleteMessage DeleteQueue GetQueueAttributes ListDeadLetterSourceQueues "
        "ListMessageMoveTasks ListQueueTags ListQueues ReceiveMessage SendMessage SetQueueAttributes "
        "StartMessageMoveTask TagQueue"
    ),
    "cloudwatch": (
        "DeleteAlarms DeleteDashboards DescribeAlarms GetDashboard GetMetricData PutDashboard PutMetricAlarm "
        "TagResource"
    ),
    "tag": "GetResources",
    "cloudformation": "CreateChangeSet CreateStack DeleteStack DescribeStackEvents DescribeStacks",
    "s3": "CreateBucket DeleteBucket DeleteObject GetObject ListAllMyBuckets PutObject",
    "lambda": (
        "AddPermission CreateFunction DeleteFunction DeleteFunctionEventInvokeConfig GetFunction InvokeFunction "
        "PutFunctionEventInvokeConfig RemovePermission TagResource"
    ),
    "iam": (
        "CreateRole DeleteRole DeleteRolePolicy GetRole GetRolePolicy PassRole PutRolePolicy "
        "SimulatePrincipalPolicy TagRole"
    ),
    "logs": "CreateLogGroup DeleteLogGroup DescribeLogGroups FilterLogEvents PutRetentionPolicy TagResource",
    "scheduler": "CreateSchedule DeleteSchedule GetSchedule",
    "sns": "CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes TagResource",
    "kms": "CreateKey DescribeKey EnableKeyRotation PutKeyPolicy ScheduleKeyDeletion TagResource",
}
PLAN = """This creates in the region {region}, under the name {name}:
  - about 50 SQS queues with up to 5,000 messages each{tasks}
  - a stack of template.yaml: a function, its roles and log group, a schedule, alarms, a topic, a key, a dashboard
  - a bucket with the function's zip
It takes about 25 minutes and costs about 0.10 USD. At the end it deletes everything. Only the key remains for up to 30
days, disabled and free of charge, because KMS deletes no key sooner."""
TASKS = (
    "\n  - 202 more queues, and 100 concurrent move tasks: other redrives of the account and region may be refused then"
)
DENIED = r"AccessDenied|Unauthorized|AuthorizationError|NotAuthorized|^403$"
FAILURES = (ClientError, BotoCoreError, ResponseParserError)
BAD_CREDENTIALS = (
    r"ExpiredToken|InvalidClientTokenId|UnrecognizedClient|SignatureDoesNotMatch|InvalidSignature|Credential"
)


class CannotRun(Exception):
    """The check cannot start, and has created nothing. The text is for people."""


def client_factory() -> Callable[[str], Any]:
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "5")  # the steps run together, and may be throttled
    session = boto3.Session()
    if session.region_name is None:
        raise CannotRun("no region: set AWS_DEFAULT_REGION")
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise CannotRun(f"no credentials: {error}") from None
    if credentials is None:
        raise CannotRun("no credentials: set AWS_PROFILE, or sign in as for the AWS CLI")
    config = Config(max_pool_connections=100, retries={"mode": "standard"}, read_timeout=150)
    return lambda service: session.client(service, config=config)


# Permissions


def caller(client: Callable[[str], Any]) -> str:
    """The caller's ARN; empty if this is an emulator without STS."""
    try:
        return str(client("sts").get_caller_identity()["Arn"])
    except ClientError as error:
        stop_if_bad_credentials(error.response["Error"])
    except FAILURES:
        pass
    return ""


def stop_if_bad_credentials(error: dict[str, Any]) -> None:
    if re.search(BAD_CREDENTIALS, error["Code"]):
        raise CannotRun(f"AWS refuses the credentials: {error['Code']}: {error['Message']}")


def refused_actions(check: Check, arn: str) -> list[str]:
    """The actions that the caller may not call: by calls that change nothing, and by simulation if that is allowed."""
    sqs, account = check.sqs, arn.split(":")[4] if arn else "123456789012"
    name = f"{check.name}-none"
    url = f"{sqs.meta.endpoint_url}/{account}/{name}"
    none = Queue(url, f"arn:aws:sqs:{sqs.meta.region_name}:{account}:{name}")
    at = {"QueueUrl": url}
    others = {
        "cloudwatch:GetMetricData": lambda: check.clients["cloudwatch"].get_metric_data(
            MetricDataQueries=[check_steps.metric(none, "Sent")], StartTime=time.time() - 600, EndTime=time.time()
        ),
        "cloudformation:DescribeStacks": lambda: check.clients["cloudformation"].describe_stacks(),
        "s3:ListAllMyBuckets": lambda: check.clients["s3"].list_buckets(),
        "tag:GetResources": lambda: check.clients["resourcegroupstaggingapi"].get_resources(),
        "lambda:InvokeFunction": lambda: check.clients["lambda"].invoke(FunctionName=name),
        "logs:FilterLogEvents": lambda: check.clients["logs"].filter_log_events(logGroupName=f"/aws/lambda/{name}"),
    }
    harmless: dict[str, Callable[[], Any]] = {
        "sqs:ListQueues": lambda: sqs.list_queues(QueueNamePrefix=name),
        "sqs:CreateQueue": lambda: sqs.create_queue(QueueName=f"{name}!"),
        "sqs:DeleteQueue": lambda: sqs.delete_queue(**at),
        "sqs:TagQueue": lambda: sqs.tag_queue(**at, Tags=check.tags),
        "sqs:ListQueueTags": lambda: sqs.list_queue_tags(**at),
        "sqs:GetQueueAttributes": lambda: check.depth(none),
        "sqs:ListDeadLetterSourceQueues": lambda: sqs.list_dead_letter_source_queues(**at),
        "sqs:SetQueueAttributes": lambda: sqs.set_queue_attributes(**at, Attributes={"DelaySeconds": "0"}),
        "sqs:SendMessage": lambda: sqs.send_message(**at, MessageBody="0"),
        "sqs:ReceiveMessage": lambda: sqs.receive_message(**at),
        "sqs:DeleteMessage": lambda: sqs.delete_message(**at, ReceiptHandle="none"),
        "sqs:StartMessageMoveTask": lambda: check.start(none),
        "sqs:ListMessageMoveTasks": lambda: check.tasks(none),
        "sqs:CancelMessageMoveTask": lambda: check.cancel("none"),
    } | others
    refused = set()
    for action, call in harmless.items():
        try:
            error = refusal(call)
        except FAILURES as failure:
            if action.startswith("sqs:"):
                raise CannotRun(f"SQS cannot be reached: {failure}") from None
            continue  # an emulator without this service
        if error:
            stop_if_bad_credentials({"Code": error["code"], "Message": error["message"]})
            if re.search(DENIED, error["code"]):
                refused.add(action)
    return sorted(refused | simulated(check, arn))


def simulated(check: Check, arn: str) -> set[str]:
    """What IAM's simulator denies the caller. Nothing for the root user, or if the caller may not simulate."""
    if not re.search(r":(user|assumed-role)/", arn):
        return set()
    iam, denied = check.clients["iam"], set()
    partition, region, account = arn.split(":")[1], check.sqs.meta.region_name, arn.split(":")[4]
    names = {"sqs": "{}", "lambda": "function:{}", "logs": "log-group:/aws/lambda/{}", "sns": "{}", "iam": "role/{}"}
    names |= {"cloudformation": "stack/{}/0", "cloudwatch": "alarm:{}", "scheduler": "schedule/default/{}"}
    with contextlib.suppress(*FAILURES):
        source = arn
        if ":assumed-role/" in arn:
            source = iam.get_role(RoleName=arn.split("/")[1])["Role"]["Arn"]
        for service, actions in ACTIONS.items():
            where = "" if service == "iam" else region
            name = names.get(service, "*").format(check.name)
            resource = "*" if name == "*" else f"arn:{partition}:{service}:{where}:{account}:{name}"
            answer = iam.simulate_principal_policy(
                PolicySourceArn=source,
                ActionNames=[f"{service}:{action}" for action in actions.split()],
                ResourceArns=[resource],
                ContextEntries=[
                    {"ContextKeyName": "aws:RequestedRegion", "ContextKeyValues": [region], "ContextKeyType": "string"}
                ],
            )
            for result in answer["EvaluationResults"]:
                if result["EvalDecision"] != "allowed" and not result.get("MissingContextValues"):
                    denied.add(result["EvalActionName"])
    return denied


# What runs leave behind


class Runs:
    """The runs of this machine: a file for each, which is locked for as long as its process lives."""

    def __init__(self, folder: Path, where: str) -> None:
        self.folder, self.where = folder / "runs", where
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> str:
        """The ID of a new run: its time and a random part."""
        run = f"{int(time.time()):08x}{secrets.token_hex(3)}"
        self._lock = (self.folder / run).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._lock.write(self.where)
        self._lock.flush()
        return run

    def end(self, run: str) -> None:
        (self.folder / run).unlink(missing_ok=True)

    def dead(self) -> set[str]:
        """The runs of this account and region whose process has ended."""
        found = set()
        for file in self.folder.iterdir():
            with file.open() as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if lock.read() == self.where:
                    found.add(file.name)
        return found


def run_of(name: str) -> str | None:
    found = re.match(re.escape(PREFIX) + r"([0-9a-f]{14})(-|$)", name)
    return found[1] if found else None


class Leftovers:
    """What the runs that `is_over` chooses have left in the account."""

    def __init__(self, check: Check, is_over: Callable[[str], bool]) -> None:
        self.check, self.is_over = check, is_over
        self.kinds = {"stack": self.stacks, "queue": self.queues, "bucket": self.buckets}
        self.is_tagged = dict.fromkeys(check.queues, True)

    def delete(self) -> list[str]:
        """Deletes everything, and returns what is still there."""
        delete = {"stack": self.delete_stack, "queue": self.delete_queue, "bucket": self.delete_bucket}
        deadline = time.time() + 900
        while left := self.look():
            if time.time() > deadline:
                return [f"{kind} {name}" for kind, name in left]
            with ThreadPoolExecutor(16) as pool:
                for asked in [pool.submit(delete[kind], name) for kind, name in left if name]:
                    with contextlib.suppress(*FAILURES):
                        asked.result()
            time.sleep(2)
        return []

    def look(self) -> list[tuple[str, str]]:
        """The kind and name of everything that is left. No name if AWS does not list a kind that was created."""
        found = []
        for kind, names in self.kinds.items():
            try:
                found += [(kind, name) for name in names()]
            except FAILURES:
                found += [(kind, "")] if kind in self.check.kinds else []
        return found

    def is_ours(self, name: str) -> bool:
        run = run_of(name)
        return run is not None and self.is_over(run)

    def queues(self) -> list[str]:
        """The URLs of queues by name and tag. Adds the queues of this run: SQS may not list a new queue yet."""
        paging = {"PageSize": 1000}
        pages = self.check.sqs.get_paginator("list_queues").paginate(QueueNamePrefix=PREFIX, PaginationConfig=paging)
        listed = {url for page in pages for url in page.get("QueueUrls", [])}
        urls = [url for url in listed | self.check.queues if self.is_ours(url.split("/")[-1])]

        with ThreadPoolExecutor(16) as pool:
            return [url for url, is_there in zip(urls, pool.map(self.is_there, urls), strict=True) if is_there]

    def is_there(self, url: str) -> bool:
        """Whether the queue has the tag, and still exists: SQS lists a deleted one for up to a minute.

        The tag is read once, because SQS allows few such calls a second.
        """
        try:
            if url in self.is_tagged:
                self.check.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            else:
                tags = self.check.sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
                self.is_tagged[url] = tags.get(TAG) == run_of(url.split("/")[-1])
        except self.check.sqs.exceptions.QueueDoesNotExist:
            return False
        return self.is_tagged[url]

    def stacks(self) -> list[str]:
        """The names of stacks by name and tag."""
        pages = self.check.clients["cloudformation"].get_paginator("describe_stacks").paginate()
        stacks = [(stack["StackName"], stack) for page in pages for stack in page["Stacks"]]
        return [
            name
            for name, stack in stacks
            if self.is_ours(name) and {"Key": TAG, "Value": run_of(name)} in stack.get("Tags", [])
            if stack["StackStatus"] != "DELETE_COMPLETE"
        ]

    def buckets(self) -> list[str]:
        """The names of buckets. They have no tag: a bucket and its tag are not created together."""
        listed = self.check.clients["s3"].list_buckets()["Buckets"]
        return [bucket["Name"] for bucket in listed if self.is_ours(bucket["Name"])]

    def delete_stack(self, name: str) -> None:
        self.check.clients["cloudformation"].delete_stack(StackName=name)

    def delete_queue(self, url: str) -> None:
        """Also cancels its task, which would go on otherwise."""
        attribute = self.check.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        for task in self.check.tasks(Queue(url, attribute["QueueArn"])):
            if task["Status"] == "RUNNING" and task.get("TaskHandle"):
                refusal(partial(self.check.cancel, task["TaskHandle"]))
        self.check.sqs.delete_queue(QueueUrl=url)

    def delete_bucket(self, name: str) -> None:
        self.check.clients["s3"].delete_object(Bucket=name, Key="bootstrap.zip")
        self.check.clients["s3"].delete_bucket(Bucket=name)


# The run


def perform(check: Check, step: Step) -> None:
    """Runs a step. Rows that it leaves open get the reason."""
    began = time.time()
    try:
        step.run(check)
        why = "the step did not get there"
    except Stopped:
        why = "the run ended before"
    except NotSeen as reason:
        why = str(reason)
    except ClientError as error:
        said = error.response["Error"]
        why = f"{error.operation_name} was refused: {said['Code']}: {said.get('Message', '')}"
    except Exception as error:  # the other steps go on
        why = f"{type(error).__name__}: {error}"
    for id in step.rows:
        row = check.rows[id]
        row.seen = row.seen or why
    print(f"   {next(iter(step.rows))} …: {time.time() - began:.0f} s", flush=True)


def measure(check: Check, steps: list[Step], deadline: float) -> None:
    """Runs the steps beside each other."""
    threads = [threading.Thread(target=perform, args=(check, step), daemon=True) for step in steps]
    check.threads += threads
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - time.time(), 0))
        if thread.is_alive():
            check.stopped.set()


def masked(value: Any, secret: set[str]) -> Any:
    """The value without account IDs, ARNs, handles and the names in the caller's ARN."""
    if isinstance(value, dict):
        return {key: masked(item, secret) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item, secret) for item in value]
    if not isinstance(value, str):
        return value
    value = re.sub(r"\barn:[^\s\"'`,;)\]]+", "<arn>", value)
    value = re.sub(r"(?<!\d)\d{12}(?!\d)", "<account>", value)
    value = re.sub(r"[A-Za-z0-9+/=_-]{60,}", "<token>", value)
    for name in secret:
        value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", value)
    return value


def report(check: Check, options: argparse.Namespace, arn: str, left: list[str], seconds: float) -> int:
    """Prints the table, writes the record, and returns the exit status."""
    secret = set(re.split(r"[:/]", arn)[5:]) - {"user", "assumed-role", "root"}
    rows = [masked(vars(row), secret) for row in check.rows.values()]
    record = {
        "version": re.findall(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "region": check.sqs.meta.region_name,
        "aws": check.sqs.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")),
        "quick": options.quick,
        "seconds": round(seconds),
        "leftBehind": len(left),
    }
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = f'{json.dumps(record)[:-1]}, "rows": [\n{lines}\n]}}\n'
    (options.folder / "record.json").write_text(text)
    print("\n| assumption | seen | holds |\n|---|---|---|")
    for row in rows:
        cells = (f"{row['assumption']} (`{row['id']}`)", row["seen"], row["holds"])
        print("| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |")
    counts = [sum(row["holds"] == holds for row in rows) for holds in ("yes", "no", "not seen")]
    print(f"\n{counts[0]} hold, {counts[1]} do not, {counts[2]} were not seen. Record: {options.folder}/record.json")
    return 1 if counts[1] or left else 0


def consent(options: argparse.Namespace, region: str, name: str) -> None:
    print(PLAN.format(region=region, name=name, tasks=TASKS if options.tasks else ""), flush=True)
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise CannotRun("no consent: run it in a terminal, or with YES=1")
    if input("Continue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CannotRun("no consent")


@contextlib.contextmanager
def cleaned(check: Check, runs: Runs, run: str) -> Iterator[list[str]]:
    """Deletes everything of the run when the block ends, however it ends. Yields what will still be there."""
    left: list[str] = []
    try:
        yield left
    finally:
        check.stopped.set()
        for thread in check.threads:
            thread.join(90)
        print("==> Deleting everything", flush=True)
        left += Leftovers(check, lambda other: other == run).delete()
        for what in left:
            print(f"error: still there, delete it by hand: {what}", file=sys.stderr)
        if not left:
            runs.end(run)


def clean_earlier(check: Check, runs: Runs, run: str) -> None:
    """Deletes what dead runs left: those of this machine whose process has ended, and those older than DEAD."""
    dead = runs.dead()

    def is_over(other: str) -> bool:
        is_local = (runs.folder / other).exists()
        return other != run and (other in dead if is_local else time.time() - int(other[:8], 16) > DEAD)

    if left := Leftovers(check, is_over).delete():
        raise CannotRun(f"an earlier run left this, and it cannot be deleted: {', '.join(left)}")
    for other in dead:
        runs.end(other)


def built() -> Path:
    """The zip of the function, built with SAM for the architecture of this machine."""
    from fit import UnfitError
    from package import NAME, OWN, PACKAGES, PackageError, build

    try:
        PACKAGES.mkdir(parents=True, exist_ok=True)
        build(OWN)
    except (PackageError, UnfitError) as error:
        raise CannotRun(f"{error}") from None
    return Path(PACKAGES / f"{NAME}-{OWN}.zip")


def check_account(options: argparse.Namespace) -> int:
    if options.zip and not zipfile.is_zipfile(options.zip):
        raise CannotRun(f"`{options.zip}` is no zip")
    client = client_factory()
    arn = caller(client)
    region = client("sqs").meta.region_name
    runs = Runs(options.folder, f"{arn.split(':')[4] if arn else client('sqs').meta.endpoint_url} {region}")
    run = runs.begin()
    try:
        package = options.zip
        check = Check(run, client, QUICK if options.quick else Scale(), lambda: package)
        if refused := refused_actions(check, arn):
            raise CannotRun(f"the credentials lack these permissions: {', '.join(refused)}. Nothing was created")
        consent(options, region, check.name)
        if package is None:
            package = built()
        clean_earlier(check, runs, run)
    except BaseException:
        runs.end(run)
        raise
    began = time.time()
    with cleaned(check, runs, run) as left:
        print("==> Measuring", flush=True)
        last = (check_steps.MANY, check_steps.HISTORY)
        measure(check, [step for step in check_steps.STEPS if step not in last], began + LIMIT)
        if options.tasks:
            measure(check, [check_steps.MANY], began + LIMIT)
        else:
            check.not_seen("task-101", "it uses up the tasks of the account; TASKS=1 looks")
        perform(check, check_steps.HISTORY)
    return report(check, options, arn, left, time.time() - began)


def main() -> NoReturn:
    exit_on_signals()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--quick", action="store_true", help="few messages and short waits, to test this program")
    parser.add_argument("--tasks", action="store_true", help="also start 101 tasks that run together")
    parser.add_argument("--zip", type=Path, help="the function; without it, it is built")
    parser.add_argument("--folder", type=Path, default=ROOT / "target" / "check-aws", help="for the record")
    status = 130
    try:
        status = check_account(parser.parse_args())
    except CannotRun as reason:
        print(f"error: {reason}", file=sys.stderr)
        status = 2
    except FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
    except SystemExit as ended:
        status = int(ended.code or 0)
    sys.stdout.flush()
    os._exit(status)  # not waiting for threads


if __name__ == "__main__":
    main()
