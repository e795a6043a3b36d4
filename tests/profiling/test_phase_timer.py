"""Phases of a step, with an injected clock."""

import itertools

import pytest
import torch

from snnprof.profiling.phase_timer import PhaseTimer

CPU = torch.device("cpu")


def test_the_timer_keeps_every_repetition_and_sums_a_phase_over_it() -> None:
    ticks = iter([10.0, 10.5, 11.0, 12.0, 14.0, 15.0, 20.0, 20.0, 23.0, 24.0])
    timer = PhaseTimer(CPU, clock=lambda: next(ticks))
    with timer.step():  # 10 to 15
        with timer.phase("forward"):  # 10.5 to 11
            pass
        with timer.phase("forward"):  # 12 to 14
            pass
    with timer.step(), timer.phase("backward"):  # 20 to 24, 20 to 23
        pass
    assert timer.seconds() == (5.0, 4.0)
    assert timer.seconds("forward") == (2.5, 0.0)  # 0.5 + 2
    assert timer.seconds("backward") == (0.0, 3.0)
    assert timer.seconds("optimizer") == ()  # it never came: not measured, not 0


def test_phases_outside_a_step_are_not_timed() -> None:
    timer = PhaseTimer(CPU, clock=iter(()).__next__)
    with timer.phase("forward"):
        pass
    assert timer.seconds() == timer.seconds("forward") == ()


def test_a_phase_inside_another_is_its_own_time() -> None:
    """An optimiser that runs forward and backward itself, as with a closure."""
    ticks = iter([0.0, 1.0, 3.0, 7.0, 8.0, 16.0, 20.0, 30.0])
    timer = PhaseTimer(CPU, clock=ticks.__next__)
    with timer.step(), timer.phase("optimizer"):  # 1 to 20
        with timer.phase("forward"):  # 3 to 7
            pass
        timer.begin("backward")  # 8 to 16
        timer.end("backward")
    assert timer.seconds("forward") == (4.0,)
    assert timer.seconds("backward") == (8.0,)
    assert timer.seconds("optimizer") == (2.0 + 1.0 + 4.0,)  # 1 to 3, 7 to 8, 16 to 20
    assert timer.seconds() == (30.0,)


def test_what_was_interrupted_ends_with_the_phase_around_it() -> None:
    timer = PhaseTimer(CPU, clock=iter([0.0, 1.0, 2.0, 4.0, 5.0]).__next__)
    with timer.step():
        timer.begin("forward")
        timer.begin("backward")
        timer.end("optimizer")  # never began: not even the clock is read
        timer.end("forward")
    assert timer.seconds("forward") == (1.0,)
    assert timer.seconds("backward") == (2.0,)


def test_a_step_that_fails_is_not_kept() -> None:
    timer = PhaseTimer(CPU, clock=map(float, itertools.count()).__next__)
    with pytest.raises(KeyError), timer.step(), timer.phase("forward"):
        raise KeyError("the user's")
    assert timer.seconds() == ()
    with timer.step():  # 2 to 3
        pass
    assert timer.seconds() == (1.0,)
    assert timer.seconds("forward") == ()
