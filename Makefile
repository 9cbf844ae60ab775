# `make run` and `make test` are all a newcomer needs: each sets up what it uses.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Self-tests wait for commands that wait for ranks: with the runner's own two jobs a core, a
# twentieth of the cores' time would go unused.
JOBS   := $(shell expr 3 \* $$(getconf _NPROCESSORS_ONLN))

# What is imported is compiled once, and not by each of the hundreds of processes of the self-tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test coverage lint types docs clean

run: $(READY)
	$(BIN)/python run_tests.py

test: $(READY)
	$(MAKE) --no-print-directory --jobs 2 --output-sync lint types docs
	$(BIN)/python run_tests.py --jobs $(JOBS) suites suites/selftest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# What the self-tests execute of harness/, in all processes. Some of them fail: those that count what
# a process imports, say.
coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/data
coverage: $(READY)
	rm -rf build/coverage
	mkdir -p build/coverage
	-$(BIN)/python -m coverage run run_tests.py --no-history --jobs $(JOBS) --test-timeout 300 \
		suites suites/selftest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# The manual as a site: open build/site/index.html. Always from the start, since pages are made of
# code whose changes Sphinx does not see.
docs: $(READY)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env \
		--doctree-dir build/doctrees docs build/site

# Rebuilt when the files that say what to install change; otherwise nothing happens. Less than half
# of what is installed is ever imported: that is compiled then.
$(READY): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[dev,docs]'
	touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
