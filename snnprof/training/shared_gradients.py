"""Training steps of several processes as one: the same start, one gradient, one batch norm.

Each process runs its share of a batch, and the gradients are averaged once before every step of
the optimiser, by one ``all_reduce`` of all of them end to end. That is what
``DistributedDataParallel`` does inside the last backward pass before a step, with ``no_sync``
around those before it; but its hooks must know in the forward pass which backward pass is the last
one, and a model must be called through it, once. Here neither matters, so that every mode is shared
alike: several forward passes with one backward pass, passes without a graph, modes of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import Processes
from snnprof.training.divided_parameters import is_divided


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
        if sent.dtype is torch.bool:  # which not every backend sends
            sent = sent.to(torch.uint8)
        torch.distributed.broadcast(sent, 0)
        tensor.copy_(sent)


class SharedGradients:
    """Averages the gradients of a model over the processes.

    The loss being a mean over the samples, and the shares alike, that is the gradient of the joined
    batch. A parameter that had no gradient in any process has none afterwards. Those of divided
    parameters are left alone: they were averaged at the end of the backward pass.

    Args:
        module: its parameters are trained.
        processes: that train it.
    """

    def __init__(self, module: nn.Module, processes: Processes) -> None:
        self._module = module
        self._processes = processes
        self._kinds: list[_OneKind] = []
        self._seen: list[int] = []
        self._find_parameters()

    @property
    def buffers(self) -> list[Tensor]:
        """What is sent: as large as the gradients, and kept from step to step."""
        return [kind.buffer for kind in self._kinds]

    def average(self) -> None:
        """Replace every gradient by its mean over the processes.

        Raises:
            SnnprofError: a sparse gradient.
        """
        self._find_parameters()
        for kind in self._kinds:
            kind.average(self._processes.count)

    def _find_parameters(self) -> None:
        """Make the buffers, again where other parameters are trained than before."""
        trained = (p for p in self._module.parameters() if p.requires_grad)
        found = [p for p in trained if not is_divided(p)]
        seen = [id(parameter) for parameter in found]
        if seen == self._seen:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in found:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        self._seen, self._kinds = seen, [_OneKind(alike) for alike in kinds.values()]


class _OneKind:
    """Parameters of one type on one device, and a buffer for their gradients end to end."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        sizes = [*(p.numel() for p in parameters), len(parameters)]
        self.buffer = torch.zeros(
            sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device
        )
        self._parameters = parameters
        # Behind the gradients, which there are: one process may use a layer another does not.
        *self._means, self._there = self.buffer.split(sizes)

    @torch.no_grad()
    def average(self, count: int) -> None:
        gradients = [p.grad for p in self._parameters]
        if any(g is not None and g.layout is not torch.strided for g in gradients):
            raise SnnprofError("several processes do not share sparse gradients: give sparse=False")
        self.buffer.zero_()
        for mean, gradient in zip(self._means, gradients, strict=True):
            if gradient is not None:
                mean.view_as(gradient).copy_(gradient)
        self._there.copy_(torch.tensor([g is not None for g in gradients]))
        self.buffer.div_(count)
        torch.distributed.all_reduce(self.buffer)
        for number, (parameter, mean) in enumerate(zip(self._parameters, self._means, strict=True)):
            if parameter.grad is not None:
                parameter.grad.copy_(mean.view_as(parameter))
            elif self._there[number]:  # read only where there is none here: it waits for a GPU
                parameter.grad = mean.view_as(parameter).clone()
