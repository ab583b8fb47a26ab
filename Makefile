.PHONY: install style lint test slow lock

PYTHON ?= python

install: ## install the package with all extras and the test tools, in the versions of constraints.txt
	$(PYTHON) -m pip install -c constraints.txt -e ".[test]"

style: ## sort imports, apply safe fixes, format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint: ## the same checks without changes
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: ## minutes; no network, no GPU
	$(PYTHON) -m pytest

slow: ## the tests that take minutes each
	$(PYTHON) -m pytest -m slow

lock: ## write constraints.txt: the versions of this environment, and those that other systems and Pythons need in addition
	$(PYTHON) -m pip freeze --exclude-editable > constraints.txt
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --fork-strategy fewest --no-annotate \
		--custom-compile-command "make lock" --output-file constraints.txt pyproject.toml
