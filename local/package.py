"""Builds the function for Lambda, and runs the documented deployment commands against the local AWS.

    package.py ARCHITECTURE ...

For each architecture (arm64 or x86_64) and for the one of this machine, runs `sam build` and creates
`target/package/sqs-auto-redrive-ARCHITECTURE.zip`, which must be small and work with Lambda's C library.

Then tries every deployment that README.md and docs/deploy.md show between `<!-- deploy -->` marks. Each deployment gets
a new local AWS. Its commands run as documented, except that they use the architecture of this machine. After each block
of commands, a dry run of the deployed function must report that it would redrive the dead letter in `orders-dlq`. A
deployment between `<!-- deploy release -->` and `<!-- /deploy -->` runs in a new folder, which has only a zip and its
template, as a release has them.

At last it runs what docs/operating.md shows between `<!-- stop -->` marks, and then between `<!-- start -->` marks. The
first must end a RUNNING task and pause the function, the second must start it again, and both must keep its code.

Needs .venv/local, .venv/lint and .venv/build.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from deploy import ACCOUNT, REGION, client, deploy
from fit import RUST_TARGETS, UnfitError, pack
from servers import ROOT, LocalAws, StartError, exit_on_signals

SAM, BUILD = (ROOT / ".venv" / name / "bin" for name in ("lint", "build"))
PACKAGES = ROOT / "target" / "package"
NAME = "sqs-auto-redrive"
OWN = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
OVERRIDE = f"--parameter-overrides Architecture={OWN}"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "deploy.md")
OPERATING = ROOT / "docs" / "operating.md"
DEPLOYMENT = re.compile(r"<!-- deploy( release)? -->(.*?)<!-- /deploy -->", re.DOTALL)
# The command that stops the function waits for invocations that are under way. A new deployment has none.
NO_SLEEP = "sleep() { :; }\n"
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class PackageError(Exception):
    """A build or a deployment failed. The text is for people."""


def build(architecture: str) -> None:
    """Builds the function with SAM, and zips it."""
    target = RUST_TARGETS[architecture]
    libraries = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if not Path(libraries.stdout.strip()).is_dir():
        raise PackageError(f"Rust cannot build for {architecture} yet: run `rustup target add {target}`")
    folder = PACKAGES / architecture
    command = ["sam", "build", "--build-dir", str(folder), "--parameter-overrides", f"Architecture={architecture}"]
    run(command, environment())
    binary = folder / "RedriveFunction" / "bootstrap"
    package = PACKAGES / f"{NAME}-{architecture}.zip"
    glibc = pack(binary, architecture, package)
    sizes = f"{package.stat().st_size} bytes, unpacked {binary.stat().st_size} bytes"
    print(f"{package.relative_to(ROOT)}: {sizes}; needs glibc {glibc}", flush=True)


def deployments() -> list[tuple[bool, list[str]]]:
    """The deployments that the documentation shows: whether it needs only a release, and its blocks of commands."""
    deployments = []
    for document in DOCUMENTS:
        found = [(bool(release), BLOCK.findall(part)) for release, part in DEPLOYMENT.findall(document.read_text())]
        if not found or not all(blocks for _, blocks in found):
            raise PackageError(f"{document} must have blocks of commands between `<!-- deploy -->` marks")
        deployments += found
    return deployments


def release_folder(folder: Path) -> None:
    """Fills the folder with the files of a release that a deployment needs: the zip, and the template that names it."""
    shutil.copy(PACKAGES / f"{NAME}-{OWN}.zip", folder)
    command = [sys.executable, "local/release.py", "--template", OWN]
    template = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (folder / f"{NAME}-{OWN}.yaml").write_text(template)


def for_this_machine(commands: str, released: bool = False) -> str:
    """The commands, changed to work here.

    The documented commands deploy for arm64, but the local AWS runs functions on the architecture of this machine. They
    are also written for version 2 of the AWS CLI. PyPI has version 1, which always takes raw payloads and has no option
    for that. In `aws sqs`, it ignores the variable for the endpoint.
    """
    commands = commands.replace("--cli-binary-format raw-in-base64-out", "")
    commands = commands.replace("aws sqs ", 'aws sqs --endpoint-url "$AWS_ENDPOINT_URL" ')
    if OWN == "arm64":
        return commands
    if released:
        return commands.replace(f"{NAME}-arm64", f"{NAME}-{OWN}")
    commands = commands.replace("--arm64", "--x86-64").replace("--parameter-overrides", OVERRIDE)
    return re.sub(r"^sam build$", f"sam build {OVERRIDE}", commands, flags=re.MULTILINE)


def try_deployment(released: bool, blocks: list[str]) -> None:
    """Runs the commands on a new local AWS, and checks what the deployed function reports."""
    with LocalAws() as aws, tempfile.TemporaryDirectory() as files:
        folder = Path(files) if released else ROOT
        if released:
            release_folder(folder)
        send_dead_letters(aws, 1)
        client("s3", aws.cloudwatch_url).create_bucket(Bucket="my-bucket")
        empty = set(re.findall(r"[a-z]+-dlq", "".join(blocks))) - {"orders-dlq"}
        for queue in sorted(name for dlq in empty for name in (dlq, dlq.removesuffix("-dlq"))):
            # The tagging API knows only the queues of its own SQS.
            for url in (aws.sqs_url, aws.cloudwatch_url):
                client("sqs", url).create_queue(QueueName=queue)
        for block in blocks:
            run_commands(NO_SLEEP + for_this_machine(block, released), aws, folder)
            check_report(aws, "paused" if "StopCommand" in block else "ready", empty)


def try_stopping(binary: Path) -> None:
    """Runs the commands that stop the function and start it again, while tasks move one message a second."""
    with LocalAws() as aws:
        dlq = send_dead_letters(aws, 1000)
        deployed = deploy(
            aws.cloudwatch_url,
            NAME,
            str(binary),
            # A schedule that does not run during the test, and the shortest time until the command cancels again.
            {"DeadLetterQueueArns": dlq, "DestinationArn": arn("orders"), "Schedule": "rate(1 hour)", "Timeout": "60"},
        )
        if deployed.get("status") != "CREATE_COMPLETE":
            raise PackageError(f"the function must be deployed, but CloudFormation says: {deployed}")
        sqs, functions = client("sqs", aws.sqs_url), client("lambda", aws.cloudwatch_url)
        code = functions.get_function_configuration(FunctionName=NAME)["CodeSha256"]

        def start() -> None:
            sqs.start_message_move_task(SourceArn=dlq, DestinationArn=arn("orders"), MaxNumberOfMessagesPerSecond=1)

        def start_late() -> None:
            """Does what an invocation does that decided before the pause, and starts a task after the first cancel."""
            while task_statuses(sqs, dlq) != ["CANCELLED"]:
                time.sleep(0.2)
            start()

        start()
        if (statuses := task_statuses(sqs, dlq)) != ["RUNNING"]:
            raise PackageError(f"there must be a task to stop, but there are {statuses}")
        threading.Thread(target=start_late, daemon=True).start()
        for mark, reason in (("stop", "paused"), ("start", "cooling-down")):
            run_commands(for_this_machine(marked(mark)), aws, ROOT)
            if (statuses := task_statuses(sqs, dlq)) != ["CANCELLED", "CANCELLED"]:
                raise PackageError(f"after `{mark}`, both tasks must be CANCELLED, but they are {statuses}")
            if functions.get_function_configuration(FunctionName=NAME)["CodeSha256"] != code:
                raise PackageError(f"`{mark}` must not change the code of the function")
            check_report(aws, reason, set())


def task_statuses(sqs: Any, dlq: str) -> list[str]:
    """The status of each move task, newest first."""
    tasks = sqs.list_message_move_tasks(SourceArn=dlq, MaxResults=10)["Results"]
    return [task["Status"] for task in tasks]


def marked(mark: str) -> str:
    """The one block of commands in docs/operating.md between these marks."""
    parts = re.findall(f"<!-- {mark} -->(.*?)<!-- /{mark} -->", OPERATING.read_text(), re.DOTALL)
    blocks = [block for part in parts for block in BLOCK.findall(part)]
    if len(blocks) != 1:
        raise PackageError(f"{OPERATING} must have one block of commands between `<!-- {mark} -->` marks")
    return str(blocks[0])


def arn(queue: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"


def send_dead_letters(aws: LocalAws, count: int) -> str:
    """Puts messages into `orders-dlq`, the dead-letter queue of `orders`. Returns its ARN."""
    sqs = client("sqs", aws.sqs_url)
    dlq = sqs.create_queue(QueueName="orders-dlq")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn("orders-dlq"), "maxReceiveCount": 1})
    sqs.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy})
    for first in range(0, count, 10):
        entries = [{"Id": str(n), "MessageBody": f"order {n}"} for n in range(first, min(first + 10, count))]
        sqs.send_message_batch(QueueUrl=dlq, Entries=entries)
    return arn("orders-dlq")


def run_commands(commands: str, aws: LocalAws, folder: Path) -> None:
    """Runs documented commands on the local AWS."""
    run(["bash", "-euo", "pipefail", "-c", commands], environment(aws), folder)


def check_report(aws: LocalAws, reason: str, empty: set[str]) -> None:
    """A dry run of the deployed function must report this reason for `orders-dlq`, and that these queues are empty."""
    report = dry_run(aws.cloudwatch_url)
    reported = {queue["queueArn"].split(":")[-1]: queue["reason"] for queue in report["queues"]}
    if reported != {"orders-dlq": reason, **dict.fromkeys(empty, "empty")}:
        raise PackageError(f"the deployed function must report `{reason}` for orders-dlq, but reports: {report}")
    print(f"The deployed function reports `{reason}` for orders-dlq.", flush=True)


def dry_run(url: str) -> dict[str, Any]:
    """The report of a dry run of the deployed function."""
    answer = client("lambda", url).invoke(FunctionName=NAME, Payload=b'{"action": "redrive", "dryRun": true}')
    report: dict[str, Any] = json.load(answer["Payload"])
    if "queues" not in report:
        raise PackageError(f"the invocation of the deployed function failed: {report}")
    return report


def environment(aws: LocalAws | None = None) -> dict[str, str]:
    """The user's own environment, with this project's tools first in PATH. Its only AWS settings are those of `aws`.

    Without `CARGO_TARGET_DIR`: older versions of `sam build` would package no bootstrap, or an old one.
    """
    foreign = ("AWS_", "CARGO_LAMBDA_", "CARGO_TARGET_DIR")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    own["PATH"] = f"{BUILD}:{SAM}:{own.get('PATH', os.defpath)}"
    own |= {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
    if aws:
        own |= {
            "AWS_ENDPOINT_URL": aws.cloudwatch_url,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_CONFIG_FILE": str(aws.folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(aws.folder / "credentials"),
        }
    return own


def run(command: list[str], env: dict[str, str], folder: Path = ROOT) -> None:
    """Runs the command in the folder. Its output goes to the terminal."""
    print(f"==> {command[-1] if command[0] == 'bash' else ' '.join(command)}", flush=True)
    status = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL).returncode
    if status:
        raise PackageError(f"the command failed with status {status}")


def main() -> int:
    exit_on_signals()
    try:
        PACKAGES.mkdir(parents=True, exist_ok=True)
        for architecture in dict.fromkeys([*sys.argv[1:], OWN]):
            build(architecture)
        # The sample stack contains the function's template as a nested application.
        sample = ["sam", "build", "-t", "examples/template.yaml", "--build-dir", str(PACKAGES / "examples")]
        run([*sample, *OVERRIDE.split()], environment())
        for released, blocks in deployments():
            try_deployment(released, blocks)
        try_stopping(PACKAGES / OWN / "RedriveFunction" / "bootstrap")
    except (PackageError, UnfitError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
