# Each target sets up all it needs in .venv. PYTHON chooses the interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo compiled test crash lint format bench bench-peers bench-check bench-frame bench-instructions bench-transcoding bench-memory bench-supervision mutants conformance clean help sim chaos soak alerts dashboard

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

$(STAMP): pyproject.toml
	@echo "callrt: setting up $(VENV) (once; some minutes on a slow line)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "callrt needs Python 3.11 or newer: make PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

compiled: $(STAMP) ## compile anew what every frame goes through, after a change to it (a minute)
	@$(BIN)/python scripts/compile.py

demo: $(STAMP) ## one whole phone call over loopback, broken and rescued; writes demo-out/
	@$(BIN)/callrt demo --out demo-out

lint: $(STAMP) ## style, types and the layers' law
	@echo "callrt: ruff"; $(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@echo "callrt: mypy --strict"; $(BIN)/mypy
	@echo "callrt: layers"; $(BIN)/pytest -q tests/test_layers.py

test: lint ## lint, then every test; those of what can be compiled both ways
	@echo "callrt: tests"
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder
	@echo "callrt: what can be compiled, as plain Python"
	@CALLRT_COMPILED=0 $(BIN)/pytest -n 3 --dist loadfile tests/wire tests/protocol tests/actors

crash: $(STAMP) ## kill -9 at 200 instants of a call, with real processes
	@echo "callrt: 200 calls, each killed at another instant"
	@CALLRT_CRASH_INSTANTS=200 $(BIN)/pytest tests/crash -q -n 5 --dist worksteal

sim: $(STAMP) ## 2,000 calls in virtual time, everything breaks; every reachable fault × turn state is reached
	@$(BIN)/callrt sim --seed 1 --calls 2000 --faults everything --cover

chaos: $(STAMP) ## break real processes and sockets; writes chaos/REPORT.md (ten minutes; see docs/chaos.md)
	@$(BIN)/callrt chaos

soak: $(STAMP) ## broken calls for MINUTES (10): memory, tasks and descriptors must not grow
	@$(BIN)/callrt chaos --soak $(or $(MINUTES),10)

alerts: $(STAMP) ## check the alert rules; with promtool too, where there is one
	@$(BIN)/pytest -q tests/ops
	@if command -v promtool >/dev/null; then promtool check rules ops/alerts/callrt.yml && promtool test rules ops/alerts/callrt.test.yml; \
	else echo "callrt: no promtool here (package prometheus): only our own parser has looked at the rules"; fi

dashboard: $(STAMP) ## rewrite ops/dashboard/callrt.json
	@$(BIN)/python scripts/dashboard.py

format: $(STAMP) ## let ruff write what it can
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

mutants: $(STAMP) ## break the supervisor in telling ways; each must be caught
	@$(BIN)/python scripts/mutants.py

conformance: $(STAMP) ## rewrite docs/conformance.md from the tests
	@$(BIN)/python scripts/conformance.py

bench: bench-peers ## calls per core, added latency and cost of a call, beside bare bridges and other projects
	@$(BIN)/python bench/media.py --rounds 3 --search
	@echo "callrt: two workers beside one"; $(BIN)/python bench/workers.py --rounds 3

bench-peers: $(STAMP) ## what the bench compares with, each in an environment of its own
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]' || echo "callrt: without uvloop that bridge is left out"
	@$(BIN)/python bench/environments.py

bench-check: bench-peers ## has a call become dearer, against the bare bridge in the same run? exit 1 if so
	@$(BIN)/python bench/check.py

bench-frame: $(STAMP) ## microseconds of each message of one call, step by step
	@$(BIN)/python bench/frame.py

bench-instructions: $(STAMP) ## machine instructions of a call's messages, counted under callgrind
	@$(BIN)/python bench/instructions.py

bench-transcoding: $(STAMP) ## cost, delay and purity of a 24 kHz model's audio
	@$(BIN)/python bench/transcoding.py

bench-memory: $(STAMP) ## what a call's memory is made of
	@$(BIN)/python bench/memory.py

bench-supervision: $(STAMP) ## restarts per second; cost of a supervised actor
	@$(BIN)/python bench/supervision.py

clean: ## remove what make made
	@rm -rf $(VENV) demo-out .mypy_cache .ruff_cache .pytest_cache
