# One command each, on a fresh machine: the environment is made in .venv on first use.
#
#   make demo    export zoo:digits-vit, prove it, measure it, and classify some digits
#   make test    the tests
#   make check   style, types and who may import whom
#   make bench   the benchmark suites (long; wants a quiet machine)

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)) python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_DEV := .venv/.installed-dev
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
OUT := out/digits-vit

.PHONY: demo test check bench
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/edgevit export zoo:digits-vit $(OUT) --recipe export/digits-vit.toml --force
	$(BIN)/edgevit run $(OUT) $(sort $(wildcard calibration/samples/*.png))
	@echo "The report: $(CURDIR)/$(OUT)/report.html"

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict edgevit
	$(BIN)/lint-imports --no-logo

bench: $(INSTALLED_DEV)
	$(BIN)/python benchmarks/run.py

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "edgevit needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1 | head -n 1) as '$(PYTHON)';" \
	  "install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv)," \
	  "or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo \
	  "Python's venv module is not complete here; Debian, Ubuntu:" \
	  "sudo apt-get install python3-venv (or python3.11-venv for another version), then run make again" >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing edgevit into .venv (once, a few minutes)" >&2
	@$(INSTALL) '.[all]'
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing what checks and tests need into .venv (once, a few minutes)" >&2
	@$(INSTALL) '.[all,dev]'
	@touch $@
