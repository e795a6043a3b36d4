"""Everything that needs an NVIDIA GPU, in one command: prints Markdown, and writes reports/gpu.md.

Parts, each alone or all in turn:

    tab2      rows of the HD-LIF paper's Tab. 2, by training mode: time, memory, joules
    memory    peak memory of a training step over T
    counting  cost of SopCounter, inputs read by the kernel in Triton and by torch
    batch     the largest batch that fits

    python benchmarks/gpu.py [PART ...] [--device cuda] [--quick] [--output FILE]

A row or a part that fails says why, and the others go on. Images are random, of CIFAR-100's shape:
neither time nor memory depends on what they show. --quick is a trial of the script itself, in
seconds and on any device: its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from measuring import mib, spread, table
from overhead import Both
from torch import Tensor

import snnprof
from snnprof.core.environment import choose_device, describe
from snnprof.counting import scan
from snnprof.counting.scan_torch import DeviceReading
from snnprof.energy.measured_joules import Measurement, measure_energies
from snnprof.profiling.batch_size import SHARE, free_bytes, largest_batch
from snnprof.profiling.profile import memory_profile, try_profiles
from snnprof.profiling.step_memory import Failure, attempt, attempt_all
from snnprof.results import StepProfile
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.step_runner import StepRunner, StepSetup
from snnprof.training.step_trial import settled

REPORT = Path(__file__).parents[1] / "reports" / "gpu.md"
EPOCH = 50_000  # images of CIFAR-100
MODES = ("stbp", "online", "online-step")
OVER_T = ("stbp", "stbp-checkpoint", "online", "online-step", "ottt", "ndot")
# Neuron and weights of Tab. 2, and what the paper prints: GB of training memory.
ROWS = {
    ("lif", "fp32"): 1.50,
    ("hdlif", "1.5bit"): 1.68,
    ("hdlif+four_bit", "1.5bit"): 1.92,
    ("hdlif+parallel", "1.5bit"): 1.44,
    ("hdlif+four_bit+parallel", "1.5bit"): 1.70,
}
HDLIF = ("hdlif", "1.5bit")
USUAL, TORCH = "usual", "torch"


@dataclass(frozen=True)
class Work:
    """The network, and how long it is measured.

    Attributes:
        model, image_size, num_classes: of the network.
        batch, timesteps: of a step.
        over: every T of `memory`, and of `batch` the first above 1 and the last.
        warmup, repeats: steps before the timed ones, and timed ones.
        joules_s: seconds of the energy counter per row.
        blocks: of `counting`.
        most: images in the largest batch that is tried.
    """

    model: str = "resnet18"
    image_size: int = 32
    num_classes: int = 100
    batch: int = 64
    timesteps: int = 4
    over: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    warmup: int = 10
    repeats: int = 50
    joules_s: float = 10.0
    blocks: int = 20
    most: int = 1 << 16

    def __str__(self) -> str:
        size = f"{self.image_size}x{self.image_size}"
        return f"{self.model}, {size}, {self.num_classes} classes"

    def network(self, neuron: str, weights: str, timesteps: int) -> SpikingNetwork:
        return snnprof.models.create(
            self.model,
            neuron=neuron,
            weights=weights,
            timesteps=timesteps,
            num_classes=self.num_classes,
            image_size=self.image_size,
        )

    def setup(self, row: tuple[str, str], mode: str, timesteps: int) -> StepSetup:
        return StepSetup(partial(self.network, *row, timesteps), mode, timesteps)

    def images(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = (batch, 3, self.image_size, self.image_size)
        labels = torch.randint(0, self.num_classes, (batch,), generator=generator)
        return torch.randn(shape, generator=generator).to(device), labels.to(device)


FULL = Work()
QUICK = Work("vgg5", 8, 10, 2, 2, (1, 2), 1, 2, 2.0, 2, 4)


def tab2_part(work: Work, device: torch.device) -> None:
    batch = work.images(work.batch, device)
    kinds = [(row, mode) for row in ROWS for mode in MODES]
    setups = [work.setup(row, mode, work.timesteps) for row, mode in kinds]
    print(f"Batch {work.batch}, T = {work.timesteps}.\n")
    profiles = try_profiles(
        setups,
        batch,
        warmup=work.warmup,
        repeats=work.repeats,
        device=device.type,
        attempt=attempt_all,
    )
    names = [" ".join((*row, mode)) for row, mode in kinds]
    measured = joules(dict(zip(names, setups, strict=True)), batch, work.joules_s, device)
    head = ["neuron", "weights", "mode", "loss", "step (ms)", f"s per {EPOCH:,} images"]
    sizes = ["peak (MiB)", "as SLTT's authors print it", "as HD-LIF's", "the paper's (GB)"]
    rows = (
        [*row, mode, *cost_cells(profile), f"{ROWS[row]:.2f}", *joule_cells(measured[name], work)]
        for (row, mode), profile, name in zip(kinds, profiles, names, strict=True)
    )
    table([*head, *sizes, "mJ per image", "not measured"], joined_reasons(rows))
    print(
        "Step: median and quartiles, rows in turn. Peak: most bytes allocated in a step. SLTT's "
        "authors print what CUDA's allocator reserved, HD-LIF's allocated + reserved after the "
        "last backward pass, which counts twice. The paper's column is of its Tab. 2, on an "
        "A100-SXM4-40GB, where an epoch took 20.52 s (LIF) and 37.93 s (HD-LIF); its authors "
        "train `online-step`. mJ per image: of a training step, idle power subtracted, by the "
        "board's counter, ± its resolution.\n"
    )


def cost_cells(profile: StepProfile | Failure) -> list[str]:
    """Why there is none of them, if so; loss, time and memory."""
    reason = profile.reason if isinstance(profile, Failure) else ""
    found = profile.profile if isinstance(profile, Failure) else profile
    if found is None:
        return [reason, *[""] * 6]
    cells = ["", ""]
    if found.step_s:
        cells = [
            spread([1000 * s for s in found.step_s]),
            f"{statistics.median(found.step_s) * EPOCH / (found.batch_size or 1):.2f}",
        ]
    sizes = (found.peak_bytes, found.sltt_authors_bytes, found.hdlif_authors_bytes)
    memory = ("" if size is None else mib(size) for size in sizes)
    return [reason, found.loss or "", *cells, *memory]


def joule_cells(found: Measurement, work: Work) -> list[str]:
    """Millijoules per image, and why there are none."""
    if found.energy is None:
        return ["", (found.reason or "").removeprefix("not measured: ")]
    net, off = (1000 * j / work.batch for j in (found.energy.net_j, found.energy.resolution_j))
    return [f"{net:.3f} ± {off:.3f}", ""]


def joined_reasons(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows with both reasons in the last cell."""
    for neuron, weights, mode, reason, *cells, why in rows:
        yield [neuron, weights, mode, *cells, "; ".join(filter(None, (reason, why)))]


def joules(
    setups: Mapping[str, StepSetup],
    batch: tuple[Tensor, Tensor],
    seconds: float,
    device: torch.device,
) -> dict[str, Measurement]:
    """Energy of a step of each, or why there is none."""

    def step_of(setup: StepSetup) -> Callable[[], object]:
        known = settled(setup, batch, device)
        step = partial(StepRunner(known, known.make(), device).run, *batch)
        step()  # what cannot run fails here, and not while the others are measured
        return step

    made = {name: attempt_all(partial(step_of, setup), device) for name, setup in setups.items()}
    steps = {name: step for name, step in made.items() if not isinstance(step, Failure)}
    failed = {
        name: Measurement(None, step.reason)
        for name, step in made.items()
        if isinstance(step, Failure)
    }
    if not steps:
        return failed
    found = attempt_all(partial(measure_energies, steps, seconds, device=device), device)
    if isinstance(found, Failure):
        found = dict.fromkeys(steps, Measurement(None, found.reason))
    return failed | found


def memory_part(work: Work, device: torch.device) -> None:
    print(f"HD-LIF, 1.5 bit, batch {work.batch}; MiB at the peak of a step.\n")
    batch = work.images(work.batch, device)

    def peak(mode: str, timesteps: int) -> StepProfile | Failure:
        def measured() -> StepProfile | Failure:
            setup = settled(work.setup(HDLIF, mode, timesteps), batch, device)
            return memory_profile(setup, batch, device, attempt=attempt)

        return attempt_all(measured, device)

    def row(mode: str) -> list[str]:
        found = [peak(mode, timesteps) for timesteps in work.over]
        peaks = [None if isinstance(p, Failure) else p.peak_bytes for p in found]
        first, last = peaks[1], peaks[-1]
        ratio = "" if first is None or last is None else f"{last / first:.3f}"
        cells = [p.reason if isinstance(p, Failure) else mib(p.peak_bytes) for p in found]
        return [mode, *cells, ratio]

    times = [f"T={timesteps}" for timesteps in work.over]
    table(["mode", *times, f"{times[-1]} / {times[1]}"], map(row, OVER_T))


def counting_part(work: Work, device: torch.device) -> None:
    print(
        f"Evaluation, batch {work.batch}, T = {work.timesteps}: counted / plain, median and "
        f"quartiles of {work.blocks} blocks in turn. Steady: a counter that has seen the network "
        "before; fresh: a new one each time, with its result.\n"
    )

    def rows() -> Iterator[list[str]]:
        for row in (("lif", "fp32"), HDLIF):
            for reader in (USUAL, TORCH):
                found = attempt_all(partial(overhead, work, row, reader, device), device)
                cells = [found.reason, *[""] * 3] if isinstance(found, Failure) else found
                yield [" ".join(row), *cells]

    table(["network", "read by", "plain (ms)", "steady", "fresh"], rows())


@contextmanager
def read_by(reader: str) -> Iterator[None]:
    """Inputs on a GPU are read as usual, by Triton where it is installed and runs, or by torch."""
    usual = scan._on_device
    if reader == TORCH:
        scan._on_device = lambda device: DeviceReading  # type: ignore[assignment]
    try:
        yield
    finally:
        scan._on_device = usual


def overhead(work: Work, row: tuple[str, str], reader: str, device: torch.device) -> list[str]:
    """Who reads, plain milliseconds, ratios of a steady and of a fresh counter."""
    torch.manual_seed(0)
    network = work.network(*row, work.timesteps).to(device)
    images, _ = work.images(work.batch, device)

    @torch.no_grad()
    def evaluation() -> None:
        network(images)
        snnprof.reset(network)

    for _ in range(5):  # batch norms see data, so that neurons fire
        evaluation()
    network.eval()
    with read_by(reader):
        implementation = scan.new_reading(images, 1).implementation
        plain, steady, fresh = [], [], []
        for block in range(work.blocks + 1):
            bare = seconds(evaluation, device)
            with snnprof.SopCounter(network):
                evaluation()
                again = seconds(evaluation, device)
            new = seconds(partial(counted, network, evaluation), device)
            if block:  # the first compiles the kernel
                plain.append(bare)
                steady.append(again / bare)
                fresh.append(new / bare)
    return [implementation, f"{1000 * statistics.median(plain):.1f}", spread(steady), spread(fresh)]


def counted(network: SpikingNetwork, evaluation: Callable[[], None]) -> None:
    with snnprof.SopCounter(network) as counter:
        evaluation()
    counter.result()


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """Seconds until the device is done."""

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    begun = wait()
    run()
    return wait() - begun


def batch_part(work: Work, device: torch.device) -> None:
    limit = SHARE * free_bytes(device)
    print(
        f"HD-LIF, 1.5 bit: the largest batch whose training step fits in {limit / 2**30:.2f} GiB, "
        f"{SHARE:.0%} of what is free, as `--batch-size auto` finds it; no more than "
        f"{work.most:,} images are tried.\n"
    )

    def fitting(mode: str, timesteps: int) -> list[str]:
        setup = settled(work.setup(HDLIF, mode, timesteps), work.images(2, device), device)
        peaks: dict[int, int] = {}

        def measure(size: int) -> list[StepProfile | Failure]:
            found = memory_profile(setup, work.images(size, device), device, attempt=attempt)
            if isinstance(found, StepProfile):
                peaks[size] = found.peak_bytes
            return [found]

        size = largest_batch(measure, limit, work.most)
        return [f"{size:,}", mib(peaks[size])]

    def rows() -> Iterator[list[str]]:
        for timesteps in dict.fromkeys((work.timesteps, work.over[-1])):
            for mode in ("stbp", "stbp-checkpoint", "online"):
                found = attempt_all(partial(fitting, mode, timesteps), device)
                cells = [found.reason, ""] if isinstance(found, Failure) else found
                yield [mode, str(timesteps), *cells]

    table(["mode", "T", "batch", "peak (MiB)"], rows())


Part = Callable[[Work, torch.device], None]
PARTS: dict[str, tuple[str, Part]] = {
    "tab2": ("The rows of Tab. 2", tab2_part),
    "memory": ("Memory over T", memory_part),
    "counting": ("What counting costs", counting_part),
    "batch": ("The batch that fits", batch_part),
}


def report(names: Sequence[str], work: Work, device: torch.device) -> bool:
    """Print it; True if no part failed as a whole."""
    where = describe(device)
    print(f"# Training and counting on {where['device']}\n")
    print(f"`python benchmarks/gpu.py`; {work}. Random images.\n")
    failed = []
    for name in names:
        title, part = PARTS[name]
        print(f"## {title}\n")
        done = attempt_all(partial(part, work, device), device)
        if isinstance(done, Failure):
            failed.append(name)
            print(f"\nThis part failed: {done.reason}\n")
            print(done.traceback, file=sys.stderr)
    print("; ".join(f"{key}: {value}" for key, value in where.items()))
    return not failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--quick", action="store_true", help="a trial, in seconds")
    parser.add_argument("--output", type=Path, help="file to write [default: reports/gpu.md]")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    if options.output is None and (options.quick or options.device != "cuda"):
        parser.error("--output FILE: only a full run on a GPU is for reports/gpu.md")
    try:
        device = choose_device(options.device)
    except snnprof.SnnprofError as error:
        parser.error(str(error))
    with redirect_stdout(Both(sys.stdout)) as printed:
        whole = report(options.parts or [*PARTS], QUICK if options.quick else FULL, device)
    (options.output or REPORT).write_text(printed.getvalue(), "utf-8")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
