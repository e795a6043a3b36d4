"""What several processes compute together, with the sum over them in the tests' hands."""

from __future__ import annotations

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.core.processes import Processes
from snnprof.spiking.membrane_norm import MembraneNorm
from snnprof.training.sequences import share_of
from snnprof.training.shared_batch_norm import SharedBatchNorm
from snnprof.training.shared_gradients import SharedGradients, same_buffers, same_start
from snnprof.training.step_runner import StepSetup


def sums(monkeypatch: pytest.MonkeyPatch, others: list[Tensor]) -> None:
    """``all_reduce`` adds what another process would have brought, in order."""
    brought = iter(others)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x.add_(next(brought).to(x)))


def test_gradients_are_averaged_and_missing_ones_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (nn.Parameter(torch.zeros(n)) for n in (2, 1, 1))
    first.grad, second.grad, third.grad = torch.tensor([1.0, 2.0]), None, None
    # the other one: gradients 3 and 4, 8, none, halved; then which of them there are
    sums(monkeypatch, [torch.tensor([1.5, 2.0, 4.0, 0.0, 0.5, 0.5, 0.0])])
    shared = SharedGradients(nn.ParameterList([first, second, third]), Processes(0, 2))
    assert [len(buffer) for buffer in shared.buffers] == [4 + 3]  # gradients, and which there are
    shared.average()
    assert first.grad.tolist() == [(1 + 3) / 2, (2 + 4) / 2]
    assert second.grad is not None
    assert second.grad.tolist() == [(0 + 8) / 2]
    assert third.grad is None  # an optimiser leaves it as it is, weight decay and all


def test_all_begin_with_what_the_first_has(monkeypatch: pytest.MonkeyPatch) -> None:
    first = nn.BatchNorm1d(2)
    first.register_buffer("mask", torch.tensor([True, False]))
    first.running_mean, first.weight.data = torch.tensor([3.0, 4.0]), torch.tensor([5.0, 6.0])
    module = nn.BatchNorm1d(2)
    module.register_buffer("mask", torch.tensor([False, False]))
    sent = [*first.buffers()]
    brought = iter([*sent, *first.parameters(), *sent])
    monkeypatch.setattr(torch.distributed, "broadcast", lambda x, _: x.copy_(next(brought).data))
    same_buffers(module)
    assert module.state_dict()["mask"].tolist() == [True, False]
    assert module.weight.tolist() == [1.0, 1.0]
    same_start(module)
    for name, tensor in first.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor), name


def test_parameters_that_are_trained_later_are_averaged_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Linear(2, 1)
    layer.weight.requires_grad_(False)
    shared = SharedGradients(layer, Processes(0, 2))
    layer.weight.requires_grad_(True)
    layer.weight.grad, layer.bias.grad = torch.ones(1, 2), torch.ones(1)
    sums(monkeypatch, [torch.zeros(5)])
    shared.average()
    assert layer.weight.grad.tolist() == [[0.5, 0.5]]


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(SnnprofError, match=r"give sparse=False$"):
        SharedGradients(table, Processes(0, 2)).average()


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d(3), (8, 3)), (nn.BatchNorm2d(3), (4, 3, 5, 5))]
)
def test_the_batch_norm_of_one_process_is_torchs(
    monkeypatch: pytest.MonkeyPatch, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: x)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    norm = norm.double()
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    weights = torch.randn(shape, dtype=torch.double)

    def found() -> list[Tensor]:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        out = norm(x)
        gradients = torch.autograd.grad((out * weights).sum(), [x, norm.weight, norm.bias])
        return [out, *gradients, norm.running_mean.clone(), norm.running_var.clone()]

    expected = found()
    with SharedBatchNorm():
        torch.testing.assert_close(found(), expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(norm.eval()(x), F.batch_norm(x, *statistics(norm)))


def statistics(norm: nn.Module) -> list[Tensor]:
    tensors = norm.state_dict()
    return [tensors[name] for name in ("running_mean", "running_var", "weight", "bias")]


def test_mean_and_variance_are_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    mine, theirs = torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])
    # (1 + 3 + 5 + 7) / 4 = 4; (9 + 1 + 1 + 9) / 4 = 5, of which theirs are (1 + 9) / 2
    sums(monkeypatch, [theirs.mean(0), torch.tensor([5.0])])
    norm = nn.BatchNorm1d(1, eps=1e-12)
    with SharedBatchNorm():
        out = norm(mine)
    torch.testing.assert_close(out, (mine - 4) / 5**0.5)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.4]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9 + 0.1 * 5 * 4 / 3]))


def test_mem_bn_is_a_batch_norm_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: asked.append(x.numel()))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    with SharedBatchNorm():
        MembraneNorm(2, 3)(torch.randn(4, 3, 2), 1)
    assert asked == [3, 3]


def test_a_share_is_a_part_of_the_samples() -> None:
    images, labels = torch.arange(12.0).view(6, 2), torch.arange(6)
    second = Processes(1, 3)
    x, y = share_of(images, labels, 4, "auto", second)
    assert (x.tolist(), y.tolist()) == ([[4, 5], [6, 7]], [2, 3])
    assert x.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
    # [T, B, features]
    sequence = torch.arange(24.0).view(4, 6, 1)
    x, y = share_of(sequence, labels, 4, "time-first", second)
    assert torch.equal(x, sequence[:, 2:4])
    assert y.tolist() == [2, 3]
    with pytest.raises(SnnprofError, match=r"^a joined batch of 6 .* multiple of 4$"):
        share_of(images, labels, 4, "auto", Processes(1, 4))


def test_joined_batch_norms_do_not_run_in_recomputed_blocks() -> None:
    with pytest.raises(SnnprofError, match="sync_bn does not run with mode 'stbp-checkpoint'"):
        StepSetup(lambda: nn.Linear(1, 1), "stbp-checkpoint", sync_bn=True)
    with pytest.raises(SnnprofError, match="sync_bn does not run with compile"):
        StepSetup(lambda: nn.Linear(1, 1), compile=True, sync_bn=True)
