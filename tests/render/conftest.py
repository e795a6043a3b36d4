"""A small report, made by hand."""

import pytest

from snnprof.energy.pricing import price
from snnprof.results import CountResult, LayerCount, NeuronRate, Report, ReportRow, StepProfile


@pytest.fixture
def counts() -> CountResult:
    stem = LayerCount(
        "stem", "conv2d", "REAL", "REAL", "MAC", True, 2, 1.0, 400, None, 400.0, 400, 400, 40, 40,
        (1.0, 1.0),
    )  # fmt: skip
    layer = LayerCount(
        "fc_1", "linear", "BINARY", "REAL", "AC", False, 2, 0.25, 100, 100, 100.0, 400, 400, 10, 40,
    )  # fmt: skip
    lif = NeuronRate("lif", 0.3, None, 40, 12, 2)
    return CountResult(
        (stem, layer), 2, 2, (("att", "matmul: not counted & listed"),), ("fc_1",), (lif,)
    )


@pytest.fixture
def report(counts: CountResult) -> Report:
    energies = (price(counts, "operands"), price(counts, "hd-lif"))

    def row(mode: str, step_s: tuple[float, ...], peak: int) -> ReportRow:
        profile = StepProfile(
            mode, "cpu", 8, 2, step_s, step_s, step_s, step_s, peak, None, 5, 6, 1, 1
        )
        return ReportRow(
            "vgg5", "lif", "fp32", mode, 2, 1000, 4000.0, 5000.0, 0.5, counts, energies, 60,
            profile, epochs=3, loss=0.125,
        )  # fmt: skip

    rows = (row("stbp", (0.02, 0.01, 0.03), 2**21), row("online", (0.03, 0.03, 0.03), 2**20))
    return Report(rows, {"device": "CPU, test", "torch": "2"}, ("A note.",))
