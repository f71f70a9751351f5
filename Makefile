# Crossover: every target sets up its own .venv first, with nothing but Python and make.
#   make compare                      both systems under load: table, plots, report.html
#   make test                         the test suite, in two processes: four to eight minutes
#   make check                        what CI runs: lint, types, import rules, sizes, then every test in its long form
#   make sizes                        lines of Python by package, against their limits
#   make serve RUNG=cqrs PORT=8000    a rung in the foreground
#   make diff RUNG=cqrs               what a rung changes in its parent
#   make torture                      every rung on each server it can use, under faults, three seeds each
#   make setup                        .venv alone, which every other target sets up when it is needed
#   make report DIR=results/<run>     the report of a run again; without DIR of the newest
#   make notebooks                    the walkthroughs, in a browser
#   make audit                        known weaknesses of the pinned packages, by pip-audit
# ARGS passes more options on: make compare ARGS="--profile standard --size m"

.PHONY: audit compare test check sizes serve diff torture report notebooks setup
.DEFAULT_GOAL := compare

SHELL := /bin/sh
BIN := .venv/bin
READY := .venv/.ready
RUNG ?= cqrs
PORT ?= 8000
SIZE ?= $(if $(filter noop,$(RUNG)),empty,s)
ARGS ?=
PRODUCT := contract crud_impl cqrs_impl servers ladder loadtests analysis crossover benchmarks notebooks docs
PRODUCT_LINES_MAX := 31963
TEST_LINES_MAX := 16913
# Its progress is for a terminal; a log of CI gets what goes wrong.
PIP = $(BIN)/python -m pip install --disable-pip-version-check $$(test -t 2 || echo --quiet)
# A test that hangs says where and fails, and the others go on.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

compare: $(READY)
	@$(BIN)/crossover compare $(ARGS)

test: $(READY)
	@$(PYTEST) -m "not long" tests $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory sizes
	@SIMULATION_SEEDS=2000 HISTORIES=1000 CASES=10 KILLS=3 $(PYTEST) $(ARGS)

# Every line is one that somebody has to read: the limits go down, or up with a feature. The commit that raises one says
# which feature, and why it is worth its lines.
sizes:
	@lines() { find "$$@" -name '*.py' -not -path '*/.ipynb_checkpoints/*' -exec cat {} + | wc -l; }; \
	for package in $(PRODUCT) tests; do printf '%7d  %s\n' $$(lines $$package) $$package; done; \
	product=$$(lines $(PRODUCT)); tests=$$(lines tests); \
	echo "Product: $$product lines of at most $(PRODUCT_LINES_MAX). Tests: $$tests of at most $(TEST_LINES_MAX)."; \
	[ $$product -le $(PRODUCT_LINES_MAX) ] && [ $$tests -le $(TEST_LINES_MAX) ] \
	    || { echo "Too many lines: merge what is repeated, or raise the limit in the Makefile with its reason." >&2; exit 1; }

serve: $(READY)
	@$(BIN)/crossover serve $(RUNG) --port $(PORT) --size $(SIZE) $(ARGS)

diff: $(READY)
	@$(BIN)/crossover diff $(RUNG)

torture: $(READY)
	@rungs=$$($(BIN)/python -c 'from ladder.rung import *; print(*(r.name for r in rungs().values() if r.servers))'); \
	forms=$$($(BIN)/python -c 'from ladder.rung import *; print(*(form for r in rungs().values() if r.servers for form in on_each_server(r)))'); \
	failed=0; for rung in $$forms; do for seed in 1 2 3; do \
	    $(BIN)/crossover torture $$rung --seed $$seed $(ARGS) || failed=1; \
	done; done; KILLS=25 EVENTS=20000 HISTORIES=10000 PASTS=300 CASES=100 RUNGS=$$(echo $$rungs | tr ' ' ,) \
	$(BIN)/python -m pytest tests/test_kills.py tests/test_openapi.py tests/test_event_histories.py tests/test_time_travel.py || failed=1; exit $$failed

# In an environment of its own, so that the audit's packages are not what is audited. Needs the network.
audit:
	@test -x .venv-audit/bin/pip-audit || { $(firstword $(PYTHON) python3) -m venv .venv-audit \
	    && .venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; } \
	    || { echo "pip-audit could not be installed: the audit needs a package index within reach." >&2; exit 2; }
	@.venv-audit/bin/pip-audit --disable-pip --require-hashes --progress-spinner off -r requirements.lock \
	    || { echo "The audit found something, or could not reach its list: see above." >&2; exit 1; }

report: $(READY)
	@$(BIN)/crossover report "$(or $(DIR),$(shell ls -td results/*/ 2>/dev/null | head -n 1),results)"

notebooks: $(READY)
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks $(ARGS)

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@found=; for python in $(CANDIDATES); do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Crossover needs Python 3.11 or newer with its venv module: install it, or give make PYTHON=/its/path." >&2; exit 2; \
	fi; \
	echo "Crossover sets up .venv: about two minutes and 1.1 GB, once."; \
	echo "Step 1 of 3: a virtual environment of $$($$found --version)"; \
	test -x $(BIN)/python || $$found -m venv .venv
	@echo "Step 2 of 3: $$(grep -c '^[a-z].*==' requirements.lock) packages, pinned in requirements.lock"
	@$(PIP) --require-hashes -r requirements.lock
	@echo "Step 3 of 3: Crossover itself"
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $(READY)
	@echo "Ready: $(BIN)/crossover --help"
