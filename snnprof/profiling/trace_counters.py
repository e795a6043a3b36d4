"""Counter tracks in a trace: SOPs and firing rate, above the layers that they belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from snnprof.results import CountResult

SOPS, FIRING_RATE = "SOPs per sample", "firing rate (%)"
_EVENTS = '"traceEvents": ['
_RANK = '"distributedInfo"'
# As the profiler writes the range of a layer, and the time steps in its name.
_RANGE = re.compile(
    r'"cat":\s*"user_annotation",\s*"name":\s*"([^"\\]+) t=(\d+)(?:\.\.(\d+))?",\s*'
    r'"pid":\s*(\d+),\s*"tid":\s*\d+,\s*"ts":\s*([\d.]+),\s*"dur":\s*([\d.]+)'
)


def with_counters(trace: str, counts: CountResult | None) -> str:
    """A trace as the profiler wrote it, with the counters of its layers, and its rank.

    The text is not parsed: it may be hundreds of megabytes.

    Args:
        trace: JSON.
        counts: of the same model; None for no counters.
    """
    head, begin, rest = trace.partition(_EVENTS)
    if not begin:
        return trace
    # Without it, tools that compare ranks (HTA) do not know whose trace it is.
    alone = {"backend": "none", "rank": 0, "world_size": 1}
    rank = "" if _RANK in head or _RANK in rest[-10_000:] else f"{_RANK}: {json.dumps(alone)},\n  "
    found = () if counts is None else counter_events(trace, counts)
    events = "".join(f"\n  {json.dumps(event)}," for event in found)
    return f"{head}{rank}{begin}{events}{rest}"


def counter_events(trace: str, counts: CountResult) -> Iterator[dict[str, object]]:
    """Events of the Chrome trace format (``"ph": "C"``), for every range of a layer.

    SOPs: those of the layer while it runs, and 0 behind it; of a range of some time steps, their
    share of all. Firing rate: of a layer of neurons from its end on, that of its time steps
    where it is known, else of all.
    """
    sops: dict[str, float] = {}
    for layer in counts.rows:
        sops[layer.name] = sops.get(layer.name, 0.0) + layer.synops / (counts.samples or 1)
    rates = {
        neurons.name: neurons.firing_rate_by_step or (neurons.firing_rate,)
        for neurons in counts.neurons
    }
    for name, first, last, process, start, length in _RANGE.findall(trace):
        steps = range(int(first), int(last or first) + 1)
        begin, end = float(start), float(start) + float(length)
        if name in sops:
            share = min(1.0, len(steps) / counts.timesteps) if counts.timesteps else 1.0
            yield _event(SOPS, process, begin, sops[name] * share)
            yield _event(SOPS, process, end, 0)
        if name in rates:
            yield _event(FIRING_RATE, process, end, 100 * _mean(rates[name], steps))


def _mean(rates: tuple[float, ...], steps: range) -> float:
    of_steps = [rates[step] for step in steps if step < len(rates)] or rates
    return sum(of_steps) / len(of_steps)


def _event(name: str, process: str, at: float, value: float) -> dict[str, object]:
    return {
        "ph": "C",
        "cat": "snnprof",
        "name": name,
        "pid": int(process),
        "ts": round(at, 3),
        "args": {name: value},
    }
