# Crossover: every target sets up its own .venv first, with nothing but Python and make.
#   make compare                      both systems under load: table, plots, report.html
#   make test                         the test suite, in two processes: about ten minutes
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
PRODUCT_LINES_MAX := 31830
TEST_LINES_MAX := 16600
# Its progress is for a terminal; a log of CI gets what goes wrong.
PIP = $(BIN)/python -m pip install --disable-pip-version-check $$(test -t 2 || echo --quiet)
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

compare: $(READY)
	@$(BIN)/crossover compare $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long" tests $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory sizes
	@SIMULATION_SEEDS=2000 HISTORIES=1000 CASES=10 KILLS=3 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# Every line is one that somebody has to read: the limits only ever go down, or up with a feature and a reason. The last
# rises: 2,000 and 2,600 for other people's machines, servers and proxies (one way to connect, the trial, histories, the
# allow-list, one HTTP reader, outputs); 1,500 and 600 for the rungs orm, cache and replica;
# 290 and 150 for what a cache does as a picture, what a mapper costs in a notebook and the rate of a torture;
# 250 and 150 for several standbys and their faults; 80 and 100 for the stampede, a cheaper miss and patience with a 503;
# 720 and 400 for events as the truth; 30 and 60 for rates whose trials were stolen, and tests that ask no speed;
# 880 and 430 for asking events what was: time travel, tried on random histories too, an order's life, three mistakes and
# a notebook; 340 and 340 for views that are rebuilt while they answer; 1,240 and 1,030 for views in parts, fed by a relay
# through a broker, with one suite for all transports; 1,020 and 670 for Kafka and RabbitMQ as servers, with what they
# suffer, and for what fetches what is pinned; 420 and 150 for what carries events over them; 20 and 70 for a live
# rebuild that goes on, and always ends; 10 and 50 for what makes the suite shorter: runs in a brisk tempo, patience with
# a server that is only slow; 190 and 70 for a second consumer of the events; 1,300 and 350 for a search engine, and
# 200 for measuring what it and brokers add; 140 for tests that a slow machine cannot fail; 330 and 80 for packs of
# events, a queue that died, overlapping faults and a table of what brokers cost; 200 and 440 for an index that is
# rebuilt live, and what is said of an engine that cannot be used; 180 for measuring what a live rebuild does to
# readers; 60 for the older of two names, and for tests of the next index in a file of their own.
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
	$(BIN)/python -m pytest tests/test_kills.py tests/test_openapi.py tests/test_event_store.py tests/test_time_travel.py || failed=1; exit $$failed

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
