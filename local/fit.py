"""Whether a binary is fit for Lambda."""

from __future__ import annotations

import re

RUST_TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# The machine that an ELF file is for, in its bytes 18 and 19.
ELF_MACHINES = {"arm64": b"\xb7\x00", "x86_64": b"\x3e\x00"}
# Amazon Linux 2023, on which provided.al2023 is built, has glibc 2.34.
GLIBC = (2, 34)
# Of the zip: a small one starts sooner.
MOST_BYTES = 4_000_000


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
