"""One model, run in one layout on a few samples, to see whether the layout holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError, is_out_of_memory
from snnprof.core.forward_hooks import Hooks
from snnprof.training.found_layout import FoundLayout
from snnprof.training.layouts import LAYOUTS, laid_out
from snnprof.training.stepped_model import SteppedModel, first_of

# A silent network tells nothing: its input is made larger until its output follows.
_SCALES = (1, 3, 10, 100)
_SEEDS, _MORE_SEEDS = (1, 2), (1, 2, 3, 4, 5, 6)
_NO_STATE = (
    "no time step was seen to depend on the one before: a network without state, or silent on the "
    "samples it was tried on"
)


class MisfitError(Exception):
    """A layout that the model does not have, in words."""


class MixesSamplesError(MisfitError):
    """A layout in which the samples are not apart."""


class LayoutTrial:
    """One model, run in one layout on a few samples.

    Args:
        stepped: made for this trial.
        name: the layout; None for the model's own ``step`` and ``sequence``.
        x: [T, B, ...], T and B different.
    """

    def __init__(self, stepped: SteppedModel, name: str | None, x: Tensor) -> None:
        self.x = x
        self._given = x.clone()
        self.name = name
        self.model = stepped.model.to(x.device)
        self.output_dim: int | None = None
        self.several = False
        self.stepped = stepped
        if any(map(is_lazy, self.model.parameters())):
            raise SnnprofError(
                f"{type(self.model).__name__} has layers without weights yet (lazy ones): let the "
                "function that builds it run it once, on an input as large as those of the data"
            )
        self._outputs: dict[int, Tensor] = {}  # of the samples, by the scale of the input
        self._weights = [parameter.detach().clone() for parameter in self.model.parameters()]
        if name is not None:
            self.output_dim, self.several = self._form(stepped, name)
            self.stepped = laid_out(stepped, name, self.output_dim)

    def outcome(self) -> FoundLayout:
        """What was found out."""
        self._settle_norms()
        out = self._run(self.x)
        if not _same(self.x, self._given):
            raise MisfitError(
                "it changes its input in place, and the next row of a table would see the changed "
                "one: let its forward begin with a copy, x = x.clone()"
            )
        self._check_rest(out)
        calls = self._check_calls()
        self._check_samples()
        remarks = self._remarks(out)
        return FoundLayout(
            self.name,
            self.output_dim,
            self.several,
            self._steps_alone(),
            calls,
            tuple(out.shape[2:]),
            remarks=remarks,
        )

    def _remarks(self, out: Tensor) -> tuple[str, ...]:
        """What was not seen; a network that is silent is tried with its weights negated too."""
        remarks = tuple(self._of_time(out))
        if _NO_STATE not in remarks:
            return remarks
        with self._negated():
            self._check_samples()
            turned = tuple(self._of_time(out))
        seen = dict.fromkeys((*remarks, *turned))
        return tuple(r for r in seen if r != _NO_STATE or _NO_STATE in turned)

    @contextmanager
    def _negated(self) -> Iterator[None]:
        """Weights, not biases, with the other sign: what is silent speaks, in the same layout."""
        weights: list[Tensor] = [p for p in self.model.parameters() if p.dim() > 1]

        def turn() -> None:
            self._outputs.clear()
            with torch.no_grad():
                for weight in weights:
                    weight.neg_()

        turn()
        try:
            yield
        finally:
            turn()

    def _form(self, stepped: SteppedModel, name: str) -> tuple[int | None, bool]:
        """Where T stands in the output of a call, and whether it gives several outputs."""
        layout = LAYOUTS[name]
        given = self.x[0] if layout.given is None else layout.given(self.x)
        call = stepped.call
        assert call is not None, "a layout is tried on the forward"

        def run() -> Any:
            with stepped.told_samples(self.x.shape[1]):
                return call(given)

        raw = self._evaluated(run)
        out = first_of(raw)
        if not isinstance(out, Tensor):
            raise MisfitError(
                f"it returned a {type(raw).__name__}: let it return a tensor, or a tuple whose "
                "first is one"
            )
        several = out is not raw
        steps, batch = self.x.shape[:2]
        if layout.given is not None and out.dim() >= 3:
            for dim, start in ((0, (steps, batch)), (1, (batch, steps))):
                if out.shape[:2] == start:
                    return dim, several
        if out.dim() >= 2 and len(out) == batch:
            return None, several
        raise MisfitError(f"from {tuple(given.shape)} it makes {tuple(out.shape)}")

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
            raise MisfitError(f"it failed ({one_line(error)[:200]})") from error

    def _changed(self, sample: int, time: slice, scale: int = 1, seed: int = 1) -> Tensor:
        """The input, times a scale, with something else in a sample at some time steps."""
        x = self.x * scale
        old = x[time, sample]
        generator = torch.Generator().manual_seed(seed)
        if x.is_floating_point():
            noise = torch.randn(old.shape[1:], generator=generator)
            x[time, sample] = noise.to(old) * old.abs().max().clamp(min=scale) - old
            return x
        # Whole numbers may be indices: within their range.
        low, high = int(x.min()), int(x.max())
        if low == high:
            low, high = min(low, 0), max(high, 1)
        drawn = torch.randint(low, high + 1, old.shape, generator=generator)
        x[time, sample] = low + high - old if seed == _SEEDS[0] else drawn.to(old)
        return x

    def _changes_over_time(self) -> bool:
        """True if the same input at every time step gives different outputs: there is a state.

        Where the network draws random numbers, these differ too, and nothing is known.
        """
        if not _same(self.x, self.x[:1].expand_as(self.x)):
            return False
        outputs = [self._output(scale) for scale in self._scales()]
        torch.manual_seed(0)
        if not torch.equal(torch.get_rng_state(), self._random_state_after):
            return False
        # Rounding may differ from row to row of a product; what a spike changes is more.
        return any(not _close(out, out[:1].expand_as(out)) for out in outputs)

    def _depends(
        self,
        sample: int,
        time: slice,
        on: tuple[slice, slice],
        seeds: Sequence[int] = _SEEDS,
    ) -> bool:
        """True if the outputs of some time steps and samples follow another input's change."""
        for scale in self._scales():
            before = self._output(scale)
            for seed in seeds:
                after = self._run(self._changed(sample, time, scale, seed))
                if not _same(before[on], after[on]):
                    return True
        return False

    def _output(self, scale: int) -> Tensor:
        """The outputs of the samples, times a scale."""
        if scale not in self._outputs:
            self._outputs[scale] = self._run(self.x * scale)
            self._random_state_after = torch.get_rng_state()
        return self._outputs[scale]

    def _scales(self) -> tuple[int, ...]:
        return _SCALES if self.x.is_floating_point() else (1,)

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
            raise MisfitError(
                "its step or sequence never calls the model itself, so that no forward hook sees "
                "it run: let the module's own forward do the work, and leave step out"
            )
        leaves = [n for m, n in called.items() if n and next(m.children(), None) is None]
        if self.stepped.sequence is not None and self.name != "inside":
            return len(of_root)
        wanted = steps if self.name == "inside" else 1
        ran = self._steps_run(Counter(leaves), wanted)
        if ran != wanted:
            raise MisfitError(self._wrong_count(ran, wanted))
        return len(of_root) * (1 if self.stepped.sequence is not None else steps)

    def _steps_run(self, held: Counter[int], wanted: int) -> int:
        """Time steps of one call, by how many layers held how many.

        Layers before the loop over time, such as an encoder of images, hold one.
        """
        steps = len(self.x)
        if wanted > 1:
            looped = Counter({n: layers for n, layers in held.items() if n > 1})
            held = looped or held
        ran = max(held, key=lambda n: (held[n], n)) if held else wanted
        # A layer may run T times for other reasons, but not where no state goes from call to call.
        if wanted == 1 < steps and steps in held and not self._depends_on_time():
            return steps
        return ran

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

    def _check_samples(self) -> None:
        last = self.x.shape[1] - 1
        for sample, others in ((0, slice(1, None)), (last, slice(0, last))):
            if self._depends(sample, slice(None), (slice(None), others)):
                raise MixesSamplesError(
                    "it mixes samples: its answer for one changes with another (does it take them "
                    "in another dimension?)"
                )

    def _check_rest(self, out: Tensor) -> None:
        again = self._run(self.x)
        if not all(map(torch.equal, self._weights, self.model.parameters())):
            raise MisfitError(
                "its reset() changes its weights: wrap it in snnprof.stepwise(model, reset=..., "
                "detach=...), which says how its state is forgotten"
            )
        if not _same(out, again):
            raise MisfitError(
                "it does not return to rest: the same input gives another output the second time; "
                "give it a method reset(), or wrap it in snnprof.stepwise(model, reset=..., "
                "detach=...)"
            )

    def _of_time(self, out: Tensor) -> Iterator[str]:
        """Remarks where the time steps do not depend on each other as those of neurons do."""
        if len(self.x) == 1 or len(out) == 1:
            return
        own, last = slice(0, 1), len(self.x) - 1
        if not self._depends_on_time():
            yield _NO_STATE
        if self._depends(0, slice(last, None), (slice(0, last), own)):
            yield "a time step was seen to depend on a later one"

    def _depends_on_time(self) -> bool:
        """True if later outputs of a sample follow its first time step."""
        later = (slice(1, None), slice(0, 1))
        return self._changes_over_time() or self._depends(0, slice(0, 1), later, _MORE_SEEDS)

    def _steps_alone(self) -> bool:
        """True if run time step by time step it gives the outputs of the whole sequence."""
        if self.stepped.step is None or self.stepped.sequence is None:
            return self.stepped.step is not None
        stepped = replace(self.stepped, sequence=None)
        for x in (self._changed(0, slice(None), scale) for scale in self._scales()):
            try:
                whole = self._run(x)
                alone = self._evaluated(partial(stepped.run_sequence, x))
            except MisfitError:
                return False
            kinds = [alone] if len(whole) == len(x) else [alone.mean(0), alone.sum(0), alone[-1]]
            if not any(_close(kind, whole if kind is alone else whole[0]) for kind in kinds):
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
