"""Checks that a binary can run on Lambda, and zips it into a deployment package."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

RUST_TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# Bytes 18 and 19 of an ELF file: the machine that it runs on.
ELF_MACHINES = {"arm64": b"\xb7\x00", "x86_64": b"\x3e\x00"}
# The runtime provided.al2023 is based on Amazon Linux 2023, which has glibc 2.34.
LAMBDA_GLIBC = (2, 34)
# The limit for the zip: a small package makes a cold start faster.
MAX_BYTES = 4_000_000
EXECUTABLE = 0o100755 << 16
UNIX = 3


class UnfitError(Exception):
    """Lambda cannot run the binary, or the zip is too large. The text is for people."""


def check(content: bytes, architecture: str) -> str:
    """Returns the glibc version that the binary needs. Raises UnfitError if Lambda cannot run it."""
    if content[18:20] != ELF_MACHINES[architecture]:
        raise UnfitError(f"the binary is not for {architecture}")
    newest = max(tuple(map(int, version.split(b"."))) for version in re.findall(rb"GLIBC_([0-9.]+[0-9])", content))
    version = ".".join(map(str, newest))
    if newest > LAMBDA_GLIBC:
        available = ".".join(map(str, LAMBDA_GLIBC))
        raise UnfitError(f"the binary for {architecture} needs glibc {version}, but Lambda has {available}")
    return version


def pack(binary: Path, architecture: str, package: Path) -> str:
    """Checks and zips the binary, and returns the glibc version that it needs.

    Raises UnfitError if Lambda cannot run it, or if the zip is too large. The modification time in the zip is the
    earliest one that the format allows, so the same binary always gives the same zip.
    """
    content = binary.read_bytes()
    glibc = check(content, architecture)
    function = zipfile.ZipInfo("bootstrap")
    function.external_attr = EXECUTABLE
    function.create_system = UNIX
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr(function, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    size = package.stat().st_size
    if size >= MAX_BYTES:
        raise UnfitError(f"{package.name} has {size} bytes, but must have less than {MAX_BYTES}")
    return glibc
