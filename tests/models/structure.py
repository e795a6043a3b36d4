"""The layers of a network in the order they run, by forward hooks.

``python -m tests.models.structure`` prints the tables of docs/networks.md.
"""

from itertools import groupby

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


# The forms in docs/networks.md: name, channels, height of the image, classes.
FORMS = {
    "ResNet-18, CIFAR": ("resnet18", 3, 32, 10),
    "ResNet-18, ImageNet-200": ("resnet18", 3, 64, 200),
    "ResNet-34, ImageNet-1k": ("resnet34", 3, 224, 1000),
    "ResNet-19, CIFAR": ("resnet19", 3, 32, 10),
    "ResNet-19, DVS-CIFAR10": ("resnet19", 2, 48, 10),
    "VGG-11, CIFAR": ("vgg11", 3, 32, 10),
    "VGG-13, CIFAR": ("vgg13", 3, 32, 10),
    "VGG-11, DVS-CIFAR10": ("vgg_dvs", 2, 48, 10),
}


def layer_table(name: str, channels: int, image: int, classes: int) -> str:
    """Convolutions and linear layers in the order they run, alike neighbours in one row."""
    found: list[tuple[str, str, bool, int, int]] = []

    def record(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        weight = layer.weight
        if isinstance(layer, nn.Conv2d):
            side, stride = layer.kernel_size[0], layer.stride[0]
            what = f"conv {side}x{side}" + (f", stride {stride}" if stride > 1 else "")
            shape = f"{weight.shape[1]} -> {weight.shape[0]}, {out.shape[2]}x{out.shape[3]}"
            macs = weight.numel() * out.shape[2] * out.shape[3]
        else:
            what, shape, macs = "linear", f"{weight.shape[1]} -> {weight.shape[0]}", weight.numel()
        bias = 0 if layer.bias is None else layer.bias.numel()
        quantised = layer not in kept
        found.append((what, shape, quantised, macs, weight.numel() + bias))

    with torch.device("meta"), torch.no_grad():
        network = create(
            name, timesteps=1, in_channels=channels, image_size=image, num_classes=classes
        )
        network.eval()
        kept = [network.get_submodule(layer) for layer in network.full_precision]
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(record)
        network(torch.empty(1, channels, image, image))
    rows = [
        "| layers | channels, output | quantised | MACs per step | weights and biases |",
        "|---|---|---|---:|---:|",
    ]
    for (what, shape, quantised, macs, weights), alike in groupby(found):
        count = len(list(alike))
        times = f"{count} x " if count > 1 else ""
        rows.append(
            f"| {times}{what} | {shape} | {'yes' if quantised else 'no'} | {count * macs:,} "
            f"| {count * weights:,} |"
        )
    macs, weights = sum(row[3] for row in found), sum(row[4] for row in found)
    norms = sum(p.numel() for p in network.parameters()) - weights
    rows.append(f"| all | batch norms: {norms:,} parameters more | | {macs:,} | {weights:,} |")
    rows.append(f"| without the stem | | | {macs - found[0][3]:,} | {weights - found[0][4]:,} |")
    return "\n".join(rows)


if __name__ == "__main__":
    for title, form in FORMS.items():
        print(f"### {title}\n\n{layer_table(*form)}\n")
