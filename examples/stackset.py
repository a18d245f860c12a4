#!/usr/bin/env python3
"""Makes the template of a release ready for CloudFormation StackSets.

    stackset.py TEMPLATE BUCKET REGION ...

TEMPLATE is the template of a release, with its zip beside it. For each region, the bucket BUCKET-REGION must exist:
Lambda reads the code from its own region. The program copies the zip into these buckets and writes `stackset.json` into
the current folder.

StackSets with service-managed permissions run no transform such as AWS::Serverless. So CloudFormation runs it here, in
a change set that is never executed. In the result, the program replaces the name of the bucket, because each region has
its own.

Needs Python 3.10 and the AWS CLI, and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

STACK = "sqs-auto-redrive-stackset"
CHANGE_SET = "transformed"
RESULT = Path("stackset.json")
# What CreateStackSet takes as a TemplateBody.
MAX_BYTES = 51_200


def aws(*arguments: str) -> str:
    """The output of the AWS CLI. If it fails, it has printed why, and this program ends."""
    done = subprocess.run(["aws", *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"stackset: aws {' '.join(arguments[:2])} failed")
    return done.stdout


def package(template: str, bucket: str, regions: list[str], packaged: Path) -> None:
    """Copies the zip into each bucket. Its key is a hash of the zip, so it is the same in all buckets."""
    for region in regions:
        aws(
            "cloudformation", "package", "--region", region, "--template-file", template,
            "--s3-bucket", f"{bucket}-{region}", "--output-template-file", str(packaged),
        )  # fmt: skip


def transformed(packaged: Path, region: str) -> dict[str, Any]:
    """The template as CloudFormation transforms it. Afterwards, neither the change set nor its empty stack exists."""
    change_set = ("--region", region, "--stack-name", STACK, "--change-set-name", CHANGE_SET)
    aws(
        "cloudformation", "create-change-set", *change_set, "--change-set-type", "CREATE",
        "--template-body", f"file://{packaged}", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND",
        # The template refuses to enroll nothing. The value stays a parameter.
        "--parameters", "ParameterKey=EnrollTagValue,ParameterValue=enabled",
    )  # fmt: skip
    try:
        aws("cloudformation", "wait", "change-set-create-complete", *change_set)
        answer = aws("cloudformation", "get-template", *change_set, "--template-stage", "Processed", "--output", "json")
    finally:
        aws("cloudformation", "delete-stack", "--region", region, "--stack-name", STACK)
    template: dict[str, Any] = json.loads(answer)["TemplateBody"]
    return template


def for_all_regions(template: dict[str, Any], bucket: str) -> str:
    """The template as compact JSON. In each region, the function's code comes from the bucket of this region."""
    code = template["Resources"]["RedriveFunction"]["Properties"]["Code"]
    code["S3Bucket"] = {"Fn::Sub": bucket + "-${AWS::Region}"}
    text = json.dumps(template, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_BYTES:
        sys.exit(f"stackset: the template has {size} bytes, but CreateStackSet takes at most {MAX_BYTES}")
    print(f"{RESULT}: {size} bytes of {MAX_BYTES}")
    return text


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit("usage: stackset.py TEMPLATE BUCKET REGION ...")
    template, bucket, *regions = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        packaged = Path(folder) / "packaged.yaml"
        package(template, bucket, regions, packaged)
        text = for_all_regions(transformed(packaged, regions[0]), bucket)
    RESULT.write_text(text)


if __name__ == "__main__":
    main()
