"""Batch norms over the samples of all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


class SharedBatchNorm(TorchFunctionMode):
    """A block in which ``F.batch_norm`` in training takes mean and variance over all processes.

    Whatever module calls it: batch norms, those of other libraries over time, Mem-BN. torch's own
    ``SyncBatchNorm`` runs on GPUs alone, and stands in the place of the modules. Each process must
    bring as many values per channel.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm``, [B, C, ...]; over all processes in training."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    x = input.float() if input.dtype in (torch.half, torch.bfloat16) else input
    ones, zeros = x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])
    given = (ones if weight is None else weight, zeros if bias is None else bias)
    out, mean, variance = _SharedNorm.apply(x, *given, eps)  # type: ignore[no-untyped-call]
    if running_mean is not None and running_var is not None:
        values = torch.distributed.get_world_size() * x.numel() // x.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            unbiased = variance * (values / max(1, values - 1))
            running_var.lerp_(unbiased.to(running_var), momentum)
    normed: Tensor = out.to(input.dtype)
    return normed


class _SharedNorm(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, [B, C, ...], over all processes.

    Keeps what torch's own keeps: the input, and two numbers per channel. Backward, with y the
    normed input, g the gradient of the output and means over all processes:
    dx = weight / sqrt(variance + eps) * (g - mean(g) - y * mean(g * y)).
    (Ioffe and Szegedy, 2015.)
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, shape = _dims(x)
        mean = _mean_of_all(x.mean(dims))
        centred = x - mean.view(shape)
        variance = _mean_of_all(centred.square().mean(dims))
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        out = centred.mul_((inverse * weight).view(shape)).add_(bias.view(shape))
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        dims, shape = _dims(x)
        normed = (x - mean.view(shape)).mul_(inverse.view(shape))
        of_bias, of_weight = gradient.sum(dims), (gradient * normed).sum(dims)
        values = x.numel() // x.shape[1]
        of_all = _mean_of_all(torch.stack([of_bias, of_weight]) / values)
        along = normed.mul_(of_all[1].view(shape)).add_(of_all[0].view(shape))
        of_x = (gradient - along).mul_((inverse * weight).view(shape))
        return of_x, of_weight, of_bias, None


def _dims(x: Tensor) -> tuple[list[int], list[int]]:
    """The dimensions that are averaged over, and the shape of a number per channel."""
    return [dim for dim in range(x.dim()) if dim != 1], [1, -1, *([1] * (x.dim() - 2))]


def _mean_of_all(value: Tensor) -> Tensor:
    total = value.contiguous()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
