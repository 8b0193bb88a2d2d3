# Every target works from a clean clone, in a folder with any name: paths stay relative.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

PEERS := .venv/.peers

.PHONY: bench install test speed speed-compare speed-table chaos methods metrics budget reference symbolic vision audio spurious end_tasks seeds splits games publish clean

bench: install  ## install, then run the default suite and print its leaderboard
	$(BIN)/python run_bench.py

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "Assay needs Python 3.11 or newer, this is %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	mkdir -p build/types && ln -sfn ../.. build/types/assay
	touch $(STAMP)

$(PEERS): $(STAMP)  # what only tests and timings compare with
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,peers,cluster]'
	touch $(PEERS)

test: $(PEERS)  ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses auto --dist loadfile

speed: $(PEERS)  ## time what the benchmark itself does; takes some minutes
	JAXTYPING_DISABLE=1 $(BIN)/pytest benchmarks/speed --benchmark-only --benchmark-columns=median,iqr,rounds \
	  --benchmark-storage=results/speed --benchmark-save=$(or $(NAME),run)

speed-compare: $(PEERS)  ## what moved between the kept timings
	$(BIN)/pytest-benchmark --storage=results/speed compare --columns=median,iqr --sort=fullname

speed-table: install  ## write the last kept timings into docs/speed.md
	$(BIN)/python benchmarks/speed/times.py

chaos: $(PEERS)  ## kill, stop, starve and fuzz real runs; takes a quarter of an hour
	$(BIN)/pytest benchmarks/chaos --numprocesses 2 --dist load
	ASSAY_FUZZ_EXAMPLES=2000 $(BIN)/pytest -q tests/test_badinput.py -k test_any --numprocesses 2
	ASSAY_CELLS=1000000 JAXTYPING_DISABLE=1 $(BIN)/pytest benchmarks/speed/test_scale.py --benchmark-only

methods metrics budget reference symbolic vision audio spurious end_tasks seeds splits games: install  ## the long suites
	$(BIN)/python run_bench.py run $@

KEPT := leaderboard.md leaderboard.csv models.csv metrics.csv manifest.json reliance.csv problems.csv shortcuts.csv gallery.png report.html
PACKED := scores costs agreement

publish: install  ## make the committed tables again; commit first, since the manifest names the commit
	set -e; for suite in quick methods metrics budget reference vision audio spurious games end_tasks seeds splits; do \
	  $(BIN)/python run_bench.py run $$suite --fresh --out results/new-$$suite; \
	  $(BIN)/python run_bench.py report results/new-$$suite --html; \
	  mkdir -p results/reference/$$suite; \
	  for name in $(KEPT); do \
	    if [ -f results/new-$$suite/$$name ]; then cp results/new-$$suite/$$name results/reference/$$suite/; fi; \
	  done; \
	  for name in $(PACKED); do \
	    if [ -f results/new-$$suite/$$name.csv ]; then gzip -9nc results/new-$$suite/$$name.csv > results/reference/$$suite/$$name.csv.gz; fi; \
	  done; \
	done; \
	$(BIN)/python run_bench.py trust results/reference/metrics

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
