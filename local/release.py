"""Makes what a release consists of, in target/release-files/: a zip of the function for each architecture of Lambda, the bill of
materials of each, and the checksums of all.

`make release` runs this. A bill of materials holds the time of the commit, and a zip none, so that the same program makes the
same bytes, whenever they are made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from fit import RUST_TARGETS, Unfit, pack

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target" / "release-files"
BUILD_TOOLS = ROOT / ".venv" / "build" / "bin"
CYCLONEDX = ROOT / ".tools" / "bin" / "cargo-cyclonedx"


def run(*command: str | Path, **environment: str) -> str:
    """What the command prints; ends this program if it fails, since it has said why by then."""
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"release: {' '.join(str(part) for part in command)} failed")
    return done.stdout


def main() -> None:
    (package,) = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"]
    name = package["name"]
    release = f"{name}-{package['version']}"
    commit_time = run("git", "log", "-1", "--format=%ct").strip()
    path = f"{BUILD_TOOLS}{os.pathsep}{os.environ['PATH']}"

    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for architecture, target in RUST_TARGETS.items():
        print(f"==> Building for {architecture}", flush=True)
        built = ROOT / "target" / "lambda" / architecture
        run("cargo", "lambda", "build", "--release", "--locked", "--target", target, "--lambda-dir", built, PATH=path)
        try:
            pack(built / name / "bootstrap", architecture, OUT / f"{release}-{architecture}.zip")
        except Unfit as error:
            sys.exit(f"release: {error}")

        print(f"==> Listing what it is made of for {architecture}", flush=True)
        bill = f"{release}-{architecture}.cdx"
        run(
            CYCLONEDX, "cyclonedx", "--format", "json", "--spec-version", "1.5", "--target", target,
            "--override-filename", bill, SOURCE_DATE_EPOCH=commit_time,
        )  # fmt: skip
        (ROOT / f"{bill}.json").rename(OUT / f"{bill}.json")

    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(OUT.iterdir())]
    (OUT / "SHA256SUMS").write_text("".join(sums))
    for file in sorted(OUT.iterdir()):
        print(f"{file.stat().st_size:>10}  {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
