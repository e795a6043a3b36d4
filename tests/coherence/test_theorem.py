"""Theorem 4.2 as printed, and the exact identity behind it, against plain autograd."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnprof.coherence.theorem import (
    check_identity,
    check_ratio,
    leak_products,
    likeness,
    paper_ratio,
    stars,
    stbp_gradient,
)
from snnprof.spiking.hdlif import hdlif_step

# The definition adds the path through the reset and takes it away again, at about 1.
ROUNDING = {"rtol": 1e-13, "atol": 1e-14}
SILENT, FIRING, EXACT, RANDOM = range(4)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Case:
    """A layer of HD-LIF neurons run by its definition, and both gradients by torch.

    plan[t][n] says what neuron n does at step t; weights [T, N] is delta.
    """

    def __init__(self, seed: int, leak: list[float], threshold: list[float], plan: Tensor) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.leak, self.threshold = double(leak), double(threshold)
        noise = torch.randn(plan.shape, generator=generator, dtype=torch.float64)
        self.currents = torch.empty_like(noise)
        self.fired = torch.empty_like(noise, dtype=torch.bool)
        left: Tensor | None = None
        for t, doing in enumerate(plan):
            m = torch.zeros_like(noise[t]) if left is None else self.leak[t] * left
            wished = torch.stack(
                [
                    torch.full_like(m, -3.0),
                    torch.full_like(m, 3.0),
                    self.threshold[t] - m,
                    noise[t],
                ]
            )
            self.currents[t] = wished.gather(0, doing.unsqueeze(0))[0]
            self.fired[t] = m + self.currents[t] >= self.threshold[t]
            _, left = hdlif_step(left, self.currents[t], self.leak[t], self.threshold[t])

    def gradient(self, weights: Tensor, cut: bool) -> Tensor:
        """dL/dm of L = sum of weights * spikes; m is m_t = leak * m + I_t, so dL/dI."""
        currents = self.currents.clone().requires_grad_()
        left, loss = None, double(0.0)
        for t, current in enumerate(currents):
            if cut and left is not None:
                left = left.detach()
            spike, left = hdlif_step(left, current, self.leak[t], self.threshold[t])
            loss = loss + (weights[t] * spike).sum()
        (found,) = torch.autograd.grad(loss, currents)
        return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    steps = draw(st.integers(1, 12))
    shares = st.lists(st.floats(0.05, 0.95), min_size=steps, max_size=steps)
    doings = draw(st.sampled_from([(SILENT,), (FIRING,), (EXACT,), (0, 1, 2, 3), (0, 0, 0, 1)]))
    seed = draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(doings), (steps, 20), generator=generator)
    return Case(seed, draw(shares), draw(shares), torch.tensor(doings)[which])


def enumerate_identity(delta: Tensor, fired: Tensor, leak: Tensor) -> Tensor:
    """delta_{t*} * product of the leaks, by loops over neurons and steps."""
    steps, neurons = fired.shape
    expected = torch.zeros_like(delta)
    for n in range(neurons):
        for t in range(steps):
            later = [i for i in range(t, steps) if fired[i, n]]
            if later:
                product = 1.0
                for j in range(t + 1, later[0] + 1):
                    product *= float(leak[j])
                expected[t, n] = delta[later[0], n] * product
    return expected


def enumerate_ratio(fired: Tensor, leak: Tensor) -> Tensor:
    """Part (i) as it is printed: the sum over i, with chi[j, j-1] of Eq. S1."""
    steps, neurons = fired.shape
    ratio = torch.zeros(steps, neurons, dtype=leak.dtype)
    for n in range(neurons):
        chi = [float(f) for f in fired[:, n]]
        for t in range(steps):
            total = chi[t]
            for i in range(t + 1, steps):
                chain = 1.0
                for j in range(t + 1, i + 1):
                    chain *= 0.0 if chi[j - 1] else float(leak[j])
                total += chi[i] * chain
            ratio[t, n] = chi[t] / total if total else 0.0
    return ratio


@settings(max_examples=60, deadline=None)
@given(case=cases())
@example(case=Case(0, [0.5] * 12, [0.5] * 12, torch.full((12, 2), SILENT)))
@example(case=Case(0, [0.5] * 12, [0.5] * 12, torch.full((12, 2), FIRING)))
@example(case=Case(0, [0.5] * 12, [0.5] * 12, torch.full((12, 2), EXACT)))
def test_the_theorem_as_printed(case: Case) -> None:
    generator = torch.Generator().manual_seed(len(case.leak))
    same = torch.randn(case.fired.shape[1], generator=generator, dtype=torch.float64)
    delta = same.expand(case.fired.shape)  # Definition 4.1: equal over time
    stbp, online = case.gradient(delta, cut=False), case.gradient(delta, cut=True)

    # (i), wherever some step k >= t fires
    fires_later = case.fired.flip(0).cummax(0).values.flip(0)
    ratio = paper_ratio(case.fired, case.leak)
    torch.testing.assert_close(ratio, enumerate_ratio(case.fired, case.leak), **ROUNDING)
    torch.testing.assert_close(online[fires_later], (ratio * stbp)[fires_later], **ROUNDING)
    # (ii): STBP = 1 or the product of the leaks, times dL/ds_t; 0 where none fires
    torch.testing.assert_close(stbp, enumerate_identity(delta, case.fired, case.leak), **ROUNDING)
    assert not stbp[~fires_later].any()
    # online = STBP exactly where it fires, 0 where it is silent
    assert torch.equal(online, torch.where(case.fired, delta, 0.0))
    torch.testing.assert_close(online[case.fired], stbp[case.fired], **ROUNDING)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_exact_identity_for_any_delta(case: Case) -> None:
    generator = torch.Generator().manual_seed(len(case.leak) + 1)
    delta = torch.randn(case.fired.shape, generator=generator, dtype=torch.float64)
    stbp = case.gradient(delta, cut=False)
    expected = enumerate_identity(delta, case.fired, case.leak)
    torch.testing.assert_close(stbp, expected, **ROUNDING)
    torch.testing.assert_close(stbp_gradient(delta, case.fired, case.leak), expected, **ROUNDING)
    found = check_identity(stbp, delta, case.fired, case.leak)
    assert found.residual <= 1e-15 * len(case.leak)
    # (i) holds for any delta: the ratio is 1 where it fires, 0 elsewhere
    online = case.gradient(delta, cut=True)
    ratio = check_ratio(stbp, online, case.fired, case.leak)
    if case.fired.any():
        assert ratio.residual is not None and ratio.residual <= 1e-14


def test_by_hand() -> None:
    """One neuron that is silent, silent, fires on the threshold, is silent."""
    passes = torch.tensor([[0], [0], [1], [0]], dtype=torch.bool)
    leak = double([0.9, 0.5, 0.25, 0.75])
    delta = double([[1.0], [2.0], [8.0], [4.0]])
    assert [(t, int(star)) for t, star in stars(passes)] == [(3, 4), (2, 2), (1, 2), (0, 2)]
    # step 0: 8 * 0.5 * 0.25 = 1; step 1: 8 * 0.25 = 2; step 2: 8; step 3: never fires
    assert stbp_gradient(delta, passes, leak).flatten().tolist() == [1.0, 2.0, 8.0, 0.0]
    assert paper_ratio(passes, leak).flatten().tolist() == [0.0, 0.0, 1.0, 0.0]
    found = check_identity(double([[1.0], [2.0], [8.0], [0.5]]), delta, passes, leak)
    assert found.largest == 0.5
    # 0.5 / sqrt(1 + 4 + 64 + 0.25)
    assert found.residual == pytest.approx(0.5 / 69.25**0.5, rel=1e-15)
    # steps 0 and 1 wait for step 2: sqrt(7^2 + 6^2) / sqrt(8^2 + 8^2)
    assert found.separability == pytest.approx((85 / 128) ** 0.5, rel=1e-15)


def test_products_of_leaks_start_behind_t() -> None:
    # [0, 2] = leak_1 * leak_2 = 0.5 * 0.25: S3's slip (leak_k for leak_{k+1}) would give
    # leak_0 * leak_1 = 0.45
    products = leak_products(double([0.9, 0.5, 0.25]))
    assert products.tolist() == [
        [1.0, 0.5, 0.125, 0.0],
        [0.0, 1.0, 0.25, 0.0],
        [0.0, 0.0, 1.0, 0.0],
    ]


def test_a_gradient_of_another_neuron_has_a_residual() -> None:
    passes = torch.tensor([[0], [1]], dtype=torch.bool)
    delta, leak = double([[1.0], [1.0]]), double([0.5, 0.5])
    # identity: [0.5, 1]; the gradient's first entry is off by 1, norm sqrt(1.5^2 + 1)
    found = check_identity(double([[1.5], [1.0]]), delta, passes, leak)
    assert found.residual == pytest.approx(1 / 3.25**0.5, rel=1e-15)


def test_what_is_undefined_is_none() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.float64)
    passes = torch.zeros(2, 3, dtype=torch.bool)
    found = check_identity(nothing, nothing, passes, double([0.5, 0.5]))
    assert (found.residual, found.largest, found.separability) == (0.0, 0.0, None)
    ratio = check_ratio(nothing, nothing, passes, double([0.5, 0.5]))
    assert (ratio.predicted, ratio.residual) == (None, None)
    alike = likeness(iter([(nothing, nothing)]))
    assert alike is not None and alike.cosine is None and alike.relative_error is None
    assert likeness(iter([])) is None


def test_likeness_by_hand() -> None:
    pairs = [(double([3.0, 0.0]), double([0.0, 0.0])), (double([4.0]), double([4.0]))]
    found = likeness(iter(pairs))
    assert found is not None
    # norms 5 and 4, dot 16, difference 3
    assert (found.stbp, found.online) == (5.0, 4.0)
    assert (found.cosine, found.relative_error) == (0.8, 0.6)


def test_the_ratio_by_hand() -> None:
    """Two steps, the second fires: (i) says 0 and 1 times STBP."""
    passes = torch.tensor([[0], [1]], dtype=torch.bool)
    stbp, online = double([[3.0], [4.0]]), double([[0.0], [2.0]])
    found = check_ratio(stbp, online, passes, double([0.5, 0.5]))
    # predicted [0, 4]: 4 / 5 of STBP's norm; online is off by 2, which is all of its norm
    assert (found.predicted, found.residual) == (0.8, 1.0)
