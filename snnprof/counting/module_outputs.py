"""The shapes that the modules of a model put out, for a table of them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor, nn

from snnprof.core.forward_hooks import Hooks
from snnprof.core.module_names import module_names
from snnprof.results import ModuleRow

_PARAMETRIZATIONS = "parametrizations"  # torch's name for the modules that compute weights


class ModuleOutputs:
    """Notes the shape of the first output of every module of a model, inside its ``with`` block.

    Args:
        model: any module; it is left as it was.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names = {
            module: name
            for module, name in module_names(model).items()
            if _PARAMETRIZATIONS not in name.split(".")
        }
        self._shapes: dict[nn.Module, tuple[int, ...]] = {}
        self._hooks = Hooks(lambda module, error: None)  # a shape that is not known is left out

    def __enter__(self) -> ModuleOutputs:
        for module in self._names:
            self._hooks.after(module, self._note)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hooks.remove()

    def _note(self, module: nn.Module, args: Any, output: Any) -> None:
        if module not in self._shapes:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor):
                self._shapes[module] = tuple(first.shape)

    @property
    def model_shape(self) -> tuple[int, ...] | None:
        """The shape that the model itself put out."""
        return self._shapes.get(self._model)

    def rows(self, layout: str | None, batch: int | None, timesteps: int | None) -> list[ModuleRow]:
        """The modules, in their order; of a wrapper and what is in it, what is in it.

        Args:
            layout: how the model takes its time steps; None where that is not known.
            batch: samples of its first call; None likewise.
            timesteps: T; None likewise.
        """
        found: dict[str, ModuleRow] = {}
        for module, name in self._names.items():
            shape = self._shapes.get(module)
            found[name] = ModuleRow(
                name=name,
                kind=type(module).__name__,
                depth=0 if module is self._model else 1 + name.count("."),
                parameters=sum(p.numel() for p in module.parameters()),
                output_shape=None
                if shape is None
                else shape_words(shape, layout, batch, timesteps),
            )
        return [*found.values()]


def shape_words(
    shape: tuple[int, ...], layout: str | None, batch: int | None, timesteps: int | None
) -> str:
    """``"[T*B, 64, 8, 8]"``: the sizes, with B and T in the place of leading ones that are theirs.

    Where T and B stand together is known from the layout alone: two equal sizes would else be
    taken for them.
    """
    sizes = [*map(str, shape)]
    steps = timesteps or 1
    together = {
        "time-first": [("T", "B")],
        "batch-first": [("B", "T"), ("T", "B")],
        "inside": [("T", "B"), ("B", "T")],
    }.get(layout or "", [])
    if batch is not None and shape:
        of = {"T": steps, "B": batch}
        for pair in together:
            if len(shape) > 1 and shape[:2] == (of[pair[0]], of[pair[1]]):
                sizes[:2] = pair
                break
        else:
            if shape[0] == steps * batch and steps > 1 and together:
                sizes[0] = "T*B"
            elif shape[0] == batch:
                sizes[0] = "B"
    return f"[{', '.join(sizes)}]"
