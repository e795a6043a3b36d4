"""Phases of a step, with an injected clock."""

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
    assert timer.seconds("optimizer") == (0.0, 0.0)


def test_phases_outside_a_step_are_not_timed() -> None:
    timer = PhaseTimer(CPU, clock=iter(()).__next__)
    with timer.phase("forward"):
        pass
    assert timer.seconds() == timer.seconds("forward") == ()
