"""The layers of a network in the order they run, by forward hooks."""

import torch
from torch import Tensor, nn

from snnprof.models import create
from snnprof.spiking.neuron import Neuron

LAYERS = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.BatchNorm1d, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, Neuron,
)  # fmt: skip


def layers_run(name: str, channels: int, image: int, classes: int) -> list[str]:
    """Name, kind, kernel/stride and output shape (behind batch or time and batch) of each."""
    with torch.device("meta"), torch.no_grad():
        network = create(
            name, timesteps=1, in_channels=channels, image_size=image, num_classes=classes
        )
        network.eval()
        found: list[str] = []
        for layer_name, layer in network.named_modules():
            if isinstance(layer, LAYERS):
                layer.register_forward_hook(_recorder(layer_name, found))
        network(torch.empty(1, channels, image, image))
    return found


def _recorder(name: str, found: list[str]):  # type: ignore[no-untyped-def]
    def record(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        words = [name, type(layer).__name__.removeprefix("Parametrized")]
        if isinstance(layer, nn.Conv2d):
            words.append(f"{layer.kernel_size[0]}x{layer.kernel_size[1]}/{layer.stride[0]}")
            assert layer.bias is None
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            words.append(
                f"{_one(layer.kernel_size)}x{_one(layer.kernel_size)}/{_one(layer.stride)}"
            )
        elif isinstance(layer, nn.Linear) and layer.bias is not None:
            words[-1] += "+bias"
        shape = out.shape[2:] if isinstance(layer, Neuron) else out.shape[1:]
        found.append(" ".join([*words, "x".join(map(str, shape))]))

    return record


def _one(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]
