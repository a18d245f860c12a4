"""What `check_aws.py` measures: each step fills rows of the table *assumption, seen, holds*.

Steps run beside each other, and each has queues of its own. A step that fails leaves its rows `not seen`, with the
reason.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from deploy import CODE_HERE
from fit import ELF_MACHINES

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "sqs-auto-redrive-check-"
TAG = "sqs-auto-redrive-check"
ACTIVE = ("RUNNING", "CANCELLING")
KNOWN = {*ACTIVE, "COMPLETED", "CANCELLED", "FAILED"}
RATES = (1, 5, 10, 50)
# The seconds after which the tasks at these rates are canceled. The tasks at the other rates complete.
CANCELED_AFTER = {1: 300.0, 10: 20.0}
# What `src/aws_error.rs` tells apart, as a pattern for `code: message (HTTP status)`.
TASK_ACTIVE = r"(?i)already.* (running|active|in progress)"
QUEUE_NOT_FOUND = r"(?i)^(?!.*destinationarn).*(ResourceNotFound|NonExistentQueue|QueueDoesNotExist)"
NOTHING_TO_CANCEL = r"^(?!.*(AccessDenied|Throttl)).*HTTP (400|404|409)"
ANY_REFUSAL = r"(?i)^(?!.*(Throttl|Internal|already.* running))"


class Stopped(Exception):
    """The run is ending."""


class NotSeen(Exception):
    """What a step looks for did not show. The text is the reason."""


@dataclass
class Row:
    """One assumption. `holds` is `yes`, `no` or `not seen`; `data` is the evidence for the record."""

    id: str
    assumption: str
    seen: str = ""
    holds: str = "not seen"
    data: Any = None


@dataclass(frozen=True)
class Scale:
    """How many messages, and how many seconds. `QUICK` only shows that the program works."""

    paced: int = 500
    quiet: int = 5000
    task: float = 600  # a move task may take
    poll: float = 1  # between two looks at a task
    settle: float = 60  # until counts and attributes have settled
    minute: float = 60
    ten_minutes: float = 600
    sample: int = 20
    metrics: float = 600  # until datapoints are there
    wakes: float = 900  # until the function has judged, and a schedule and an alarm have invoked it
    time: float = 1  # factor for the seconds of CANCELED_AFTER


QUICK = Scale(40, 50, 120, 0.2, 1, 1, 2, 10, 1, 15, 0.02)


@dataclass
class Queue:
    url: str
    arn: str


@dataclass
class Move:
    """A move task: how SQS listed it, and when its messages arrived. Times are in seconds since 1970."""

    started: float
    looks: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    cancel: float | None = None
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any]:
        return self.looks[-1][1]

    def arrived(self, until: float) -> int:
        return sum(at <= until for at, _ in self.arrivals)

    def first(self, status: str) -> tuple[float, dict[str, Any]]:
        """The first look that showed this status."""
        for look in self.looks:
            if look[1]["Status"] == status:
                return look
        raise NotSeen(f"the task was never {status}, but {self.last['Status']}")

    def evidence(self) -> dict[str, Any]:
        """For the record: every look and arrival, in seconds since the start. No handle, which contains the ARN."""
        names = {"Status": "status", "ApproximateNumberOfMessagesMoved": "moved"}
        names |= {"ApproximateNumberOfMessagesToMove": "toMove", "MaxNumberOfMessagesPerSecond": "rate"}
        looks = [
            {"at": round(at - self.started, 2)} | {name: look[key] for key, name in names.items() if key in look}
            for at, look in self.looks
        ]
        changes = [look for n, look in enumerate(looks) if n == 0 or {**looks[n - 1], "at": 0} != {**look, "at": 0}]
        arrivals = [[round(at - self.started, 3), number] for at, number in self.arrivals]
        canceled = None if self.cancel is None else round(self.cancel - self.started, 2)
        return {"looks": changes, "arrivals": arrivals, "cancel": canceled}


class Check:
    """A run: its clients, its queues and its rows."""

    def __init__(self, run: str, client: Callable[[str], Any], scale: Scale, package: Callable[[], Path]) -> None:
        self.name = PREFIX + run
        self.tags = {TAG: run}
        self.scale = scale
        self.package = package
        self.stopped = threading.Event()
        services = ("sqs", "cloudwatch", "cloudformation", "s3", "iam", "lambda", "logs", "resourcegroupstaggingapi")
        self.clients = {service: client(service) for service in services}
        self.sqs = self.clients["sqs"]
        self.rows = {id: Row(id, text) for step in STEPS for id, text in step.rows.items()}
        self.statuses: set[str] = set()
        self.finished: dict[str, list[float]] = {}
        self.kept_timestamps = 0
        self.queues: set[str] = set()  # URLs of what this run has created
        self.kinds = {"queue"}  # of what this run has created
        self.threads: list[threading.Thread] = []

    # Rows

    def saw(self, id: str, holds: bool, seen: str, data: Any = None) -> None:
        self.rows[id].seen, self.rows[id].holds, self.rows[id].data = seen, "yes" if holds else "no", data

    def not_seen(self, id: str, why: str) -> None:
        self.rows[id].seen = why

    def refused(self, id: str, call: Callable[[], Any], pattern: str) -> bool:
        """Fills a row about an error. Returns whether SQS refused the call."""
        error = refusal(call)
        if error is None:
            self.saw(id, False, "accepted")
            return False
        text = f"{error['code']}: {error['message']} (HTTP {error['status']})"
        self.saw(id, bool(re.search(pattern, text)), text, error)
        return True

    # Time

    def sleep(self, seconds: float) -> None:
        if self.stopped.wait(seconds):
            raise Stopped

    def until(self, what: str, seconds: float, condition: Callable[[], Any], pause: float | None = None) -> Any:
        """Polls until the condition holds, and returns its result. Raises NotSeen when the time is up."""
        deadline = time.time() + seconds
        while not (answer := condition()):
            if time.time() > deadline:
                raise NotSeen(f"{what}: not within {seconds:.0f} s")
            self.sleep(self.scale.poll if pause is None else pause)
        return answer

    # Queues

    def queue(self, name: str, dlq: Queue | None = None, **attributes: Any) -> Queue:
        """Creates a queue; with `dlq` a source queue, whose messages fail once."""
        given = {key: str(value) for key, value in attributes.items()}
        if dlq is not None:
            given["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": dlq.arn, "maxReceiveCount": 1})
        if name.endswith(".fifo"):
            given["FifoQueue"] = "true"
        self.sleep(0)
        made = self.sqs.create_queue(QueueName=f"{self.name}-{name}", Attributes=given, tags=self.tags)
        self.queues.add(made["QueueUrl"])
        attribute = self.sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["QueueArn"])
        return Queue(made["QueueUrl"], attribute["Attributes"]["QueueArn"])

    def pair(self, name: str, **attributes: Any) -> tuple[Queue, Queue]:
        """A source queue and its DLQ, once SQS knows that they are: a change of attributes may take a minute."""
        dlq = self.queue(f"{name}-dlq")
        source = self.queue(name, dlq, **attributes)

        def is_known() -> bool:
            return bool(self.sqs.list_dead_letter_source_queues(QueueUrl=dlq.url).get("queueUrls"))

        self.until("the redrive policy", 90, is_known)
        return source, dlq

    def depth(self, queue: Queue) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        got = self.sqs.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
        return sum(int(count) for count in got.values())

    def send(self, queue: Queue, count: int) -> None:
        """Sends messages numbered from 0, oldest first."""
        for first in range(0, count, 10):
            numbers = range(first, min(first + 10, count))
            entries = [{"Id": str(number), "MessageBody": str(number)} for number in numbers]
            self.sleep(0)
            failed = self.sqs.send_message_batch(QueueUrl=queue.url, Entries=entries).get("Failed")
            if failed:
                raise NotSeen(f"SQS did not take a message: {failed[0].get('Code')}")

    def receive(self, queue: Queue, delete: bool, **options: Any) -> list[tuple[float, int]]:
        """One receive: when each message was sent, and its number."""
        options = {"WaitTimeSeconds": 1, "MaxNumberOfMessages": 10} | options
        # The newer name of the option, `MessageSystemAttributeNames`, is unknown to older emulators.
        got = self.sqs.receive_message(QueueUrl=queue.url, AttributeNames=["SentTimestamp"], **options)
        messages = got.get("Messages", [])
        if delete and messages:
            entries = [{"Id": str(n), "ReceiptHandle": it["ReceiptHandle"]} for n, it in enumerate(messages)]
            self.sqs.delete_message_batch(QueueUrl=queue.url, Entries=entries)
        return [(int(it["Attributes"]["SentTimestamp"]) / 1000, int(it["Body"])) for it in messages]

    def drain(self, queue: Queue, since: float, enough: threading.Event) -> list[tuple[float, int]]:
        """Receives and deletes everything until it is enough. A message arrived when it was sent.

        If that is earlier than `since`, SQS kept the timestamp of the DLQ, and the time of the receive counts.
        """
        got: list[tuple[float, int]] = []
        while True:
            is_last = enough.is_set()
            more = self.receive(queue, True)
            now = time.time()
            got += [(sent if sent >= since else now, number) for sent, number in more]
            self.kept_timestamps += sum(sent < since for sent, _ in more)
            if is_last and not more:
                return got
            self.sleep(0)

    def dead_letter(self, source: Queue, dlq: Queue, count: int) -> None:
        """Sends messages, and receives them until SQS has moved them all to the DLQ."""
        self.send(source, count)

        def all_fell() -> bool:
            for _ in range(count // 10 + 1):
                self.receive(source, False, VisibilityTimeout=0, WaitTimeSeconds=0)
            return self.depth(dlq) >= count

        self.until(f"{count} messages in the DLQ", self.scale.task, all_fell, 0.1)

    # Move tasks

    def tasks(self, dlq: Queue) -> list[dict[str, Any]]:
        """The tasks that SQS lists, newest first."""
        answer = self.sqs.list_message_move_tasks(SourceArn=dlq.arn, MaxResults=10)
        listed: list[dict[str, Any]] = answer.get("Results", [])
        self.statuses |= {task["Status"] for task in listed}
        return listed

    def newest(self, dlq: Queue) -> dict[str, Any]:
        """The newest task. SQS may not list a new one yet."""
        return next(iter(self.tasks(dlq)), {"Status": "RUNNING"})

    def start(self, dlq: Queue, to: Queue | str | None = None, rate: int | None = None) -> str:
        given: dict[str, Any] = {"SourceArn": dlq.arn}
        if to is not None:
            given["DestinationArn"] = to if isinstance(to, str) else to.arn
        if rate is not None:
            given["MaxNumberOfMessagesPerSecond"] = rate
        handle: str = self.sqs.start_message_move_task(**given)["TaskHandle"]
        return handle

    def cancel(self, handle: str) -> None:
        self.sqs.cancel_message_move_task(TaskHandle=handle)

    def move(self, dlq: Queue, to: Queue, rate: int | None = None, seconds: float | None = None) -> Move:
        """Moves messages until the task has ended, or was canceled after `seconds`. Notes when they arrived."""
        seconds = self.scale.task / 2 if seconds is None else seconds
        self.sleep(2)  # so that the timestamps of the DLQ and of the destination differ
        before = time.time()
        handle = self.start(dlq, to, rate)
        move = Move(before)

        def ended() -> bool:
            now = time.time()
            task = self.newest(dlq)
            if "StartedTimestamp" in task:
                move.started = task["StartedTimestamp"] / 1000
            move.looks.append((now, task))
            if move.cancel is None and now >= before + seconds and refusal(partial(self.cancel, handle)) is None:
                move.cancel = time.time()
            return task["Status"] not in ACTIVE

        enough = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            drains = [pool.submit(self.drain, to, before - 1, enough) for _ in range(4)]
            try:
                self.until("the end of the task", self.scale.task, ended)
                self.sleep(min(self.scale.settle, 15))
            finally:
                enough.set()
        move.arrivals = sorted(message for drain in drains for message in drain.result())
        return move

    def ended(self, dlq: Queue) -> dict[str, Any]:
        """The newest task, once it has ended."""
        self.until("the end of the task", self.scale.task, lambda: self.newest(dlq)["Status"] not in ACTIVE)
        return self.newest(dlq)

    def idle(self, dlq: Queue) -> None:
        """Stops what runs, and waits until nothing does."""

        def none_active() -> bool:
            active = [task for task in self.tasks(dlq) if task["Status"] in ACTIVE]
            for task in active:
                if task["Status"] == "RUNNING" and task.get("TaskHandle"):
                    refusal(partial(self.cancel, task["TaskHandle"]))
            return not active

        self.until("the end of the task", 90, none_active)


@dataclass(frozen=True)
class Step:
    run: Callable[[Check], None]
    rows: dict[str, str]


STEPS: list[Step] = []


def step(**sentences: str) -> Callable[[Callable[[Check], None]], Callable[[Check], None]]:
    """Declares a step, with the sentence of each assumption that it looks at."""
    rows = {name.replace("_", "-"): sentence for name, sentence in sentences.items()}

    def declare(run: Callable[[Check], None]) -> Callable[[Check], None]:
        STEPS.append(Step(run, rows))
        return run

    return declare


def refusal(call: Callable[[], Any]) -> dict[str, Any] | None:
    """The error of a call, as it came over the wire; `None` if AWS accepted the call."""
    try:
        call()
    except ClientError as error:
        meta, said = error.response["ResponseMetadata"], error.response["Error"]
        found = {"status": meta["HTTPStatusCode"], "code": said["Code"], "message": said.get("Message", "")}
        header = meta.get("HTTPHeaders", {}).get("x-amzn-query-error")
        return found | ({"queryError": header} if header else {})
    return None


# Errors


@step(
    second_task="A second task of a queue is refused; the message has `already` and `running`",
    not_a_dlq="A queue that is no DLQ is refused; the message has `configured as a Dead Letter Queue`",
    missing_source="A missing DLQ is refused as ResourceNotFound or NonExistentQueue",
    missing_depth="GetQueueAttributes of a missing queue is refused as NonExistentQueue or QueueDoesNotExist",
    missing_destination="A missing destination is refused as ResourceNotFound; the message has `DestinationArn`",
    destination_itself="The DLQ as its own destination is refused",
    destination_other_type="A FIFO destination of a standard DLQ is refused",
    destination_other_account="A destination in another account is refused",
    destination_other_region="A destination in another region is refused",
    rate_0="A rate of 0 is refused",
    rate_501="A rate of 501 is refused",
    malformed_arn="A malformed ARN is refused",
    max_results_11="A request to list 11 tasks is refused",
    cancel_malformed="A malformed handle is refused with HTTP 400, 404 or 409",
    cancel_finished="A cancel of a finished task is refused with HTTP 400, 404 or 409",
    empty_dlq="A task on an empty DLQ is accepted and ends as COMPLETED with 0 moved",
    handle_only_running="Only a RUNNING task is listed with a handle",
    newest_first="Tasks are listed newest first; the start is in milliseconds since 1970",
    start_while_cancelling="A start while a task is CANCELLING is refused like a second task",
)
def errors(check: Check) -> None:
    source, dlq = check.pair("errors")
    stash, fifo = check.queue("errors-stash"), check.queue("errors-fifo.fifo")
    # On a DLQ of its own: LocalStack makes an ended task active by canceling it.
    _, empty = check.pair("empty")
    finished = check.start(empty, stash)
    task = check.ended(empty)
    moved = task.get("ApproximateNumberOfMessagesMoved", 0)
    check.saw("empty-dlq", (task["Status"], moved) == ("COMPLETED", 0), f"{task['Status']}, {moved} moved")
    check.refused("cancel-finished", lambda: check.cancel(finished), NOTHING_TO_CANCEL)
    check.refused("cancel-malformed", lambda: check.cancel("not-a-handle"), NOTHING_TO_CANCEL)

    check.send(dlq, 30)
    missing = dlq.arn + "-missing"
    other_account = re.sub(r":\d{12}:", ":111122223333:", stash.arn)
    region = dlq.arn.split(":")[3]
    other_region = stash.arn.replace(f":{region}:", ":eu-west-1:" if region != "eu-west-1" else ":us-east-1:")
    lists = {"SourceArn": dlq.arn, "MaxResults": 11}
    calls: list[tuple[str, Callable[[], Any], str]] = [
        ("not-a-dlq", lambda: check.start(stash, source), "(?i)configured as a dead letter queue"),
        ("missing-source", lambda: check.start(Queue("", missing)), QUEUE_NOT_FOUND),
        ("missing-depth", lambda: check.depth(Queue(dlq.url + "-missing", "")), QUEUE_NOT_FOUND),
        ("missing-destination", lambda: check.start(dlq, missing), "(?i)ResourceNotFound.*DestinationArn"),
        ("destination-itself", lambda: check.start(dlq, dlq), ANY_REFUSAL),
        ("destination-other-type", lambda: check.start(dlq, fifo), ANY_REFUSAL),
        ("destination-other-account", lambda: check.start(dlq, other_account), ANY_REFUSAL),
        ("destination-other-region", lambda: check.start(dlq, other_region), ANY_REFUSAL),
        ("rate-0", lambda: check.start(dlq, stash, 0), ANY_REFUSAL),
        ("rate-501", lambda: check.start(dlq, stash, 501), ANY_REFUSAL),
        ("malformed-arn", lambda: check.start(Queue("", "not-an-arn")), ANY_REFUSAL),
        ("max-results-11", lambda: check.sqs.list_message_move_tasks(**lists), ANY_REFUSAL),
    ]
    for id, call, pattern in calls:
        if not check.refused(id, call, pattern):
            check.idle(dlq)
            check.idle(stash)

    check.send(dlq, 30)
    running = check.start(dlq, stash, 1)
    check.refused("second-task", lambda: check.start(dlq, stash, 1), TASK_ACTIVE)
    listed = check.tasks(dlq)
    statuses = [(task["Status"], bool(task.get("TaskHandle"))) for task in listed]
    check.saw("handle-only-running", all(has == (is_ == "RUNNING") for is_, has in statuses), f"{statuses}")
    starts = [task.get("StartedTimestamp", 0) for task in listed]
    ages = [round(time.time() - start / 1000) for start in starts]
    is_newest = starts == sorted(starts, reverse=True) and all(0 <= age + 5 < 3600 for age in ages)
    check.saw("newest-first", is_newest, f"started {ages} s ago, in the order listed")
    check.cancel(running)
    status = check.newest(dlq)["Status"]
    if status == "CANCELLING":
        check.refused("start-while-cancelling", lambda: check.start(dlq, stash, 1), TASK_ACTIVE)
    else:
        check.not_seen("start-while-cancelling", f"after the cancel the task was {status} at the first look")
    check.idle(dlq)
    check.finished = {dlq.arn: [task["StartedTimestamp"] for task in check.tasks(dlq)]}


@step(
    access_denied="Without sqs:ReceiveMessage a start is refused as AccessDenied, and the message names the action",
)
def denied(check: Check) -> None:
    _, dlq = check.pair("denied")
    stash = check.queue("denied-stash")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "sqs:ReceiveMessage", "Resource": dlq.arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    check.sqs.set_queue_attributes(QueueUrl=dlq.url, Attributes={"Policy": policy})

    def is_denied() -> bool:
        check.idle(dlq)  # until the policy has an effect, the task runs, and the DLQ is empty
        check.refused("access-denied", lambda: check.start(dlq, stash), r"(?i)AccessDenied.*receivemessage")
        return check.rows["access-denied"].holds == "yes"

    check.until("the effect of the queue policy", 1.5 * check.scale.settle, is_denied)


@step(
    connect="A signed request without an operation gets an answer, and the connection stays open",
)
def connect(check: Check) -> None:
    target = urlsplit(check.sqs.meta.endpoint_url)
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.netloc, timeout=10)
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", check.sqs.meta.endpoint_url + "/", headers=headers, data=b"{}")
    signer = check.sqs._request_signer
    SigV4Auth(signer._credentials.get_frozen_credentials(), "sqs", signer.region_name).add_auth(request)
    answers: list[dict[str, Any]] = []
    while len(answers) < 2 and (not answers or connection.sock is not None):
        began = time.time()
        try:
            connection.request("POST", "/", b"{}", dict(request.headers))
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            if answers:
                break
            raise
        text = answer.read().decode(errors="replace")[:300]
        answers.append({"status": answer.status, "body": text, "ms": round(1000 * (time.time() - began))})
    seen = ", then ".join(f"HTTP {it['status']} after {it['ms']} ms" for it in answers)
    is_open = len(answers) == 2
    check.saw("connect", is_open, seen + f" ({'one connection' if is_open else 'closed'})", answers)
    connection.close()


# Pace and counts


def pace(rate: int) -> None:
    """Declares the step for one rate."""
    rows = {
        f"pace_{rate}": f"A task at {rate} a second moves at most about {rate} a second ({rate * 1.3:g})",
        f"start_{rate}": f"At {rate} a second, the first message moves within 10 s",
        f"lag_{rate}": f"At {rate} a second, the number of moved messages is at most 5 s ahead and 15 s behind",
    }
    if rate == 10:
        rows["overshoot_10"] = "After the cancel of a task at 10 a second, at most 200 more messages move"

    @step(**rows)
    def run(check: Check) -> None:
        stash = check.queue(f"pace-{rate}-stash")
        _, dlq = check.pair(f"pace-{rate}")
        check.send(dlq, check.scale.paced)
        after = CANCELED_AFTER.get(rate)
        move = check.move(dlq, stash, rate, after and max(after * check.scale.time, 2))
        times = [at for at, _ in move.arrivals if move.cancel is None or at <= move.cancel]
        if len(times) < 2:
            raise NotSeen(f"{len(times)} messages moved")
        speed = (len(times) - 1) / max(times[-1] - times[0], 0.001)
        first = sum(at < times[0] + 5 for at in times)
        seen = f"{speed:.2f} a second, {len(times)} messages in {times[-1] - times[0]:.1f} s, {first} in the first 5 s"
        check.saw(f"pace-{rate}", speed <= rate * 1.3, seen, move.evidence())
        check.saw(f"start-{rate}", times[0] - move.started <= 10, f"after {times[0] - move.started:.2f} s")
        behind, ahead, late = 0, 0, 0.0
        for at, look in move.looks:
            moved, true = look.get("ApproximateNumberOfMessagesMoved", 0), move.arrived(at)
            behind, ahead = max(behind, true - moved), max(ahead, moved - move.arrived(at + 5))
            if moved < true:
                late = max(late, at - move.arrivals[moved][0])
        seen = f"up to {behind} messages or {late:.1f} s behind, {ahead} messages ahead of the next 5 s"
        check.saw(f"lag-{rate}", ahead == 0 and late <= 15, seen)
        if rate == 10 and move.cancel:
            more = len(move.arrivals) - move.arrived(move.cancel)
            check.saw("overshoot-10", more <= 200, f"{more} more; last status {move.last['Status']}")


for each_rate in RATES:
    pace(each_rate)


@step(
    sample_size="A sample of 20 s moves 4 to 26 messages",
    sample_oldest="A sample moves the oldest messages: on average from the oldest quarter",
    cancel_overshoot="After the cancel of a sample, at most 10 more messages move",
    cancel_time="A canceled sample is CANCELLED within 30 s",
    cancel_fields="A CANCELLED task is listed with its rate, moved and to move, without a handle",
    cancelled_to_move="Of a CANCELLED sample, to move is right to less than half of moved",
    cancelled_moved="A CANCELLED sample shows what it moved, at the first look",
    cancelled_minute="A minute later, it still shows what it moved",
    cancelled_ten_minutes="Ten minutes later, it still shows what it moved",
    cancelled_is_over="No message moves after a task is listed as CANCELLED",
)
def sample(check: Check) -> None:
    stash = check.queue("sample-stash")
    _, dlq = check.pair("sample")
    count = check.scale.paced
    check.send(dlq, count)
    check.sleep(check.scale.settle)
    move = check.move(dlq, stash, 1, check.scale.sample)
    size, cancel = len(move.arrivals), move.cancel or 0
    check.saw("sample-size", 4 <= size <= 26, f"{size} of {count} messages in {check.scale.sample} s", move.evidence())
    numbers = sorted(number for _, number in move.arrivals)
    mean = sum(numbers) / max(size, 1)
    check.saw("sample-oldest", mean < max(count / 4, size), f"numbers {numbers} of 0 to {count - 1}")
    more = size - move.arrived(cancel)
    check.saw("cancel-overshoot", more <= 10, f"{more} more")
    at, first = move.first("CANCELLED")
    check.saw("cancel-time", at - cancel <= 30, f"{at - cancel:.1f} s; before: {sorted(statuses_of(move))}")
    late = size - move.arrived(at)
    check.saw("cancelled-is-over", late == 0, f"{late} moved after that")
    fields = {key: first.get(key) for key in sorted(first) if key not in ("SourceArn", "DestinationArn")}
    expected = first.get("MaxNumberOfMessagesPerSecond") == 1 and "ApproximateNumberOfMessagesToMove" in first
    check.saw("cancel-fields", expected and "TaskHandle" not in first, f"{sorted(fields)}")
    to_move = first.get("ApproximateNumberOfMessagesToMove", 0)
    check.saw("cancelled-to-move", abs(to_move - count) < size / 2, f"{to_move} to move of {count}; {size} moved")
    looks = (("cancelled-moved", 0.0), ("cancelled-minute", check.scale.minute))
    for id, wait in (*looks, ("cancelled-ten-minutes", check.scale.ten_minutes)):
        if wait:
            check.sleep(max(at + wait - time.time(), 0))
            first = check.newest(dlq)
        moved = first.get("ApproximateNumberOfMessagesMoved", 0)
        check.saw(id, moved == size, f"{moved} of {size} after {time.time() - at if wait else 0:.0f} s")


def statuses_of(move: Move) -> set[str]:
    return {look["Status"] for _, look in move.looks}


@step(
    quiet_visible="On a quiet DLQ of 5,000, the visible messages are right to less than 10",
    quiet_to_move="On a quiet DLQ of 5,000, to move is right to less than 10",
    completed_moved="Of a COMPLETED task, the larger of moved and to move is right to less than 10",
    sent_is_new="A moved message has a new SentTimestamp",
    nothing_lost="A task loses no message, and moves none twice",
)
def quiet(check: Check) -> None:
    stash = check.queue("quiet-stash")
    _, dlq = check.pair("quiet")
    count = check.scale.quiet
    check.send(dlq, count)
    check.sleep(2 * check.scale.settle)
    visible = check.depth(dlq)
    check.saw("quiet-visible", abs(visible - count) < 10, f"{visible} of {count}")
    move = check.move(dlq, stash)
    if move.last["Status"] != "COMPLETED":
        raise NotSeen(f"the task is {move.last['Status']}")
    moved, to_move = (move.last.get(f"ApproximateNumberOfMessages{what}", 0) for what in ("Moved", "ToMove"))
    check.saw("quiet-to-move", abs(to_move - count) < 10, f"{to_move} of {count}", move.evidence()["looks"])
    check.saw("completed-moved", abs(max(moved, to_move) - count) < 10, f"moved {moved}, to move {to_move} of {count}")
    copies = Counter(number for _, number in move.arrivals)
    twice = sum(copies.values()) - len(copies)
    check.saw("sent-is-new", check.kept_timestamps == 0, f"{check.kept_timestamps} messages kept it")
    check.saw("nothing-lost", len(copies) == count and not twice, f"{count - len(copies)} missing, {twice} twice")


@step(
    moves_once="A task moves a message once, even if it falls back while the task runs",
)
def returning(check: Check) -> None:
    source, dlq = check.pair("returning")
    count, window = 20, check.scale.task / 10
    check.dead_letter(source, dlq, count)
    deliveries: Counter[int] = Counter()
    check.start(dlq, None, 5)
    deadline = time.time() + window
    while check.newest(dlq)["Status"] in ACTIVE and time.time() < deadline:
        deliveries.update(number for _, number in check.receive(source, False, VisibilityTimeout=0, WaitTimeSeconds=0))
        check.sleep(0.05)
    check.idle(dlq)
    again = sum(times > 1 for times in deliveries.values())
    status = check.newest(dlq)["Status"]
    check.saw("moves-once", again == 0, f"{len(deliveries)} of {count} moved, {again} of them again; {status}")


@step(
    no_throttle="SQS does not throttle 64 concurrent looks",
)
def burst(check: Check) -> None:
    _, dlq = check.pair("burst")

    def look(_: int) -> str:
        try:
            answer = check.sqs.list_message_move_tasks(SourceArn=dlq.arn, MaxResults=10)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "accepted after a retry" if answer["ResponseMetadata"]["RetryAttempts"] else "accepted"

    with ThreadPoolExecutor(64) as pool:
        answers = Counter(pool.map(look, range(640)))
    check.saw("no-throttle", set(answers) == {"accepted"}, f"{dict(answers)}")


# How messages fall


@step(
    lazy_fall="SQS dead-letters a message only at a receive after the visibility timeout",
    delay="The delay of the source queue applies to moved messages",
    expired="A message whose retention ends before its next receive never reaches the DLQ",
)
def falls(check: Check) -> None:
    old_source, old_dlq = check.pair("expired", MessageRetentionPeriod=60, VisibilityTimeout=5)
    check.send(old_source, 1)
    check.until("the message", 20, lambda: check.receive(old_source, False))
    expired_at = time.time() + 120

    source, dlq = check.pair("lazy", VisibilityTimeout=2)
    check.send(source, 1)
    check.until("the message", 20, lambda: check.receive(source, False))
    check.sleep(2 + 1.5 * check.scale.minute)
    before = check.depth(dlq)

    def in_dlq_after_a_receive() -> int:
        check.receive(source, False)
        return check.depth(dlq)

    fell = check.until("a fall", 60 + check.scale.minute, in_dlq_after_a_receive)
    check.saw("lazy-fall", before == 0, f"{before} in the DLQ before the receive, {fell} after it")

    delay = max(round(check.scale.settle / 6), 2)
    late_source, late_dlq = check.pair("delay", DelaySeconds=delay)
    check.send(late_dlq, 1)
    check.start(late_dlq, late_source)
    [(sent, _)] = check.until("the moved message", 90, lambda: check.receive(late_source, True))
    waited = time.time() - sent
    check.saw("delay", waited >= delay - 0.5, f"received {waited:.1f} s after it was sent; the delay is {delay} s")

    if check.scale == QUICK:
        raise NotSeen("the quick run does not wait two minutes for a retention to end")
    check.sleep(max(expired_at - time.time(), 0))
    got = [check.receive(old_source, False) for _ in range(3)]
    check.sleep(10)
    seen = f"{sum(map(len, got))} received, {check.depth(old_dlq)} in the DLQ"
    check.saw("expired", not any(got) and check.depth(old_dlq) == 0, seen)


@step(
    failure_no_source="Without a destination, a message sent to the DLQ fails as CouldNotDetermineMessageSource",
    failure_no_queue="A task whose destination is deleted fails as NonExistentQueue",
)
def failures(check: Check) -> None:
    _, dlq = check.pair("no-source")
    _, gone_dlq = check.pair("no-queue")
    gone = check.queue("no-queue-stash")
    check.send(dlq, 1)
    check.start(dlq)
    check.send(gone_dlq, 40)
    check.start(gone_dlq, gone, 1)
    check.sqs.delete_queue(QueueUrl=gone.url)
    cases = (
        ("failure-no-source", dlq, "couldnotdeterminemessagesource"),
        ("failure-no-queue", gone_dlq, "nonexistentqueue"),
    )
    for id, queue, word in cases:
        task = check.ended(queue)
        reason = task.get("FailureReason", "")
        check.saw(id, word in reason.lower(), f"{task['Status']} {reason}".strip())


# Metrics

COUNTERS = ("Sent", "Received", "Deleted")


@step(
    dead_letter_not_sent="Dead-lettering does not count in the DLQ's NumberOfMessagesSent",
    dead_letter_not_deleted="Dead-lettering does not count in the source's NumberOfMessagesDeleted",
    failed_receives="Received minus Deleted, by maxReceiveCount, is the number of failed messages",
    move_is_sent="A moved message counts in the destination's NumberOfMessagesSent",
    move_is_received="A moved message counts in the DLQ's NumberOfMessagesReceived",
    move_is_deleted="A moved message counts in the DLQ's NumberOfMessagesDeleted",
    consumer_deletes="What the consumer deletes counts in the source's NumberOfMessagesDeleted",
    metrics_late="The metrics come at most two minutes after their minute has ended",
)
def metrics(check: Check) -> None:
    source, dlq = check.pair("metrics")
    count = 20
    spans = []

    @contextmanager
    def phase() -> Iterator[None]:
        """Minutes of its own."""
        began = time.time() // 60 * 60
        yield
        spans.append((began, time.time() // 60 * 60 + 60))
        if check.scale != QUICK:
            check.sleep(spans[-1][1] - time.time() + 1)

    with phase():
        check.dead_letter(source, dlq, count)
    with phase():
        check.start(dlq)
        check.until("the move", check.scale.task, lambda: check.depth(source) >= count)
    deleted = []

    def all_deleted() -> bool:
        deleted.extend(check.receive(source, True))
        return len(deleted) >= count

    with phase():
        check.until("the deletes", check.scale.task, all_deleted, 0)

    queries = [metric(queue, counter) for queue in (source, dlq) for counter in COUNTERS]
    first_seen: dict[tuple[str, float], float] = {}
    got: dict[str, dict[float, float]] = {}

    def complete() -> bool:
        answer = check.clients["cloudwatch"].get_metric_data(
            MetricDataQueries=queries, StartTime=spans[0][0], EndTime=time.time()
        )
        for result in answer["MetricDataResults"]:
            stamps = (stamp.timestamp() for stamp in result["Timestamps"])
            got[result["Id"]] = dict(zip(stamps, result["Values"], strict=True))
            for stamp in got[result["Id"]]:
                first_seen.setdefault((result["Id"], stamp), time.time())
        last = spans[-1][1] - 60
        return len(got) == len(queries) and all(any(at >= last for at in series) for series in got.values())

    check.until("all datapoints of SQS's metrics", check.scale.metrics, complete, 10 * check.scale.poll)

    def total(id: str, number: int) -> float:
        began, ended = spans[number]
        return sum(value for at, value in got[id].items() if began <= at < ended)

    cases = (
        ("dead-letter-not-sent", total("dlq_sent", 0), 0),
        ("dead-letter-not-deleted", total("source_deleted", 0), 0),
        ("failed-receives", total("source_received", 0) - total("source_deleted", 0), count),
        ("move-is-sent", total("source_sent", 1), count),
        ("move-is-received", total("dlq_received", 1), count),
        ("move-is-deleted", total("dlq_deleted", 1), count),
        ("consumer-deletes", total("source_deleted", 2), count),
    )
    for id, value, expected in cases:
        check.saw(id, abs(value - expected) <= count / 5, f"{value:g} for {count} messages")
    # Only what came while the program was polling.
    late = max(seen - (at + 60) for (_, at), seen in first_seen.items() if at + 60 >= spans[-1][1])
    check.saw("metrics-late", late <= 120, f"up to {late:.0f} s")


def metric(queue: Queue, counter: str) -> dict[str, Any]:
    name = queue.arn.split(":")[-1]
    id = f"{'dlq' if name.endswith('-dlq') else 'source'}_{counter.lower()}"
    dimensions = [{"Name": "QueueName", "Value": name}]
    which = {"Namespace": "AWS/SQS", "MetricName": f"NumberOfMessages{counter}", "Dimensions": dimensions}
    return {"Id": id, "MetricStat": {"Metric": which, "Period": 60, "Stat": "Sum"}}


@step(
    tag_listed="The tagging API lists a queue within a minute of its tagging",
)
def tagging(check: Check) -> None:
    queue = check.queue("tagged")
    began = time.time()
    tags = [{"Key": key, "Values": [value]} for key, value in check.tags.items()]

    def is_listed() -> bool:
        api = check.clients["resourcegroupstaggingapi"]
        pages = api.get_paginator("get_resources").paginate(ResourceTypeFilters=["sqs"], TagFilters=tags)
        return any(it["ResourceARN"] == queue.arn for page in pages for it in page["ResourceTagMappingList"])

    check.until("the queue in the list", 5 * check.scale.settle, is_listed)
    took = time.time() - began
    check.saw("tag-listed", took <= 60, f"{took:.0f} s")


# The deployed function


@step(
    rules_tag_alone="The rules of template.yaml accept a stack that enrolls by tag alone",
    role_by_use="With the role of template.yaml, the function starts and cancels a sample and reads the sources",
    role_simulated="By simulation, that role allows each call on enrolled queues, and none on another queue",
    verdict_stayed_away="A consumer that acknowledges: the sample stays away, and the rest follows",
    verdict_came_back="A consumer that fails: the sample came back, and nothing more follows",
    schedule_wakes="The schedule of the stack invokes the function",
    alarm_wakes="The depth alarm of the stack invokes the function",
)
def stack(check: Check) -> None:
    good, bad = (check.pair(name, VisibilityTimeout=10) for name in ("good", "bad"))
    other = check.queue("other")
    for pair in (good, bad):
        # Before the stack exists: the function would redrive a few messages without a sample.
        check.dead_letter(*pair, 60)
    done = threading.Event()

    def consume(queue: Queue, acknowledge: bool) -> None:
        while not (done.is_set() or check.stopped.is_set()):
            check.receive(queue, acknowledge)

    with ThreadPoolExecutor(2) as pool:
        consumers = [pool.submit(consume, good[0], True), pool.submit(consume, bad[0], False)]
        try:
            role = deploy(check, good, bad)
            enroll_by_tag_alone(check)
            simulate(check, role, good, other)
            deadline = time.time() + check.scale.wakes
            reports: list[dict[str, Any]] = []
            rows = ("role-by-use", "verdict-stayed-away", "verdict-came-back", "schedule-wakes", "alarm-wakes")
            while time.time() < deadline and any(check.rows[id].holds != "yes" for id in rows):
                reports.append(invoke(check))
                judge(check, reports, good[1], bad[1])
                check.sleep(15 * check.scale.time)
        finally:
            done.set()
    for consumer in consumers:
        consumer.result()
    reasons = [queue["reason"] for queue in reports[-1].get("queues", [])]
    raise NotSeen(f"not within {check.scale.wakes:.0f} s; the last report has {reasons}")


def deploy(check: Check, *pairs: tuple[Queue, Queue]) -> str:
    """Deploys template.yaml for these queues, and returns the ARN of the role."""
    package = check.package()
    with zipfile.ZipFile(package) as archive:
        machine = archive.read("bootstrap")[18:20]
    architecture = next(name for name, bytes_ in ELF_MACHINES.items() if bytes_ == machine)
    s3, cloudformation = check.clients["s3"], check.clients["cloudformation"]
    region = s3.meta.region_name
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    cloudformation.describe_stacks()  # an emulator without CloudFormation refuses here, before there is a bucket
    check.kinds |= {"bucket", "stack"}
    s3.create_bucket(Bucket=check.name, **where)
    s3.put_object(Bucket=check.name, Key="bootstrap.zip", Body=package.read_bytes())
    template = (ROOT / "template.yaml").read_text()
    parameters = {
        "DeadLetterQueueArns": ",".join(dlq.arn for _, dlq in pairs),
        "SourceQueueArns": ",".join(source.arn for source, _ in pairs),
        "AlarmQueueName": pairs[-1][1].arn.split(":")[-1],
        "Schedule": "rate(1 minute)",
        "Sample": str(check.scale.sample),
        "Architecture": architecture,
    }
    check.sleep(0)
    cloudformation.create_stack(
        StackName=check.name,
        TemplateBody=template.replace(CODE_HERE, f"      Code: {{S3Bucket: {check.name}, S3Key: bootstrap.zip}}\n"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
        Tags=[{"Key": key, "Value": value} for key, value in check.tags.items()],
    )

    def created() -> dict[str, Any] | None:
        [described] = cloudformation.describe_stacks(StackName=check.name)["Stacks"]
        return None if described["StackStatus"].endswith("_IN_PROGRESS") else described

    described = check.until("the stack", 900, created, 5 * check.scale.poll)
    if described["StackStatus"] != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=check.name)["StackEvents"]
        why = [it.get("ResourceStatusReason") for it in events if it["ResourceStatus"].endswith("_FAILED")]
        raise NotSeen(f"the stack is {described['StackStatus']}: {why[-1:]}")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    return str(outputs["RoleArn"])


def enroll_by_tag_alone(check: Check) -> None:
    """Asks for a change of the stack, and does not make it. CloudFormation evaluates the rules when it is asked."""
    cloudformation = check.clients["cloudformation"]
    [described] = cloudformation.describe_stacks(StackName=check.name)["Stacks"]
    changed = dict.fromkeys(("DeadLetterQueueArns", "SourceQueueArns", "AlarmQueueName"), "")
    changed["EnrollTagValue"] = "check"
    keys = {it["ParameterKey"] for it in described["Parameters"]} - changed.keys()
    parameters = [{"ParameterKey": key, "UsePreviousValue": True} for key in sorted(keys)]
    parameters += [{"ParameterKey": key, "ParameterValue": value} for key, value in changed.items()]
    error = refusal(
        lambda: cloudformation.create_change_set(
            StackName=check.name,
            ChangeSetName="tag-alone",
            UsePreviousTemplate=True,
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM"],
        )
    )
    check.saw("rules-tag-alone", not error, error["message"] if error else "the change set is accepted", error)


def simulate(check: Check, role: str, pair: tuple[Queue, Queue], other: Queue) -> None:
    on_dlq = "GetQueueAttributes ListDeadLetterSourceQueues ListMessageMoveTasks StartMessageMoveTask"
    on_dlq += " CancelMessageMoveTask ReceiveMessage DeleteMessage"
    source, dlq = pair
    cases = [
        (on_dlq, dlq.arn, True),
        ("SendMessage GetQueueAttributes", source.arn, True),
        (on_dlq + " SendMessage", other.arn, False),
    ]
    wrong, asked = [], 0
    for names, arn, expected in cases:
        answer = check.clients["iam"].simulate_principal_policy(
            PolicySourceArn=role, ActionNames=[f"sqs:{name}" for name in names.split()], ResourceArns=[arn]
        )
        for result in answer["EvaluationResults"]:
            asked += 1
            if (result["EvalDecision"] == "allowed") != expected:
                wrong.append(f"{result['EvalActionName']} on {arn.split('-')[-1]}: {result['EvalDecision']}")
    check.saw("role-simulated", not wrong and asked > 0, f"{asked} calls as expected" if not wrong else f"{wrong}")


def invoke(check: Check) -> dict[str, Any]:
    """The report of a redrive request, or the error of the invocation."""
    answer = check.clients["lambda"].invoke(FunctionName=check.name, Payload=b'{"action": "redrive"}')
    report: dict[str, Any] = json.load(answer["Payload"])
    return report


def judge(check: Check, reports: list[dict[str, Any]], good: Queue, bad: Queue) -> None:
    """Fills the rows that the reports, the tasks and the log decide. What was a `yes` stays one: time goes on."""

    def saw(id: str, holds: bool, seen: str, data: Any = None) -> None:
        if check.rows[id].holds != "yes":
            check.saw(id, holds, seen, data)

    def reported(queue: Queue) -> list[dict[str, Any]]:
        return [it for report in reports for it in report.get("queues", []) if it["queueArn"] == queue.arn]

    def tasks(queue: Queue) -> list[tuple[str, int | None]]:
        return [(it["Status"], it.get("MaxNumberOfMessagesPerSecond")) for it in check.tasks(queue)]

    listed, sampled = tasks(good), ("CANCELLED", 1)
    fall = next((it["fallTimeSeconds"] for it in reported(good) if "fallTimeSeconds" in it), None)
    error = next((report for report in reports if "errorType" in report), None)
    if error:
        check.saw("role-by-use", False, f"{error['errorType']}: {error['errorMessage']}")
    elif sampled in listed and fall:
        check.saw("role-by-use", True, f"sample CANCELLED, fall time {fall} s")
    left = check.depth(good)
    if len(listed) > 1 and listed[0][0] not in ACTIVE and (left == 0 or listed[0][0] != "COMPLETED"):
        holds = left == 0 and sampled in listed and listed[0][0] == "COMPLETED"
        saw("verdict-stayed-away", holds, f"tasks {listed}, {left} left", reported(good)[-1].get("lastTask"))
    for it in reported(bad):
        last = it.get("lastTask", {})
        if "verdict" in last:
            holds = last["verdict"] == "cameBack" and tasks(bad) == [sampled]
            seen = f"{last['verdict']}, {last['cameBack']} of {last['moved']} back; {it['reason']}; tasks {tasks(bad)}"
            saw("verdict-came-back", holds, seen, last)
    pages = check.clients["logs"].get_paginator("filter_log_events")
    found = pages.paginate(logGroupName=f"/aws/lambda/{check.name}", filterPattern='"invocation finished"')
    log = "".join(event["message"] for page in found for event in page["events"])
    kinds = Counter(re.findall(r'trigger\.kind"?[:=]\s*"(\w+)"', log))
    for id, kind in (("schedule-wakes", "schedule"), ("alarm-wakes", "alarm")):
        if kinds[kind]:
            saw(id, True, f"{kinds[kind]} invocations of the kind {kind}")


@step(
    recursion="Lambda's detection of recursive loops does not count messages that a move task moved",
)
def recursion(_: Check) -> None:
    raise NotSeen("the check has no Lambda consumer that sends its messages on")


# What runs when the other steps have ended: a step on request, which uses up the tasks of the account, and a last look


@step(
    task_101="The 101st active task of an account is refused",
)
def many(check: Check) -> None:
    stash = check.queue("many-stash")

    def fill(number: int) -> Queue:
        _, dlq = check.pair(f"many-{number}")
        check.send(dlq, 200)
        return dlq

    with ThreadPoolExecutor(16) as pool:
        dlqs = list(pool.map(fill, range(101)))
        started = list(pool.map(lambda dlq: refusal(lambda: check.start(dlq, stash, 1)), dlqs))
        errors = [error for error in started if error]
        taken = len(dlqs) - len(errors)
        if errors:
            texts = Counter(f"{it['code']}: {it['message']} (HTTP {it['status']})" for it in errors)
            is_limit = all(re.search(r"(?i)^(?!.*(AccessDenied|Throttl))", text) for text in texts)
            check.saw("task-101", is_limit, f"{taken} tasks ran; then {dict(texts)}", errors[0])
        else:
            check.saw("task-101", False, f"{taken} tasks run together")
        list(pool.map(check.idle, dlqs))


MANY = STEPS[-1]


@step(
    history="Finished tasks stay listed for as long as the run lasts",
    statuses="A task has no other status than RUNNING, CANCELLING, COMPLETED, CANCELLED and FAILED",
)
def history(check: Check) -> None:
    check.saw("statuses", check.statuses <= KNOWN, ", ".join(sorted(check.statuses)))
    if not check.finished:
        raise NotSeen("no task was finished early enough")
    [(arn, starts)] = check.finished.items()
    listed = {task["StartedTimestamp"] for task in check.tasks(Queue("", arn))}
    age = (time.time() - min(starts) / 1000) / 60
    seen = f"{len(listed & set(starts))} of {len(starts)} listed after up to {age:.0f} min"
    check.saw("history", listed >= set(starts), seen)


HISTORY = STEPS[-1]
