# Start with `make demo` and `make test`. The first run installs what is missing; later ones are fast.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# make demo DIR=/some/dir; PYTHON=/path/to/python3.12 make setup; make unit ARGS='-k archive'
DIR ?=
PYTHON ?=
ARGS ?=
export PYTHON
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

# Tests are spread over this many processes; each has a lab of its own.
JOBS ?= 2
PYTEST := pytest -n $(JOBS) --dist loadgroup
SHELL_SCRIPTS := $(shell grep -lE '^\#!.*[/ ](ba)?sh( |$$)' \
  .ci/run tools/* lab/* lab/vm/recipe/* roles/*/files/* extensions/molecule/*/files/* 2>/dev/null)
PYTHON_TREES := $(wildcard *.py ec2_backup extensions lab tools tests)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: setup venv
setup: ## the virtual environment and the system packages, where they are missing
	@tools/setup
venv: setup

.PHONY: demo
demo: setup ## back DIR up in a local EC2 and recover it by hand (default: a directory of some thousand files)
	@lab/run tools/demo.py $(if $(DIR),'$(DIR)')

.PHONY: test
test: lint ## the gates, and every test but the heavy ones
	$(PYTEST) -m 'not heavy' $(ARGS)

.PHONY: unit integration lab heavy
unit: setup ## the tests that need no lab
	$(PYTEST) tests/unit $(ARGS)
lab: setup ## the tests of the lab itself
	$(PYTEST) tests/lab $(ARGS)
integration: setup ## the tests of the product, in the lab
	$(PYTEST) tests/integration $(ARGS)

heavy: setup ## the tests that take too long for every change: run them before a release
	$(PYTEST) -m heavy $(ARGS)

.PHONY: e2e
e2e: setup ## the product on virtual machines that boot (docs/lab.md); the first time their image is built
	@tools/setup vm
	@python -m lab.vm.image
	$(PYTEST) tests/e2e $(ARGS)

# make faults N=200 SEED=1 [ONLY=kind [CASE=number]] [PLANT=cleanup-disabled] [KEEP=/some/dir]; see docs/faults.md
N ?= 200
SEED ?= 1
.PHONY: faults
faults: setup ## break backups in N ways, and check what is left (docs/faults.md)
	@python -m tests.faults --count $(N) --seed $(SEED) --jobs $(JOBS) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(CASE),--case $(CASE)) $(if $(PLANT),--plant $(PLANT)) $(if $(KEEP),--keep '$(KEEP)')

# make bench-control N=3 [BASE=c44141f]; see docs/benchmarks.md
BASE ?=
.PHONY: bench-control
bench-control: N = 3
bench-control: setup ## what a backup costs this machine, beside another revision if one is named
	@python -m tests.bench.control --runs $(N) $(if $(BASE),--base '$(BASE)')

# make molecule SCENARIO='backup failure'; EC2_LAB_INSTANCES=vm make molecule. Each scenario has a lab, and so an account, of its
# own. Molecule's state is in the lab's directory (ANSIBLE_HOME) and is removed with it.
SCENARIO ?= $(filter-out default,$(notdir $(patsubst %/molecule.yml,%,$(sort $(wildcard extensions/molecule/*/molecule.yml)))))
.PHONY: molecule
molecule: setup ## the roles in plays, a scenario for each capability (extensions/molecule/README.md)
	@failed=; for scenario in $(SCENARIO); do \
	  lab/run sh -c 'ANSIBLE_HOME=$$EC2_LAB_STATE/ansible exec molecule test -s "$$0"' "$$scenario" || failed="$$failed $$scenario"; \
	done; if [ -n "$$failed" ]; then echo "molecule: error: failed:$$failed" >&2; exit 1; fi

.PHONY: lint lint-ansible lint-python lint-shell lint-types lint-yaml
lint: lint-yaml lint-shell lint-python lint-types lint-ansible ## the gates alone
lint-yaml: setup
	yamllint --strict .
lint-shell: setup
	shellcheck $(SHELL_SCRIPTS)
lint-python: setup
	ruff check .
	ruff format --check .
lint-types: setup
	mypy $(PYTHON_TREES)
	mypy -p ansible_collections.ec2_backup.ebs.plugins
lint-ansible: setup
	ansible-lint --offline

.PHONY: format
format: setup ## format the Python files as the gates require
	ruff check --fix-only .
	ruff format .

.PHONY: build
build: setup ## the collection and the wheel, in dist/
	ansible-galaxy collection build --force --output-path dist .
	pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: clean
clean: ## remove what these targets made in the checkout
	rm -rf .venv .ansible .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
