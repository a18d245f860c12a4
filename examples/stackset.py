#!/usr/bin/env python3
"""Makes the template of a release ready for CloudFormation StackSets.

    stackset.py TEMPLATE BUCKET REGION ...

TEMPLATE is the template of a release, with its zip beside it. Lambda reads the code from a bucket in its own region, so
the bucket BUCKET-REGION must exist for each region. The program copies the zip into these buckets, and writes
`stackset.json` into the current folder: the template, with the bucket of the region that it is deployed in.

Needs Python 3.10 and the AWS CLI, and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULT = Path("stackset.json")
# What CreateStackSet takes as a TemplateBody.
MAX_BYTES = 51_200


def packaged(template: str, bucket: str, region: str) -> dict[str, Any]:
    """Copies the zip into the bucket of the region. Returns the template with the place of the copy."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "packaged.json"
        command = [
            "aws", "cloudformation", "package", "--region", region, "--template-file", template,
            "--s3-bucket", f"{bucket}-{region}", "--use-json", "--output-template-file", str(output),
        ]  # fmt: skip
        # The output would be advice on how to deploy it, which does not apply.
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"stackset: the zip could not be copied into {bucket}-{region}")
        result: dict[str, Any] = json.loads(output.read_text())
    return result


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit("usage: stackset.py TEMPLATE BUCKET REGION ...")
    source, bucket, *regions = sys.argv[1:]
    templates = [packaged(source, bucket, region) for region in regions]
    # The key of a copy is a hash of the zip, so the templates differ only in the bucket.
    template = templates[0]
    code = template["Resources"]["RedriveFunction"]["Properties"]["Code"]
    code["S3Bucket"] = {"Fn::Sub": bucket + "-${AWS::Region}"}

    text = json.dumps(template, separators=(",", ":"))
    size = len(text.encode())
    if size > MAX_BYTES:
        sys.exit(f"stackset: the template has {size} bytes, but CreateStackSet takes at most {MAX_BYTES}")
    RESULT.write_text(text)
    print(f"{RESULT}: {size} bytes of {MAX_BYTES}")


if __name__ == "__main__":
    main()
