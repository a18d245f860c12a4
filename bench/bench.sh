#!/bin/sh
# Builds the function and its peers, installs the peers' locked dependencies, and measures all of them.
# README.md lists the arguments, which go to the harness.
set -eu
cd "$(dirname "$0")"

for tool in cargo node npm "${PYTHON:=python3}"; do
  command -v "$tool" > /dev/null || { echo "bench: $tool is not installed" >&2; exit 1; }
done

echo '==> Building the function as it is released' >&2
cargo build --release --locked --manifest-path ../Cargo.toml
echo '==> Building the harness and rust-raw' >&2
cargo build --release --locked

# Each list is copied last, so the copy shows that the folder is complete. If a list changes, its folder is created
# again.
if ! cmp -s python/requirements.txt .venv/installed.txt; then
  echo '==> Installing python/requirements.txt into .venv' >&2
  rm -rf .venv
  "$PYTHON" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r python/requirements.txt
  cp python/requirements.txt .venv/installed.txt
fi
if ! cmp -s node/package-lock.json node/node_modules/installed.json; then
  echo '==> Installing node/package-lock.json into node/node_modules' >&2
  (cd node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp node/package-lock.json node/node_modules/installed.json
fi
(cd node && node_modules/.bin/esbuild loop.mjs --bundle --minify --platform=node --format=esm --log-level=warning \
  --outfile=../target/node/index.mjs \
  --banner:js="import{createRequire}from'module';const require=createRequire(import.meta.url);")

"$PYTHON" zips.py
exec target/release/harness "$@"
