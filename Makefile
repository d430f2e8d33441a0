# Each target creates .venv and installs what it needs, once. PYTHON chooses the interpreter of a new .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
STAMPS := $(VENV)/.stamps
# Small networks are slower on many threads than on one; a training run alone on the machine takes them all.
TEST_WORKERS ?= 2

.PHONY: train test bench bench-report lint accept gallery clean help

help:
	@echo "make train    train a GAN on handwritten digits and show where its samples, metrics and report lie"
	@echo "make test     run the tests"
	@echo "make bench    time losses, loop and operators against their peers, and renew the README's tables"
	@echo "make bench-report    renew the README's tables and plots from the committed results"
	@echo "make lint     check style and types"
	@echo "make accept   rerun the stale acceptance checks of the recipes and print their table"
	@echo "make gallery  rerun recipes whose results in docs/gallery are stale, and draw docs/gallery.html"

train: $(STAMPS)/native $(STAMPS)/train
	$(BIN)/gancore train projection-gan --data digits --size 16 --width 32 --steps 1500

test: $(STAMPS)/native $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

bench: $(STAMPS)/native $(STAMPS)/bench
	$(BIN)/python -m gancore.benchmarks

bench-report: $(STAMPS)/native $(STAMPS)/bench
	$(BIN)/python -m gancore.benchmarks.tables

lint: $(STAMPS)/native $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/mypy

accept: $(STAMPS)/native $(STAMPS)/test
	$(BIN)/python -m tests.accept

gallery: $(STAMPS)/native $(STAMPS)/train
	$(BIN)/gancore gallery --out docs/gallery --jobs $(TEST_WORKERS)

# The native extension is built against the torch that is installed, so torch comes first and the build sees it.
$(STAMPS)/native: setup.py pyproject.toml constraints.txt $(wildcard csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	$(INSTALL) setuptools torch
	$(INSTALL) --no-build-isolation --editable .
	touch $@

$(STAMPS)/%: $(STAMPS)/native
	$(INSTALL) --no-build-isolation --editable ".[$*]"
	touch $@

clean:
	rm -rf build dist *.egg-info gancore/*.so
