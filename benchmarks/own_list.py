"""The networks that are tried, each with its inputs, and with what must come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import own_networks as nets
import own_neurons as neurons
import torch
import torch.nn.functional as F
from own_inputs import Given, pixels, soft, values
from own_neurons import T
from torch import Tensor, nn

import snnprof
from snnprof.training.stepped_model import SteppedModel


@dataclass(frozen=True)
class Tried:
    """A network to try.

    Attributes:
        name: for people.
        make: makes it.
        layout: as it is written; None where it must be refused.
        data: what it is given.
        refused: part of the line that refuses it.
        loss, metric: as of snnprof.run.
        random: its forward draws random numbers.
        bare: layout of the network inside ``stepwise``.
        options: more for snnprof.run.
    """

    name: str
    make: Callable[[], Any]
    layout: str | None
    data: Given = field(default_factory=Given)
    refused: str = "no such line"
    loss: Any = None
    metric: str | None = None
    random: bool = False
    bare: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """The network, the same whenever it is made, with weights that let spikes through."""
        with torch.random.fork_rng():
            torch.manual_seed(7)
            net = self.make()
        model = net.model if isinstance(net, SteppedModel) else net
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1 and not weight.is_meta:
                    weight.mul_(3)
        return net


def forgetting(neuron: Callable[[], nn.Module] = neurons.Keeping) -> nn.Module:
    return neurons.image_body(neuron)


def around_sequences(step: Callable[[Any, Tensor], Tensor]) -> SteppedModel:
    net = nets.Ours()
    keeping = [m for m in net.modules() if isinstance(m, neurons.Keeping)]

    def reset() -> None:
        for m in keeping:
            m.reset()

    def detach() -> None:
        for m in keeping:
            m.v = None if m.v is None else m.v.detach()

    return snnprof.stepwise(net, reset=reset, detach=detach, step=lambda x: step(net, x))


def repeating_steps() -> SteppedModel:
    net = nets.repeat_inside()
    return snnprof.stepwise(net, reset=lambda: None, detach=lambda: None)


def squares(outputs: Tensor, y: Any) -> Tensor:
    return outputs.square().mean()


def rebuilt(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs / T, y)


def mixed_up(outputs: Tensor, y: Tensor) -> Tensor:
    return -(y * F.log_softmax(outputs, 1)).sum(1).mean()


EVENTS = Given((2, 8, 8), 0, binary=True)
EVENTS_B = Given((2, 8, 8), 1, binary=True)
NO_LABELS = Given(labels=lambda batch: None)

TRIED = (
    Tried("case 2: repeat inside, mean over time", nets.repeat_inside, "inside"),
    Tried(
        "case 2, as advised then: stepwise around it", repeating_steps, None,
        refused="time steps inside each of",
    ),
    Tried("case 3: [B, T, ...], swapped inside and back", nets.swapping, "batch-first"),
    Tried(
        "case 3 on events [T, B, 2, H, W]",
        lambda: nets.tdbn(), "batch-first", EVENTS,
    ),
    Tried("case 4: states made in forward, (spikes, membranes)", nets.tutorial, "inside"),
    Tried(
        "case 5: stepwise, step=m(x.unsqueeze(0))",
        lambda: around_sequences(lambda net, x: net(x.unsqueeze(0))[0]), "step",
        bare="time-first",
    ),
    Tried(
        "case 6: stepwise, step=m.step", lambda: around_sequences(lambda net, x: net.step(x)),
        None, refused="never calls the model itself",
    ),
    Tried(
        "case 7: 3 outputs, labels to 9", lambda: neurons.image_body(neurons.Keeping), None,
        Given(labels=lambda batch: torch.arange(batch) + 4), refused="has classes 0 to 2",
    ),
    Tried("spikformer, T inside", nets.spikformer, "inside"),
    Tried(
        "spikformer, soft labels and a loss for them", nets.spikformer, "inside",
        Given(labels=soft), loss=mixed_up,
    ),
    Tried("attention with softmax, T inside", lambda: nets.spikformer("softmax"), "inside"),
    Tried("linear attention, T inside", lambda: nets.spikformer("linear"), "inside"),
    Tried("tdBN, SeqToANN containers, images", lambda: neurons.Net(
        lambda net, x: net.body(x), body=nets.tdbn()), "batch-first", Given((2, 8, 8))),
    Tried("TET: SeqToANN, image repeated inside, [B, T, classes]", nets.tet_inside, "inside"),
    Tried("neurons over [T * B, ...] that unfold (QCFS)", nets.folded, "inside"),
    Tried("step-wise convolutions with reset()", lambda: forgetting(), "step"),
    Tried(
        "step-wise convolutions without reset()", lambda: forgetting(neurons.Unforgetting), None,
        refused="does not return to rest",
    ),
    Tried("state in a dict", lambda: forgetting(neurons.StateInDict), "step"),
    Tried(
        "state in a buffer",
        lambda: neurons.flat_body(lambda: neurons.StateInBuffer(16)), "step",
    ),
    Tried("recurrent spiking layer", nets.recurrent, "time-first"),
    Tried("SEW residual blocks", nets.sew, "step"),
    Tried("events [T, B, 2, H, W], mean over time", nets.event_net, "time-first", EVENTS),
    Tried("events [B, T, 2, H, W], tdBN", nets.tdbn, "batch-first", EVENTS_B),
    Tried(
        "events [T, B, 2, H, W], step-wise", lambda: neurons.image_body(neurons.Keeping, 2), "step",
        EVENTS,
    ),
    Tried("1-D convolutions [B, C, L]", nets.one_dimensional, "step", Given((2, 16))),
    Tried(
        "3-D convolutions [B, C, D, H, W]", nets.three_dimensional, None, Given((1, 5, 6, 6)),
        refused="images repeated, time put first",
    ),
    Tried(
        "3-D convolutions, as that line says: x.expand(T, ...)", nets.three_dimensional, "step",
        Given((1, 5, 6, 6), 0, repeated=True),
    ),
    Tried(
        "3-D convolutions, T inside, layout='inside' given",
        lambda: nets.steps_inside(nets.three_dimensional()), "inside", Given((1, 5, 6, 6)),
        options={"layout": "inside"},
    ),
    Tried(
        "events [T, B, 2, H, W], a last test batch of T samples", nets.event_net, "time-first",
        replace(EVENTS, test=(6, 4)),
    ),
    Tried(
        "events [B, T, 2, H, W], a last test batch of T samples", nets.tdbn, "batch-first",
        replace(EVENTS_B, test=(6, 4)),
    ),
    Tried(
        "1-D convolutions, a last test batch of C samples", nets.one_dimensional, "step",
        Given((2, 16), test=(6, 2)),
    ),
    Tried("depth-wise, grouped, dilated convolutions", nets.grouped, "step"),
    Tried(
        "autoencoder, transposed convolutions, y = x", nets.autoencoder, "step",
        Given(labels=None), loss=rebuilt,
    ),
    Tried("no labels, a loss of the outputs", forgetting, "step", NO_LABELS, loss=squares),
    Tried("U-Net, dense labels, step-wise", nets.unet, "step", Given(labels=pixels)),
    Tried("U-Net, dense labels, T inside", nets.unet_inside, "inside", Given(labels=pixels)),
    Tried("regression, three values", forgetting, "step", Given(labels=values), loss="mse"),
    Tried("token numbers [B, L]", nets.tokens, "step", Given((7,), tokens=True)),
    Tried(
        "scores of every token, T inside", nets.language_model, "inside",
        Given((7,), tokens=True, labels=lambda batch: torch.randint(0, 3, (batch, 7))),
    ),
    Tried("Poisson encoding, step-wise", nets.poisson, "step", random=True),
    Tried("Poisson encoding, T inside", nets.poisson_inside, "inside", random=True),
    Tried("direct encoding: a convolution before the loop", nets.direct_encoding, "inside"),
    Tried("PLIF, a leak that is learnt", lambda: forgetting(neurons.PLIF), "step"),
    Tried("integer spikes", lambda: forgetting(neurons.IntegerSpikes), "step"),
    Tried("dense CNN", nets.cnn, "step"),
    Tried("dense MLP", nets.mlp, "step"),
    Tried("a dict returned", nets.in_a_dict, None, refused="returned a dict"),
    Tried("dropout", nets.with_dropout, "step"),
    Tried("attention over the batch", nets.mixing, None, refused="mixes samples"),
    Tried("shared and tied weights", nets.shared, "step"),
    Tried("DataParallel", lambda: nn.DataParallel(forgetting()), "step"),
    Tried("torch.compile", lambda: torch.compile(forgetting(), backend="eager"), "step"),
    Tried("written as a LightningModule", nets.LightningLike, "inside"),
    Tried("on the meta device", lambda: forgetting().to("meta"), None, refused="meta"),
    Tried("forward(x, timesteps)", nets.NeedsT, None, refused="timesteps"),
    Tried("forward(x, timesteps=4)", nets.MayTakeT, "inside"),
    Tried("time last, images given", nets.time_last, None, Given((2, 8, 8)), refused="no layout"),
    Tried(
        "time last, [B, C, H, W, T] given", nets.time_last, None, Given((2, 8, 8, T)),
        refused="",
    ),
)  # fmt: skip
