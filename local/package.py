"""Builds the function for Lambda, and runs the documented deployment commands against the local AWS.

    package.py ARCHITECTURE ...

For each architecture (arm64 or x86_64) and for the one of this machine, runs `sam build` and creates
`target/package/sqs-auto-redrive-ARCHITECTURE.zip`, which must be small and work with Lambda's C library.

Then tries every deployment that README.md and docs/deploy.md show between `<!-- deploy -->` marks. Each deployment gets
a new local AWS. Its commands run as documented, except that they use the architecture of this machine. After each block
of commands, a dry run of the deployed function must report that it would redrive the dead letter in `orders-dlq`.
A deployment between `<!-- deploy release -->` and `<!-- /deploy -->` runs in a new folder, which has only a zip and its
template, as a release has them.

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
from pathlib import Path
from typing import Any

from deploy import ACCOUNT, REGION, client
from fit import RUST_TARGETS, UnfitError, pack
from servers import ROOT, LocalAws, StartError, exit_on_signals

SAM, BUILD = (ROOT / ".venv" / name / "bin" for name in ("lint", "build"))
PACKAGES = ROOT / "target" / "package"
NAME = "sqs-auto-redrive"
OWN = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
OVERRIDE = f"--parameter-overrides Architecture={OWN}"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "deploy.md")
DEPLOYMENT = re.compile(r"<!-- deploy( release)? -->(.*?)<!-- /deploy -->", re.DOTALL)
# The command that stops the function waits for invocations that are under way. There are none here.
NO_SLEEP = "sleep() { :; }; export -f sleep\n"
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


def for_this_machine(commands: str, released: bool) -> str:
    """The commands, changed to work here.

    The documented commands deploy for arm64, but the local AWS runs functions on the architecture of this machine. They
    are also written for version 2 of the AWS CLI. PyPI has version 1, which always takes raw payloads and has no option
    for that.
    """
    commands = commands.replace("--cli-binary-format raw-in-base64-out", "")
    if OWN == "arm64":
        return commands
    if released:
        return commands.replace(f"{NAME}-arm64", f"{NAME}-{OWN}")
    commands = commands.replace("--arm64", "--x86-64").replace("--parameter-overrides", OVERRIDE)
    return re.sub(r"^sam build$", f"sam build {OVERRIDE}", commands, flags=re.MULTILINE)


def try_deployment(released: bool, blocks: list[str]) -> None:
    """Runs the commands on a new local AWS, and checks what the deployed function reports."""
    with LocalAws() as aws, tempfile.TemporaryDirectory() as files:
        sqs = client("sqs", aws.sqs_url)
        dlq = sqs.create_queue(QueueName="orders-dlq")["QueueUrl"]
        policy = f'{{"deadLetterTargetArn": "arn:aws:sqs:{REGION}:{ACCOUNT}:orders-dlq", "maxReceiveCount": 1}}'
        sqs.create_queue(QueueName="orders", Attributes={"RedrivePolicy": policy})
        sqs.send_message(QueueUrl=dlq, MessageBody="an order")
        client("s3", aws.cloudwatch_url).create_bucket(Bucket="my-bucket")
        folder = Path(files) if released else ROOT
        if released:
            release_folder(folder)
        for block in blocks:
            commands = ["bash", "-euo", "pipefail", "-c", NO_SLEEP + for_this_machine(block, released)]
            run(commands, environment(aws), folder)
            report = dry_run(aws.cloudwatch_url)
            reason = "paused" if "StopCommand" in block else "ready"
            reported = [(queue["queueArn"].split(":")[-1], queue["reason"]) for queue in report["queues"]]
            if reported != [("orders-dlq", reason)]:
                raise PackageError(
                    f"the deployed function must report `{reason}` for orders-dlq, but reports: {report}"
                )
            print(f"The deployed function reports `{reason}` for orders-dlq.", flush=True)


def dry_run(url: str) -> dict[str, Any]:
    """The report of a dry run of the deployed function."""
    answer = client("lambda", url).invoke(FunctionName=NAME, Payload=b'{"action": "redrive", "dryRun": true}')
    report: dict[str, Any] = json.load(answer["Payload"])
    if "queues" not in report:
        raise PackageError(f"the invocation of the deployed function failed: {report}")
    return report


def environment(aws: LocalAws | None = None) -> dict[str, str]:
    """The user's own environment, with this project's tools first in PATH. Its only AWS settings are those of `aws`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CARGO_LAMBDA_"))}
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
    except (PackageError, UnfitError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
