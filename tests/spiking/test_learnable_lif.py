"""The learnable LIF neuron by hand, and against the fixed one."""

import math

import pytest
import torch

from snnprof.spiking.learnable_lif import LearnableLIF
from snnprof.spiking.lif import LIF, LIFSettings
from snnprof.spiking.neuron_registry import neuron_maker

from .variants import LIFS, gradients, sequence


@pytest.mark.parametrize("settings", LIFS)
def test_it_starts_as_the_fixed_neuron_and_has_its_gradient(settings: LIFSettings) -> None:
    fixed = LIF(5, settings)
    learnt = LearnableLIF(5, settings).double()
    currents = torch.randn(5, 3, 4, dtype=torch.float64) + 0.5
    assert torch.equal(fixed(currents) != 0, learnt(currents) != 0)
    fixed.reset(), learnt.reset()
    found = gradients(learnt, learnt, currents)[0]
    torch.testing.assert_close(found, gradients(fixed, fixed, currents)[0], atol=1e-6, rtol=1e-6)


def test_leaks_and_thresholds_of_each_step() -> None:
    # a = ln 3: leak 3/4. b = ln 3: threshold 0.5 + 3/4 = 1.25. Step 0: 1.5 >= 1 fires 1, left
    # 0.5. Step 1: 0.75 * 0.5 + 0.75 = 1.125 < 1.25 is silent. With the starts, 0.5 and 1,
    # step 1 would have 0.25 + 0.75 = 1 and fire.
    neuron = neuron_maker("lif+learnable", 2)(1).double()
    assert isinstance(neuron, LearnableLIF)
    assert neuron(sequence(1.5, 0.75)).flatten().tolist() == [1.0, 1.0]
    neuron.reset()
    with torch.no_grad():
        neuron.leak_logit[1] = neuron.threshold_logit[1] = math.log(3)
    assert neuron(sequence(1.5, 0.75)).flatten().tolist() == [1.0, 0.0]
    assert neuron.membrane is not None
    assert neuron.membrane.item() == pytest.approx(1.125, abs=1e-12)


def test_both_are_learnt_by_hand() -> None:
    # T = 2, currents 1.5 and 0.75: m_0 = 1.5 fires, left 0.5; m_1 = 1 fires. With the triangle
    # h_0 = 1 - 0.5, h_1 = 1, and L = s_0 + s_1, s = theta H(m - theta):
    # dL/dleak_1 = theta h_1 * 0.5 = 0.5; dL/da_1 = 0.5 * sigmoid'(0) = 0.125.
    # dL/dtheta_1 = H - theta h_1 = 0. dL/dtheta_0 = (H - h_0) + h_1 * leak * d(left)/dtheta_0,
    # d(left)/dtheta_0 = -(H - h_0) = -0.5: 0.5 - 0.25 = 0.25; dL/db_0 = 0.0625.
    neuron = neuron_maker("lif+learnable", 2)(1).double()
    neuron(sequence(1.5, 0.75)).sum().backward()
    grads = {name: parameter.grad for name, parameter in neuron.named_parameters()}
    assert grads["leak_logit"] is not None
    assert grads["threshold_logit"] is not None
    assert grads["leak_logit"].tolist() == [0.0, 0.125]
    assert grads["threshold_logit"].tolist() == [0.0625, 0.0]
