"""Traces: what lies where, what the ranges are called, and that nothing else changes."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnprof.core.errors import SnnprofError
from snnprof.models import create
from snnprof.profiling.kineto_trace import check_trace_folder, trace_steps
from snnprof.profiling.trace_counters import with_counters
from snnprof.render.operator_table import to_csv, to_markdown
from snnprof.results import CountResult, LayerCount, NeuronRate
from snnprof.results.trace import OperatorTime, TraceResult
from snnprof.spiking.lif import LIF
from snnprof.spiking.network import SpikingNetwork
from snnprof.training.adapters import adapt
from snnprof.training.batch_run import BatchRun
from snnprof.training.modes import find_mode
from tests.support.tensorboard import get, tensorboard

T = 2


def training(mode: str) -> tuple[SpikingNetwork, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = create("vgg5", timesteps=T, in_channels=1, image_size=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(T, 4, 1, 8, 8), torch.arange(4)
    return model, lambda: find_mode(mode)(BatchRun(adapt(model), x, y, optimizer))


def traced(folder: Path, mode: str = "stbp", **settings: Any) -> TraceResult:
    model, step = training(mode)
    return trace_steps(step, folder, name=mode, model=model, timesteps=T, active=2, **settings)


def counted() -> CountResult:
    """600 SOPs of three samples in the last layer; the first neurons fire 0.1, then 0.2."""
    model, _ = training("stbp")
    neuron = next(name for name, m in model.named_modules() if isinstance(m, LIF))
    last = [name for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    layer = LayerCount(
        last, "linear", "BINARY", "REAL", "AC", False, 2, 0.5, 600, 600, 1.0, 1, 1, 1, 2
    )
    rate = NeuronRate(neuron, 0.15, (0.1, 0.2), 40, 6, 2)
    return CountResult((layer,), 3, T, neurons=(rate,))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TraceResult]:
    folder = tmp_path_factory.mktemp("traces")
    return {mode: traced(folder, mode, counts=counted()) for mode in ("stbp", "online")}


def test_the_folder_holds_what_was_promised(both: dict[str, TraceResult]) -> None:
    for mode, result in both.items():
        assert result.folder.name == result.name == mode
        assert result.steps == 2
        files = {file.name for file in result.folder.iterdir()}
        assert files == {
            result.trace.name, "operators.md", "operators.csv", "ranges.md", "ranges.csv",
        }  # fmt: skip
        # <worker>.<span>.pt.trace.json, as the plug-in splits it
        assert re.fullmatch(r".+_\d+\.\d+\.pt\.trace\.json\.gz", result.trace.name)
    assert {file.name for file in both["stbp"].folder.parent.iterdir()} == {"stbp", "online"}


def document_of(result: TraceResult) -> dict[str, Any]:
    with gzip.open(result.trace, "rt", encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def events(result: TraceResult, category: str) -> list[dict[str, Any]]:
    document = document_of(result)
    assert (document["with_stack"], document["profile_memory"], document["record_shapes"]) == (
        1, 1, 1,
    )  # fmt: skip
    return [event for event in document["traceEvents"] if event.get("cat") == category]


def test_shapes_stacks_memory_and_steps_are_recorded(both: dict[str, TraceResult]) -> None:
    operators = events(both["stbp"], "cpu_op")
    convolutions = [event for event in operators if event["name"] == "aten::conv2d"]
    # The stem sees both time steps as one batch: 2 * 4 images of 1 x 8 x 8.
    assert [8, 1, 8, 8] in [event["args"]["Input Dims"][0] for event in convolutions]
    assert all("Call stack" in event["args"] for event in convolutions)
    assert any(event["name"] == "[memory]" for event in events(both["stbp"], "cpu_instant_event"))
    names = [event["name"] for event in events(both["stbp"], "user_annotation")]
    assert [name for name in names if name.startswith("ProfilerStep")] == [
        "ProfilerStep#2",  # 0 waits, 1 warms up
        "ProfilerStep#3",
    ]


def test_every_layer_has_a_range(both: dict[str, TraceResult]) -> None:
    model, _ = training("stbp")
    called = [name for name, _ in model.named_modules() if name]
    names = ["VGG", *called]
    assert len(names) > 10
    stbp = {row.name: row.calls for row in both["stbp"].ranges if " t=" in row.name}
    # two recorded steps, one call each with both time steps
    assert stbp == {f"{name} t=0..1": 2 for name in names}
    online = {row.name: row.calls for row in both["online"].ranges if " t=" in row.name}
    assert online == {f"{name} t={t}": 2 for name in names for t in (0, 1)}
    assert both["stbp"].not_marked == both["online"].not_marked == ()
    in_file = Counter(event["name"] for event in events(both["online"], "user_annotation"))
    assert {name: n for name, n in in_file.items() if " t=" in name} == online


def test_the_rank_is_in_the_file(both: dict[str, TraceResult]) -> None:
    assert document_of(both["stbp"])["distributedInfo"]["rank"] == 0


@pytest.mark.parametrize(
    ("mode", "sops", "rates"),
    [
        ("online", 100.0, [10.0, 20.0]),  # 600 SOPs / 3 samples / 2 time steps a range
        ("stbp", 200.0, [15.0]),  # both in one range, at the mean of their rates
    ],
)
def test_counters_lie_over_the_layers(
    both: dict[str, TraceResult], mode: str, sops: float, rates: list[float]
) -> None:
    last = counted().rows[0].name
    ranges = events(both[mode], "user_annotation")
    of_last = [event for event in ranges if event["name"].startswith(f"{last} t=")]
    counters = events(both[mode], "snnprof")
    assert {event["ph"] for event in counters} == {"C"}
    found = [event for event in counters if event["name"] == "SOPs per sample"]
    assert [event["args"]["SOPs per sample"] for event in found] == [sops, 0] * len(of_last)
    assert [event["ts"] for event in found[::2]] == [event["ts"] for event in of_last]
    assert {event["pid"] for event in counters} == {of_last[0]["pid"]}
    fired = [event["args"]["firing rate (%)"] for event in counters if event not in found]
    assert fired == pytest.approx(rates * 2)  # two recorded steps


def test_a_trace_of_another_make_is_left_as_it_is() -> None:
    assert with_counters("{}", None) == "{}"


def test_operators_by_hand(both: dict[str, TraceResult]) -> None:
    model, _ = training("stbp")
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    for mode, passes in (("stbp", 1), ("online", T)):
        rows = {row.name: row for row in both[mode].operators}
        # two recorded steps; online calls the network once per time step
        assert rows["aten::conv2d"].calls == 2 * passes * convolutions
        assert rows["aten::convolution_backward"].calls == 2 * passes * convolutions
        assert not any(".py(" in name or name.startswith("<") for name in rows)
        assert not any(" t=" in name or name.startswith("ProfilerStep") for name in rows)
        for row in rows.values():
            assert 0 <= row.self_s <= row.total_s
            assert (row.device_self_s, row.device_total_s, row.device_self_bytes) == (None,) * 3
        times = [row.self_s for row in both[mode].operators]
        assert times == sorted(times, reverse=True)


def test_the_table_says_what_the_result_says(both: dict[str, TraceResult]) -> None:
    result = both["stbp"]
    for kind, rows in (("operators", result.operators), ("ranges", result.ranges)):
        with (result.folder / f"{kind}.csv").open(newline="") as file:
            read = list(csv.DictReader(file))
        assert [(row["name"], int(row["calls"]), float(row["self_s"])) for row in read] == [
            (row.name, row.calls, row.self_s) for row in rows
        ]
        assert {row["device_self_s"] for row in read} == {""}
        shown = (result.folder / f"{kind}.md").read_text("utf-8")
        assert rows[0].name in shown


def test_the_writer_of_the_tables_can_be_given(tmp_path: Path) -> None:
    model, step = training("stbp")
    given: list[tuple[str, ...]] = []

    def write(folder: Path, tables: Mapping[str, Sequence[OperatorTime]]) -> None:
        given.append(tuple(tables))
        (folder / "operators.csv").write_text(tables["operators"][0].name)

    result = trace_steps(
        step, tmp_path, name="a", model=model, timesteps=T, active=1, write_tables=write
    )
    assert given == [("operators", "ranges")]
    files = {file.name for file in result.folder.iterdir()}
    assert files == {result.trace.name, "operators.csv"}


def test_tables_by_hand() -> None:
    row = OperatorTime("a|b", 1200, 0.0015, 0.25, -2048)
    assert to_markdown("operators", [row]) == (
        "# operators\n\n| name | calls | self (ms) | total (ms) | self memory (KiB) |\n"
        "|---|---:|---:|---:|---:|\n| a\\|b | 1,200 | 1.500 | 250.0 | -2.000 |\n"
    )
    gpu = OperatorTime("c", 1, 1.0, 1.0, 0, 0.5, 0.75, 1024)
    assert "| c | 1 | 1000 | 1000 | 0 | 500.0 | 750.0 | 1.000 |" in to_markdown("x", [gpu])
    assert to_csv([gpu]).splitlines()[1] == "c,1,1.0,1.0,0,0.5,0.75,1024"
    assert "1 more in the .csv" in to_markdown("x", [row] * 51)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("mode", ["stbp", "online"])
def test_a_traced_training_is_the_same_to_the_last_bit(tmp_path: Path, mode: str) -> None:
    model, step = training(mode)
    plain, plain_step = training(mode)
    torch.manual_seed(1)
    for _ in range(4):
        expected = plain_step()
    random_state = torch.get_rng_state()
    torch.manual_seed(1)
    losses: list[Tensor] = []
    trace_steps(
        lambda: losses.append(step()), tmp_path, name="a", model=model, timesteps=T, active=2
    )
    assert len(losses) == 4  # wait 1, warmup 1, active 2
    assert torch.equal(losses[-1], expected)
    assert torch.equal(torch.get_rng_state(), random_state)
    for (name, mine), theirs in zip(
        model.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    assert hooks(model) == 0
    assert not torch.autograd._profiler_enabled()


@pytest.mark.parametrize(
    ("error", "at"),  # waiting, warming up, recording
    [(RuntimeError, 0), (RuntimeError, 1), (RuntimeError, 3), (KeyboardInterrupt, 3)],
)
def test_an_exception_leaves_nothing(tmp_path: Path, error: type[BaseException], at: int) -> None:
    model, step = training("stbp")
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    done = 0

    def fail(*_: object) -> None:
        if done == at:
            raise error("broken")

    handle = last.register_forward_pre_hook(fail)
    before = hooks(model)

    def failing() -> None:
        nonlocal done
        step()
        done += 1

    folder = tmp_path / "new"
    with pytest.raises(error, match="broken"):
        trace_steps(failing, folder, name="a", model=model, timesteps=T, active=2)
    assert hooks(model) == before
    assert not torch.autograd._profiler_enabled()
    assert not folder.exists()
    handle.remove()
    if at == 3:
        assert traced(folder).operators  # and the profiler starts again


def refused(folder: Path, named: str, name: str = "a", **settings: int) -> None:
    ran: list[int] = []
    with pytest.raises(SnnprofError, match=named) as caught:
        trace_steps(
            lambda: ran.append(1), folder, name=name, model=nn.ReLU(), timesteps=1, **settings
        )
    assert not ran
    assert "\n" not in str(caught.value)


def test_bad_folders_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "no" / "such", "there is no directory")
    refused(tmp_path / "file", "is a file")
    refused(tmp_path, "'file' in it is a file", name="file")
    for name in ("", ".", "..", "a/b", ".hidden", "x" * 151):
        refused(tmp_path, "must be a plain file name", name=name)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    refused(tmp_path, "holds 'notes.txt', which no trace wrote")
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"
    if Path("/proc/self").is_dir():
        refused(Path("/proc/snnprof-trace"), "trace folder '/proc/snnprof-trace'")


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    refused(tmp_path, "no permission to write there")


def test_bad_schedules_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "wait=-1", wait=-1)
    refused(tmp_path, "warmup=0", warmup=0)
    refused(tmp_path, "active=0", active=0)
    assert not list(tmp_path.iterdir())


def test_an_earlier_trace_is_replaced(tmp_path: Path) -> None:
    first = traced(tmp_path / "new")
    assert check_trace_folder(tmp_path / "new", "stbp") == first.folder
    second = traced(tmp_path / "new", wait=0)
    assert first.trace != second.trace
    assert not first.trace.exists() and second.trace.is_file()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["stbp"]


def test_tensorboard_lists_the_plugin_and_shows_the_runs(both: dict[str, TraceResult]) -> None:
    # The other loader serves no plug-in's own data.
    with tensorboard(both["stbp"].folder.parent, "--load_fast=false") as address:
        plugin = f"{address}/data/plugin/pytorch_profiler"
        get(f"{address}/data/plugins_listing")
        end = time.monotonic() + 60
        while (runs := get(f"{plugin}/runs")) and time.monotonic() < end:
            if len(runs["runs"]) == 2 and not runs["loading"]:
                break
            time.sleep(0.2)
        assert runs == {"runs": ["online", "stbp"], "loading": False}
        listing = get(f"{address}/data/plugins_listing")
        assert listing["pytorch_profiler"]["enabled"] is True
        assert set(get(f"{plugin}/views?run=online")) >= {"Overview", "Operator", "Trace", "Memory"}
        (worker,) = get(f"{plugin}/workers?run=online&view=Overview")
        (span,) = get(f"{plugin}/spans?run=online&worker={worker}")
        assert both["online"].trace.name.startswith(f"{worker}.") and span == "1"
        of = f"run=online&worker={worker}&span={span}"
        table = get(f"{plugin}/operation/table?{of}&group_by=Operation")["data"]
        calls = {row["name"]: row["calls"] for row in table}
        mine = {row.name: row.calls for row in both["online"].operators}
        assert calls["aten::conv2d"] == mine["aten::conv2d"]
        stacks = get(f"{plugin}/operation/stack?{of}&group_by=Operation&op_name=aten::conv2d")
        assert "conv2d" in json.dumps(stacks)


def test_the_plugin_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from snnprof.profiling.kineto_trace import *;"
        "from snnprof.render.tensorboard import write_scalars;"
        "assert 'tensorboard' not in sys.modules;"
        "m = torch.nn.Linear(2, 2);"
        "trace_steps(lambda: m(torch.zeros(1, 2)), Path(sys.argv[1]), name='a', model=m,"
        " timesteps=1); write_scalars({'x': 1.0}, Path(sys.argv[1]) / 'a');"
        "print('torch_tb_profiler' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
