"""Training steps of several processes as one: the same start, one gradient, one batch norm.

Each process runs its share of a batch, and the gradients are averaged once before every step of
the optimiser, by one ``all_reduce`` of all of them end to end. That is what
``DistributedDataParallel`` does inside the last backward pass before a step, with ``no_sync``
around those before it; but its hooks must know in the forward pass which backward pass is the last
one, and a model must be called through it, once. Here neither matters, so that every mode is shared
alike: several forward passes with one backward pass, passes without a graph, modes of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import Processes


def same_start(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first, whatever its builder drew."""
    _broadcast([*module.parameters(), *module.buffers()])


def same_buffers(module: nn.Module) -> None:
    """Give every process the buffers of the first: statistics of batch norms, each of its share."""
    _broadcast(module.buffers())


@torch.no_grad()
def _broadcast(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        sent = tensor.detach().contiguous()
        torch.distributed.broadcast(sent, 0)
        tensor.copy_(sent)


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Replace every gradient by its mean over the processes.

    The loss being a mean over the samples, and the shares alike, that is the gradient of the joined
    batch. A parameter that had no gradient in any process has none afterwards.

    Raises:
        SnnprofError: a sparse gradient.
    """
    for alike in _by_kind(p for p in parameters if p.requires_grad):
        _average(alike, processes.count)


def _by_kind(parameters: Iterable[nn.Parameter]) -> Iterator[Sequence[nn.Parameter]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
    yield from kinds.values()


@torch.no_grad()
def _average(parameters: Sequence[nn.Parameter], count: int) -> None:
    gradients = [p.grad for p in parameters]
    if any(g is not None and g.layout is not torch.strided for g in gradients):
        raise SnnprofError("several processes do not share sparse gradients: give sparse=False")
    parts = [
        (torch.zeros_like(p) if g is None else g).reshape(-1) / count
        for p, g in zip(parameters, gradients, strict=True)
    ]
    # Behind the gradients, which there are: one process may use a layer that another does not.
    there = torch.tensor([g is not None for g in gradients]).to(parts[0])
    flat = torch.cat([*parts, there])
    del parts
    torch.distributed.all_reduce(flat)
    *means, there = flat.split([*(p.numel() for p in parameters), len(parameters)])
    for number, (parameter, mean) in enumerate(zip(parameters, means, strict=True)):
        if parameter.grad is not None:
            parameter.grad.copy_(mean.view_as(parameter))
        elif there[number]:  # read only where there is none here: it waits for a GPU
            parameter.grad = mean.view_as(parameter).clone()
