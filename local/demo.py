"""The demo: 200 orders land in a dead-letter queue. sqs-auto-redrive tries a few, looks, and then moves the rest.

`make demo` builds the function and runs this program. Everything runs on this machine: LocalStack provides SQS,
MiniStack provides CloudWatch, and an emulator of Lambda's Runtime API sends events to the function, which is the same
program that runs on AWS Lambda. The exit status is 0 only if everything happened as the text says.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from servers import ROOT, LocalAws, StartError, exit_on_signals

ACCOUNT, REGION = "123456789012", "us-east-1"
FUNCTION = "sqs-auto-redrive"
SOURCE, DLQ = "orders", "orders-dlq"
DLQ_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{DLQ}"
ALARM_EVENT = ROOT / "events" / "alarm-eventbridge.json"
MESSAGES = 200
SAMPLE_SECONDS = 10
# The sample moves one message a second, and the timers of three programs are involved.
SAMPLE_SIZES = range(7, 15)
MINUTES_AHEAD = 5
STEP_SECONDS = 20.0

T = TypeVar("T")


class DemoError(Exception):
    """The demo cannot continue. The text is for people."""


class AgeingProxy:
    """Stands between the function and SQS, so that the demo does not have to wait for minutes.

    It changes one thing: once `minutes` is set, move tasks seem to have started that much earlier.
    """

    def __init__(self, sqs_url: str) -> None:
        self.minutes = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                status, kind, body = proxy.forward(sqs_url, request, headers)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                # The function may have given up.
                with contextlib.suppress(ConnectionError):
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The demo prints the function's log, and no other."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def forward(self, sqs_url: str, request: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        call = urllib.request.Request(sqs_url, request, headers)
        try:
            with open_directly(call) as answer:
                status, kind, body = answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"] or "", error.read()
        if headers.get("x-amz-target") == "AmazonSQS.ListMessageMoveTasks":
            tasks = json.loads(body)
            for task in tasks.get("Results", []):
                task["StartedTimestamp"] -= self.minutes * 60_000
            body = json.dumps(tasks).encode()
        return status, kind, body


class Demo:
    """Two queues, their consumer, the function, and a list of everything that did not happen as the text says."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.differences: list[str] = []
        self.sqs, self.cloudwatch = client("sqs", aws.sqs_url), client("cloudwatch", aws.cloudwatch_url)
        self.proxy = AgeingProxy(aws.sqs_url)
        self.dlq = self.sqs.create_queue(QueueName=DLQ)["QueueUrl"]
        redrive_policy = json.dumps({"deadLetterTargetArn": DLQ_ARN, "maxReceiveCount": 1})
        attributes = {"RedrivePolicy": redrive_policy, "VisibilityTimeout": "1"}
        self.source = self.sqs.create_queue(QueueName=SOURCE, Attributes=attributes)["QueueUrl"]
        self.handled: list[str] = []
        self.log = aws.folder / "function.log"
        self.log_shown = 0
        self.function = self._start_function()

    def _start_function(self) -> subprocess.Popen[bytes]:
        binary = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "debug" / FUNCTION
        if not (ROOT / binary).is_file():
            raise DemoError(f"the function is not built: {binary} does not exist; run `make demo`, which builds it")
        env = {
            "AWS_LAMBDA_RUNTIME_API": f"{self.aws.lambda_url}/.rt/{FUNCTION}",
            "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_ENDPOINT_URL_SQS": self.proxy.url,
            "AWS_ENDPOINT_URL_CLOUDWATCH": self.aws.cloudwatch_url,
            "REDRIVE_QUEUES": DLQ_ARN,
            "REDRIVE_SAMPLE": str(SAMPLE_SECONDS),
        }
        return self.aws.spawn([str(ROOT / binary)], env, self.log)

    def invoke(self) -> dict[str, Any]:
        """Invokes the function with the alarm event, as EventBridge would. Prints its log and returns its report."""
        if self.function.poll() is not None:
            status = self.function.returncode
            raise DemoError(f"the function stopped unexpectedly with status {status}; its log:\n{self.new_log()}")
        url = f"{self.aws.lambda_url}/2015-03-31/functions/{FUNCTION}/invocations"
        try:
            with open_directly(urllib.request.Request(url, ALARM_EVENT.read_bytes())) as answer:
                report: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            reason = error.read().decode()
            raise DemoError(f"the invocation failed: {reason}\nThe function's log:\n{self.new_log()}") from None
        except OSError as error:
            raise DemoError(f"the function did not answer: {error}\nIts log:\n{self.new_log()}") from None
        for line in self.new_log().splitlines():
            print(f"   log | {line if len(line) <= 130 else line[:129] + '…'}")
        return report

    def new_log(self) -> str:
        """What the function has logged since the last call."""
        log = self.log.read_text(errors="replace")
        new, self.log_shown = log[self.log_shown :], len(log)
        return new

    def expect(self, what: str, actual: object, expected: object) -> None:
        if actual != expected:
            self.differences.append(f"{what}: expected {expected!r}, got {actual!r}")

    def expect_report(self, which: str, report: dict[str, Any], outcome: str, reason: str) -> None:
        queues = [(queue.get("outcome"), queue.get("reason")) for queue in report.get("queues", [])]
        self.expect(f"outcome and reason in the {which} report", queues, [(outcome, reason)])
        self.expect(f"{outcome} in the counts of the {which} report", report.get("counts", {}).get(outcome), 1)

    def depth(self, queue_url: str) -> int:
        """The number of messages in the queue, visible or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def depths(self) -> tuple[int, int]:
        return self.depth(self.source), self.depth(self.dlq)

    def send_orders(self) -> None:
        for first in range(0, MESSAGES, 10):
            entries = [{"Id": str(n), "MessageBody": f"order {n + 1}"} for n in range(first, first + 10)]
            self.sqs.send_message_batch(QueueUrl=self.source, Entries=entries)

    def fail_all_orders(self) -> None:
        """The consumer receives every message and deletes none.

        SQS moves each message to the DLQ instead of delivering it a second time.
        """

        def all_are_dead_letters() -> bool:
            for _ in range(MESSAGES // 10):
                self.sqs.receive_message(QueueUrl=self.source, MaxNumberOfMessages=10)
            return self.depth(self.dlq) == MESSAGES

        wait_until(f"the DLQ to have {MESSAGES} messages", all_are_dead_letters)

    def handle_orders(self) -> int:
        """The consumer handles every message in the source queue, and deletes it. Returns how many there were."""
        before = len(self.handled)

        def none_is_left() -> bool:
            while messages := self.sqs.receive_message(QueueUrl=self.source, MaxNumberOfMessages=10).get("Messages"):
                entries = [{"Id": str(n), "ReceiptHandle": it["ReceiptHandle"]} for n, it in enumerate(messages)]
                self.sqs.delete_message_batch(QueueUrl=self.source, Entries=entries)
                self.handled += [message["Body"] for message in messages]
            return self.depth(self.source) == 0

        wait_until("the source queue to be empty", none_is_left)
        return len(self.handled) - before

    def turn_the_clock(self, handled: int) -> None:
        """Some minutes pass, as far as the function can see."""
        self.proxy.minutes = MINUTES_AHEAD
        # SQS publishes this metric on AWS. A minute after the sample, the consumer deleted its messages.
        datum = {
            "MetricName": "NumberOfMessagesDeleted",
            "Dimensions": [{"Name": "QueueName", "Value": SOURCE}],
            "Timestamp": time.time() - (MINUTES_AHEAD - 1) * 60,
            "Value": handled,
        }
        self.cloudwatch.put_metric_data(Namespace="AWS/SQS", MetricData=[datum])

    def wait_for_task(self) -> str:
        """Waits until the latest move task has ended, and returns its status."""

        def final_status() -> str | None:
            status: str = self.sqs.list_message_move_tasks(SourceArn=DLQ_ARN)["Results"][0]["Status"]
            return None if status in ("RUNNING", "CANCELLING") else status

        return wait_until("the move task to end", final_status)


def client(service: str, url: str) -> Any:
    # Imported here because it takes half a second, during which Ctrl-C would otherwise print a traceback.
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise DemoError("this Python has no boto3; run `make demo`, which installs it") from None
    # The user's own AWS settings must have no effect.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,  # LocalStack takes the account ID from this
        aws_secret_access_key="none",
        config=Config(proxies={}),
    )


def open_directly(request: urllib.request.Request) -> Any:
    """Sends a request, past any proxy that the user has set."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=STEP_SECONDS)


def wait_until(what: str, condition: Callable[[], T | None]) -> T:
    """Polls until the condition holds, and returns its result. Raises DemoError after STEP_SECONDS."""
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise DemoError(f"gave up after {STEP_SECONDS:.0f} s of waiting for {what}")


def pretty(value: object, indent: str = "", width: int = 124) -> str:
    """Formats JSON, with a line break only where a line would be too long."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= width or not isinstance(value, (dict, list)):
        return flat
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{deeper}{json.dumps(key)}: {pretty(item, deeper, width)}" for key, item in value.items()]
    else:
        items = [deeper + pretty(item, deeper, width) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + "\n" + ",\n".join(items) + "\n" + indent + closing


def show(value: object) -> None:
    print("\n".join(f"   {line}" for line in pretty(value).splitlines()))


def say(text: str) -> None:
    print(text, flush=True)


def perform(demo: Demo) -> None:
    """The demo itself, step by step."""
    say(f"\n2. {MESSAGES} orders arrive in the queue `{SOURCE}`. The consumer is broken: it fails every order,")
    say(f"   so SQS moves all of them to the dead-letter queue (DLQ) `{DLQ}`.")
    demo.send_orders()
    demo.fail_all_orders()
    demo.expect("messages in source queue and DLQ before", demo.depths(), (0, MESSAGES))

    say("\n3. The consumer is fixed, but the function cannot know that. The CloudWatch alarm on the DLQ invokes it.")
    say("   It tries a few: it starts a redrive at one message a second, waits, and cancels it after")
    say(f"   {SAMPLE_SECONDS} seconds. This is the sample. Its log and its report:")
    report = demo.invoke()
    show(report)
    demo.expect_report("first", report, "started", "sample")
    demo.expect("status of the sample's move task", demo.wait_for_task(), "CANCELLED")
    sampled = demo.handle_orders()
    demo.expect("size of the sample", sampled if sampled not in SAMPLE_SIZES else "a few", "a few")
    left = MESSAGES - sampled
    demo.expect("messages in source queue and DLQ after the sample", demo.depths(), (0, left))

    say(f"\n4. The consumer handles the {sampled} orders of the sample. {left} wait in the DLQ.")
    say("   The alarm event arrives again. A failing order would not be back yet, so the function waits:")
    report = demo.invoke()
    show(report.get("queues"))
    demo.expect_report("second", report, "skipped", "cooling-down")

    say(f"\n5. To save you the wait, the demo makes the move task look {MINUTES_AHEAD} minutes older.")
    say("   The alarm event arrives again. Failing orders would be back by now. None is, and CloudWatch has seen")
    say("   that the consumer handled them. The verdict: the sample stayed away. So the rest follows:")
    demo.turn_the_clock(sampled)
    report = demo.invoke()
    show(report)
    demo.expect_report("third", report, "started", "ready")
    verdict = report["queues"][0].get("lastTask", {}).get("verdict")
    demo.expect("verdict on the sample", verdict, "stayedAway")

    status = demo.wait_for_task()
    rest = demo.handle_orders()
    demo.expect("status of the second move task", status, "COMPLETED")
    demo.expect("messages that the second redrive moved", rest, left)
    demo.expect("messages in source queue and DLQ at the end", demo.depths(), (0, 0))
    demo.expect("number of different orders handled", len(set(demo.handled)), MESSAGES)
    say(f"\n6. SQS reports the status of its second message move task: {status}. How many orders were where:")
    say(f"   {'':24}{'in the DLQ':>12}{'handled':>12}")
    say(f"   {'before':24}{MESSAGES:>12}{0:>12}")
    say(f"   {'after the sample':24}{left:>12}{sampled:>12}")
    say(f"   {'after the rest':24}{demo.depths()[1]:>12}{len(demo.handled):>12}")


def main() -> int:
    exit_on_signals()
    try:
        say("1. Starting a local SQS, a local CloudWatch and an emulator of Lambda's Runtime API (a few seconds)")
        with LocalAws() as aws:
            demo = Demo(aws)
            perform(demo)
    except (DemoError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The local servers are stopped.", file=sys.stderr)
        return 130
    if demo.differences:
        print("\nThe demo failed. What differs from the text above:", *demo.differences, sep="\n  - ", file=sys.stderr)
        return 1
    say("\nEverything happened as described. The local servers are stopped, and nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
