# `make explain` does the main job on a shipped photograph, `make test` passes the tests, `make test-fast` those that one
# runs while editing, `make check` reads the code: lint, format and types.
# Each builds its own .venv first, if that is missing or older than the files that it comes from.
# `make docs` builds the documentation, `make notebooks` executes the notebooks again.
# PYTHON=python3.12 chooses an interpreter (with VENV=.venv312 beside the one that is there), ARGS='image=my.jpg'
# passes options on.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
ARGS ?=

.PHONY: explain check test test-fast docs notebooks constraints clean
.DELETE_ON_ERROR:

explain: $(VENV)/.installed
	$(BIN)/python -m experiments.explain $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

# What takes seconds: none that compiles a search, trains, sweeps or draws.
FAST := $(addprefix tests/test_,$(addsuffix .py,types house fills genome operators fitness evaluate statistics))
test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(FAST) $(ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The site, from docs/, the notebooks and the docstrings: open out/docs/index.html.
docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -n -q -d out/doctrees docs out/docs

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("evomask needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing evomask into $(VENV) (a minute or two)"
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: pyproject.toml setup.py constraints.txt | $(BIN)/python
	@echo "Installing evomask and its tests into $(VENV) (a minute or two)"
	$(INSTALL) '.[baselines,notebooks,docs,check]'
	@touch $@ $(VENV)/.installed

# Executes notebooks/*.md, which are what one edits, into the *.ipynb beside them.
notebooks: $(VENV)/.installed-test
	$(BIN)/python -m experiments.tools.notebooks $(ARGS)

# The newest versions of everything, for both interpreters: run the tests with them before you commit the file.
FREEZE = -m venv $(1) && $(1)/bin/python -m pip install --quiet '.[baselines,notebooks,docs,check]' && \
	$(1)/bin/python -m pip freeze --all --exclude pip --exclude evomask | LC_ALL=C sort > $(1)/freeze
constraints:
	python3.11 $(call FREEZE,.venv-newest311)
	python3.12 $(call FREEZE,.venv-newest312)
	@{ sed -n '/^#/p' constraints.txt; cd .venv-newest311; LC_ALL=C comm -12 freeze ../.venv-newest312/freeze; \
	   LC_ALL=C comm -23 freeze ../.venv-newest312/freeze | sed 's/$$/; python_version < "3.12"/'; \
	   LC_ALL=C comm -13 freeze ../.venv-newest312/freeze | sed 's/$$/; python_version >= "3.12"/'; \
	 } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-newest311 .venv-newest312

clean:
	rm -rf $(VENV) out
