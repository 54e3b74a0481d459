# The commands of this project. Each makes .venv and installs what it needs by itself; a second call is quick.
# PYTHON=/path/to/python chooses the interpreter (3.11 to 3.13); without it the first suitable one is taken.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

VENV := .venv
BIN := $(VENV)/bin
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# Tests run side by side, a file of tests in one process: as many as there are cores, four at most, each with 1.5 GB.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile
SOURCES := pyproject.toml $(wildcard setup.py csrc/*.cpp csrc/*.h csrc/*/*)

.PHONY: help demo test test-slow library cuda fuzz sanitize check format wheelhouse wheelhouse-check extras-check clean

help:
	@echo "make demo        the whole road on generated images, under five minutes"
	@echo "make test        the tests"
	@echo "make test-slow   the tests on real data, too"
	@echo "make library     the C library without Python, in build/library"
	@echo "make cuda        the CUDA kernels for every card named, with nvcc, in build/cuda; nothing where there is no nvcc"
	@echo "make fuzz        the C library opens damaged and forged bundles for FUZZ_SECONDS (60), with clang"
	@echo "make sanitize    the C++ code's tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer"
	@echo "make check       lint, format, types, import rules, documentation"
	@echo "make wheelhouse  everything an air-gapped PC needs, in wheelhouse/"

# Exit code 3 is the gate's no to int8, said under the table: a result of the demonstration, not a failure of it.
demo: $(VENV)/demo.stamp
	$(BIN)/edgefm quickstart --force || [ $$? -eq 3 ]

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m "not peer and not gpu"

library:
	$(MAKE) -s -C csrc -j$$(nproc)
	@ls -l build/library/libedgefm.so.1 build/library/libedgefm.a

cuda: $(VENV)/test.stamp
	@if command -v nvcc >/dev/null; then \
		EDGEFM_CUDA=1 $(BIN)/python setup.py -q build_ext --build-lib build/cuda --build-temp build/cuda && \
		cd build/cuda/edgefm && ../../../$(BIN)/python -c "import _cuda; print('built', _cuda.__file__)"; \
	else echo "make cuda: nvcc is not on the PATH, nothing is built"; fi

fuzz:
	csrc/fuzz/run.sh

sanitize: $(VENV)/test.stamp
	PYTHON=$(BIN)/python csrc/sanitize.sh

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_cpp_format.py $(BIN)/clang-format
	$(BIN)/python scripts/readme_numbers.py --check
	$(BIN)/python -m pytest -q tests/test_docs.py

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheelhouse: $(VENV)/python.stamp
	rm -rf wheelhouse
	$(BIN)/python -m pip wheel -q --wheel-dir wheelhouse '.[openvino,onnx,dicom]'
	@du -sh wheelhouse

wheelhouse-check: wheelhouse $(VENV)/test.stamp
	$(BIN)/python scripts/check_wheelhouse.py wheelhouse

extras-check: $(VENV)/python.stamp
	$(BIN)/python scripts/check_extras.py

clean:
	rm -rf $(VENV) wheelhouse build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The interpreter, then what demo and test need on top. Editable, so that both share one environment.
$(VENV)/python.stamp:
	@python="$(PYTHON)"
	if [ -z "$$python" ]; then
	  for each in python3.12 python3.11 python3.13 python3; do
	    if $$each -c '$(SUITABLE)' 2>/dev/null; then python=$$each; break; fi
	  done
	fi
	if [ -z "$$python" ] || ! "$$python" -c '$(SUITABLE)'; then
	  echo "make: no Python 3.11 to 3.13 with venv was found. Install one (Debian: apt install python3 python3-venv) or say PYTHON=/path/to/python." >&2
	  exit 2
	fi
	echo "Making $(VENV) with $$("$$python" -V)."
	"$$python" -m venv --clear $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	touch $@

$(VENV)/demo.stamp: $(VENV)/python.stamp $(SOURCES)
	@echo "Installing EdgeFM with its workstation libraries (PyTorch, OpenVINO, ...): a few minutes and some gigabytes, once."
	$(BIN)/python -m pip install -q -e '.[compress]'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install -q -e '.[compress,dicom,dev]'
	touch $@
