# Everything a user or a developer needs, on a machine with Python 3.11+ and make only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
OLDEST := .venv-oldest
SOURCES := $(shell find snnprof/ models/ -name '*.py' -o -name '*.toml')

.PHONY: demo wheel test test-peers test-oldest check dev bench bench-peers reports tab1 tab2 tab3 \
	paper gpu clean

# After `make dev` the checkout itself is what is installed.
READY := $(if $(wildcard $(VENV)/dev),$(VENV)/dev,$(VENV)/installed)

demo: $(READY)
	$(BIN)/snnprof run --model vgg5 --mode stbp --mode online --timesteps 4 -o table.md -o table.csv

# What other projects install: pip install dist/snnprof-*.whl
wheel:
	rm -rf build
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip wheel -q --no-deps -w dist .
	rm -rf $(VENV)-wheel build

# The built package, installed as its users have it; after `make dev` the checkout comes back.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --cov; status=$$?; \
		if [ -e $(VENV)/was-dev ]; then rm $(VENV)/was-dev; $(MAKE) -s $(VENV)/dev; fi; \
		exit $$status

check: $(VENV)/dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

dev: $(VENV)/dev
	$(BIN)/pre-commit install

$(VENV)/dev: $(VENV)/dependencies
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	rm -f $(VENV)/installed
	touch $@

# The tables of the HD-LIF paper, on the digits; reports/README.md has the command for other data.
# Tab. 1 and 3 train SMALL, Tab. 2 the paper's RESIDUAL network.
NAME := digits
DATA := --data digits
SMALL := --model vgg5 --epochs 8
RESIDUAL := --model resnet18 --epochs 2 --learning-rate 0.01
SEEDS := 0,1,2
RUNS = reports/runs/$(NAME)
RUN = $(BIN)/snnprof run $(DATA) --seed $(SEEDS) --energy hd-lif --energy operands
TABLE = $(BIN)/snnprof merge -o reports/$(NAME)-$@.md -o reports/$(NAME)-$@.csv $(RUNS)-$@-*.json
BOTH := --mode stbp --mode online
OF_PAPER := neuron,weights,mode,timesteps,accuracy,firing_rate,synops,energy,dense_ratio_operands,peak_memory
COSTS := synops,nops,energy,size,paper_size,peak_memory,step_time

reports: tab1 tab2 tab3

tab1: $(READY)
	mkdir -p reports/runs
	$(RUN) $(SMALL) --neuron lif $(BOTH) --timesteps 1,2,4 -o $(RUNS)-$@-1.json
	$(RUN) $(SMALL) --neuron hdlif --weights 1bit --mode online --timesteps 1,2,4 -o $(RUNS)-$@-2.json
	$(TABLE) --columns model,neuron,weights,mode,timesteps,size,paper_size,accuracy

tab2: $(READY)
	mkdir -p reports/runs
	$(RUN) $(RESIDUAL) --neuron lif $(BOTH) -o $(RUNS)-$@-1.json
	$(RUN) $(RESIDUAL) --weights 1.5bit --neuron hdlif --neuron hdlif+four_bit \
		--neuron hdlif+parallel --neuron hdlif+four_bit+parallel $(BOTH) -o $(RUNS)-$@-2.json
	$(TABLE) --columns neuron,weights,mode,accuracy,$(COSTS)

tab3: $(READY)
	mkdir -p reports/runs
	$(RUN) $(SMALL) --weights 1bit --mode online --neuron hdlif --neuron hdlif+seca \
		--neuron hdlif+mem_bn --neuron hdlif+seca+mem_bn -o $(RUNS)-$@-1.json
	$(TABLE) --columns neuron,mode,accuracy,firing_rate,$(COSTS)

# One table as a paper prints it: the dense network, LIF and HD-LIF beside each other, three seeds.
paper: $(READY)
	mkdir -p reports/runs
	$(BIN)/snnprof run $(DATA) --seed $(SEEDS) $(SMALL) --neuron lif $(BOTH) --baseline dense \
		-o $(RUNS)-$@-1.json
	$(BIN)/snnprof run $(DATA) --seed $(SEEDS) $(SMALL) --neuron hdlif --weights 1.5bit --mode online \
		-o $(RUNS)-$@-2.json
	$(TABLE) -o reports/$(NAME)-$@.tex -o reports/$(NAME)-$@.svg --columns $(OF_PAPER)

# Everything that needs an NVIDIA GPU; benchmarks/gpu.py says what that is.
gpu: $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt 'nvidia-ml-py>=12'
	$(BIN)/python benchmarks/gpu.py

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/files.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/profiling.py
	$(BIN)/python benchmarks/your_own.py
	$(BIN)/python benchmarks/resume.py
	$(BIN)/python benchmarks/augmentation.py --repeats 20

$(VENV)/dependencies: pyproject.toml constraints.txt
	rm -rf build
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt '.[test,check]'
	touch $@

# While the built package is installed the checkout is not: an interrupted test must not hide it.
$(VENV)/installed: $(VENV)/dependencies $(SOURCES) README.md LICENSE
	rm -rf build
	if [ -e $(VENV)/dev ]; then mv $(VENV)/dev $(VENV)/was-dev; fi
	$(BIN)/python -m pip install -q --no-deps --force-reinstall .
	touch $@

# SpikingJelly, snnTorch, Norse and sinabs beside ours, and the trainers that our callbacks are for,
# in an environment of its own; the kernel in Triton, in its interpreter; then the SpikingJelly that
# most public code pins, in a folder that hides the present one.

test-peers: $(PEERS)/installed
	SNNPROF_PEERS=required $(PEERS)/bin/pytest -q tests/peers tests/training/test_adapters.py \
		tests/integrations tests/experiment/test_checkpoint.py
	SNNPROF_PEERS=required TRITON_INTERPRET=1 $(PEERS)/bin/pytest -q \
		tests/counting/test_scan_triton.py
	SNNPROF_PEERS=clock_driven PYTHONPATH=$(PEERS)/old $(PEERS)/bin/pytest -q \
		tests/peers/test_clock_driven.py tests/peers/test_spikingjelly_neurons.py \
		tests/peers/test_libraries_page.py tests/peers/test_dense_twin.py

bench-peers: $(PEERS)/installed
	$(PEERS)/bin/python benchmarks/training.py peers

# --no-deps: they ask for torchvision, whose build must match that of torch, and do not use it.
$(PEERS)/dependencies: pyproject.toml constraints.txt constraints-peers.txt constraints-peers-old.txt
	rm -rf build
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -q -c constraints.txt '.[test]'
	$(PEERS)/bin/python -m pip install -q --no-deps -r constraints-peers.txt
	$(PEERS)/bin/python -m pip install -q --no-deps --upgrade --target $(PEERS)/old \
		-r constraints-peers-old.txt
	touch $@

$(PEERS)/installed: $(PEERS)/dependencies $(SOURCES) README.md LICENSE
	rm -rf build
	$(PEERS)/bin/python -m pip install -q --no-deps --force-reinstall .
	touch $@

# The oldest torch that pyproject.toml admits. Several GB: the build for CUDA, with its libraries.

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/pytest -q tests/counting tests/training/test_modes.py

$(OLDEST)/dependencies: pyproject.toml constraints.txt
	rm -rf build
	$(PYTHON) -m venv $(OLDEST)
	sed -e 's/^torch==.*/torch==2.6.0/' -e '/^sympy==/d' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install -q -c $(OLDEST)/constraints.txt '.[test]'
	touch $@

$(OLDEST)/installed: $(OLDEST)/dependencies $(SOURCES) README.md LICENSE
	rm -rf build
	$(OLDEST)/bin/python -m pip install -q --no-deps --force-reinstall .
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(OLDEST) build dist *.egg-info .coverage table.md table.csv
