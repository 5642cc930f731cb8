# Every target does its own set-up, from a fresh clone: git, make, python3 and a C compiler are enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python

# These build other flavours of the compiled modules (setup.py), AUDITO_PROFILE=use by `make release`; each has its own
# stamp.
FLAVOUR := $(if $(filter 1,$(AUDITO_DEBUG)),debug-)$(if $(filter 1,$(AUDITO_SANITIZE)),sanitize-)$(if $(filter use,$(AUDITO_PROFILE)),profile-)build
export AUDITO_DEBUG AUDITO_SANITIZE AUDITO_PROFILE PYTHON
BUILT := $(VENV)/.built-$(FLAVOUR)

# What builds the modules for the fuzzer: gcc has no counters that libFuzzer reads.
CLANG := $(or $(shell command -v clang || command -v clang-14),clang)

# What loads the compiled modules.
RUN := $(if $(filter 1,$(AUDITO_SANITIZE)),tools/python-sanitized,$(PY))

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: venv
venv: $(VENV)/.packages ## system packages, .venv and the Python packages in it

$(VENV)/.packages: pyproject.toml tools/bootstrap.sh
	@flock tools/bootstrap.sh tools/bootstrap.sh
	@touch $@

.PHONY: build
build: $(BUILT) $(VENV)/.installed ## compile the modules in place, install the tree as editable

$(BUILT): $(VENV)/.packages setup.py $(wildcard audito/*.pyx audito/*.pxd)
	@rm -f $(VENV)/.built-*
ifeq ($(AUDITO_PROFILE),use)
	@rm -rf build/profile
	@AUDITO_PROFILE=collect flock setup.py $(PY) setup.py -q build_ext --inplace -j 2
	@$(PY) -m benchmarks.stages --size gate --runs 3 > build/profile.log
endif
	@flock setup.py $(PY) setup.py -q build_ext --inplace -j 2
	@touch $@

$(VENV)/.installed: pyproject.toml setup.py | $(BUILT)
	@flock setup.py $(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: release
release: ## compile as for the image: by a profile, a tenth faster, in twice the time
	@$(MAKE) --no-print-directory AUDITO_PROFILE=use build

.PHONY: demo
demo: build ## replay the captured session in examples/ and print its events
	@echo '$(PY) -m audito replay --audit examples/audit.log --sshd examples/sshd.log --output -' >&2
	@$(RUN) -m audito replay --audit examples/audit.log --sshd examples/sshd.log --output -

.PHONY: test
test: build ## all tests but those that change the machine; PYTEST_ARGS="-k name" picks some
	@$(RUN) -m pytest $(PYTEST_ARGS)

.PHONY: unit-test
unit-test: test ## the same, under the name that it had for the Go daemon

.PHONY: integration-test
integration-test: build ## live, against auditd, journald and sshd; changes the machine: root and AUDITO_E2E=1
	@$(PY) -m tests.e2e.host
	@if [ "$${AUDITO_E2E:-}" != 1 ]; then echo 'To allow that: AUDITO_E2E=1 make integration-test' >&2; exit 1; fi
	@$(RUN) -m pytest tests/e2e $(PYTEST_ARGS)

.PHONY: mutants
mutants: build ## put the known faults back, one at a time, and see the tests fail; MUTANTS="U10 U13b" picks some
	@$(PY) -m tools.mutants $(MUTANTS)

.PHONY: torture
torture: build ## the faults of docs/faults.md at full size, round after round; TORTURE=seconds (3600), TORTURE_ARGS
	@$(PY) -m tools.torture --seconds $(or $(TORTURE),3600) $(TORTURE_ARGS)

SEEDS ?= 10000
FIRST ?= 0
.PHONY: simulate
simulate: build ## the daemon on a simulated kernel, with faults from SEEDS seeds; REPORT=build/simulator.json; SIM_ARGS="--seed 7 --shrink"
	@$(PY) -m tests.sim $(if $(SIM_ARGS),$(SIM_ARGS),--first $(FIRST) --seeds $(SEEDS) $(if $(REPORT),--report $(REPORT)))

FUZZ_SECONDS ?= 600
TARGET ?= records
.PHONY: fuzz
fuzz: build/fuzz/.built ## libFuzzer on TARGET (records, logins, state, sessions, settings) for FUZZ_SECONDS; needs clang
	@PYTHON=$(PY) tools/fuzz $(TARGET) $(FUZZ_SECONDS) $(FUZZ_ARGS)

.PHONY: fuzz-keep
fuzz-keep: build/fuzz/.built ## what make fuzz made for TARGET into tests/corpus/fuzz: as few inputs as reach the same code
	@PYTHON=$(PY) tools/fuzz $(TARGET) keep

build/fuzz/.built: $(BUILT) setup.py pyproject.toml $(wildcard audito/*.pyx audito/*.pxd)
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' \
		| $(PY) -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@AUDITO_FUZZ=1 CC=$(CLANG) LDSHARED="$(CLANG) -shared" $(PY) setup.py -q build_ext --build-lib build/fuzz -j 2
	@touch $@

.PHONY: lint
lint: build ## ruff, mypy, the stubs against the compiled modules, and a build with warnings as errors
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m mypy
	@$(RUN) -m mypy.stubtest --concise --ignore-missing-stub --ignore-disjoint-bases \
		--allowlist tests/stubtest_allowlist.txt $(STUBBED)
	@AUDITO_DEBUG= AUDITO_SANITIZE= AUDITO_WERROR=1 $(PY) setup.py -q build_ext --build-lib build/lint -j 2

.PHONY: bench
bench: release $(VENV)/.bench ## all benches: tables, JSON and the plots of docs/performance.md; BENCH_ARGS=--full is long
	@$(PY) -m benchmarks $(BENCH_ARGS)

$(VENV)/.bench: pyproject.toml | $(VENV)/.packages
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' \
		| $(PY) -m pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	@touch $@

.PHONY: bench-gate
bench-gate: build ## fail on a regression against benchmarks/baseline.json; GATE_ARGS=--prove shows that it can
	@$(PY) -m benchmarks.gate $(GATE_ARGS)

.PHONY: bench-update
bench-update: build ## after a change that is meant: the benches' digests and the baseline anew, to be committed with it
	@$(PY) -m benchmarks.stages --update
	@$(PY) -m benchmarks.gate --update

# Compiled modules that have a .pyi.
STUBBED := $(patsubst audito/%.pyi,audito.%,$(wildcard audito/_*.pyi))

.PHONY: image
image: ## the container image, with docker, podman or buildah; IMAGE, TAG and BASE name it and what it is built on
	@tools/image

.PHONY: image-test
image-test: build ## build the image as root with buildah on a base of debootstrap, and run the main job in it; minutes
	@AUDITO_IMAGE=1 $(PY) -m pytest tests/deploy/test_image.py $(PYTEST_ARGS)

.PHONY: deploy-tools
deploy-tools: $(VENV)/.packages ## what checks deploy/, into .tools and .venv: its tests skip without
	@tools/deploy-tools

.PHONY: chart
chart: build ## write the settings into the Helm chart's values and their schema
	@$(PY) tools/gen_chart.py

.PHONY: schema
schema: build ## write into docs/ and deploy/ what the code knows: flags, metrics, JSON Schemas, minimal audit rules
	@$(PY) tools/gen_docs.py

.PHONY: instance-test
instance-test: build ## LIVE_INSTANCE=host: fetch that host's logs over ssh, and replay them here
	@tools/instance-test

.PHONY: clean-instance-test
clean-instance-test: ## take away what was fetched
	@rm -rf live-instance-test

.PHONY: clean
clean: ## take away what was built; .venv stays
	@rm -rf build dist *.egg-info audito/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis $(VENV)/.built-*

.PHONY: distclean
distclean: clean ## as clean, and .venv and .tools
	@rm -rf $(VENV) .tools
