# Development commands: `make` lists them. README.md explains how to build the Lambda function itself.
# You need Rust, Python 3.10 or newer, and make. The commands install everything else: Python packages below .venv/,
# from the locked lists in local/, and Cargo tools below .tools/.

PYTHON ?= python3
# The architectures that `make package` builds for. arm64 needs: rustup target add aarch64-unknown-linux-gnu
ARCHITECTURES ?= arm64 x86_64
CARGO_DENY := 0.20.2
CARGO_CYCLONEDX := 0.5.9
CARGO_FUZZ := 0.13.2
CARGO_LLVM_COV := 0.9.1
CARGO_MACHETE := 0.9.2
CARGO_MUTANTS := 27.1.0
# How long `make fuzz` runs each target.
FUZZ_SECONDS ?= 600

.PHONY: help setup demo test lint-setup lint deny-setup deny audit package-setup package release-notes release bench pictures \
  soak check-aws fuzz mutants coverage clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## run the demo: a local SQS, 200 dead letters, a real alarm event (no AWS account, no Docker)
	@echo '==> Building the function (the first time takes a few minutes)'
	@cargo build --locked
	@.venv/local/bin/python local/demo.py

# The tests of tests/it/waiting mostly wait for timeouts, so they run in parallel with the rest, many at a time.
test: setup ## run all tests
	@echo '==> Building and running the tests (the first time takes a few minutes)'
	@cargo test --locked --no-run
	@cargo test --locked --no-fail-fast --test it -- waiting:: --test-threads=6 > target/waiting-tests.txt 2>&1 & waiting=$$!; \
	trap 'kill $$waiting' INT TERM; \
	cargo test --locked --no-fail-fast --lib --bins --test it -- --skip waiting::; others=$$?; \
	wait $$waiting; waited=$$?; cat target/waiting-tests.txt; exit $$((others | waited))

# mypy checks our own code only: it ignores the types of installed packages and does not report missing ones.
MYPY_OPTIONS := --strict --python-version 3.10 --cache-dir target/mypy --no-error-summary \
  --no-site-packages --disable-error-code import-not-found --disable-error-code import-untyped

# The quick checks come first.
lint: lint-setup ## check formatting, lints, documentation, unused dependencies, scripts, templates and workflows
	$(call tool,cargo-machete,$(CARGO_MACHETE))
	@echo '==> Checking that rust-toolchain.toml pins the oldest Rust that Cargo.toml allows'
	@pin=$$(sed -n 's/^rust-version = "\(.*\)"$$/channel = "\1.0"/p' Cargo.toml); \
	grep -qxF "$$pin" rust-toolchain.toml || { \
	  echo "rust-toolchain.toml must have \`$$pin\`, because of rust-version in Cargo.toml" >&2; exit 1; }
	@echo '==> Checking for unused dependencies'
	@.tools/bin/cargo-machete --skip-target-dir
	@echo '==> Checking the Python programs'
	@.venv/lint/bin/ruff check --quiet
	@.venv/lint/bin/ruff format --check --quiet
	@.venv/lint/bin/mypy $(MYPY_OPTIONS) local examples
	@echo '==> Checking the shell scripts'
	@.venv/lint/bin/shellcheck .ci/run bench/bench.sh
	@echo '==> Checking the workflows'
	@.venv/lint/bin/zizmor --offline --persona=auditor --no-progress --quiet .github
	@echo '==> Checking the templates'
	@.venv/lint/bin/cfn-lint template.yaml examples/template.yaml
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/lint/bin/sam validate --lint -t template.yaml
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/lint/bin/sam validate --lint -t examples/template.yaml
	@echo '==> Checking the formatting of the Rust code'
	@cargo fmt --check
	@cargo fmt --check --all --manifest-path bench/Cargo.toml
	@cargo fmt --check --all --manifest-path fuzz/Cargo.toml
	@echo '==> Running clippy'
	@cargo clippy --locked --all-targets -- -D warnings
	@echo '==> Building the documentation, private items included'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

# -D warnings: an exception that is no longer needed is an error.
deny: deny-setup ## check the licenses, bans and sources of the dependencies (deny.toml)
	@echo '==> Checking the licenses, bans and sources of the dependencies'
	@.tools/bin/cargo-deny --locked check -D warnings licenses bans sources

audit: deny-setup ## check the dependencies for security advisories (downloads the database from GitHub)
	@echo '==> Checking the dependencies for security advisories'
	@.tools/bin/cargo-deny --locked check -D warnings advisories

# Always builds for the architecture of this machine too, because the local AWS runs the deployed function.
package: setup lint-setup package-setup ## build the zips for Lambda, run the documented deployments locally, check examples/
	@echo '==> Building for Lambda (takes a few minutes)'
	@.venv/local/bin/python local/package.py $(ARCHITECTURES)
	$(call venv,examples,local/examples-requirements.txt)
	@echo '==> Checking the examples'
	@.venv/local/bin/python local/examples.py

release-notes: ## print the release notes: the section of CHANGELOG.md for the version in Cargo.toml
	@$(PYTHON) local/release.py --notes

release: package-setup ## build the files of a release into target/release-files/ (docs/releasing.md)
	$(call tool,cargo-cyclonedx,$(CARGO_CYCLONEDX))
	@.venv/build/bin/python local/release.py

bench: ## measure the function and its peers (about 20 minutes; QUICK=1: about two)
	@PYTHON='$(PYTHON)' ./bench/bench.sh $(if $(QUICK),--quick) $(ARGS)
	@$(if $(QUICK)$(ARGS),,$(MAKE) pictures)

pictures: ## draw the pictures of the documents from the model run and the last bench run
	$(call venv,pictures,local/pictures-requirements.txt)
	@echo '==> Drawing docs/outage.svg and docs/startup.svg'
	@OUTAGE_DATA=$(CURDIR)/target/outage.jsonl cargo test --locked --quiet --test it the_picture_of_an_outage
	@.venv/pictures/bin/python local/pictures.py target/outage.jsonl

soak: ## run 100,000 invocations in one process (about ten minutes)
	@echo '==> Building the function as it is released'
	@cargo build --release --locked
	@SOAK_BINARY=$(CURDIR)/target/release/sqs-auto-redrive SOAK_INVOCATIONS=100000 \
	  cargo test --locked --test it -- soak:: --nocapture

# Whenever the program does not succeed, make exits with 2. docs/check-aws.md has the program's own exit status.
check-aws: setup $(if $(ZIP),,lint-setup package-setup) ## check on an AWS account whether AWS does what we assume (docs/check-aws.md)
	@.venv/local/bin/python local/check_aws.py $(if $(YES),--yes) $(if $(TASKS),--tasks) $(if $(QUICK),--quick) \
	  $(if $(ZIP),--zip '$(ZIP)')

# cargo-fuzz passes options that only a nightly compiler accepts; RUSTC_BOOTSTRAP makes the stable one accept them too.
fuzz: ## look for inputs that break a rule, ten minutes per target (FUZZ_SECONDS=600)
	$(call tool,cargo-fuzz,$(CARGO_FUZZ))
	@cd fuzz && for target in event config; do mkdir -p target/corpus/$$target; \
	  PATH="$(CURDIR)/.tools/bin:$$PATH" RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target \
	    target/corpus/$$target corpus/$$target ../events -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=20 -max_len=16384 -dict=$$target.dict || exit 1; \
	done

mutants: ## make many small changes to the code, and check that a test fails for each (hours)
	$(call tool,cargo-mutants,$(CARGO_MUTANTS))
	@PATH="$(CURDIR)/.tools/bin:$$PATH" cargo mutants -j1 --baseline=skip --timeout 200 --output target

# The tests kill functions, so the counters are written continuously, not only at exit.
coverage: setup ## measure how much of the code the tests run (needs: rustup component add llvm-tools)
	$(call tool,cargo-llvm-cov,$(CARGO_LLVM_COV))
	@PATH="$(CURDIR)/.tools/bin:$$PATH" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
	  RUSTFLAGS='-Cllvm-args=-runtime-counter-relocation' LLVM_PROFILE_FILE_NAME='redrive-%p%c.profraw' \
	  cargo llvm-cov --locked --ignore-filename-regex '^$(CURDIR)/fuzz/' --fail-under-lines 95

setup: ## install the local AWS into .venv/local (demo and test do this themselves)
	$(call venv,local,local/requirements.txt)

lint-setup: ## install the Python and shell linters into .venv/lint (lint does this itself)
	$(call venv,lint,local/lint-requirements.txt)

package-setup:
	$(call venv,build,local/build-requirements.txt)

deny-setup:
	$(call tool,cargo-deny,$(CARGO_DENY))

clean: ## remove .venv/, .tools/, target/ and everything else that these commands create
	rm -rf .venv .tools target .aws-sam bench/target bench/.venv bench/node/node_modules fuzz/target

# $(call venv,NAME,LIST) creates .venv/NAME with exactly the packages in LIST.
# LIST is copied into .venv/NAME last, so the copy shows that the environment is complete. If LIST changes, the
# environment is created again.
# --no-deps: each list is complete, and deliberately omits packages that are not needed.
define venv
@set -e; \
if [ -x .venv/$(1)/bin/python ] && cmp -s $(2) .venv/$(1)/installed.txt; then exit 0; fi; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
  echo 'Python 3.10 or newer is needed. To use another Python: make PYTHON=/path/to/python3 ...' >&2; exit 1; }; \
$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
  echo 'Python has no venv module. Install it (Debian and Ubuntu: apt install python3-venv).' >&2; exit 1; }; \
echo '==> Installing $(2) into .venv/$(1) (once, about a minute)'; \
rm -rf .venv/$(1); \
$(PYTHON) -m venv .venv/$(1); \
.venv/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(2); \
cp $(2) .venv/$(1)/installed.txt
endef

# $(call tool,NAME,VERSION) installs a Cargo tool into .tools/bin, with the dependencies that its authors locked.
# A debug build, because it compiles faster and runs fast enough.
define tool
@set -e; \
if grep -qs '^"$(1) $(2) ' .tools/.crates.toml && [ -x .tools/bin/$(1) ]; then exit 0; fi; \
echo '==> Building $(1) $(2) into .tools (once, up to a few minutes)'; \
cargo install --quiet --locked --debug --root .tools $(1)@$(2)
endef
