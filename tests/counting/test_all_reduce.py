"""Counts of two processes as one, with two processes."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

import snnprof
from snnprof.core.errors import SnnprofError
from snnprof.counting.all_reduce import of_all_processes
from snnprof.counting.samples import SampleAxis
from snnprof.results import CountResult
from snnprof.spiking.lif import LIF

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="needs torch.distributed with gloo",
)


class Network(nn.Module):
    """[T, B, 6]: weights of whole numbers, so that sums have no rounding."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
        self.lif = LIF(2)
        with torch.no_grad():
            for layer in (self.first, self.last):
                drawn = torch.randint(-2, 3, layer.weight.shape, generator=generator)
                layer.weight.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        snnprof.reset(self)
        out: Tensor = self.last(self.lif(self.first(x)))
        return out


def inputs(rank: int) -> list[Tensor]:
    """Rank 0 sees 1s and 2s, rank 1 only 1.5s; in batches of different sizes."""
    generator = torch.Generator().manual_seed(rank)
    values = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.5, 0.0]][rank])
    return [values[torch.randint(0, 3, (2, n, 6), generator=generator)] for n in (3, 1 + rank)]


def read(batches: list[Tensor]) -> snnprof.SopCounter:
    net = Network()
    with torch.no_grad(), snnprof.SopCounter(net, layout="time-first") as sops:
        for x in batches:
            net(x)
    return sops


def process(rank: int, meeting: str, folder: str) -> None:
    """One of two processes; what it found is in its files."""
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=2)
    try:
        sops = read(inputs(rank))
        sops.all_reduce().save(Path(folder) / f"counter{rank}.json")
        sops.result().all_reduce().save(Path(folder) / f"result{rank}.json")
        # one that has no samples, then one whose count fails
        read(inputs(0) if rank == 0 else []).all_reduce().save(Path(folder) / f"one{rank}.json")
        net = Network()
        half = snnprof.SopCounter(net, layout="step", timesteps=2)
        with half:
            net(inputs(0)[0])
            if rank == 1:
                net(inputs(0)[0])
        messages = [_message(half.all_reduce), _message(read([]).all_reduce)]
        (Path(folder) / f"errors{rank}").write_text("\n".join(messages))
        torch.distributed.barrier()  # neither leaves while the other still needs it
    finally:
        torch.distributed.destroy_process_group()
    # gloo's threads at times abort the interpreter's own end, after all is written
    os._exit(0)


def _message(call: Any) -> str:
    try:
        call()
    except SnnprofError as error:
        return str(error)
    return "no error"


def load(path: Path) -> CountResult:
    found = snnprof.load(path)
    assert isinstance(found, CountResult)
    return found


@needs_gloo
def test_two_processes_find_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # the processes import this file
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "meeting"), str(tmp_path))
    started = [context.Process(target=process, args=(rank, *arguments)) for rank in (0, 1)]
    for each in started:
        each.start()
    for each in started:
        each.join(240)
    assert [each.exitcode for each in started] == [0, 0]

    whole = read([*inputs(0), *inputs(1)]).result()
    assert whole.rows[0].input_kind == "INTEGER"  # 1, 2 and 1.5: a step of 0.5
    for name in ("counter0", "counter1", "result0", "result1"):
        assert load(tmp_path / f"{name}.json") == whole, name
    alone = read(inputs(0)).result()
    assert load(tmp_path / "one0.json") == load(tmp_path / "one1.json") == alone
    for rank in (0, 1):
        half, never = (tmp_path / f"errors{rank}").read_text().splitlines()
        assert half.startswith("rank 0: the model was called 1 times with timesteps=2")
        assert "rank 1" not in half
        assert never == "the model was never called inside the counter: nothing to report"


def test_an_error_of_any_kind_is_told_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    def gathered(value: object, group: object) -> list[object]:
        told.append(value)
        return [value, value]

    monkeypatch.setattr("snnprof.counting.all_reduce.gathered", gathered)

    def read() -> CountResult:  # a warning, where warnings are errors
        raise RuntimeWarning("NaN or infinity in the input of fc")

    with pytest.raises(SnnprofError, match=r"^rank 0: RuntimeWarning: NaN or infinity"):
        of_all_processes(read, True, None)
    assert told == ["RuntimeWarning: NaN or infinity in the input of fc"]


def test_a_process_whose_only_call_was_lost_does_not_take_part_with_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = read(inputs(1)).result()
    monkeypatch.setattr("snnprof.counting.all_reduce.gathered", lambda mine, group: [mine, other])
    monkeypatch.setattr(SampleAxis, "begin_call", lambda *_: 1 / 0)
    with pytest.raises(SnnprofError, match=r"^rank 0: a call of the model was not counted"):
        read(inputs(0)[:1]).all_reduce()


def test_one_process_alone_finds_its_own() -> None:
    sops = read(inputs(0))
    assert sops.all_reduce() == sops.result() == sops.result().all_reduce()
    with pytest.raises(SnnprofError, match=r"^the model was never called"):
        read([]).all_reduce()
