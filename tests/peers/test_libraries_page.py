"""The table of docs/libraries.md against the libraries."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from snnprof.spiking.neuron_equations import NeuronEquations, equations_of

PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"
MODULES = {
    "SpikingJelly": "spikingjelly.activation_based.neuron",
    "SpikingJelly 0.0.0.0.12": "spikingjelly.clock_driven.neuron",
    "snnTorch": "snntorch",
    "Norse": "norse.torch",
    "sinabs": "sinabs.layers",
}
ARGUMENTS = {
    "SimpleLIFNode": {"tau": 2.0, "decay_input": True},
    "PSN": {"T": 4},
    "Leaky": {"beta": 0.5},
    "Lapicque": {"beta": 0.5},
    "Synaptic": {"alpha": 0.5, "beta": 0.5},
    "Alpha": {"alpha": 0.5, "beta": 0.4},
    "RLeaky": {"beta": 0.5, "linear_features": 4},
    "RSynaptic": {"alpha": 0.5, "beta": 0.5, "linear_features": 4},
    "SLSTM": {"input_size": 4, "hidden_size": 4},
    "LIFRecurrentCell": {"input_size": 4, "hidden_size": 4},
    "ExpLeak": {"tau_mem": 5.0},
    "ALIF": {"tau_mem": 5.0, "tau_adapt": 5.0},
    "IAFSqueeze": {"batch_size": 1},
}
OF_SINABS = {
    "LIF": {"tau_mem": 5.0},
    "LIFSqueeze": {"tau_mem": 5.0, "batch_size": 1},
    "LIFRecurrent": {"tau_mem": 5.0, "rec_connect": torch.nn.Identity()},
}


def rows() -> list[tuple[str, ...]]:
    lines = PAGE.read_text("utf-8").splitlines()
    start = lines.index("| library | neuron | NOPs | `ottt`, `ndot` | coherence |") + 2
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return cells


def stated(equations: NeuronEquations) -> tuple[str, str, str]:
    operations = equations.operations_per_step
    nops = "register" if operations is None else str(operations)
    if not equations.spiking:
        return nops, "no spikes", "its state is cut" if equations.step else "register"
    traces = "register" if equations.leak is None else "yes"
    known = equations.step is not None and equations.leak is not None
    return nops, traces, "yes" if known else "register"


@pytest.mark.parametrize("row", rows(), ids=lambda row: "-".join(row[:2]))
def test_the_page_says_what_is_known(row: tuple[str, ...]) -> None:
    library, name, *cells = row
    module = MODULES[library]
    old = os.environ.get("SNNPROF_PEERS") == "clock_driven"
    if old != ("clock_driven" in module):
        pytest.skip("of the other version")
    if os.environ.get("SNNPROF_PEERS") is None:
        pytest.importorskip(module, reason=f"needs {module}: make test-peers")
    arguments = (OF_SINABS if library == "sinabs" else {}).get(name, ARGUMENTS.get(name, {}))
    neuron = getattr(importlib.import_module(module), name)(**arguments)
    equations = equations_of(neuron)
    assert equations is not None
    assert stated(equations) == tuple(cells)


def test_no_library_is_loaded_to_know_its_neurons() -> None:
    code = (
        "import sys, snnprof; "
        "print(sorted({'norse', 'sinabs', 'snntorch', 'spikingjelly'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
