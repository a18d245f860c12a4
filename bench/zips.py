"""Packs each peer into target/zips as a package for Lambda, compressed with deflate at level 6."""

import pathlib
import sys
import zipfile

BENCH = pathlib.Path(__file__).parent
SITE_PACKAGES = next(BENCH.glob(".venv/lib/python*/site-packages"))
# Lambda's Python runtime includes the runtime client. The tools of the virtual environment do not belong in a package.
NOT_DEPLOYED = (
    *("awslambdaric", "snapshot_restore_py", "simplejson", "runtime_client"),
    *("pip", "pkg_resources", "setuptools", "_distutils_hack", "distutils"),
)


def packages():
    for path in sorted(SITE_PACKAGES.rglob("*")):
        name = path.relative_to(SITE_PACKAGES)
        if path.is_file() and "__pycache__" not in name.parts and not name.parts[0].startswith(NOT_DEPLOYED):
            yield path, str(name)


ZIPS = {
    "sqs-auto-redrive": [(BENCH / "../target/release/sqs-auto-redrive", "bootstrap")],
    "rust-raw": [(BENCH / "target/release/rust-raw", "bootstrap")],
    "node": [(BENCH / "target/node/index.mjs", "index.mjs")],
    "python": [(BENCH / "python/sweep.py", "sweep.py"), *packages()],
}


def main():
    folder = BENCH / "target/zips"
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in ZIPS.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for path, name_inside in files:
                archive.write(path, name_inside)


if __name__ == "__main__":
    sys.exit(main())
