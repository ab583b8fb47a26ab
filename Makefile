.PHONY: style lint test slow

PYTHON ?= python

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
