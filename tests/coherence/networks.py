"""Networks and batches for the coherence tests."""

import torch
from torch import Tensor, nn

from snnprof.models import create
from snnprof.spiking.channel_attention import ChannelAttention
from snnprof.spiking.hdlif import HDLIF


def spread_logits(network: nn.Module) -> None:
    """Leaks and thresholds that differ from step to step and are no powers of 2."""
    for module in network.modules():
        if isinstance(module, HDLIF):
            for parameter in (module.threshold_logit, getattr(module, "leak_logit", None)):
                if parameter is not None:
                    with torch.no_grad():
                        parameter.normal_()


def vgg5(dtype: torch.dtype = torch.float64, timesteps: int = 4, **kind: object) -> nn.Module:
    torch.manual_seed(0)
    network = create("vgg5", timesteps=timesteps, in_channels=1, image_size=8, **kind)  # type: ignore[arg-type]
    spread_logits(network)
    for module in network.modules():
        if isinstance(module, ChannelAttention):  # which would halve the currents, or worse
            assert module.mix.bias is not None
            nn.init.constant_(module.mix.bias, 2)
    network.to(dtype)
    with torch.no_grad():  # so that the network fires in evaluation mode, too
        for _ in range(30):
            network(batch(dtype=dtype)[0])
    return network


def batch(
    channels: int = 1, size: int = 8, count: int = 6, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, channels, size, size, dtype=dtype), torch.arange(count)


def batch_of_sequences() -> tuple[Tensor, Tensor]:
    x, y = batch()
    return x.expand(4, *x.shape), y
