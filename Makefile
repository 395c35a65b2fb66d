# One set of commands for people and for CI. `make help` lists them.
#
# Every target works alone from a bare clone: what it needs is made first. Choose another
# interpreter with `make venv PYTHON=python3.12`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
TEST_PROCESSES ?= 2

# Small tensors: threads of several processes would only get in each other's way.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Where the composed demo set and AVSBench lie, and where the demo leaves its results.
DETECTRON2_DATASETS ?= datasets
export DETECTRON2_DATASETS
DEMO_OUTPUT := output/demo
LISTEN_OUTPUT := output/listen
# Keep freed memory instead of giving it back and faulting it in again each step: a tenth faster.
DEMO_ENVIRONMENT := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

# pip gives up a silent connection after this many seconds and tries again; a call that fails all
# the same is made once more, and goes on from the files that are already in pip's cache.
PIP_INSTALL := $(VENV_PYTHON) -m pip install --disable-pip-version-check --timeout 60 --retries 5
define install
$(PIP_INSTALL) $(1) || { echo "pip failed; trying once more" >&2; sleep 5; $(PIP_INSTALL) $(1); }
endef

.PHONY: help venv demo listen test fuzz lint format clean

help:
	@echo "make venv    install the pinned environment into $(VENV) (about 6 GB)"
	@echo "make demo    compose the demo data, train on it, evaluate, write $(DEMO_OUTPUT)/index.html"
	@echo "make listen  evaluate the small model that comes along, under true and false sounds"
	@echo "make test    run the test suite with line coverage"
	@echo "make fuzz    try FUZZ_EXAMPLES damaged files on each reader, at low priority"
	@echo "make lint    check style, format and types"
	@echo "make format  sort imports and reformat"
	@echo "make clean   remove what builds and tests leave (not $(VENV), data or output)"

venv: $(INSTALLED)

# Every file that pip takes must have one of the hashes of requirements/locked*.txt, which hold all that is
# needed: --no-deps, because pip's older releases want hashes of coverage[toml] beside coverage's. What is
# built from source is built with the tools that were installed before, not with such as pip would fetch.
$(INSTALLED): $(wildcard requirements/*.txt) setup.py pyproject.toml transavs/tools/install_detectron2.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "the pinned versions need Python 3.11 or newer, $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1); try make venv PYTHON=python3.12" >&2; exit 1; }
	@test -x $(VENV_PYTHON) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "could not make $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(call install,--require-hashes --no-deps --requirement requirements/locked_build.txt)
	@$(call install,--require-hashes --no-deps --no-build-isolation --requirement requirements/locked.txt)
	@$(call install,--require-hashes --no-deps --requirement requirements/locked_alone.txt)
	@$(VENV_PYTHON) transavs/tools/install_detectron2.py
	@$(call install,--quiet --no-deps --no-build-isolation --editable .)
	@$(VENV_PYTHON) -m transavs.env
	@touch $@

# The chain of commands that a user would type; make prints each as it starts.
demo: $(INSTALLED)
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) datasets/prepare_demo.py
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/pretrain_audio.py \
	  --config-file configs/demo/Base-demo.yaml --output $(DEMO_OUTPUT)/audio.safetensors \
	  --mixtures 0 --steps 500
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/train_net.py --config-file configs/demo/demo_ms3.yaml
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/train_net.py --config-file configs/demo/demo_s4.yaml
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/eval_robustness.py \
	  --config-file configs/demo/demo_s4.yaml --weights $(DEMO_OUTPUT)/s4/model_best.pth \
	  --output $(DEMO_OUTPUT)/results.json
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/eval_robustness.py \
	  --config-file configs/demo/demo_ms3.yaml --weights $(DEMO_OUTPUT)/ms3/model_best.pth \
	  --output $(DEMO_OUTPUT)/results.json --merge
	$(DEMO_ENVIRONMENT) $(VENV_PYTHON) tools/demo_report.py \
	  --results $(DEMO_OUTPUT)/results.json --output $(DEMO_OUTPUT)/index.html \
	  --model demo_s4_test configs/demo/demo_s4.yaml $(DEMO_OUTPUT)/s4/model_best.pth \
	  --model demo_ms3_test configs/demo/demo_ms3.yaml $(DEMO_OUTPUT)/ms3/model_best.pth
	@echo "Open $(DEMO_OUTPUT)/index.html to see what was segmented, and why."

# No training: the model comes with the package, and only clips that it never saw are composed. A
# demo set that has them is used as it is.
LISTEN_ENVIRONMENT = DETECTRON2_DATASETS="$$(dirname "$$(cat $(LISTEN_OUTPUT)/demo_set)")" \
  $(DEMO_ENVIRONMENT)

listen: $(INSTALLED)
	@mkdir -p $(LISTEN_OUTPUT)
	> $(LISTEN_OUTPUT)/demo_set $(VENV_PYTHON) datasets/prepare_demo.py --source real \
	  --splits test,unseen --within $(DETECTRON2_DATASETS) --root $(LISTEN_OUTPUT)/data
	$(LISTEN_ENVIRONMENT) $(VENV_PYTHON) tools/eval_robustness.py \
	  --config-file configs/plus/demo_ms3.yaml --weights transavs/weights/demo_ms3.safetensors \
	  --datasets demo_ms3_test,demo_ms3_unseen --output $(LISTEN_OUTPUT)/results.json \
	  MODEL.AUDIO.WEIGHTS ""
	$(LISTEN_ENVIRONMENT) $(VENV_PYTHON) tools/eval_robustness.py \
	  --config-file configs/plus/demo_s4.yaml --weights transavs/weights/demo_s4.safetensors \
	  --datasets demo_s4_test,demo_s4_unseen --output $(LISTEN_OUTPUT)/results.json --merge \
	  MODEL.AUDIO.WEIGHTS ""

test: $(INSTALLED)
	$(TEST_ENVIRONMENT) $(VENV_PYTHON) -m pytest --numprocesses $(TEST_PROCESSES) \
	  --cov=transavs --cov-report=term --cov-fail-under=85 --durations=15

FUZZ_EXAMPLES ?= 3000

fuzz: $(INSTALLED)
	$(TEST_ENVIRONMENT) TRANSAVS_FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) nice -n 19 $(VENV_PYTHON) -m pytest \
	  tests/bad_input/test_fuzz.py --hypothesis-show-statistics

lint: $(INSTALLED)
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	$(VENV_PYTHON) -m mypy

format: $(INSTALLED)
	$(VENV_PYTHON) -m ruff check --fix
	$(VENV_PYTHON) -m ruff format

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* htmlcov
	find transavs tests tools datasets -name __pycache__ -type d -prune -exec rm -rf {} +
