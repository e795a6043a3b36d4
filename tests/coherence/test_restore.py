"""A model that was measured is left bit for bit."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnprof.coherence.measure import coherence
from snnprof.spiking.neuron import neurons_of

from .networks import batch, batch_of_sequences, vgg5


def everything(model: nn.Module) -> list[object]:
    """All that must stay: values, identities and versions."""
    seen: list[object] = [torch.get_rng_state().tolist()]
    for name, module in model.named_modules():
        plain = {k: id(v) for k, v in vars(module).items() if not k.startswith("_")}
        hooks = [len(vars(module)[k]) for k in sorted(vars(module)) if k.endswith("hooks")]
        seen.append((name, module.training, plain, hooks))
    for p in model.parameters():
        grad = None if p.grad is None else (id(p.grad), p.grad._version, p.grad.tolist())
        seen.append((id(p), p._version, p.tolist(), p.requires_grad, grad))
    seen += [(id(b), b._version, b.tolist()) for b in model.buffers()]
    for n in neurons_of(model):
        membrane = None if n.membrane is None else n.membrane.tolist()
        seen.append((id(n.membrane), membrane, n.steps_run, n.last_steps, n.neurons))
    return seen


def half_run(neuron: str) -> nn.Module:
    """A network in the middle of everything: gradients, statistics, a sequence under way."""
    network = vgg5(neuron=neuron)
    network.classifier[0].append(nn.Dropout(0.5))  # type: ignore[union-attr, operator]
    x, y = batch()
    F.cross_entropy(network(x).sum(0), y).backward()
    network(x.unsqueeze(0))
    return network


@pytest.mark.parametrize("neuron", ["hdlif", "lif", "ilif", "hdlif+mem_bn+seca"])
def test_the_model_is_left_bit_for_bit(neuron: str) -> None:
    network, data = half_run(neuron), batch()
    before = everything(network)
    result = coherence(network, *data)
    assert everything(network) == before
    assert not any("deterministic" in remark for remark in result.remarks)
    assert network.training and result.training


def broken(outputs: Tensor, y: Tensor) -> Tensor:
    raise KeyError("a user's bug")


@pytest.mark.parametrize(
    ("loss", "error"), [(broken, KeyError), (lambda o, y: o.detach().sum(), ValueError)]
)
def test_also_after_an_exception(
    loss: Callable[[Tensor, Tensor], Tensor], error: type[Exception]
) -> None:
    network, data = half_run("hdlif"), batch()
    before = everything(network)
    with pytest.raises(error):
        coherence(network, *data, loss=loss)
    assert everything(network) == before


def test_a_graph_of_the_users_survives() -> None:
    network = vgg5(neuron="hdlif").train()
    x, y = batch()
    pending = F.cross_entropy(network(x).sum(0), y)
    coherence(network, x, y)
    pending.backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_needs_no_gradient_mode(mode: Callable[[], torch.no_grad]) -> None:
    network, data = vgg5(neuron="hdlif"), batch()
    with mode():
        found = coherence(network, *data)
    assert found == coherence(network, *data)


def test_containers_and_plain_tensors_are_put_back() -> None:
    class Diary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pages: list[object] = [{"first": 1}]
            self.pages.append(self.pages)
            self.pair: tuple[list[int], int] = ([], 0)
            self.last: dict[str, Tensor] = {}
            self.count = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.pages.append(x)
            self.pair[0].append(1)
            self.pages[0]["again"] = 2  # type: ignore[index]
            self.last["x"] = x
            self.count.add_(1)
            return x

    diary = Diary()
    coherence(nn.Sequential(diary, vgg5()), *batch_of_sequences())
    assert diary.pages[0] == {"first": 1}
    assert diary.pages[1] is diary.pages
    assert len(diary.pages) == 2
    assert diary.pair == ([], 0)
    assert diary.last == {}
    assert diary.count.item() == 0
