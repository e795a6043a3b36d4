"""Neurons by name: specifications and their variants."""

import pytest

import snnprof
from snnprof.spiking.hdlif import HDLIF
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.neuron_registry import neuron_maker


def test_a_specification_names_variants() -> None:
    neuron = neuron_maker("hdlif+four_bit+parallel", 2)(3, second=True)
    assert isinstance(neuron, HDLIF)
    assert neuron.four_bit
    assert neuron.parallel
    first = neuron_maker("hdlif+parallel", 2, mem_bn=True)(3)
    assert isinstance(first, HDLIF)
    assert not first.parallel
    assert first.membrane_norm is not None
    lif = neuron_maker("lif+surrogate=arctan+leak=0.9+detach_reset", 2)(3)
    assert isinstance(lif, LIF)
    assert lif.settings == LIFSettings(leak=0.9, surrogate="arctan", detach_reset=True)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("if", "unknown neuron 'if'; known: hdlif, ilif, lif"),
        ("hdlif+wings", "unknown variant of hdlif 'wings'; known: authors_code, four_bit"),
        ("lif+four_bit", "unknown variant of lif 'four_bit'"),
        ("lif+surrogate=sine", "unknown surrogate 'sine'; known: arctan, rectangle, triangle"),
        ("lif+reset=medium", "unknown reset 'medium'; known: hard, soft"),
        ("lif+leak=big", r"lif\+leak=big: must be a number"),
        ("lif+leak", r"lif\+leak needs a value"),
        ("lif+threshold=0", "threshold=0.0: must be above 0, and finite"),
        ("lif+threshold=inf", "threshold=inf: must be above 0, and finite"),
        ("lif+leak=nan", r"leak=nan: must be from 0 \(nothing of"),
        ("ilif+leak=inf", r"leak=inf: must be from 0 \(nothing of"),
        ("lif+leak=2", r"leak=2\.0: must be from 0 \(nothing of .* to 1 \(all of it\)"),
        ("ilif+leak=-0.5", r"leak=-0\.5: must be from 0"),
        ("ilif+levels=0", "levels=0: must be at least 1"),
        ("lif+learnable+leak=1", r"leak=1.0: a learnable leak lies between 0 and 1; leave 'learn"),
        ("lif+learnable+threshold=0.5", "threshold=0.5: a learnable threshold lies between 0.5"),
        ("hdlif+seca=4", r"hdlif\+seca=4: a switch"),
    ],
)
def test_what_is_refused(specification: str, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        neuron_maker(specification, 2)(3)
