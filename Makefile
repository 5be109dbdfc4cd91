# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes its own environment in .venv
# and writes nowhere else but .cache and the user's own cache.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# tests wait for servers half of their time, so one process more than there are cores
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

.PHONY: help demo test check bench bench-attribution bench-budgets docs clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## a public-service assistant with two tiers of AI, metered (ARGS="--once --json", ARGS="--lang fr")
	@$(BIN)/python -m examples.assistant $(ARGS)

test: $(VENV)/.test  ## every test; installs system parts when run as root on Debian or Ubuntu
	@sh scripts/system-parts.sh
	@PATH="$(CURDIR)/.cache/system/usr/bin:$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q $(ARGS)

check: $(VENV)/.check  ## ruff, mypy --strict, the wheel
	@sh scripts/check.sh

bench: $(VENV)/.bench  ## overhead beside peers, interleaved
	@$(BIN)/python benchmarks/overhead.py $(ARGS)

bench-attribution: $(VENV)/.bench  ## is each request charged what it used? against ground truth, beside naive methods
	@$(BIN)/python benchmarks/attribution.py $(ARGS)

bench-budgets: $(VENV)/.bench  ## do budgets hold under a burst, and what does a decision cost? beside limits
	@PATH="$(CURDIR)/.cache/system/usr/bin:$$PATH" $(BIN)/python benchmarks/budgets.py $(ARGS)

docs: $(VENV)/.docs  ## the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

clean:  ## remove what these commands made
	rm -rf $(VENV) .cache site dist

$(VENV)/.demo $(VENV)/.test $(VENV)/.check $(VENV)/.bench $(VENV)/.docs: pyproject.toml scripts/environment.sh examples/assistant/requirements.txt
	@PYTHON="$(PYTHON)" sh scripts/environment.sh $(VENV) $(patsubst .%,%,$(notdir $@))
