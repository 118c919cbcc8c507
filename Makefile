# make demo   set everything up, then run the main job on the built-in data
# make test   set everything up, then pass all tests
# make check  ruff and mypy

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-all check clean

demo: .venv/installed
	$(BIN)/discern demo

test: .venv/installed
	GOMP_SPINCOUNT=1000 OPENBLAS_THREAD_TIMEOUT=10 $(BIN)/python -m pytest -m "not slow" -n auto

test-all: .venv/installed
	GOMP_SPINCOUNT=1000 OPENBLAS_THREAD_TIMEOUT=10 $(BIN)/python -m pytest -n auto

check: .venv/installed
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy

# The stamp is newer than what it depends on exactly when the environment is complete.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Discern needs Python 3.11 or newer: install it, then run make again."; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || { echo "Python's venv module is missing: on Debian run 'apt install python3-venv', then make again."; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing Discern and PyTorch into .venv; the first time takes a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv
