"""A binary for Lambda, and what Lambda takes: a zip of it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

RUST_TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# The machine that an ELF file is for, in its bytes 18 and 19.
ELF_MACHINES = {"arm64": b"\xb7\x00", "x86_64": b"\x3e\x00"}
# Amazon Linux 2023, on which provided.al2023 is built, has glibc 2.34.
GLIBC = (2, 34)
# Of the zip: a small one starts sooner.
MOST_BYTES = 4_000_000
EXECUTABLE = 0o100755 << 16
UNIX = 3


class Unfit(Exception):
    """It is not. The text is for people."""


def check(content: bytes, architecture: str) -> str:
    """The newest version of glibc that the binary needs; raises Unfit unless Lambda can run it on this architecture."""
    if content[18:20] != ELF_MACHINES[architecture]:
        raise Unfit(f"the binary is not for {architecture}")
    newest = max(tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_([0-9.]+[0-9])", content))
    version = ".".join(map(str, newest))
    if newest > GLIBC:
        raise Unfit(f"the binary for {architecture} needs glibc {version}, and Lambda has {'.'.join(map(str, GLIBC))}")
    return version


def pack(binary: Path, architecture: str, package: Path) -> str:
    """Zips the binary, once it was checked, and returns what check does; raises Unfit if the zip is too big.

    The zip holds the earliest time that it can hold, so that the same binary makes the same bytes.
    """
    content = binary.read_bytes()
    glibc = check(content, architecture)
    function = zipfile.ZipInfo("bootstrap")
    function.external_attr = EXECUTABLE
    function.create_system = UNIX
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr(function, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    size = package.stat().st_size
    if size >= MOST_BYTES:
        raise Unfit(f"{package.name} has {size} bytes, and should have less than {MOST_BYTES}")
    return glibc
