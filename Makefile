# Everything a user or a developer needs, on a machine with Python 3.11+ and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SOURCES := $(shell find snnprof/ models/ -name '*.py' -o -name '*.toml')

.PHONY: demo test check bench bench-peers reports clean

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
	$(BIN)/python benchmarks/training.py

# SpikingJelly beside ours, in an environment of its own: without torchvision and the rest of
# what it asks for and its neurons do not use.
bench-peers: $(PEERS)/installed
	$(PEERS)/bin/python benchmarks/training.py peers

$(PEERS)/dependencies: pyproject.toml constraints.txt
	rm -rf build
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q -c constraints.txt .
	$(PEERS)/bin/python -m pip install -q --no-deps spikingjelly==2.0.0
	$(PEERS)/bin/python -m pip install -q loguru==0.7.3
	touch $@

$(PEERS)/installed: $(PEERS)/dependencies $(SOURCES) README.md LICENSE
	rm -rf build
	$(PEERS)/bin/python -m pip install -q --no-deps --force-reinstall .
	touch $@

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
	rm -rf $(VENV) $(PEERS) build *.egg-info table.md table.csv
