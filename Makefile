# Development commands; `make` alone lists them. The Lambda function itself is built as README.md says.
# Needs Rust, Python 3.10 or newer and make; everything else is installed below .venv/, from the locked lists in local/.

PYTHON ?= python3

.PHONY: help setup demo test lint-setup lint clean

help:
	@echo 'make demo        see it work: a local SQS, 50 dead letters, one real alarm event (no AWS account, no Docker)'
	@echo 'make test        run all tests'
	@echo 'make lint        check formatting, lints, documentation and the template'
	@echo 'make setup       install the local AWS that demo and test use into .venv/local (they do it themselves)'
	@echo 'make lint-setup  install what lint checks the template with into .venv/lint (lint does it itself)'
	@echo 'make clean       remove .venv/ and target/'

setup:
	$(call venv,local,local/requirements.txt)

demo: setup
	@echo '==> Building the function (the first time takes a few minutes)'
	@cargo build --locked
	@.venv/local/bin/python local/demo.py

test: setup
	@echo '==> Building and running the tests (the first time takes a few minutes)'
	@cargo test --locked

lint-setup:
	$(call venv,lint,local/lint-requirements.txt)

lint: lint-setup
	@echo '==> Checking the formatting'
	@cargo fmt --check
	@echo '==> Looking for lints'
	@cargo clippy --locked --all-targets -- -D warnings
	@echo '==> Building the documentation'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	@echo '==> Validating template.yaml'
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/lint/bin/sam validate --lint -t template.yaml
	@.venv/lint/bin/cfn-lint template.yaml

clean:
	rm -rf .venv target

# $(call venv,NAME,LIST): makes .venv/NAME hold what LIST says, and nothing else.
# The copy of LIST inside comes last, so that it also marks the environment as complete; a change of LIST makes it anew.
# --no-deps: the lists are whole, and leave out what is not needed on purpose.
define venv
@set -e; \
if [ -x .venv/$(1)/bin/python ] && cmp -s $(2) .venv/$(1)/installed.txt; then exit 0; fi; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
  echo 'Python 3.10 or newer is needed; name one with: make PYTHON=/path/to/python3 ...' >&2; exit 1; }; \
$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
  echo 'Python lacks its venv module; install it (Debian and Ubuntu: apt install python3-venv).' >&2; exit 1; }; \
echo '==> Installing $(2) into .venv/$(1) (once, about a minute)'; \
rm -rf .venv/$(1); \
$(PYTHON) -m venv .venv/$(1); \
.venv/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(2); \
cp $(2) .venv/$(1)/installed.txt
endef
