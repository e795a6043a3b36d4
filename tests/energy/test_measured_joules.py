"""Measured joules, on a board whose true energy is known."""

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnprof.core.errors import SnnprofError
from snnprof.energy.measured_joules import MeasuredEnergy, measure_energies, measure_energy
from snnprof.energy.nvml import NoCounter, nvml_reader


class Board:
    """A clock and an energy counter that moves once per tick only."""

    device, uuid = "Fake 100", "GPU-fake"

    def __init__(self, idle_w: float, tick_s: float = 1e-3, phase_s: float = 0.0) -> None:
        self.idle_w, self.tick_s = idle_w, tick_s
        self.now, self.joules = 0.0, 0.0
        self._shown, self._next_tick = 0.0, phase_s

    def spend(self, seconds: float, watts: float) -> None:
        end = self.now + seconds
        while self._next_tick <= end:
            self._shown = self.joules + (self._next_tick - self.now) * watts
            self._next_tick += self.tick_s
        self.joules += seconds * watts
        self.now = end

    def sleep(self, seconds: float) -> None:
        self.spend(seconds, self.idle_w)

    def clock(self) -> float:
        return self.now

    def millijoules(self) -> int:
        return int(self._shown * 1000)

    def step(self, seconds: float, watts: float) -> Callable[[], None]:
        return lambda: self.spend(seconds, watts)


def measured(
    board: Board, step: Callable[[], object], seconds: float, idle_seconds: float | None = None
) -> MeasuredEnergy:
    energy, reason = measure_energy(
        step, seconds, device="cpu", reader=board, clock=board.clock, sleep=board.sleep,
        idle_seconds=idle_seconds,
    )  # fmt: skip
    assert reason is None and energy is not None
    return energy


def test_joules_by_hand() -> None:
    board = Board(idle_w=60.0, tick_s=1 / 1024)  # binary fractions: the clock adds up exactly
    energy = measured(board, board.step(1 / 16, 304.0), 8.0)
    assert energy.steps == 128  # 8 s / (1/16 s)
    assert energy.window_s == 8.0 and energy.idle_s == 8.0
    assert energy.gross_j == 19.0  # 304 W / 16 per second
    assert energy.idle_w == 60.0
    assert energy.net_j == 15.25  # (304 - 60) W / 16
    assert (energy.device, energy.uuid) == ("Fake 100", "GPU-fake")
    assert energy.evidence == "measured, board-wide"


def test_the_stated_resolution_by_hand() -> None:
    board = Board(idle_w=50.0, tick_s=1 / 1024)
    energy = measured(board, board.step(0.25, 400.0), 4.0, idle_seconds=2.0)
    running = 1600.001 / 3.9 * 0.1 + 0.001  # 400 W * 4 s in a window that shows 3.9 s at least
    idle = 100.001 / 1.9 * 0.1 + 0.001  # 50 W * 2 s; it weighs twice: 4 s of running, 2 of idling
    assert energy.resolution_j == pytest.approx((running + idle * 2) / 16, rel=1e-12)
    assert energy.resolution_j == pytest.approx(0.026 * 100, rel=0.25)  # about 3 % of 100 J


@given(
    idle_w=st.floats(5, 100),
    extra_w=st.floats(0, 600),
    step_s=st.floats(0.003, 0.7),
    tick_s=st.floats(0.02, 0.1),
    phase=st.floats(0, 1),
    seconds=st.floats(1, 5),
    idle_seconds=st.floats(1, 5),
)
def test_a_coarse_counter_is_never_off_by_more_than_stated(
    idle_w: float,
    extra_w: float,
    step_s: float,
    tick_s: float,
    phase: float,
    seconds: float,
    idle_seconds: float,
) -> None:
    board = Board(idle_w, tick_s, phase * tick_s)
    energy = measured(board, board.step(step_s, idle_w + extra_w), seconds, idle_seconds)
    assert abs(energy.net_j - extra_w * step_s) <= energy.resolution_j * (1 + 1e-9)


def test_ten_seconds_give_one_percent() -> None:
    board = Board(idle_w=1.0, tick_s=0.1, phase_s=0.03)
    energy = measured(board, board.step(0.01, 300.0), 10.0)
    assert energy.resolution_j / energy.gross_j == pytest.approx(0.01, rel=0.02)


def test_steps_take_turns_and_the_first_changes() -> None:
    board = Board(idle_w=50.0, tick_s=1 / 1024)
    ran: list[str] = []

    def step_of(name: str, watts: float) -> Callable[[], None]:
        def step() -> None:
            ran.append(name)
            board.spend(0.5, watts)

        return step

    both = measure_energies(
        {"a": step_of("a", 100.0), "b": step_of("b", 200.0)},
        4.0,
        device="cpu",
        rounds=2,
        reader=board,
        clock=board.clock,
        sleep=board.sleep,
        idle_seconds=2.0,
    )
    # 0.5 s of running in (1 step), then 4 s / 2 rounds / 0.5 s = 4 steps
    assert "".join(ran) == "aaaaabbbbbbbbbbaaaaa"
    for name, net in (("a", 25.0), ("b", 75.0)):  # (100 - 50) / 2 and (200 - 50) / 2
        energy = both[name].energy
        assert energy is not None
        assert (energy.net_j, energy.steps, energy.window_s) == (net, 8, 4.0)
        assert energy.idle_s == 2.0


@pytest.mark.parametrize(
    ("seconds", "idle", "rounds", "named"),
    [
        (0.99, None, 1, "seconds=0.99 in 1 round"),
        (1.5, None, 2, "seconds=1.5 in 2 round"),
        (float("nan"), None, 1, "seconds=nan"),
        (float("inf"), None, 1, "seconds=inf"),
        (2.0, 0.5, 1, "idle_seconds=0.5"),
        (2.0, None, 0, "rounds=0"),
    ],
)
def test_a_short_window_is_refused_before_anything_runs(
    seconds: float, idle: float | None, rounds: int, named: str
) -> None:
    board, ran = Board(10.0), []
    with pytest.raises(SnnprofError, match=named) as caught:
        measure_energies(
            {"a": lambda: ran.append(1)}, seconds, device="cpu", rounds=rounds, reader=board,
            idle_seconds=idle,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not ran and board.now == 0


def test_no_step_is_an_error() -> None:
    with pytest.raises(SnnprofError, match="no training step was given"):
        measure_energies({}, 2.0, device="cpu", reader=Board(10.0))


def reason_of(board: Board) -> str:
    energy, reason = measure_energy(
        board.step(0.1, 100.0), 1.0, device="cpu", reader=board, clock=board.clock,
        sleep=board.sleep,
    )  # fmt: skip
    assert energy is None and reason is not None
    return reason


def test_a_counter_that_stands_still_measures_nothing() -> None:
    assert reason_of(Board(10.0, tick_s=1e9)) == "not measured: the energy counter did not move"


def test_a_counter_that_is_set_back_measures_nothing() -> None:
    class Falling(Board):
        def __init__(self) -> None:
            super().__init__(10.0)
            self.left = 10**9

        def millijoules(self) -> int:
            self.left -= 1000
            return self.left

    assert reason_of(Falling()).endswith("set back meanwhile")


def test_without_a_gpu_there_is_a_reason_and_nothing_runs() -> None:
    ran: list[int] = []
    both = measure_energies({"a": lambda: ran.append(1), "b": int}, 2.0, device="cpu")
    for energy, reason in both.values():
        assert energy is None
        assert reason == ("not measured: only NVIDIA GPUs have an energy counter, not device 'cpu'")
    assert not ran


class FakeError(Exception):
    pass


@contextmanager
def fake_nvml(monkeypatch: pytest.MonkeyPatch, *, broken: str = "") -> Iterator[list[str]]:
    """A torch with one GPU, and an NVML beside it that writes down what it is asked."""
    asked: list[str] = []

    def call(name: str, result: object) -> Callable[..., object]:
        def function(*arguments: object) -> object:
            asked.append(f"{name}{arguments}")
            if name == broken:
                raise FakeError("Not Supported")
            return result

        return function

    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetHandleByUUID": "handle",
        "nvmlDeviceGetName": "Fake V100",
        "nvmlDeviceGetTotalEnergyConsumption": 1234,
    }
    module = types.ModuleType("pynvml")
    module.NVMLError = FakeError  # type: ignore[attr-defined]
    for name, result in answers.items():
        setattr(module, name, call(name, result))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    gpu(monkeypatch)
    yield asked


def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = types.SimpleNamespace(uuid="1234-5678")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


CUDA = torch.device("cuda", 0)


def test_the_board_is_found_by_its_uuid_and_nvml_is_shut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with fake_nvml(monkeypatch) as asked:
        with nvml_reader(CUDA) as reader:
            assert reader.millijoules() == 1234
            assert (reader.device, reader.uuid) == ("Fake V100", "GPU-1234-5678")
        assert asked[:2] == ["nvmlInit()", "nvmlDeviceGetHandleByUUID('GPU-1234-5678',)"]
        assert asked[-1] == "nvmlShutdown()" and asked.count("nvmlShutdown()") == 1


@pytest.mark.parametrize(
    ("broken", "shut_down"),
    [
        ("nvmlInit", False),
        ("nvmlDeviceGetHandleByUUID", True),
        ("nvmlDeviceGetTotalEnergyConsumption", True),
    ],
)
def test_a_board_without_a_counter_says_why(
    monkeypatch: pytest.MonkeyPatch, broken: str, shut_down: bool
) -> None:
    with fake_nvml(monkeypatch, broken=broken) as asked:
        energy, reason = measure_energy(int, 1.0, device=CUDA)
        assert energy is None
        assert reason is not None and reason.startswith("not measured: ")
        assert reason.endswith("Not Supported")
        assert ("nvmlShutdown()" in asked) is shut_down


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoCounter, match=r"pip install 'snnprof\[gpu\]'"), nvml_reader(CUDA):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_real_board_uses_more_when_it_works() -> None:
    x = torch.randn(4096, 4096, device="cuda")
    energy, reason = measure_energy(lambda: x @ x, 2.0, device="cuda")
    if energy is None:
        pytest.skip(str(reason))
    assert energy.net_j > energy.resolution_j
    assert energy.gross_j > energy.net_j
