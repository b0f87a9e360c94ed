# Everything a newcomer needs: `make demo`, `make quick`, `make test`. Each sets up .venv first, once.
# `make test-all` is `make test` and what takes long besides: Ray, browsers, training, kill loops, all models × pictures.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo
LIMIT ?= 4
WORKERS ?= 2
# A thread of torch's for each worker: more would wait for one another. Compiled tests are kept, whatever the environment
# says: compiling them anew takes longer than most of them run.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --durations 20

.PHONY: setup demo quick test test-extended test-all lowest lint format clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { echo "make: this needs Python's venv module (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: this needs Python 3.11 or newer"; exit 1; }
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
# Without what they require: opencv-python would replace the headless one, and needs a display's libraries.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps \
		trackers trackeval supervision av defusedxml pydeprecate requests tabulate tqdm
	touch $@

demo: setup
	$(BIN)/featlink demo --limit $(LIMIT) --out $(OUT)

quick: setup
	$(PYTEST) -m 'not slow and not extended'

test: setup
	$(PYTEST) -m 'not extended'

test-extended: setup
	$(PYTEST) -m extended

test-all: test test-extended

# The lowest versions that pyproject.toml promises, in a place of their own: several GB, so by hand or once a week.
lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct .
	cd $(VENV)-lowest && bin/featlink demo --limit 1 --out demo

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV)-lowest out
