"""Deploys template.yaml to the local AWS (MiniStack) as `sam deploy` would, with S3 and CloudFormation.

    deploy.py URL STACK BOOTSTRAP [PARAMETER=VALUE ...]

BOOTSTRAP is the function's binary. If it is `-`, nothing is deployed: CloudFormation only creates a change set, to show
whether it accepts the stack. Prints one line of JSON:

    {"status": STATUS, "reasons": {RESOURCE: REASON}, "outputs": {NAME: VALUE}}   after a deployment, successful or not
    {"accepted": true}                                                            without a binary
    {"refused": MESSAGE}                                                          if CloudFormation refuses the stack
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent
ACCOUNT, REGION = "123456789012", "us-east-1"
BUCKET, KEY = "artifacts", "bootstrap.zip"
CODE_HERE = "      Code: .\n"
DEPLOY_SECONDS = 120.0


def client(service: str, url: str) -> Any:
    """A client of the local AWS, which takes the account ID from the access key ID."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="none",
        config=Config(proxies={}, read_timeout=DEPLOY_SECONDS),
    )


def deploy(url: str, stack: str, bootstrap: str, parameters: dict[str, str]) -> dict[str, Any]:
    """Creates a change set, and executes it if there is a binary."""
    if bootstrap != "-":
        s3 = client("s3", url)
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=package(Path(bootstrap)))
    template = (ROOT / "template.yaml").read_text()
    if template.count(CODE_HERE) != 1:
        raise SystemExit(f"template.yaml must have exactly one line {CODE_HERE.strip()!r}")
    cloudformation = client("cloudformation", url)
    change_set = {"StackName": stack, "ChangeSetName": "first"}
    try:
        cloudformation.create_change_set(
            **change_set,
            ChangeSetType="CREATE",
            TemplateBody=template.replace(CODE_HERE, f"      Code: {{S3Bucket: {BUCKET}, S3Key: {KEY}}}\n"),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    except ClientError as error:
        return {"refused": error.response["Error"]["Message"]}
    created = settled(lambda: cloudformation.describe_change_set(**change_set), "Status")
    if created["Status"] != "CREATE_COMPLETE":
        return {"refused": created.get("StatusReason", "")}
    if bootstrap == "-":
        return {"accepted": True}
    cloudformation.execute_change_set(**change_set)
    stack_description = settled(lambda: cloudformation.describe_stacks(StackName=stack)["Stacks"][0], "StackStatus")
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return {
        "status": stack_description["StackStatus"],
        "reasons": {
            event["LogicalResourceId"]: event.get("ResourceStatusReason", "")
            for event in events
            if event["ResourceStatus"].endswith("_FAILED")
        },
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack_description.get("Outputs", [])},
    }


def settled(describe: Callable[[], dict[str, Any]], status: str) -> dict[str, Any]:
    """Polls until the status is final or DEPLOY_SECONDS have passed, and returns the last description."""
    deadline = time.monotonic() + DEPLOY_SECONDS
    while True:
        description = describe()
        if not description[status].endswith(("_IN_PROGRESS", "_PENDING")) or time.monotonic() > deadline:
            return description
        time.sleep(0.1)


def package(bootstrap: Path) -> bytes:
    """The deployment package: a zip of the binary, without its debug symbols (nine tenths of a debug build)."""
    zipped = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        stripped = Path(folder) / "bootstrap"
        subprocess.run(["strip", "-o", stripped, bootstrap], check=True)
        archive.write(stripped, "bootstrap")
    return zipped.getvalue()


def main() -> int:
    url, stack, bootstrap, *settings = sys.argv[1:]
    parameters = dict(setting.split("=", 1) for setting in settings)
    print(json.dumps(deploy(url, stack, bootstrap, parameters)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
