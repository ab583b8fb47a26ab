.PHONY: install style lint test slow lock

PYTHON ?= python

install: ## the package with all extras and the tools of its tests, in the versions of constraints.txt
	$(PYTHON) -m pip install -c constraints.txt -e ".[test]"

style: ## rewrite: sorted imports, safe fixes, formatting
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint: ## the same checks, changing nothing
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: ## seconds; no network, no GPU
	$(PYTHON) -m pytest

slow: ## minutes more
	$(PYTHON) -m pytest -m slow

lock: ## constraints.txt anew: the versions of this environment, and what other systems and Pythons need beside them
	$(PYTHON) -m pip freeze --exclude-editable > constraints.txt
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --fork-strategy fewest --no-annotate \
		--custom-compile-command "make lock" --output-file constraints.txt pyproject.toml
