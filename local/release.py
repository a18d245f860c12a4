"""Builds the files of a release into target/release-files/, and its notes into target/release-notes.md.

    release.py           build everything: for each architecture of Lambda a zip of the function, a template that
                         deploys this zip, and a bill of materials, then the checksums of these files, and the notes
    release.py --notes   print the notes only
    release.py --template ARCHITECTURE
                         print the template for the zip of this architecture only

`make release` and `make release-notes` run this; `make package` and a test need the templates. The notes are the
section of CHANGELOG.md for the version in Cargo.toml; without that section there is no release.

The same commit always gives the same files: the zips contain no build time, and the bills of materials contain the time
of the commit. The names of the files contain no version, so that the address of the latest release never changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fit import RUST_TARGETS, UnfitError, pack

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
CHANGELOG = ROOT / "CHANGELOG.md"
FILES = ROOT / "target" / "release-files"
NOTES = ROOT / "target" / "release-notes.md"
BUILD_TOOLS = ROOT / ".venv" / "build" / "bin"
CYCLONEDX = ROOT / ".tools" / "bin" / "cargo-cyclonedx"


def run(*command: str | Path, **environment: str) -> str:
    """Returns the output of the command. If the command fails, it has printed why, and this program ends."""
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"release: {' '.join(str(part) for part in command)} failed")
    return done.stdout


def notes(version: str, changelog: str) -> str:
    """The text below the heading `## [VERSION] - YYYY-MM-DD`. Ends this program if that is missing or empty."""
    section = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |^\[[^]\n]*\]: |\Z)",
        changelog,
        re.MULTILINE | re.DOTALL,
    )
    if section is None:
        sys.exit(f"release: CHANGELOG.md has no heading `## [{version}] - YYYY-MM-DD`; see docs/releasing.md")
    text = section[1].strip()
    if not text:
        sys.exit(f"release: CHANGELOG.md says nothing about {version}; describe what users notice")
    return text + "\n"


def template(name: str, version: str, architecture: str) -> str:
    """template.yaml, changed to deploy the zip beside it: without sources, and without a build."""
    changes = {
        f"({name})\n": f"({name} {version})\n",
        "      Code: .\n": f"      Code: {name}-{architecture}.zip\n",
        "      BuildMethod: rust-cargolambda\n": "",
        "    Default: arm64\n    AllowedValues: [arm64, x86_64]\n": (
            f"    Default: {architecture}\n    AllowedValues: [{architecture}]\n"
        ),
    }
    text = TEMPLATE.read_text()
    for old, new in changes.items():
        if text.count(old) != 1:
            sys.exit(f"release: template.yaml must have this exactly once:\n{old}")
        text = text.replace(old, new)
    return text


def build(name: str, version: str) -> None:
    """Builds all files of the release into FILES."""
    commit_time = run("git", "log", "-1", "--format=%ct").strip()
    path = f"{BUILD_TOOLS}{os.pathsep}{os.environ['PATH']}"

    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir(parents=True)
    for architecture, target in RUST_TARGETS.items():
        print(f"==> Building for {architecture}", flush=True)
        built = ROOT / "target" / "lambda" / architecture
        run("cargo", "lambda", "build", "--release", "--locked", "--target", target, "--lambda-dir", built, PATH=path)
        try:
            pack(built / name / "bootstrap", architecture, FILES / f"{name}-{architecture}.zip")
        except UnfitError as error:
            sys.exit(f"release: {error}")
        (FILES / f"{name}-{architecture}.yaml").write_text(template(name, version, architecture))

        print(f"==> Writing the bill of materials for {architecture}", flush=True)
        bill = f"{name}-{architecture}.cdx"
        run(
            CYCLONEDX, "cyclonedx", "--format", "json", "--spec-version", "1.5", "--target", target,
            "--override-filename", bill, SOURCE_DATE_EPOCH=commit_time,
        )  # fmt: skip
        (ROOT / f"{bill}.json").rename(FILES / f"{bill}.json")

    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(FILES.iterdir())]
    (FILES / "SHA256SUMS").write_text("".join(sums))


def main() -> None:
    (package,) = json.loads(run("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"]
    name, version = package["name"], package["version"]
    if sys.argv[1:2] == ["--template"]:
        print(template(name, version, sys.argv[2]), end="")
        return
    text = notes(version, CHANGELOG.read_text())
    if sys.argv[1:] == ["--notes"]:
        print(text, end="")
        return
    build(name, version)
    NOTES.write_text(text)
    for file in [*sorted(FILES.iterdir()), NOTES]:
        print(f"{file.stat().st_size:>10}  {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
