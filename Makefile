# Every target sets itself up: Python 3.11 (or 3.12, 3.13) and make are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
USERS := $(VENV)/.users
DEVELOPERS := $(VENV)/.developers
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet

# How long `make fuzz` fuzzes each target.
SECONDS ?= 60

# Tests start hundreds of processes, each of which would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-flower test test-slow check docs fuzz chaos bench bench-scale bench-peers lock wire observability clean

demo: $(USERS)  ## A federation of ten processes on this machine, with a model and a report at the end.
	$(BIN)/fed-em demo

demo-flower: $(USERS)  ## The same through Flower: a SuperLink, nine SuperNodes.
	$(BIN)/fed-em demo --transport flower

test: $(DEVELOPERS)  ## The fast tests, on all cores.
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup

test-slow: $(DEVELOPERS)  ## The heavier ones: real Flower engines and long process tests.
	$(BIN)/python -m pytest -m "slow and not all_cores" --numprocesses auto --dist loadgroup
	$(BIN)/python -m pytest -m "slow and all_cores"

check: $(DEVELOPERS)  ## Formatting, linting, types, and generated code that does not drift.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.generated_code

docs: $(DEVELOPERS)  ## The documentation as a site in site/, which fetches nothing from elsewhere.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

fuzz: $(DEVELOPERS)  ## Messages of every kind that a fuzzer makes up, SECONDS (60) a target. On Linux on x86-64 only.
	$(BIN)/python -m tests.fuzz --self-check
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

chaos: $(DEVELOPERS)  ## Sessions of real processes that are killed, stopped, cut off, without room: as many as begin within SECONDS (60).
	PYTHONPATH=.:tests/federation:tests/checkpoints:tests/chaos $(BIN)/python tests/chaos/campaign.py --seconds $(SECONDS)

bench: $(DEVELOPERS)  ## Measurements, side by side in one run.
	$(BIN)/python -m tests.bench

bench-scale: $(DEVELOPERS)  ## Ten thousand simulated tenants with the real protocol; and as many rounds without trust in the server as fit.
	mkdir -p bench-result
	$(BIN)/python -m tests.bench.scale
	$(BIN)/python -m tests.bench.scale --trust malicious-server --share 0.1 --seconds 600
	$(BIN)/python -m tests.bench.scale --tenants 100 200 400 800 --plot bench-result/scale.png

bench-peers:  ## An environment with other packages that fit mixtures; `make bench` measures them beside ours.
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 pomegranate==1.1.2 stepmix==3.0.0

wire: $(DEVELOPERS)  ## Generate the code of the wire format anew.
	$(BIN)/python -m tests.generated_code --write

observability: $(DEVELOPERS)  ## Generate rules, dashboards and tables anew from the metrics and the objectives.
	$(BIN)/python -m fed_em_server.observability.generate

lock: $(DEVELOPERS)  ## Resolve the dependencies anew.
	$(LOCK) pyproject.toml requirements/build.in --extra plots --extra privacy --extra serving -o requirements/users.lock
	$(LOCK) pyproject.toml requirements/build.in --all-extras -c requirements/users.lock -o requirements/developers.lock

clean:  ## Remove environments, caches and results.
	rm -rf $(VENV) .venv-peers build dist site demo-result simulate-result bench-result .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 14), "fed-em needs Python 3.11, 3.12 or 3.13"'
	$(PYTHON) -m venv $(VENV)

# Developers' versions are the users' versions and more, so either environment serves `make demo`.
$(USERS): requirements/users.lock pyproject.toml | $(BIN)/python
	test -e $(DEVELOPERS) || $(PIP) --require-hashes -r requirements/users.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

$(DEVELOPERS): requirements/developers.lock pyproject.toml | $(BIN)/python
	$(PIP) --require-hashes -r requirements/developers.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@
