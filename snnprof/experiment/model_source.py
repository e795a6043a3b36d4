"""Where a model comes from: our networks by name, or anybody's builder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from snnprof.core.error_line import one_line
from snnprof.core.errors import SnnprofError, is_out_of_memory, known
from snnprof.experiment.own_function import find_function, keywords_of, name_of
from snnprof.models import MODELS, create
from snnprof.training.stepped_model import SteppedModel


class ModelSource:
    """A function that makes a model.

    Args:
        name: as it was given.
        function: makes it, from keywords.
        takes: the keywords that it has; None for any.
        ours: whether it is one of our networks.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        takes: frozenset[str] | None,
        ours: bool,
    ) -> None:
        self.name = name
        self.ours = ours
        self._function = function
        self._takes = takes

    def takes(self, keyword: str) -> bool:
        """True if the function has this keyword."""
        return self._takes is None or keyword in self._takes

    def remade(self, function: Callable[..., Any]) -> ModelSource:
        """The same source with another function, of the same keywords."""
        return ModelSource(self.name, function, self._takes, self.ours)

    def __call__(self, **settings: Any) -> nn.Module | SteppedModel:
        """Make a model; a setting that the function does not have is left out.

        Raises:
            SnnprofError: the function fails, or returns no model.
        """
        wanted = {key: value for key, value in settings.items() if self.takes(key)}
        try:
            built = self._function(**wanted)
        except SnnprofError:
            raise
        except (Exception, SystemExit) as error:  # theirs to mend
            if self.ours or is_out_of_memory(error):
                raise
            hint = ""
            if isinstance(error, TypeError) and "required positional argument" in str(error):
                hint = f"; it is given {', '.join(settings)}, as far as it has these names"
            raise SnnprofError(f"{self._error('its builder failed', error)}{hint}") from error
        if not isinstance(built, nn.Module | SteppedModel):
            raise SnnprofError(
                f"model {self.name!r} returned a {type(built).__name__}, not a torch.nn.Module"
            )
        return built

    def _error(self, what: str, error: BaseException) -> SnnprofError:
        return SnnprofError(f"model {self.name!r}: {what}: {one_line(error)}")


def find_builder(model: str | Callable[..., Any], what: str = "model") -> ModelSource:
    """Where a model comes from.

    Args:
        model: a name of :func:`snnprof.models.list_models`, ``package.module:function``, or a
            function.
        what: it is, in messages.

    Returns:
        What makes it from the keywords of :func:`snnprof.models.create`. Somebody's own
        function gets those that it has parameters for. It returns a torch.nn.Module that takes
        its time steps in one of the layouts (:mod:`snnprof.training.layouts`), or a
        :func:`snnprof.stepwise` model.

    Raises:
        SnnprofError: no such module or function, or it cannot be imported.
    """
    if isinstance(model, nn.Module):
        raise SnnprofError(
            f"{what} is a {type(model).__name__}: every row trains one of its own, so give the "
            "function that makes it"
        )
    if isinstance(model, str) and ":" not in model:
        if model not in MODELS:
            raise SnnprofError(
                f"{known(what, model, MODELS)}; or a function of your own, package.module:function"
            )
        return ModelSource(model, partial(create, model), None, ours=True)
    if not isinstance(model, str) and not callable(model):
        raise SnnprofError(f"{what}={model!r}: give a name, or package.module:function")
    function = find_function(what, model) if isinstance(model, str) else model
    # As the command line would name it.
    name = model if isinstance(model, str) else f"{model.__module__}:{name_of(model)}"
    return ModelSource(name, function, keywords_of(f"{what} {name!r}", function), ours=False)
