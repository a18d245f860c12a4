# Development commands; `make` alone lists them. The Lambda function itself is built as README.md says.
# Needs Rust, Python 3.10 or newer and make; everything else is installed below .venv/, from the locked lists in local/, and
# below .tools/, by cargo.

PYTHON ?= python3
# What `make package` builds for. arm64 needs: rustup target add aarch64-unknown-linux-gnu
ARCHITECTURES ?= arm64 x86_64
CARGO_DENY := 0.20.2
CARGO_CYCLONEDX := 0.5.9
CARGO_FUZZ := 0.13.2
CARGO_MUTANTS := 27.1.0
CARGO_LLVM_COV := 0.9.1
# How long `make fuzz` goes on for, with each target.
FUZZ_SECONDS ?= 600

.PHONY: help setup demo test lint-setup lint deny-setup deny audit package-setup package release bench soak fuzz mutants coverage clean

help:
	@echo 'make demo        see it work: a local SQS, 50 dead letters, one real alarm event (no AWS account, no Docker)'
	@echo 'make test        run all tests'
	@echo 'make lint        check formatting, lints, documentation, the template and the workflows'
	@echo 'make deny        check licences, bans and sources of the dependencies (deny.toml)'
	@echo 'make package     build the zips for Lambda, and try the deployment commands of the documentation'
	@echo 'make bench       measure the function beside its peers (about 20 minutes; QUICK=1: about two)'
	@echo 'make soak        100,000 invocations of one process (about ten minutes)'
	@echo 'make fuzz        look for inputs that break a rule, ten minutes for each target (FUZZ_SECONDS=600)'
	@echo 'make mutants     change the code in every small way, and see a test fail for each (hours)'
	@echo 'make coverage    see how much of the code the tests run; needs: rustup component add llvm-tools'
	@echo 'make setup       install the local AWS that demo and test use into .venv/local (they do it themselves)'
	@echo 'make lint-setup  install what lint checks template and workflows with into .venv/lint (lint does it itself)'
	@echo 'make audit       look for advisories on the dependencies (fetches the database from GitHub)'
	@echo 'make release     make what a release consists of, in target/release-files/'
	@echo 'make clean       remove .venv/, .tools/ and target/'

setup:
	$(call venv,local,local/requirements.txt)

demo: setup
	@echo '==> Building the function (the first time takes a few minutes)'
	@cargo build --locked
	@.venv/local/bin/python local/demo.py

# The tests of tests/it/waiting mostly wait for timeouts, so they run beside the others, and many at a time.
test: setup
	@echo '==> Building and running the tests (the first time takes a few minutes)'
	@cargo test --locked --no-run
	@cargo test --locked --no-fail-fast --test it -- waiting:: --test-threads=6 > target/waiting-tests.txt 2>&1 & waiting=$$!; \
	trap 'kill $$waiting' INT TERM; \
	cargo test --locked --no-fail-fast --lib --bins --test it -- --skip waiting::; others=$$?; \
	wait $$waiting; waited=$$?; cat target/waiting-tests.txt; exit $$((others | waited))

lint-setup:
	$(call venv,lint,local/lint-requirements.txt)

lint: lint-setup
	@echo '==> Checking the formatting'
	@cargo fmt --check
	@cargo fmt --check --all --manifest-path bench/Cargo.toml
	@cargo fmt --check --all --manifest-path fuzz/Cargo.toml
	@echo '==> Looking for lints'
	@cargo clippy --locked --all-targets -- -D warnings
	@echo '==> Building the documentation'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	@echo '==> Validating template.yaml'
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/lint/bin/sam validate --lint -t template.yaml
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 .venv/lint/bin/sam validate --lint -t examples/template.yaml
	@.venv/lint/bin/cfn-lint template.yaml examples/template.yaml
	@echo '==> Checking the workflows'
	@.venv/lint/bin/zizmor --offline --persona=auditor --no-progress --quiet .github

deny-setup:
	$(call tool,cargo-deny,$(CARGO_DENY))

# -D warnings: an exception that nothing needs any more is an error.
deny: deny-setup
	@echo '==> Checking licences, bans and sources of the dependencies'
	@.tools/bin/cargo-deny --locked check -D warnings licenses bans sources

audit: deny-setup
	@echo '==> Looking for advisories'
	@.tools/bin/cargo-deny --locked check -D warnings advisories

package-setup:
	$(call venv,build,local/build-requirements.txt)

# To try the deployments, this machine's own architecture is built too.
package: setup lint-setup package-setup
	@echo '==> Building for Lambda (takes some minutes)'
	@.venv/local/bin/python local/package.py $(ARCHITECTURES)

release: package-setup
	$(call tool,cargo-cyclonedx,$(CARGO_CYCLONEDX))
	@.venv/build/bin/python local/release.py

bench:
	@PYTHON='$(PYTHON)' ./bench/bench.sh $(if $(QUICK),--quick) $(ARGS)

soak:
	@echo '==> Building the function, as it is released'
	@cargo build --release --locked
	@SOAK_BINARY=$(CURDIR)/target/release/sqs-auto-redrive SOAK_INVOCATIONS=100000 cargo test --locked --test it -- soak:: --nocapture

# cargo-fuzz asks for options of the nightly compiler; RUSTC_BOOTSTRAP has the stable one take them.
fuzz:
	$(call tool,cargo-fuzz,$(CARGO_FUZZ))
	@cd fuzz && for target in event config; do mkdir -p target/corpus/$$target; \
	  PATH="$(CURDIR)/.tools/bin:$$PATH" RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none $$target \
	    target/corpus/$$target corpus/$$target ../events -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=20 -max_len=16384 -dict=$$target.dict || exit 1; \
	done

mutants:
	$(call tool,cargo-mutants,$(CARGO_MUTANTS))
	@PATH="$(CURDIR)/.tools/bin:$$PATH" cargo mutants -j1 --baseline=skip --timeout 200 --output target

# The tests kill functions, which therefore write their counts as they go.
coverage: setup
	$(call tool,cargo-llvm-cov,$(CARGO_LLVM_COV))
	@PATH="$(CURDIR)/.tools/bin:$$PATH" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
	  RUSTFLAGS='-Cllvm-args=-runtime-counter-relocation' LLVM_PROFILE_FILE_NAME='redrive-%p%c.profraw' \
	  cargo llvm-cov --locked --ignore-filename-regex '^$(CURDIR)/fuzz/' --fail-under-lines 95

clean:
	rm -rf .venv .tools target .aws-sam bench/target bench/.venv bench/node/node_modules fuzz/target

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

# $(call tool,NAME,VERSION): makes .tools/bin hold that version of a tool of cargo's, built with the versions it was released with.
# A debug build, since it is faster to make and fast enough.
define tool
@set -e; \
if grep -qs '^"$(1) $(2) ' .tools/.crates.toml && [ -x .tools/bin/$(1) ]; then exit 0; fi; \
echo '==> Building $(1) $(2) into .tools (once, a few minutes)'; \
cargo install --quiet --locked --debug --root .tools $(1)@$(2)
endef
