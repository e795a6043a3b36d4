"""What a row is: alike but for a name, and what tells rows apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from snnprof.results import ReportRow, StepProfile
from snnprof.results.identity import (
    conditions_apart,
    differing_parts,
    identity,
    likeness,
    may_be_of_one_data,
    told_apart,
)

STEP = StepProfile("stbp", "cpu", 8, 4, (), (), (), (0.1,), 1000, None, 400, 600, 1, 1)
ROW = ReportRow(
    "vgg5", "lif", "fp32", "stbp", 4, profile=STEP, seed=0, data="digits", image_size=8,
    loss_name="sum", layout="step", execution="bf16", checkpoint="w.pt", epochs=3, optimizer="SGD",
    environment={"torch": "2.13"}, more={"schedule": "cosine", "lr": 0.1},
)  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "model": {"model": "vgg11"},
    "neuron": {"neuron": "hdlif"},
    "weights": {"weights": "1bit"},
    "mode": {"mode": "online"},
    "timesteps": {"timesteps": 8},
    "seed": {"seed": 1},
    "data": {"data": "cifar10"},
    "image_size": {"image_size": 16},
    "loss": {"loss_name": "step"},
    "layout": {"layout": "inside"},
    "batch": {"profile": replace(STEP, batch_size=16)},
    "epochs": {"epochs": 4},
    "optimizer": {"optimizer": "SGD (learning rate 0.01)"},
    "execution": {"execution": ""},
    "checkpoint": {"checkpoint": "v.pt"},
    "baseline_of": {"baseline_of": "vgg5"},
    "device": {"profile": replace(STEP, device="cuda")},
    "environment": {"environment": {"torch": "2.14"}},
    "own": {"more": {"schedule": "linear"}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_name_tells_rows_apart_and_can_be_left_out(name: str) -> None:
    other = replace(ROW, **OTHERS[name])
    assert likeness(ROW) != likeness(other)
    assert likeness(ROW, name) == likeness(other, name)
    but = next(each for each in OTHERS if each != name)
    assert likeness(ROW, but) != likeness(other, but)


def test_all_names_are_tried() -> None:
    names = {name.partition(" ")[0] for name in identity(replace(ROW, baseline_of="x"))}
    assert names == set(OTHERS)


def test_figures_are_no_part_of_it() -> None:
    measured = replace(
        ROW, accuracy=0.5, failure="out of memory", more={"schedule": "cosine", "lr": 0.2}
    )
    assert likeness(ROW) == likeness(measured)


def test_files_named_by_the_seed_are_alike_but_for_it() -> None:
    rows = [replace(ROW, seed=n, checkpoint=f"w/vgg5-T4-seed{n}.pt") for n in (0, 17)]
    assert likeness(rows[0], "seed") == likeness(rows[1], "seed")
    assert likeness(rows[0], "epochs") != likeness(rows[1], "epochs")
    linseed = [replace(ROW, checkpoint=f"linseed{n}.pt") for n in (0, 1)]
    assert likeness(linseed[0], "seed") != likeness(linseed[1], "seed")


def test_words_of_what_differs() -> None:
    other = replace(ROW, timesteps=8, checkpoint=None, loss_name="step")
    assert told_apart([ROW, other]) == ["T = 4", "T = 8"]  # which is enough
    assert told_apart([ROW, other], "timesteps") == ["loss sum, from w.pt", "loss step"]
    assert told_apart([ROW, other], "timesteps", "checkpoint") == ["loss sum", "loss step"]
    online = replace(ROW, mode="online", loss_name="step")
    third = replace(ROW, image_size=16)
    names = ["stbp, 8 pixels", "online", "stbp, 16 pixels"]
    assert told_apart([ROW, online, third]) == names
    assert conditions_apart([ROW, online, third]) == ["8 pixels", "", "16 pixels"]
    assert told_apart([ROW, ROW]) == ["", ""]


def test_what_is_not_said_of_data_may_be_alike() -> None:
    unsaid = replace(ROW, data=None)
    assert may_be_of_one_data(ROW, unsaid)
    assert not may_be_of_one_data(ROW, replace(ROW, data="cifar10"))
    assert not may_be_of_one_data(unsaid, replace(unsaid, image_size=16))


def test_of_what_trained_rows_the_parts_that_differ() -> None:
    texts = [f"SGD (learning rate {rate}, momentum 0.9), cosine annealing" for rate in (0.1, 0.01)]
    assert differing_parts(texts) == ["learning rate 0.1", "learning rate 0.01"]
    assert differing_parts(["Adam, no schedule", texts[0]]) == [
        "Adam, no schedule",
        "SGD, learning rate 0.1, momentum 0.9, cosine annealing",
    ]
    rows = [replace(ROW, optimizer=text) for text in texts]
    assert told_apart(rows) == ["learning rate 0.1", "learning rate 0.01"]
