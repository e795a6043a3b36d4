"""Training modes: one function each that runs one batch and takes one optimiser step.

T steps of one sequence; m is the membrane potential.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from snnprof.registry import Registry
from snnprof.spiking.neurons import detach, reset

# (model, sequence [T, B, ...], target [B], optimizer) -> loss, detached
Mode = Callable[[nn.Module, Tensor, Tensor, Optimizer], Tensor]
MODES: Registry[Mode] = Registry("mode")


@MODES.register("stbp")
def stbp(model: nn.Module, sequence: Tensor, target: Tensor, optimizer: Optimizer) -> Tensor:
    """Spatio-temporal backpropagation: all T steps forward, then once back through time.

    The loss is the cross-entropy of the outputs summed over time, as the HD-LIF authors
    train (Wu et al., 2018, for the method).
    """
    optimizer.zero_grad()
    reset(model)
    loss = F.cross_entropy(model(sequence).sum(0), target)
    loss.backward()
    optimizer.step()
    return loss.detach()


@MODES.register("online")
def online(model: nn.Module, sequence: Tensor, target: Tensor, optimizer: Optimizer) -> Tensor:
    """Online training: m detached between steps, a backward pass of loss_t / T at each.

    One optimiser step per batch. Memory does not grow with T. (SLTT, Meng et al., 2023.)
    """
    optimizer.zero_grad()
    reset(model)
    total = torch.zeros((), device=sequence.device)
    for current in sequence:
        detach(model)
        loss = F.cross_entropy(model(current.unsqueeze(0)).sum(0), target) / len(sequence)
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return total
