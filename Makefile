# Two commands to start: `make demo` and `make test`. Each makes its own virtual environment and installs what it needs;
# the machine only has to have Python 3.11 to 3.13 (with venv) and make.

PYTHON ?= python3
VENV ?= .venv
SHARED ?= ../shared
PROCESSES ?= 2
BIN := $(VENV)/bin

.PHONY: help demo test lint docs docs-serve notebooks accept images benchmark release clean

help:
	@echo "make demo       labels to a served detector, on a small set that it draws itself (about 4 minutes on two cores)"
	@echo "make test       style, types, import rules and all tests"
	@echo "make notebooks  every notebook run from top to bottom, its output kept (a quarter of an hour on two cores)"
	@echo "make accept     black-box checks of the installed command against reference data in $(SHARED)"
	@echo "make images     the container images built and run for real (root, buildah, debootstrap; half an hour, 40 GB of disk)"
	@echo "make docs       the documentation as a site, into site/; make docs-serve shows it on http://127.0.0.1:8000"
	@echo "make benchmark  speed, side by side with its peers"
	@echo "make release    source archive and wheel of the last commit into dist/, installed and used in empty environments"
	@echo "make clean      remove the virtual environment and caches"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Sightline needs Python 3.11 to 3.13. Try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.serve: $(BIN)/python pyproject.toml
	@echo "Installing Sightline, PyTorch and torchvision into $(VENV) (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet --editable '.[serve]'
	@touch $@

$(VENV)/.test: $(VENV)/.serve
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@$(BIN)/python -m pip install --quiet --editable '.[toolkit]' >/dev/null 2>&1 \
		|| echo "AWS's training toolkit cannot be built here (it needs a C compiler): its test will be skipped"
	@touch $@

demo: $(VENV)/.serve
	$(BIN)/sightline demo -o demo

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The browser test wants Debian's chromium, the CDK app Node; they are installed where that can be done, and the tests are skipped
# where it cannot.
test: lint
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& { apt-get install -qq -y chromium >/dev/null 2>&1 \
			|| { apt-get update -qq && apt-get install -qq -y chromium; } >/dev/null 2>&1; }; } || true
	@command -v node >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& { apt-get install -qq -y nodejs >/dev/null 2>&1 \
			|| { apt-get update -qq && apt-get install -qq -y nodejs; } >/dev/null 2>&1; }; } || true
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

notebooks: $(VENV)/.test
	$(BIN)/python notebooks/execute.py
	$(BIN)/ruff format --quiet notebooks

accept: $(VENV)/.test
	$(BIN)/python $(SHARED)/accept/parity.py --sightline $(BIN)/sightline
	$(BIN)/python $(SHARED)/accept/labels.py --sightline $(BIN)/sightline \
		$(wildcard $(SHARED)/data/manifests/*.manifest) $(SHARED)/data/bees/output.manifest $(SHARED)/data/cats/output.manifest
	$(BIN)/python $(SHARED)/accept/scores.py --sightline $(BIN)/sightline
	$(BIN)/python $(SHARED)/accept/server.py --sightline $(BIN)/sightline

images: $(VENV)/.test
	SIGHTLINE_IMAGES=$${SIGHTLINE_IMAGES:-1} $(BIN)/python -m pytest -s tests/containers/test_images.py

benchmark: $(VENV)/.test
	$(BIN)/python benchmarks/import_manifest.py
	$(BIN)/python benchmarks/coco_scores.py
	$(BIN)/python benchmarks/predict_cpu.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_cpu.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/train_memory.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/serve_speed.py

# Needs an empty dist/. Each environment is PyTorch again: half an hour where it has to be downloaded. EXTRA="--python python3.13"
release: $(VENV)/.test
	$(BIN)/python -m pip install --quiet twine
	$(BIN)/python release/packages.py -o dist
	$(BIN)/python release/environments.py dist $(EXTRA)

# The site is made of the sources as they are: neither the package nor torch is needed.
$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		| $(BIN)/python -m pip install --quiet -r /dev/stdin
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs/site -d build/doctrees . site
	@echo "site/index.html"

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
