"""Builds the function for Lambda, and runs the deployment commands of the documentation against the local AWS.

    package.py ARCHITECTURE ...

For each architecture, arm64 or x86_64: `sam build` of template.yaml, and `target/package/sqs-auto-redrive-ARCHITECTURE.zip`,
which must be small, and run with Lambda's C library. Then every way of deploying that README.md and docs/deploy.md show between
`deploy` marks, on a local AWS of its own: the commands as they stand, but for this machine's architecture. After each command
block the function must say that it would redrive the dead letter that waits in `orders-dlq`.

Needs .venv/local, .venv/lint and .venv/build.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy import ACCOUNT, REGION, client
from fit import RUST_TARGETS, Unfit, pack
from servers import ROOT, LocalAws, StartError, exit_on_signals

SAM, BUILD = (ROOT / ".venv" / name / "bin" for name in ("lint", "build"))
PACKAGES = ROOT / "target" / "package"
NAME = "sqs-auto-redrive"
OWN = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
OVERRIDE = f"--parameter-overrides Architecture={OWN}"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "deploy.md")
WAY = re.compile(r"<!-- deploy -->(.*?)<!-- /deploy -->", re.DOTALL)
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Wrong(Exception):
    """Something is not as it should be. The text is for people."""


def build(architecture: str) -> None:
    """Builds the function as SAM does it, and zips it."""
    target = RUST_TARGETS[architecture]
    libraries = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    if not Path(libraries.stdout.strip()).is_dir():
        raise Wrong(f"Rust cannot build for {architecture} here: run `rustup target add {target}`")
    folder = PACKAGES / architecture
    command = ["sam", "build", "--build-dir", str(folder), "--parameter-overrides", f"Architecture={architecture}"]
    run(command, environment())
    binary = folder / "RedriveFunction" / "bootstrap"
    package = PACKAGES / f"{NAME}-{architecture}.zip"
    glibc = pack(binary, architecture, package)
    print(f"{package.relative_to(ROOT)}: {package.stat().st_size} bytes, unpacked {binary.stat().st_size}; glibc {glibc}", flush=True)


def ways() -> list[list[str]]:
    """The ways of deploying that the documentation shows: of each, the blocks of commands."""
    ways = []
    for document in DOCUMENTS:
        found = [BLOCK.findall(part) for part in WAY.findall(document.read_text())]
        if not found or not all(found):
            raise Wrong(f"{document} should show commands between deploy marks")
        ways += found
    return ways


def for_this_machine(commands: str) -> str:
    """The commands, changed for the architecture that the local AWS can run. What they say is for arm64.

    They are for version 2 of AWS's tool; PyPI has version 1, which takes payloads as they are and has no option to say so.
    """
    commands = commands.replace("--cli-binary-format raw-in-base64-out", "")
    if OWN == "arm64":
        return commands
    commands = commands.replace("--arm64", "--x86-64").replace("--parameter-overrides", OVERRIDE)
    return re.sub(r"^sam build$", f"sam build {OVERRIDE}", commands, flags=re.MULTILINE)


def rehearse(blocks: list[str]) -> None:
    """Runs the commands on a new local AWS, and asks the function that they have made."""
    with LocalAws(cloudwatch=True) as aws:
        sqs = client("sqs", aws.sqs_url)
        dlq = sqs.create_queue(QueueName="orders-dlq")["QueueUrl"]
        policy = f'{{"deadLetterTargetArn": "arn:aws:sqs:{REGION}:{ACCOUNT}:orders-dlq", "maxReceiveCount": 1}}'
        sqs.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy})
        sqs.send_message(QueueUrl=dlq, MessageBody="an order")
        client("s3", aws.cloudwatch_url).create_bucket(Bucket="my-bucket")
        # Nothing of the person's own AWS settings may get in.
        local = {
            "AWS_ENDPOINT_URL": aws.cloudwatch_url,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_CONFIG_FILE": str(aws.folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(aws.folder / "credentials"),
        }
        for block in blocks:
            run(["bash", "-euo", "pipefail", "-c", for_this_machine(block)], environment() | local)
            report = dry_run(aws.cloudwatch_url)
            reason = "paused" if "Paused=true" in block else "ready"
            if [(queue["queueArn"].split(":")[-1], queue["reason"]) for queue in report["queues"]] != [("orders-dlq", reason)]:
                raise Wrong(f"the function that was deployed should say {reason} of orders-dlq, but reports: {report}")
            print(f"It says {reason} of orders-dlq.", flush=True)


def dry_run(url: str) -> dict[str, Any]:
    """What the function reports that it would do."""
    answer = client("lambda", url).invoke(FunctionName=NAME, Payload=b'{"action": "redrive", "dryRun": true}')
    report = json.load(answer["Payload"])
    if "queues" not in report:
        raise Wrong(f"the function that was deployed failed: {report}")
    return report


def environment() -> dict[str, str]:
    """The person's own, with the tools of this project before all others, and without settings for AWS."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CARGO_LAMBDA_"))}
    own["PATH"] = f"{BUILD}:{SAM}:{own.get('PATH', os.defpath)}"
    return own | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}


def run(command: list[str], env: dict[str, str]) -> None:
    """Runs it, and lets it speak for itself."""
    print(f"==> {command[-1] if command[0] == 'bash' else ' '.join(command)}", flush=True)
    status = subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
    if status:
        raise Wrong(f"the command ended with status {status}")


def main() -> int:
    exit_on_signals()
    try:
        PACKAGES.mkdir(parents=True, exist_ok=True)
        for architecture in sys.argv[1:]:
            build(architecture)
        # The sample stack has the function's template for a part of it.
        sample = ["sam", "build", "-t", "examples/template.yaml", "--build-dir", str(PACKAGES / "examples")]
        run([*sample, *OVERRIDE.split()], environment())
        for way in ways():
            rehearse(way)
    except (Wrong, Unfit, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
