"""Counts of random networks beside an oracle that enumerates, column by column.

Every network is a random one: layer types, products, kinds of values and weights, types, memory
layouts, wrappers and layouts of time (tests/exactness/). The oracle counts synapses and pairs one
by one and judges kinds in exact arithmetic, of the set of all values. The exit status is 1 where
one number differs.

    python benchmarks/exactness.py [--networks N] [--seed S] [--scan c|torch] [--jobs J]

Network n has the seed S + n: ``--networks 1 --seed`` with the seed of a difference repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from snnprof.core.environment import describe

sys.path.append(str(Path(__file__).parents[1]))  # the generator and the oracle are the tests'

from tests.exactness.comparison import COLUMNS, SCANS, Difference, Tally, compare

SHOWN = 20  # differences of each part
PARTS = 100  # of the networks, shared out to processes


def table(*lines: tuple[object, ...]) -> str:
    head, *rest = (f"| {' | '.join(map(str, line))} |" for line in lines)
    return "\n".join((head, "|" + "---|" * len(lines[0]), *rest))


def by_name(found: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in found.most_common())


def report(tally: Tally, scans: list[str], command: str, seconds: float) -> str:
    wrong = Counter((d.scan, d.column) for d in tally.differences)
    what = table(
        ("compared", "number"),
        ("networks", f"{tally.networks:,}"),
        ("layers and products", f"{tally.layers:,}: {by_name(tally.ops)}"),
        ("inputs by kind", by_name(tally.kinds)),
        ("weights and second operands by kind", by_name(tally.weights)),
        ("layers of neurons", f"{tally.neurons:,}"),
        ("networks by layout of time", by_name(tally.ways)),
        ("networks by type", by_name(tally.dtypes)),
    )
    columns = table(
        ("column", *(f"differences, {scan}" for scan in scans)),
        *((column, *(wrong[scan, column] for scan in scans)) for column in COLUMNS),
        ("all", *(sum(d.scan == scan for d in tally.differences) for scan in scans)),
    )
    where = "; ".join(f"{key}: {value}" for key, value in describe(torch.device("cpu")).items())
    return f"""# Counts beside enumeration

`{command}`, in {seconds:.0f} s.

Every network is a random one: layer types, products, values, weights, types, memory layouts,
wrappers, layouts of time, calls of different batches. The oracle enumerates synapses and pairs and
judges kinds in exact arithmetic. A difference is printed with the seed that repeats it, and the
exit status is 1.

{what}

{columns}

Rates per time step that the counter leaves open (None) are no difference where a dimension that is
not time's is as long or is exchanged with others: {tally.untold:,} of them. One that it gives has
to be right.

{where}"""


def compared(seeds: range, scans: list[str]) -> Tally:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Using padding='same'")  # of torch's
    tally = Tally()
    for seed in seeds:
        try:
            compare(seed, scans, tally)
        except Exception as error:  # of the oracle: the others are compared all the same
            reason = f"{type(error).__name__}: {error}"
            failed = (Difference(seed, scan, "result", "the oracle", reason, "") for scan in scans)
            tally.differences.extend(failed)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--scan", choices=SCANS, help="what reads the inputs; both by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    asked = parser.parse_args()
    scans = [asked.scan] if asked.scan else list(SCANS)
    tally, begun = Tally(), time.perf_counter()
    seeds = [range(asked.seed + n, asked.seed + asked.networks, PARTS) for n in range(PARTS)]
    compared(range(asked.seed, asked.seed + 1), scans)  # loads what processes then have
    with ProcessPoolExecutor(asked.jobs, get_context("fork")) as pool:
        for part in pool.map(compared, seeds, [scans] * PARTS):
            tally.add(part)
            for difference in part.differences[:SHOWN]:
                print(f"--networks 1 {difference}", file=sys.stderr)
            if sys.stderr.isatty():
                print(f"{tally.networks:,} networks", end="\r", file=sys.stderr)
    command = " ".join(("python benchmarks/exactness.py", *sys.argv[1:]))
    print(report(tally, scans, command, time.perf_counter() - begun))
    return 1 if tally.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
