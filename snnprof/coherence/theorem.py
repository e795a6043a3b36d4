"""Theorem 4.2 of the HD-LIF paper (arXiv 2410.07547) as pure functions of one layer's records.

L is the loss, m_t the membrane potential before the reset, delta_t = dL/ds_t the gradient that
reaches the spike of step t from the layers above, chi[t, t] = ds_t/dm_t (0 or 1),
chi[t, t-1] = dm_t/dm_{t-1} (0 where step t-1 fires, else leak_t). The derivation is in
docs/gradient-coherence.md. Every tensor is [T, ...], leak is [T]; leak[0] is never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def stars(passes: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(t, t*) from the last step to the first; t* is the first step >= t that passes.

    Args:
        passes: chi[t, t] as booleans, [T, ...].

    Yields:
        t, and t* as int64 [...], T where there is none.
    """
    steps = len(passes)
    star = torch.full_like(passes[0], steps, dtype=torch.int64)
    for t in reversed(range(steps)):
        star = torch.where(passes[t], t, star)
        yield t, star


def leak_products(leak: Tensor) -> Tensor:
    """Entry [t, i] is the product of leak_j over j = t+1 .. i; 1 for i = t, 0 for i < t.

    Args:
        leak: [T].

    Returns:
        [T, T + 1]; the last column, for no i at all, is 0.
    """
    steps = len(leak)
    products = leak.new_zeros(steps, steps + 1)
    for t in range(steps):
        products[t, t] = 1
        products[t, t + 1 : steps] = leak[t + 1 :].cumprod(0)
    return products


@dataclass(frozen=True)
class Step:
    """One time step of a layer.

    Attributes:
        t: which.
        star: t*, [...], T where there is none.
        delta: delta_{t*}, [...], 0 where there is no t*.
    """

    t: int
    star: Tensor
    delta: Tensor


def walk(delta: Tensor, passes: Tensor) -> Iterator[Step]:
    """The steps from the last to the first, one at a time: no record of T steps is made."""
    last = len(passes) - 1
    for t, star in stars(passes):
        found = delta.gather(0, star.clamp(max=last).unsqueeze(0))[0]
        yield Step(t, star, torch.where(star <= last, found, 0))


def stbp_gradient(delta: Tensor, passes: Tensor, leak: Tensor) -> Tensor:
    """dL/dm_t = delta_{t*} * product of leak_j over j = t+1 .. t*; 0 where there is no t*.

    The exact identity, for any delta. Part (ii) of the theorem is its case of a separable
    gradient: delta_{t*} = delta_t.

    Args:
        delta: [T, ...].
        passes: chi[t, t], booleans [T, ...].
        leak: [T].
    """
    products = leak_products(leak).to(delta.dtype)
    found = [products[step.t][step.star] * step.delta for step in walk(delta, passes)]
    return torch.stack(found[::-1])


def paper_ratio(passes: Tensor, leak: Tensor) -> Tensor:
    """Online gradient / STBP gradient by part (i), under a separable gradient.

    chi[t, t] / (chi[t, t] + sum over i > t of chi[i, i] * product of chi[j, j-1] over
    j = t+1 .. i), as printed. 0 where no step from t on fires: both gradients are 0 there.

    Args:
        passes: chi[t, t], booleans [T, ...].
        leak: [T].
    """
    own = passes.to(leak.dtype)
    total = torch.zeros_like(own)
    later = torch.zeros_like(own[0])
    for t in reversed(range(len(passes))):
        # chi[t+1, t] is leak[t+1] where step t is silent, and later is 0 behind the last step.
        chain = leak[t + 1] * (1 - own[t]) if t + 1 < len(leak) else 0
        total[t] = own[t] + chain * later
        later = total[t]
    return torch.where(total > 0, own / total, 0)


@dataclass(frozen=True)
class Likeness:
    """Two gradients of one thing: sums in float64.

    Attributes:
        stbp, online: their Euclidean norms.
        cosine: of the angle between them; None where one of them is 0.
        relative_error: norm of the difference / norm of the STBP gradient; None where that
            is 0.
    """

    stbp: float
    online: float
    cosine: float | None
    relative_error: float | None


def likeness(pairs: Iterator[tuple[Tensor, Tensor]]) -> Likeness | None:
    """Compare (STBP, online) pairs of tensors, taken as one long vector; None without any."""
    sums: list[Tensor] = []
    for stbp, online in pairs:
        a, b = stbp.double(), online.double()
        sums.append(torch.stack([(a * a).sum(), (b * b).sum(), (a * b).sum(), _squares(a - b)]))
    if not sums:
        return None
    aa, bb, ab, dd = torch.stack(sums).sum(0).tolist()
    stbp_norm, online_norm = aa**0.5, bb**0.5
    both = stbp_norm * online_norm
    return Likeness(
        stbp_norm,
        online_norm,
        max(-1.0, min(1.0, ab / both)) if both else None,
        dd**0.5 / stbp_norm if stbp_norm else None,
    )


@dataclass(frozen=True)
class Identity:
    """How well the exact identity holds in one layer.

    Attributes:
        residual: norm of (dL/dm - identity) / the larger of the two norms; 0 where both are 0.
        largest: largest absolute difference.
        separability: norm of (delta_{t*} - delta_t) / norm of delta_{t*}, both over the
            (neuron, step) pairs that are silent and fire later; None where there is none, or
            delta_{t*} is 0. 0 is Definition 4.1's separable gradient.
    """

    residual: float
    largest: float
    separability: float | None


def check_identity(gradient: Tensor, delta: Tensor, passes: Tensor, leak: Tensor) -> Identity:
    """Compare the gradient dL/dm, [T, ...], with :func:`stbp_gradient`, one step at a time."""
    products = leak_products(leak).to(delta.dtype)
    largest = gradient.new_zeros((), dtype=torch.float64)
    sums = gradient.new_zeros(5, dtype=torch.float64)
    for step in walk(delta, passes):
        expected = products[step.t][step.star] * step.delta
        off = (gradient[step.t] - expected).double()
        waits = (step.star > step.t) & (step.star < len(passes))
        apart = torch.where(waits, step.delta - delta[step.t], 0)
        target = torch.where(waits, step.delta, 0)
        parts = (off, gradient[step.t], expected, apart, target)
        sums += torch.stack([_squares(part) for part in parts])
        largest = torch.maximum(largest, off.abs().max())
    off_norm, found, expected_norm, apart_norm, target_norm = sums.sqrt().tolist()
    scale = max(found, expected_norm)
    return Identity(
        off_norm / scale if scale else 0.0,
        float(largest),
        apart_norm / target_norm if target_norm else None,
    )


@dataclass(frozen=True)
class Ratio:
    """Part (i) in one layer: the size of the online gradient relative to the STBP gradient.

    Attributes:
        predicted: norm of (paper's ratio * STBP gradient) / norm of the STBP gradient.
        residual: norm of (online gradient - paper's ratio * STBP gradient) / norm of the online
            gradient. The layers above are cut, too, which the theorem leaves out.
    """

    predicted: float | None
    residual: float | None


def check_ratio(stbp: Tensor, online: Tensor, passes: Tensor, leak: Tensor) -> Ratio:
    """Compare part (i) with the measured gradients, all [T, ...]."""
    sums = stbp.new_zeros(4, dtype=torch.float64)
    for ratio, full, cut in zip(paper_ratio(passes, leak), stbp, online, strict=True):
        expected = ratio * full
        parts = (full, cut, expected, cut - expected)
        sums += torch.stack([_squares(part) for part in parts])
    stbp_norm, online_norm, expected_norm, apart_norm = sums.sqrt().tolist()
    return Ratio(
        expected_norm / stbp_norm if stbp_norm else None,
        apart_norm / online_norm if online_norm else None,
    )


def _squares(values: Tensor) -> Tensor:
    return values.double().square().sum()
