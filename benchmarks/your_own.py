"""Somebody's own networks, tried in run, profile_step, profile and SopCounter.

    python benchmarks/your_own.py > reports/your-own.md

SOPs of run, of SopCounter and of an enumeration that is written here are the same in every layer:
the gradient, with respect to the input, of the sum of the layer's output with weights of one, where
an input is not zero; pairs of non-zeros that meet for a product of two activations.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from measuring import table
from own_inputs import BATCH
from own_libraries import LIBRARIES
from own_list import TRIED, Tried
from own_neurons import T
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import snnprof
from snnprof.core.environment import describe
from snnprof.results import CountResult, ReportRow
from snnprof.training.adapters import adapt
from snnprof.training.stepped_model import SteppedModel

# Containers that the product leaves out of a layer's name.
WRAPPERS = re.compile(r"\b(module|_orig_mod)\.")
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


class Enumeration(TorchFunctionMode):
    """SOPs by definition: of layers by name, of products of activations together."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.sops: Counter[str] = Counter()
        self.busy = False
        for name, module in net.named_modules():
            if isinstance(module, LAYERS):
                module.register_forward_hook(self.hook(WRAPPERS.sub("", name)))

    def hook(self, name: str) -> Callable[..., None]:
        def count(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            if self.busy:
                return
            self.busy = True
            with torch.enable_grad():
                x = args[0].detach().double().requires_grad_()
                ones = {key: (p != 0).double() for key, p in layer.named_parameters()}
                if "bias" in ones:
                    ones["bias"].zero_()
                torch.func.functional_call(layer, ones, (x,)).sum().backward()
            assert x.grad is not None
            self.sops[name] += round(float(x.grad[x != 0].sum()))
            self.busy = False

        return count

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        multiplies = func in (torch.matmul, Tensor.matmul, Tensor.__matmul__)
        if multiplies and not self.busy and not any(isinstance(x, nn.Parameter) for x in args):
            a, b = ((x != 0).double() for x in args)
            self.busy = True
            self.sops["products"] += round(float((a @ b).sum()))
            self.busy = False
        return func(*args, **kwargs or {})


def sops(counts: CountResult) -> Counter[str]:
    """Of every layer; products of activations together, as one enumeration sees them."""
    found: Counter[str] = Counter()
    for row in counts.rows:
        product = row.op in ("matmul", "bmm", "sdpa")
        found["products" if product else row.name] += row.synops
    return +found


@dataclass(frozen=True)
class Outcome:
    """Of one attempt: what is printed, and whether it is right."""

    text: str
    right: bool


def attempt(action: Callable[[], Outcome]) -> Outcome:
    """An error of ours in one line is an outcome; any other is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action()
    except snnprof.SnnprofError as error:
        return Outcome(f"refused: {error}", right="\n" not in str(error))
    except Exception as error:  # the table's whole point
        traceback.print_exc()
        return Outcome(f"RAISED {type(error).__name__}: {error}", right=False)


def sequence(tried: Tried, x: Tensor) -> Tensor:
    """[T, B, ...] of what a loader gives."""
    if tried.data.time == 0:
        return x
    return x.transpose(0, 1) if tried.data.time == 1 else x.expand(T, *x.shape)


def fed(tried: Tried, net: nn.Module, x: Tensor) -> None:
    """A batch through the network as its author would, from rest."""
    whole = sequence(tried, x)
    adapt(net).reset()
    if tried.layout == "step":
        for current in whole:
            net(current)
    elif tried.layout == "inside":
        net(whole[0])
    else:
        net(whole if tried.layout == "time-first" else whole.transpose(0, 1))


def run(tried: Tried, mode: str) -> ReportRow:
    settings = {"loss": tried.loss, "metric": tried.metric, **tried.options}
    (row,) = snnprof.run(
        tried.build, data=tried.data.loaders, modes=mode, timesteps=T, epochs=0, repeats=1,
        **settings,
    ).rows  # fmt: skip
    if row.failure:
        raise snnprof.SnnprofError(row.failure)
    return row


def enumerated(tried: Tried) -> Counter[str]:
    net: nn.Module = tried.build()
    torch.manual_seed(0)
    found = Enumeration(net.eval())
    with torch.no_grad(), found:
        for x, _ in tried.data.loaders()["test"]:
            fed(tried, net, x)
    return +found.sops


def counted(tried: Tried, layout: str) -> Counter[str]:
    net = tried.build()
    torch.manual_seed(0)
    with torch.no_grad(), snnprof.SopCounter(net.eval(), layout=layout, timesteps=T) as counter:
        for x, _ in tried.data.loaders()["test"]:
            fed(tried, net, x)
    return sops(counter.result(samples=tried.data.samples))


class Trial:
    """One network through everything."""

    def __init__(self, tried: Tried) -> None:
        self.tried = tried
        self.row: ReportRow | None = None

    def run(self) -> Outcome:
        row = self.row = run(self.tried, "stbp")
        assert row.counts is not None
        if self.tried.layout is None:
            return Outcome(f"{row.layout}: should have been refused", right=False)
        if row.layout != (None if self.tried.bare else self.tried.layout):
            return Outcome(f"{row.layout}, written as {self.tried.layout}", right=False)
        right = (row.counts.samples, row.counts.timesteps) == (self.tried.data.samples, T)
        return Outcome(f"{row.layout}, {row.counts.samples} samples, T = {T}", right)

    def compare(self) -> Outcome:
        """Run's SOPs, SopCounter's and the enumeration's, layer by layer."""
        if self.row is None or self.tried.layout is None or self.row.counts is None:
            return Outcome("", right=True)
        ours = sops(self.row.counts)
        if isinstance(self.tried.build(), SteppedModel):
            return self._of_wrapped(ours)
        theirs, own = counted(self.tried, self.tried.layout), enumerated(self.tried)
        if own != theirs:
            return Outcome(f"SopCounter {dict(theirs)}, enumerated {dict(own)}", right=False)
        if self.tried.random:
            apart = max(abs(ours[key] / own[key] - 1) for key in own)
            return Outcome(
                f"{self._per_sample(own)}; run, of other draws, {apart:.0%} off", apart < 0.15
            )
        if own != ours:
            return Outcome(f"run {dict(ours)}, enumerated {dict(own)}", right=False)
        return Outcome(self._per_sample(own), right=bool(own))

    def _of_wrapped(self, ours: Counter[str]) -> Outcome:
        bare = replace(self.tried, make=lambda: self.tried.make().model, layout=self.tried.bare)
        own = enumerated(bare)
        return Outcome(
            self._per_sample(own) if own == ours else f"run {ours}, own {own}", own == ours
        )

    def _per_sample(self, found: Counter[str]) -> str:
        return f"{sum(found.values()) / self.tried.data.samples:,.2f}"

    def online(self) -> Outcome:
        row = run(self.tried, "online")
        assert row.counts is not None
        if self.row is None or self.row.counts is None:
            return Outcome("runs where stbp does not", right=False)
        same = self.tried.random or sops(row.counts) == sops(self.row.counts)
        return Outcome("runs" if same else "other SOPs than stbp", same)

    def profile_step(self) -> Outcome:
        tried = self.tried
        batch = next(iter(tried.data.loaders()["train"]))
        options = {key: value for key, value in tried.options.items() if key == "layout"}
        found = snnprof.profile_step(
            tried.build, batch, timesteps=T, loss=tried.loss or "sum", warmup=0, repeats=1,
            **options,
        )  # fmt: skip
        right = (found.batch_size, found.timesteps) == (BATCH, T) and len(found.step_s) == 1
        text = f"{found.peak_bytes / 1024:.0f} KiB"
        return Outcome(text if right else f"B={found.batch_size}, T={found.timesteps}", right)

    def profile(self) -> Outcome:
        if self.tried.layout is None or isinstance(self.tried.build(), SteppedModel):
            return Outcome("", right=True)
        net = self.tried.build()
        x, _ = next(iter(self.tried.data.loaders()["train"]))
        found = snnprof.profile(lambda: fed(self.tried, net, x), model=net, warmup=1, repeats=2)
        calls = len(found.forward_s) == len(found.step_s) == 2
        return Outcome(f"{found.peak_bytes / 1024:.0f} KiB", calls and found.peak_bytes > 0)


def tried_out(tried: Tried) -> tuple[list[str], bool]:
    trial = Trial(tried)
    first = attempt(trial.run)
    outcomes = [first, *map(attempt, (trial.compare, trial.online, trial.profile_step,
                                      trial.profile))]  # fmt: skip
    if trial.row is None:
        expected = tried.layout is None and tried.refused in first.text
        outcomes[0] = first = replace(first, right=first.right and expected)
    elif outcomes[2].text != "runs":
        honest = tried.layout != "step" and "trained step by step" in outcomes[2].text
        outcomes[2] = Outcome("refused: steps inside" if honest else outcomes[2].text, honest)
    if trial.row is None and outcomes[2].text.partition(": ")[2] == first.text.partition(": ")[2]:
        outcomes[2] = Outcome("as run", right=True)
    if first.text.endswith(outcomes[3].text.removeprefix("refused: ")):
        outcomes[3] = Outcome("as run", right=True)
    right = all(outcome.right for outcome in outcomes)
    cells = [outcome.text.replace("|", "\\|").replace("\n", " ") for outcome in outcomes]
    return [tried.name, tried.layout or "none", *cells, "yes" if right else "**NO**"], right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a name")
    options = parser.parse_args()
    every = (*TRIED, *LIBRARIES)
    chosen = [tried for tried in every if options.only in tried.name]
    verdicts: list[bool] = []

    def rows() -> Iterator[list[str]]:
        for number, tried in enumerate(chosen, start=1):
            cells, right = tried_out(tried)
            verdicts.append(right)
            yield [str(number), *cells]

    where = describe(torch.device("cpu"))
    command = " ".join(["python benchmarks/your_own.py", *sys.argv[1:]])
    print(f"Printed by `{command}`.\n\n# Networks of one's own\n")
    print(f"{where['device']}, torch {where['torch']}. {(__doc__.partition('md')[2]).strip()}\n")
    head = ["#", "network", "written as", "run, stbp", "SOPs per sample", "run, online"]
    table([*head, "profile_step", "profile", "right"], rows())
    print(f"{sum(verdicts)} of {len(verdicts)} are right, or one line.")


if __name__ == "__main__":
    main()
