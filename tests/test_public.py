"""The package's promises, from outside."""

import subprocess
import sys

import snnprof


def test_public_names_are_locked() -> None:
    assert snnprof.__all__ == [
        "Augmentation",
        "CoherenceResult",
        "CoherenceSweep",
        "Comparison",
        "CountResult",
        "EnergyResult",
        "EnergyRow",
        "GradientCount",
        "InferenceProfile",
        "LayerCoherence",
        "LayerCount",
        "Layers",
        "MacCheck",
        "ModelSummary",
        "ModuleRow",
        "NeuronEquations",
        "NeuronOperations",
        "NeuronRate",
        "Report",
        "ReportRow",
        "SnnprofError",
        "SopCounter",
        "StepProfile",
        "StepSetup",
        "assert_energy_below",
        "assert_peak_below",
        "assert_sops_below",
        "augmented",
        "break_even_rate",
        "coherence",
        "coherence_sweep",
        "compare",
        "dense_twin",
        "extend",
        "fold_batch_norm",
        "load",
        "load_data",
        "merge",
        "models",
        "neuron_ops",
        "pack",
        "price",
        "profile",
        "profile_inference",
        "profile_step",
        "profile_steps",
        "quantize",
        "register_neuron",
        "report",
        "reset",
        "row",
        "run",
        "save",
        "save_batch_picture",
        "size_bytes",
        "stepwise",
        "summary",
        "train",
        "sweep",
        "unpack",
    ]
    for name in snnprof.__all__:
        assert hasattr(snnprof, name)


def test_import_stays_light() -> None:
    code = (
        "import sys, snnprof; "
        "heavy = {'pandas', 'rich', 'jinja2', 'click', 'sklearn', 'fvcore', 'tensorboard', "
        "'matplotlib', 'lightning', 'transformers', 'submitit'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_errors_are_value_errors() -> None:
    assert issubclass(snnprof.SnnprofError, ValueError)
