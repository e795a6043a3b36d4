"""Nominal MACs held against fvcore's, which traces the network and counts by shapes alone."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnprof.core.error_line import one_line
from snnprof.core.module_names import module_names
from snnprof.results import CountResult, MacCheck, MacDifference

# What fvcore counts beside multiply-accumulates of convolutions and matrix products.
_NO_MACS = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
    "aten::adaptive_avg_pool2d",
    "aten::grid_sampler",
)
_PRODUCTS = re.compile(r"attention|mm$|mv$|dot$|conv|product|linear|lstm|gru|rnn")
_NUMBER = re.compile(r"#\d+$")  # of the second row of a name


class _Traced(nn.Module):
    """The model, run as it is measured."""

    def __init__(self, model: nn.Module, run: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.model = model
        self._run = run

    def forward(self, x: Tensor) -> Any:
        return self._run(x)


def check_macs(
    model: nn.Module, run: Callable[[Tensor], Any], x: Tensor, counts: CountResult
) -> MacCheck:
    """Hold the nominal MACs of counts against fvcore's count of a run.

    Args:
        model: in evaluation mode, at rest.
        run: runs it, all T time steps.
        x: one sample that it is run on.
        counts: of the same network, of any number of samples.
    """
    macs = counts.per_sample("nominal_macs") or 0.0
    try:
        theirs, unknown = _count(model, run, x)
    except Exception as error:  # what fvcore cannot trace is no fault of the model's
        return MacCheck(macs, failure=one_line(error))
    ours: dict[str, float] = defaultdict(float)
    for row in counts.rows:
        ours[_module_of(row.name, theirs)] += row.nominal_macs / counts.samples
    by_fvcore = {name: float(found) for name, found in theirs.items() if found}
    names = [name for name in theirs if ours.get(name) or by_fvcore.get(name)]
    differing = [
        MacDifference(
            name,
            ours.get(name, 0.0),
            by_fvcore.get(name, 0.0),
            _reason(name, ours, by_fvcore, unknown, counts),
        )
        for name in names
        if ours.get(name, 0.0) != by_fvcore.get(name, 0.0)
    ]
    return MacCheck(macs, sum(by_fvcore.values()), len(names), tuple(differing))


def _count(
    model: nn.Module, run: Callable[[Tensor], Any], x: Tensor
) -> tuple[dict[str, int], dict[str, str]]:
    """MACs of every module itself, and what fvcore has no formula for in it."""
    traced = _Traced(model, run).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(traced, (x,))
        analysis.set_op_handle(**dict.fromkeys(_NO_MACS, _nothing))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        totals = analysis.by_module()
        found, unknown = {}, {}
        paths = {module: path for path, module in traced.named_modules()}
        for module, name in module_names(model).items():
            path = paths[module]
            inner = [f"{path}.{child}" for child, _ in module.named_children()]
            # A module that is called in two places is counted where fvcore met it first.
            found[name] = int(totals[path] - sum(totals[child] for child in inner))
            ops = [op.removeprefix("aten::") for op in analysis.unsupported_ops(path)]
            unknown[name] = ", ".join(op for op in ops if _PRODUCTS.search(op))
    return found, unknown


def _nothing(inputs: Any, outputs: Any) -> int:
    return 0


def _module_of(name: str, modules: Mapping[str, object]) -> str:
    """The module that a row of the counts belongs to: its own, or the one around it."""
    inner = _NUMBER.sub("", name)
    while inner and inner not in modules:
        inner = inner.rpartition(".")[0]
    return inner or next(iter(modules))


def _reason(
    name: str,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    unknown: Mapping[str, str],
    counts: CountResult,
) -> str | None:
    return "; ".join(_reasons(name, ours, theirs, unknown, counts)) or None


def _reasons(
    name: str,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    unknown: Mapping[str, str],
    counts: CountResult,
) -> Iterator[str]:
    """What is known of a difference."""
    if unknown[name] and theirs.get(name, 0) < ours.get(name, 0):
        yield f"fvcore has no formula for {unknown[name]}"
    missing = [reason for where, reason in counts.not_counted if where == name]
    if missing:
        yield f"not counted here: {', '.join(missing)}"
    if not ours.get(name) and not missing:
        yield "no row of the counts is of it"
