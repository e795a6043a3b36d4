"""Mem-BN by hand."""

import torch

from snnprof.spiking.hdlif import HDLIF


def test_membrane_norm_mixes_the_normed_and_the_plain_membrane() -> None:
    neuron = HDLIF(1, 2, mem_bn=True).double().train()
    currents = torch.randn(1, 16, 2, 3, dtype=torch.float64)
    normed = torch.nn.functional.batch_norm(currents[0], None, None, training=True)
    charged = 0.5 * normed + 0.5 * currents[0]  # both sigmoids start at one half
    torch.testing.assert_close(neuron(currents)[0], torch.relu(charged - 0.5))
