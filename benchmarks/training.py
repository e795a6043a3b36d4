"""Costs of training: memory over T, the lean backward passes, and SpikingJelly beside it.

Four tables, each alone or all in turn:

    memory  peak memory of every online mode at T = 2 and at the longest T, and of STBP over T
    blocks  memory of STBP with blocks recomputed (stbp-checkpoint) beside STBP and online training
    lean    LIF and HD-LIF beside the same equations differentiated by torch
    peers   LIF beside SpikingJelly's SLTTLIFNode (online) and LIFNode (STBP)

Memory is allocator bytes of one step, the same in every run. Times are of steps in turn;
ratios are taken round by round: median and quartiles.

    python benchmarks/training.py [TABLE ...] [--device cuda] [--batch N] [--repeats N]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata

import torch
from measuring import (
    Build,
    SingleStep,
    Work,
    activation_bytes,
    mib,
    milliseconds,
    ratios,
    reached,
    same_work,
    spread,
    table,
)
from torch import Tensor, nn

from snnprof.core.environment import choose_device, describe
from snnprof.profiling.profile import profile_steps
from snnprof.results import StepProfile
from snnprof.results.scaling import fit
from snnprof.spiking.hdlif import HDLIF, hdlif_step
from snnprof.spiking.lif import LIF, LIFSettings, lif_step
from snnprof.spiking.neuron import Neuron
from snnprof.training.step_runner import StepSetup

ONLINE = (
    *("online", "online-step", "sltt-2", "random-bp"),
    *("ottt", "ottt-step", "ndot", "ndot-code", "ndot-step"),
)
# The images of a step, by device: the first for `memory` too.
WORKS = {
    "cpu": [Work()],
    "cuda": [Work(batch=64), Work("resnet34", 224, batch=32)],
}
FLAT, AFFINE, LEAN_LIF = 1.02, 0.999, 0.9
# Between networks that fire alike, gradients differ by rounding only.
ROUNDING = 1e-5


class PlainLIF(Neuron):
    """LIF by its definition, differentiated by torch."""

    def __init__(self, timesteps: int, settings: LIFSettings) -> None:
        super().__init__(timesteps)
        self.settings = settings

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        spikes = []
        for current in currents:
            spike, membrane = lif_step(membrane, current, self.settings)
            spikes.append(spike)
        return torch.stack(spikes), membrane


class PlainHDLIF(Neuron):
    """HD-LIF by its definition, differentiated by torch."""

    def __init__(self, timesteps: int) -> None:
        super().__init__(timesteps)
        self.leak_logit = nn.Parameter(torch.zeros(timesteps))
        self.threshold_logit = nn.Parameter(torch.zeros(timesteps))

    def run(self, currents: Tensor, membrane: Tensor | None) -> tuple[Tensor, Tensor | None]:
        leak, threshold = self.leak_logit.sigmoid(), self.threshold_logit.sigmoid()
        spikes = []
        for t, current in enumerate(currents, start=self.steps_run):
            spike, membrane = hdlif_step(membrane, current, leak[t], threshold[t])
            spikes.append(spike)
        return torch.stack(spikes), membrane


def with_neuron(work: Work, make: Callable[[int], Neuron]) -> Build:
    """Builds the network of ``work`` with ``make(timesteps)`` for every layer of neurons."""
    return lambda: work.network(lambda channels, *, second=False: make(work.timesteps))


TRIANGLE, ARCTAN = LIFSettings(), LIFSettings(surrogate="arctan")
# name: (lean, plain autograd, most of the activation bytes)
LEAN: dict[str, tuple[Callable[[int], Neuron], Callable[[int], Neuron], float]] = {
    "LIF": (lambda t: LIF(t, TRIANGLE), lambda t: PlainLIF(t, TRIANGLE), LEAN_LIF),
    "HD-LIF": (HDLIF, PlainHDLIF, 1.0),
}


def memory_table(options: argparse.Namespace, device: torch.device) -> None:
    base = replace(WORKS[device.type][0], batch=options.batch or 32)
    longest = options.longest
    print(f"## Memory over T\n\nHD-LIF, {replace(base, timesteps=longest)} and less; MiB.\n")

    def peak(mode: str, timesteps: int) -> tuple[int, int]:
        work = replace(base, timesteps=timesteps)
        found = SingleStep(with_neuron(work, HDLIF), mode, work, device).memory()
        return found.peak_bytes, found.peak_bytes - found.static_bytes

    def row(mode: str) -> list[str]:
        (short, short_active), (long, long_active) = peak(mode, 2), peak(mode, longest)
        active = long_active / short_active
        verdict = reached(long / short, f"<= {FLAT}", long <= FLAT * short)
        sizes = [mib(size) for size in (short, long, short_active, long_active)]
        return [mode, *sizes[:2], f"{long / short:.4f}", *sizes[2:], f"{active:.4f}", verdict]

    head = ["peak, T=2", f"T={longest}", "ratio"]
    active_head = ["activation, T=2", f"T={longest}", "ratio"]
    table(["mode", *head, *active_head, "peak flat"], map(row, ONLINE))
    print("The modes that draw time steps draw the last one here.\n")
    stbp_line([(t, *peak("stbp", t)) for t in (2, 4, 8, 16, 32) if t <= longest])


def stbp_line(points: Sequence[tuple[int, int, int]]) -> None:
    """Bytes of STBP over T (T, peak, activation), and the straight line through the peaks."""
    timesteps, peaks, active = zip(*points, strict=True)
    rows = [["peak", *map(mib, peaks)], ["activation", *map(mib, active)]]
    table(["stbp", *(f"T={t}" for t in timesteps)], rows)
    line = fit(list(zip(timesteps, peaks, strict=True)))
    _, slope, intercept, r_squared, _ = line or (None,) * 5
    if slope is None or intercept is None or r_squared is None:
        print("Too few T for a line.\n")
        return
    print(
        f"peak = {mib(intercept)} + {mib(slope)} T MiB, R^2 = {r_squared:.6f} "
        f"({reached(r_squared, f'>= {AFFINE}', r_squared >= AFFINE)})\n"
    )


def blocks_table(options: argparse.Namespace, device: torch.device) -> None:
    work = replace(WORKS[device.type][0], batch=options.batch or 32, timesteps=8)
    print(f"## STBP with blocks recomputed\n\nactivation, MiB; {work}.\n")

    def row(name: str, make: Callable[[int], Neuron]) -> list[str]:
        found = []
        for mode in ("stbp", "stbp-checkpoint", "online"):
            memory = SingleStep(with_neuron(work, make), mode, work, device).memory()
            found.append(memory.peak_bytes - memory.static_bytes)
        ratio = found[1] / found[0]
        return [name, *map(mib, found), f"{ratio:.3f}", reached(ratio, "< 1", ratio < 1)]

    head = ["neuron", "stbp", "stbp-checkpoint", "online", "checkpoint / stbp", "less"]
    table(head, [row("LIF", lambda t: LIF(t, TRIANGLE)), row("HD-LIF", HDLIF)])


def lean_table(options: argparse.Namespace, device: torch.device) -> None:
    for chosen in WORKS[device.type]:
        work = replace(chosen, batch=options.batch or chosen.batch, timesteps=8)
        print(f"## The lean backward passes beside plain autograd\n\nstbp, {work}.\n")
        names, setups, checks = list(LEAN), [], []
        for name, (lean, plain, _) in LEAN.items():
            builds = with_neuron(work, lean), with_neuron(work, plain)
            checks.append(same_work(name, *builds, "stbp", work, device, ROUNDING))
            setups += [StepSetup(build) for build in builds]
        profiles = profile(setups, work, options, device)
        rows = [
            lean_row(name, *profiles[2 * place : 2 * place + 2]) for place, name in enumerate(names)
        ]
        head = ["neuron", "lean (ms)", "plain (ms)", "time, ratio"]
        sizes = ["lean, activation (MiB)", "plain", "ratio", "target"]
        table([*head, *sizes], rows)
        print_checks(checks)


def lean_row(name: str, lean: StepProfile, plain: StepProfile) -> list[str]:
    most = LEAN[name][2]
    ratio = activation_bytes(lean) / activation_bytes(plain)
    return [
        name,
        milliseconds(lean),
        milliseconds(plain),
        spread(ratios(lean, plain)),
        mib(activation_bytes(lean)),
        mib(activation_bytes(plain)),
        f"{ratio:.3f}",
        reached(ratio, f"<= {most}", ratio <= most),
    ]


def peers_table(options: argparse.Namespace, device: torch.device) -> None:
    from peers import spikingjelly  # not everybody has it

    version = metadata.version("spikingjelly")
    for chosen in WORKS[device.type]:
        work = replace(chosen, batch=options.batch or chosen.batch)
        print(f"## Beside SpikingJelly {version}\n\nLIF, {work}.\n")
        setups, checks = [], []
        for mode in ("stbp", "online"):
            ours = with_neuron(work, lambda t: LIF(t, ARCTAN))
            theirs = spikingjelly(mode, work)
            checks.append(same_work(mode, ours, theirs, mode, work, device, ROUNDING))
            setups += [StepSetup(ours, mode, compile=options.compile)]
            setups += [StepSetup(theirs, mode, work.timesteps)]
        profiles = profile(setups, work, options, device)
        rows = [peers_row(*profiles[place : place + 2]) for place in (0, 2)]
        head = ["mode", "snnprof (ms)", "SpikingJelly (ms)", "time, ratio", "<= 1.0"]
        sizes = ["snnprof, peak (MiB)", "SpikingJelly", "ratio", "<= 1.0", "activation, ratio"]
        table([*head, *sizes], rows)
        print_checks(checks)


def peers_row(ours: StepProfile, theirs: StepProfile) -> list[str]:
    times = ratios(ours, theirs)
    peak = ours.peak_bytes / theirs.peak_bytes
    return [
        str(ours.mode),
        milliseconds(ours),
        milliseconds(theirs),
        spread(times),
        "yes" if statistics.median(times) <= 1 else "no",
        mib(ours.peak_bytes),
        mib(theirs.peak_bytes),
        f"{peak:.3f}",
        "yes" if peak <= 1 else "no",
        f"{activation_bytes(ours) / activation_bytes(theirs):.3f}",
    ]


def profile(
    setups: Sequence[StepSetup], work: Work, options: argparse.Namespace, device: torch.device
) -> tuple[StepProfile, ...]:
    return profile_steps(
        setups, work.data(), warmup=options.warmup, repeats=options.repeats, device=device.type
    )


def print_checks(checks: Sequence[str]) -> None:
    print(f"Apart, relative to the other network: {'; '.join(checks)}.\n", flush=True)


TABLES = {"memory": memory_table, "blocks": blocks_table, "lean": lean_table, "peers": peers_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--longest", type=int, default=32, help="longest T of `memory`")
    parser.add_argument("--repeats", type=int, default=11, help="timed rounds")
    parser.add_argument("--warmup", type=int, default=1, help="steps of each network before them")
    parser.add_argument("--compile", action="store_true", help="our networks through torch.compile")
    options = parser.parse_args()
    unknown = set(options.tables) - set(TABLES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(TABLES)}")
    for option, least in (("repeats", 2), ("longest", 2), ("warmup", 0)):
        if getattr(options, option) < least:
            parser.error(f"--{option} {getattr(options, option)}: must be at least {least}")
    device = choose_device(options.device)
    for name in options.tables or ("memory", "blocks", "lean"):
        TABLES[name](options, device)
    print("; ".join(f"{key}: {value}" for key, value in describe(device).items()))


if __name__ == "__main__":
    main()
