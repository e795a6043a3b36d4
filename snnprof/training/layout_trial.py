"""Finding out, on two or three samples, how a model takes its time steps.

Nothing is measured or trained on a model that mixes samples, that runs T steps inside each of T
calls, or that does not return to rest: each of these would give wrong figures in silence. What
is tried are models made for it, in evaluation mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnprof.core.errors import SnnprofError, is_out_of_memory
from snnprof.core.forward_hooks import Hooks
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.layouts import AUTO, LAYOUTS, laid_out
from snnprof.training.stepped_model import SteppedModel, first_of

Build = Callable[[], "nn.Module | SteppedModel"]
OURS = "time-first"
# A silent network tells nothing: its input is made larger until its output follows.
_SCALES = (1, 10, 100, 1000)


@dataclass(frozen=True)
class FoundLayout:
    """How a model takes its time steps.

    Attributes:
        name: of :data:`~snnprof.training.layouts.LAYOUTS`; None for a model with a ``step`` or
            ``sequence`` of its own.
        output_dim: where T stands in its output: 0, 1, or None for outputs [B, classes].
        first_of_several: it returns several outputs, of which the first is taken.
        steps_alone: it can be run time step by time step with the same outputs.
        calls: of the model for a whole sequence.
        output_shape: of one sample at one time step, or of its averages, e.g. (10,).
        found: by trying; False where it was given, or known.
        asked: the layout as it was asked for, which also says how batches are laid out.
        remarks: what could not be seen.
    """

    name: str | None
    output_dim: int | None = None
    first_of_several: bool = False
    steps_alone: bool = True
    calls: int = 1
    output_shape: tuple[int, ...] = ()
    found: bool = False
    asked: str = AUTO
    remarks: tuple[str, ...] = ()

    def apply(self, stepped: SteppedModel) -> SteppedModel:
        """The model run in this layout."""
        if self.name is None or stepped.call is None:
            return stepped
        laid = laid_out(stepped, self.name, self.output_dim)
        return laid if self.steps_alone else replace(laid, step=None)


class _MisfitError(Exception):
    """A layout that the model does not have, in words."""


def find_layout(
    build: Build,
    x: Tensor,
    layout: str = AUTO,
    repeated: bool = True,
    output_dims: int | None = None,
) -> FoundLayout:
    """Run a model on a few samples, and find out how it takes its time steps.

    Args:
        build: makes a fresh model; called once for every layout that is tried.
        x: samples [T, B, ...] of which the first few are used, on the model's device.
        layout: a name of :data:`~snnprof.training.layouts.LAYOUTS`, or "auto".
        repeated: every time step of x is the same image.
        output_dims: dimensions of one sample's outputs at one time step, by its labels; None
            for any.

    Returns:
        The layout; of one that was given, what else was found out.

    Raises:
        SnnprofError: no layout fits (each is named with its reason), or the model mixes samples,
            runs T steps in each of T calls, keeps its state after a reset, or never runs its
            own forward.
    """
    if layout != AUTO:
        LAYOUTS.find(layout)
    with torch.random.fork_rng():
        stepped = adapt(build())
        if isinstance(stepped.model, SpikingNetwork) and stepped.layout == OURS:
            return _of_ours(stepped, layout)
        few = _few(x)
        if stepped.call is None:
            if layout != AUTO:
                laid_out(stepped, layout, None)  # says why not
            return _tried(stepped, None, few, output_dims)
        names = _candidates(stepped, repeated) if layout == AUTO else [layout]
        return _first_that_fits(build, names, few, output_dims, given=layout != AUTO)


def _of_ours(stepped: SteppedModel, layout: str) -> FoundLayout:
    if layout not in (AUTO, OURS):
        raise SnnprofError(
            f"layout={layout!r}: {type(stepped.model).__name__} takes [T, B, C, H, W]: leave "
            f"layout out, or give {OURS!r}"
        )
    return FoundLayout(OURS, output_dim=0, asked=OURS)


def _few(x: Tensor) -> Tensor:
    """Two samples, or three where there are two time steps: T and B must not look alike."""
    samples = 3 if len(x) == 2 else 2
    few = x[:, :samples]
    if x.is_floating_point():
        few = few.nan_to_num(0.0, 0.0, 0.0)
    if few.shape[1] < samples:
        few = few[:, torch.arange(samples, device=x.device) % few.shape[1]]
    return few


def _candidates(stepped: SteppedModel, repeated: bool) -> list[str]:
    """The layouts, the one that the library suggests first."""
    names = [name for name in LAYOUTS if repeated or not LAYOUTS[name].images_only]
    order = ["time-first", "batch-first", "step", "inside"]
    order += [name for name in names if name not in order]
    names = [name for name in order if name in names]
    return sorted(names, key=lambda name: name != stepped.layout)


def _first_that_fits(
    build: Build, names: list[str], x: Tensor, output_dims: int | None, given: bool
) -> FoundLayout:
    reasons: dict[str, str] = {}
    doubtful: FoundLayout | None = None
    for name in names:
        try:
            found = _tried(adapt(build()), name, x, output_dims)
        except _MisfitError as misfit:
            reasons[name] = str(misfit)
            continue
        found = replace(found, found=not given, asked=name if given else AUTO)
        if given or not found.remarks:
            return found
        doubtful = doubtful or found
    if doubtful is not None:
        return doubtful
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    shape = ", ".join(["T", "B", *map(str, x.shape[2:])])
    raise SnnprofError(
        f"no layout fits for samples [{shape}], T = {len(x)} ({why}): give a network that takes "
        "its time steps in one of these layouts, or wrap it in snnprof.stepwise(model, "
        "reset=..., detach=..., step=...)"
        if not given
        else f"layout {names[0]!r} does not fit: {reasons[names[0]]}"
    )


def _tried(
    stepped: SteppedModel, name: str | None, x: Tensor, output_dims: int | None
) -> FoundLayout:
    """Run a model in a layout, and look whether it holds.

    Raises:
        _MisfitError: it does not; for a model with ways of its own (name None) SnnprofError.
    """
    try:
        found = _Trial(stepped, name, x).outcome()
        if output_dims not in (None, len(found.output_shape)):
            raise _MisfitError(
                f"its outputs are {found.output_shape} per sample, and the labels want "
                f"{output_dims} dimension{'s' if output_dims != 1 else ''}"
            )
        return found
    except _MisfitError as misfit:
        if name is not None:
            raise
        raise SnnprofError(f"{type(stepped.model).__name__}: {misfit}") from misfit


class _Trial:
    """One model, run in one layout on a few samples.

    Args:
        stepped: made for this trial.
        name: the layout; None for the model's own ``step`` and ``sequence``.
        x: [T, B, ...], T and B different.
    """

    def __init__(self, stepped: SteppedModel, name: str | None, x: Tensor) -> None:
        self.x = x
        self.name = name
        self.model = stepped.model.to(x.device)
        self.output_dim: int | None = None
        self.several = False
        self.stepped = stepped
        if name is not None:
            self.output_dim, self.several = self._form(stepped, name)
            self.stepped = laid_out(stepped, name, self.output_dim)

    def outcome(self) -> FoundLayout:
        """What was found out."""
        self._settle_norms()
        self.x = self.x * self._telling_scale()
        out = self._run(self.x)
        self._check_rest(out)
        calls = self._check_calls()
        self._check_samples(out)
        remarks = tuple(self._of_time(out))
        return FoundLayout(
            self.name,
            self.output_dim,
            self.several,
            self._steps_alone(),
            calls,
            tuple(out.shape[2:]),
            remarks=remarks,
        )

    def _form(self, stepped: SteppedModel, name: str) -> tuple[int | None, bool]:
        """Where T stands in the output of a call, and whether it gives several outputs."""
        layout = LAYOUTS[name]
        given = self.x[0] if layout.given is None else layout.given(self.x)
        call = stepped.call
        assert call is not None, "a layout is tried on the forward"
        raw = self._evaluated(lambda: call(given))
        out = first_of(raw)
        if not isinstance(out, Tensor):
            raise _MisfitError(f"it returned a {type(raw).__name__}")
        several = out is not raw
        steps, batch = self.x.shape[:2]
        if layout.given is not None and out.dim() >= 3:
            for dim, start in ((0, (steps, batch)), (1, (batch, steps))):
                if out.shape[:2] == start:
                    return dim, several
        if out.dim() >= 2 and len(out) == batch:
            return None, several
        raise _MisfitError(f"from {tuple(given.shape)} it makes {tuple(out.shape)}")

    def _settle_norms(self) -> None:
        """Give batch norms the statistics of the samples: untrained ones leave layers silent."""
        norms = [m for m in self.model.modules() if isinstance(m, _BatchNorm)]
        if not norms:
            return
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # the mean over all calls
        self._evaluated(lambda: self.stepped.run_sequence(self.x), norms)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

    def _run(self, x: Tensor) -> Tensor:
        out: Tensor = self._evaluated(lambda: self.stepped.run_sequence(x))
        return out

    def _evaluated(self, run: Callable[[], Any], in_training: Sequence[nn.Module] = ()) -> Any:
        """What a run from rest gives, in evaluation mode, from the same random numbers."""
        self.model.eval()
        for module in in_training:
            module.train()
        self.stepped.reset()
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                return run()
        except Exception as error:  # whatever a forward makes of an input it was not made for
            if is_out_of_memory(error):
                raise
            why = " ".join(str(error).split())
            said = why if isinstance(error, SnnprofError) else f"{type(error).__name__}: {why}"
            raise _MisfitError(f"it failed ({said[:200]})") from error

    def _changed(self, sample: int, time: slice) -> Tensor:
        """The input with another sample there."""
        x = self.x.clone()
        old = x[time, sample]
        if x.is_floating_point():
            noise = torch.randn(old.shape[1:], generator=torch.Generator().manual_seed(1))
            spread = old.abs().max().clamp(min=1)
            x[time, sample] = noise.to(old) * spread - old
        else:
            x[time, sample] = old.roll(1, -1).flip(-1)
        return x

    def _telling_scale(self) -> int:
        """The least factor on the input at which the output follows it; 1 if none does."""
        original = self.x
        for scale in _SCALES if original.is_floating_point() else (1,):
            self.x = original * scale
            follows = not torch.equal(
                self._run(self.x)[:, 0], self._run(self._changed(0, slice(None)))[:, 0]
            )
            self.x = original
            if follows:
                return scale
        return 1

    def _check_calls(self) -> int:
        """Calls of the model for a sequence; raise where they run another number of steps."""
        steps, batch = self.x.shape[:2]
        called: Counter[nn.Module] = Counter()
        of_root: list[None] = []
        hooks = Hooks()
        try:
            hooks.before(self.model, lambda *_: of_root.append(None))
            for module in self.model.modules():
                hooks.before(module, lambda module, args, _: called.update(
                    {module: _steps_held(args, batch)}
                ))  # fmt: skip
            out = self._evaluated(self._one_call)
        finally:
            hooks.remove()
        del out
        if not of_root:
            raise _MisfitError(
                "its step or sequence never calls the model itself, so that no forward hook sees "
                "it run: let the module's own forward do the work, and leave step out"
            )
        leaves = [n for m, n in called.items() if n and next(m.children(), None) is None]
        if self.stepped.sequence is not None and self.name != "inside":
            return len(of_root)
        held = Counter(leaves)
        ran = max(held, key=lambda n: (held[n], n)) if held else None
        wanted = steps if self.name == "inside" else 1
        if ran is not None and ran != wanted:
            raise _MisfitError(self._wrong_count(ran, wanted))
        return len(of_root) * (1 if self.stepped.sequence is not None else steps)

    def _wrong_count(self, ran: int, wanted: int) -> str:
        steps = len(self.x)
        if self.name == "inside":
            return (
                f"its forward runs {ran} time step{'s' if ran > 1 else ''} inside, and timesteps="
                f"{wanted} was asked for: make it for {wanted}"
                + (f", or give timesteps={ran}" if ran > 1 else "")
            )
        return (
            f"it runs {ran} time steps inside each of the {steps} calls, {ran * steps} in all: "
            "give the model itself with layout 'inside'"
        )

    def _one_call(self) -> Any:
        if self.stepped.sequence is not None:
            return self.stepped.sequence(self.x)
        return self.stepped.run_step(self.x[0])

    def _check_samples(self, out: Tensor) -> None:
        last = self.x.shape[1] - 1
        for sample, others in ((0, slice(1, None)), (last, slice(0, last))):
            changed = self._run(self._changed(sample, slice(None)))
            if not _same(out[:, others], changed[:, others]):
                raise _MisfitError(
                    "it mixes samples: its answer for one changes with another (does it take them "
                    "in another dimension?)"
                )

    def _check_rest(self, out: Tensor) -> None:
        weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        again = self._run(self.x)
        if not all(map(torch.equal, weights, self.model.parameters())):
            raise _MisfitError(
                "its reset() changes its weights: wrap it in snnprof.stepwise(model, reset=..., "
                "detach=...), which says how its state is forgotten"
            )
        if not _same(out, again):
            raise _MisfitError(
                "it does not return to rest: the same input gives another output the second time; "
                "give it a method reset(), or wrap it in snnprof.stepwise(model, reset=..., "
                "detach=...)"
            )

    def _of_time(self, out: Tensor) -> Iterator[str]:
        """Remarks where the time steps do not depend on each other as those of neurons do."""
        if len(self.x) == 1 or len(out) == 1:
            return
        first = self._run(self._changed(0, slice(0, 1)))
        if _same(out[1:, 0], first[1:, 0]):
            yield (
                "no time step was seen to depend on the one before: a network without state, or "
                "silent on the samples it was tried on"
            )
        last = self._run(self._changed(0, slice(len(self.x) - 1, None)))
        if not _same(out[:-1, 0], last[:-1, 0]):
            yield "a time step was seen to depend on a later one"

    def _steps_alone(self) -> bool:
        """True if run time step by time step it gives the outputs of the whole sequence."""
        if self.stepped.step is None or self.stepped.sequence is None:
            return self.stepped.step is not None
        stepped = replace(self.stepped, sequence=None)
        for x in (self.x, self._changed(0, slice(None))):
            try:
                whole = self._run(x)
                alone = self._evaluated(partial(stepped.run_sequence, x))
            except _MisfitError:
                return False
            kinds = [alone] if len(whole) == len(x) else [alone.mean(0), alone.sum(0), alone[-1]]
            if not any(_close(kind, whole.reshape(kind.shape)) for kind in kinds):
                return False
        return True


def _steps_held(args: tuple[Any, ...], batch: int) -> int:
    """Time steps in a module's input of so many samples; 0 where none can be read."""
    x = first_of(args)
    if not isinstance(x, Tensor) or not x.dim():
        return 0
    if x.dim() > 1 and len(x) != batch and x.shape[1] == batch:
        return len(x)
    return len(x) // batch if len(x) % batch == 0 else 0


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()), equal_nan=True))
