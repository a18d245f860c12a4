"""The demo: fifty orders land in a dead-letter queue, and sqs-auto-redrive moves them back, once.

`make demo` builds the function and runs this program. Everything runs on this machine: LocalStack provides SQS, and an
emulator of Lambda's Runtime API sends events to the function, which is the same program that runs on AWS Lambda. The
exit status is 0 only if everything happened as the text says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from servers import ROOT, LocalAws, StartError, exit_on_signals

ACCOUNT, REGION = "123456789012", "us-east-1"
FUNCTION = "sqs-auto-redrive"
SOURCE, DLQ = "orders", "orders-dlq"
DLQ_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{DLQ}"
ALARM_EVENT = ROOT / "events" / "alarm-eventbridge.json"
MESSAGES = 50
STEP_SECONDS = 20.0

T = TypeVar("T")


class DemoError(Exception):
    """The demo cannot continue. The text is for people."""


class Demo:
    """Two queues, their consumer, the function, and a list of everything that did not happen as the text says."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.differences: list[str] = []
        self.sqs = sqs_client(aws)
        self.dlq = self.sqs.create_queue(QueueName=DLQ)["QueueUrl"]
        redrive_policy = json.dumps({"deadLetterTargetArn": DLQ_ARN, "maxReceiveCount": 1})
        attributes = {"RedrivePolicy": redrive_policy, "VisibilityTimeout": "1"}
        self.source = self.sqs.create_queue(QueueName=SOURCE, Attributes=attributes)["QueueUrl"]
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
            "AWS_ENDPOINT_URL_SQS": self.aws.sqs_url,
            "REDRIVE_QUEUES": DLQ_ARN,
        }
        return self.aws.spawn([str(ROOT / binary)], env, self.log)

    def invoke(self) -> dict[str, Any]:
        """Invokes the function with the alarm event, as EventBridge would. Prints its log and returns its report."""
        if self.function.poll() is not None:
            status = self.function.returncode
            raise DemoError(f"the function stopped unexpectedly with status {status}; its log:\n{self.new_log()}")
        url = f"{self.aws.lambda_url}/2015-03-31/functions/{FUNCTION}/invocations"
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(url, ALARM_EVENT.read_bytes(), STEP_SECONDS) as answer:
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
            self.sqs.receive_message(QueueUrl=self.source, MaxNumberOfMessages=10)
            return self.depth(self.dlq) == MESSAGES

        wait_until(f"the DLQ to have {MESSAGES} messages", all_are_dead_letters)

    def fail_one_order(self) -> None:
        """The consumer processes every message except the first one it receives."""
        poison: list[str] = []

        def one_is_a_dead_letter() -> bool:
            for message in self.sqs.receive_message(QueueUrl=self.source, MaxNumberOfMessages=10).get("Messages", []):
                if not poison:
                    poison.append(message["MessageId"])
                elif message["MessageId"] not in poison:
                    self.sqs.delete_message(QueueUrl=self.source, ReceiptHandle=message["ReceiptHandle"])
            return self.depths() == (0, 1)

        wait_until("the DLQ to have one message and the source queue none", one_is_a_dead_letter)

    def wait_for_task(self) -> str:
        """Waits until the latest move task has ended, and returns its status."""

        def final_status() -> str | None:
            status: str = self.sqs.list_message_move_tasks(SourceArn=DLQ_ARN)["Results"][0]["Status"]
            return None if status in ("RUNNING", "CANCELLING") else status

        return wait_until("the move task to end", final_status)


def sqs_client(aws: LocalAws) -> Any:
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
        "sqs",
        endpoint_url=aws.sqs_url,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,  # LocalStack takes the account ID from this
        aws_secret_access_key="none",
        config=Config(proxies={}),
    )


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
    before = demo.depths()
    demo.expect("messages in source queue and DLQ before", before, (0, MESSAGES))

    say("\n3. The consumer is fixed. The CloudWatch alarm on the DLQ invokes the function,")
    say("   which starts a redrive. Its log and its report:")
    report = demo.invoke()
    show(report)
    demo.expect_report("first", report, "started", "ready")

    say("\n4. The same alarm event arrives again. SQS is still moving the messages, so the function starts nothing:")
    report = demo.invoke()
    show(report.get("queues"))
    demo.expect_report("second", report, "skipped", "task-active")

    status = demo.wait_for_task()
    after = demo.depths()
    demo.expect("status of the move task", status, "COMPLETED")
    demo.expect("messages in source queue and DLQ after", after, (MESSAGES, 0))
    say(f"\n5. SQS reports the status of its message move task: {status}. Messages in each queue before and after:")
    say(f"   {'':10}{SOURCE:>12}{DLQ:>12}")
    say(f"   {'before':10}{before[0]:>12}{before[1]:>12}")
    say(f"   {'after':10}{after[0]:>12}{after[1]:>12}")

    say(f"\n6. The consumer now processes {MESSAGES - 1} orders. One is a poison message: it fails again,")
    say("   returns to the DLQ, and sets off the alarm. The previous redrive was only seconds ago.")
    say("   Another one now could send the message back and forth forever, so the function waits:")
    demo.fail_one_order()
    report = demo.invoke()
    show(report.get("queues"))
    demo.expect_report("third", report, "skipped", "cooling-down")
    demo.expect("messages in source queue and DLQ at the end", demo.depths(), (0, 1))


def main() -> int:
    exit_on_signals()
    try:
        say("1. Starting a local SQS and an emulator of Lambda's Runtime API (a few seconds)")
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
