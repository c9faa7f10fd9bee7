# Two commands on a fresh machine: `make demo` and `make test`. Both install first; that does nothing when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROWS ?= 20000
# what computes on the kernels, once more as on a machine without a compiler
MASKED := $(addprefix tests/kernels/test_,curve25519.py curve25519_batches.py digest.py native.py) \
	$(addprefix tests/psi/test_,ecdh.py vectors.py bad_peer.py joins.py unbalanced.py) tests/mpc/test_ot_base.py

.PHONY: install demo test test-slow check bench clean

install: $(STAMP)

# --no-deps: the lock is complete, and pip would otherwise ask for hashes of requirements it only derives
$(STAMP): requirements.lock pyproject.toml $(wildcard kernels/*.c kernels/*.h)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(BIN)/tally --home demo demo --rows $(ROWS)

test: install
	$(BIN)/python -m pytest -m "not slow and not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "alone and not slow"
	TALLYSTICK_KERNELS=numpy $(BIN)/python -m pytest -m "not slow and not alone" -n 2 --dist loadfile $(MASKED)

test-slow: install
	$(BIN)/python -m pytest -m slow --timeout 3600

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/check_house.py

bench: install
	@for script in $(filter-out benchmarks/two_parties.py benchmarks/slow_link.py benchmarks/psi_peers.py benchmarks/sql_peers.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build demo *.egg-info kernels/*.so
