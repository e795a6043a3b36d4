"""The callback in transformers' own Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..peers.library import library
from .networks import ENERGY_J, FIRING_RATE, SYNOPS, hooks_on, images, labels, network

transformers = library("transformers")
library("accelerate")
from snnprof.integrations.huggingface import SopCallback  # noqa: E402

FIGURES = {
    "synops": SYNOPS,
    "firing_rate": FIRING_RATE,
    "energy_j": pytest.approx(ENERGY_J, rel=1e-12, abs=0),
}


class Classifier(nn.Module):
    """A loss and logits from x and labels, as the Trainer has it."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.net = network()
        self.times = times

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = sum(self.net(x) for _ in range(self.times))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def examples(count: int) -> list[dict[str, Tensor]]:
    pairs = zip(images(count), labels(count), strict=True)
    return [{"x": x, "labels": y} for x, y in pairs]


def trainer(folder: Path, model: nn.Module, *callbacks: Any, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        num_train_epochs=2,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    return transformers.Trainer(
        model,
        arguments,
        train_dataset=examples(8),
        eval_dataset=examples(10),
        callbacks=list(callbacks),
    )


def figures(metrics: dict[str, Any], prefix: str = "eval") -> dict[str, float]:
    names = {f"{prefix}_{name}": name for name in FIGURES}
    return {names[name]: value for name, value in metrics.items() if name in names}


def test_every_evaluation_in_training_is_in_the_logs(tmp_path: Path) -> None:
    seen = []

    class Reporter(transformers.TrainerCallback):  # type: ignore[misc,name-defined]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append(figures(logs))

    callback, model = SopCallback(), Classifier()
    used = trainer(tmp_path, model, Reporter(), callback)  # a reporter that stands before ours
    used.train()
    history = [figures(entry) for entry in used.state.log_history if "eval_loss" in entry]
    assert history == [FIGURES, FIGURES]
    assert [entry for entry in seen if entry] == [FIGURES, FIGURES]
    assert callback.counts is not None and callback.counts.samples == 10
    assert callback.energy.total_j == pytest.approx(ENERGY_J, rel=1e-12, abs=0)
    assert hooks_on(model) == 0


def test_evaluate_and_predict_outside_training(tmp_path: Path) -> None:
    model = Classifier()
    used = trainer(tmp_path, model, SopCallback(energy="spikformer"))
    found = used.evaluate()
    # spikformer: half of 4 * 3 nominal MACs, 0.9 pJ each; here that is 6 as well
    assert figures(found) == FIGURES
    assert figures(used.evaluate(metric_key_prefix="val"), "val") == FIGURES
    assert figures(used.predict(examples(3)).metrics, "test") == FIGURES
    assert hooks_on(model) == 0


def test_added_to_a_trainer_that_is_made_already(tmp_path: Path) -> None:
    used = trainer(tmp_path, Classifier())
    used.add_callback(SopCallback(trainer=used))
    assert figures(used.evaluate()) == FIGURES

    forgotten = trainer(tmp_path, Classifier())
    forgotten.add_callback(SopCallback())
    with pytest.warns(RuntimeWarning, match=r"add_callback\(SopCallback\(trainer=trainer\)\)"):
        assert figures(forgotten.evaluate()) == {}
    forgotten.train()  # a training is met, and followed from then on
    assert figures(forgotten.evaluate()) == FIGURES


def test_one_callback_in_two_trainers(tmp_path: Path) -> None:
    callback = SopCallback()
    first, second = (trainer(tmp_path, Classifier(times), callback) for times in (1, 2))
    assert figures(second.evaluate())["synops"] == 2 * SYNOPS
    assert figures(first.evaluate()) == FIGURES


def test_sops_may_choose_the_best_model(tmp_path: Path) -> None:
    options = {"metric_for_best_model": "eval_synops", "greater_is_better": False}
    used = trainer(tmp_path, Classifier(), SopCallback(), **options)
    used.args.save_strategy = transformers.trainer_utils.SaveStrategy.BEST
    used.train()
    assert used.state.best_metric == SYNOPS


def test_a_failing_evaluation_leaves_nothing_on_the_network(tmp_path: Path) -> None:
    model = Classifier()
    used = trainer(tmp_path, model, SopCallback())
    used.compute_metrics = lambda outputs: 1 / 0
    with pytest.raises(ZeroDivisionError):
        used.evaluate()
    assert hooks_on(model) == 0
    used.compute_metrics = None
    assert figures(used.evaluate()) == FIGURES


def test_a_wrong_layout_is_a_warning(tmp_path: Path) -> None:
    used = trainer(tmp_path, Classifier(times=4), SopCallback("net"))
    with pytest.warns(RuntimeWarning, match="40 samples were counted, 10 were expected: "):
        assert figures(used.evaluate()) == {}
    right = trainer(tmp_path, Classifier(times=4), SopCallback("net", timesteps=4))
    assert figures(right.evaluate())["synops"] == 4 * SYNOPS


def test_an_input_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    model = Classifier()
    used = trainer(tmp_path, model, SopCallback(batch_dim=2))
    with pytest.warns(RuntimeWarning, match="batch_dim=2, but the model's input has shape"):
        used.evaluate()
    assert hooks_on(model) == 0


def test_weights_are_as_without_us(tmp_path: Path) -> None:
    with_us, without = Classifier(), Classifier()
    for model, callbacks in ((with_us, [SopCallback()]), (without, [])):
        torch.manual_seed(0)
        trainer(tmp_path, model, *callbacks).train()
    for found, expected in zip(with_us.parameters(), without.parameters(), strict=True):
        assert torch.equal(found, expected)
