# make run: train the notebook's CNN.  make test: the tests.  Both set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
DATA := $(or $(HWR_DATA),data/english)
ifneq ($(wildcard $(DATA)/english.csv),)
SET := english
WHICH := the real data set in $(DATA)
else
SET := synthetic
WHICH := the built-in data set (no english.csv in $(DATA))
endif

.PHONY: run test test-long test-faults test-min test-new test-pre coverage check bench bench-small which

run: which .venv/installed
	$(BIN)/hwr-train experiment=notebook_cnn data=$(SET)
	@echo "Trained and tested on $(WHICH)."

which:
	@echo "Training on $(WHICH)."

# A process for each core, of one thread each.
TEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

test: .venv/installed
	$(TEST) -m "not slow"

# What takes longer than a change is worth waiting for.
test-long: .venv/installed
	$(TEST) -m slow
	$(MAKE) test-faults bench-small

test-faults: .venv/installed
	HWR_FAULTS=whole $(BIN)/pytest --timeout 3600 --numprocesses auto tests/faults

# The oldest versions that pyproject.toml allows, the newest, and Hydra's next, in environments of
# their own. Old and new libraries warn of each other, so there a warning is no failure.
test-min test-new test-pre: test-%: .venv-%/installed
	.venv-$*/bin/pytest -m "not slow" -W default

.venv-%/installed: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	grep -oE '"[a-z-]+>=[0-9.]+' pyproject.toml | tr -d '"' | sed 's/>=/==/' > .venv-$*/min.txt
	printf '%s>=1.4.0rc1\n' hydra-core hydra-optuna-sweeper > .venv-$*/pre.txt
	touch .venv-$*/new.txt
	.venv-$*/bin/python -m pip install --quiet --editable '.[dev]' --constraint .venv-$*/$*.txt
	@touch $@

coverage: .venv/installed
	$(BIN)/coverage run -m pytest -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Keras lives in an environment of its own, which the benchmark only starts.
bench: .venv/installed .venv-keras/keras
	$(BIN)/python benchmarks/speed.py --keras .venv-keras/bin/python

# The benchmarks in a small form, so that they keep working; their times mean nothing.
bench-small: .venv/installed .venv-keras/keras
	$(BIN)/python benchmarks/speed.py --small --keras .venv-keras/bin/python --out outputs/small
	$(BIN)/python benchmarks/scaling.py --small --out outputs/small
	rm -rf outputs/small/drawn outputs/small/best outputs/small/cnn outputs/small/kinds
	$(BIN)/hwr-train experiment=best data=synthetic data.writers=10 augment.synthetic_writers=0 split=writer \
	  trainer.max_epochs=1 callbacks=light logger=none hydra.run.dir=outputs/small/best
	$(BIN)/python benchmarks/reading.py outputs/small/best --rounds 1
	$(BIN)/hwr-data draw outputs/small/drawn --writers 8
	$(BIN)/hwr-train experiment=notebook_cnn data=folder data.root=outputs/small/drawn trainer.max_epochs=1 \
	  callbacks=light logger=none hydra.run.dir=outputs/small/cnn
	$(BIN)/python benchmarks/robustness.py outputs/small/cnn --every 30
	$(BIN)/python benchmarks/kinds.py outputs/small/kinds --kinds tiny --models forest --writers 4

.venv-keras/keras:
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip install --quiet tensorflow-cpu pandas pillow scikit-learn
	@touch $@

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "hwr needs Python 3.11 to 3.13: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@
