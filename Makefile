# Two commands: `make explain` does the main job on a shipped photograph, `make test` passes the tests.
# Each builds its own .venv first, if that is missing or older than the files that it comes from.
# PYTHON=python3.12 chooses an interpreter, ARGS='image=my.jpg' passes options on.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
ARGS ?=

.PHONY: explain test clean

explain: $(VENV)/.installed
	$(BIN)/python -m experiments.explain $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "evomask needs Python 3.11 or newer: PYTHON=python3.12 make"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing evomask into $(VENV) (a minute or two)"
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing evomask and its tests into $(VENV) (a minute or two)"
	$(INSTALL) '.[baselines,notebooks,test]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) out
