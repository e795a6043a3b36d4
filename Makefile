# Everything a user or a developer needs, on a machine with Python 3.11+ and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find snnprof/ models/ -name '*.py' -o -name '*.toml')

.PHONY: demo test check bench reports clean

demo: $(VENV)/installed
	$(BIN)/snnprof run --model vgg5 --mode stbp --mode online --timesteps 4 -o table.md -o table.csv

test: $(VENV)/installed
	$(BIN)/pytest -q

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p snnprof

TAB2 := --neuron lif --neuron hdlif --neuron hdlif+four_bit --neuron hdlif+parallel \
	--neuron hdlif+four_bit+parallel
ENERGIES := --energy operands --energy spikformer --energy hd-lif

reports: $(VENV)/installed
	$(BIN)/snnprof run --model vgg5 --mode stbp --mode online --timesteps 4 $(ENERGIES) \
		-o reports/digits-vgg5.md
	$(BIN)/snnprof run --model resnet18 --weights 1.5bit --mode online --data digits --epochs 4 \
		$(TAB2) $(ENERGIES) -o reports/digits-tab2.md

bench: $(VENV)/installed
	$(BIN)/python benchmarks/overhead.py

$(VENV)/dependencies: pyproject.toml constraints.txt
	rm -rf build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt '.[test,check]'
	touch $@

$(VENV)/installed: $(VENV)/dependencies $(SOURCES) README.md LICENSE
	rm -rf build
	$(BIN)/python -m pip install -q --no-deps --force-reinstall .
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info table.md table.csv
