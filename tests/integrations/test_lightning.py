"""The callback in Lightning's own trainer."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import snnprof

from ..peers.library import library
from .networks import ENERGY_J, FIRING_RATE, SYNOPS, hooks_on, images, labels, network

pl = library("lightning.pytorch")
from snnprof.integrations.lightning import SopCallback  # noqa: E402

LOGGED = {
    "synops": SYNOPS,
    "firing_rate": FIRING_RATE,
    "energy_j": pytest.approx(ENERGY_J, rel=1e-6, abs=0),  # the log is of float32
}


def loader(count: int = 10, batch: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(images(count), labels(count)), batch)


class Classifier(pl.LightningModule):  # type: ignore[misc,name-defined]
    """One linear layer, called through the LightningModule or not."""

    def __init__(self, through: str = "self") -> None:
        super().__init__()
        self.net = network()
        self._through = through

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy((self if self._through == "self" else self.net)(x), y)

    def training_step(self, batch: Any, number: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, number: int) -> None:
        self.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, *callbacks: Any, package: Any = pl, **options: Any) -> Any:
    options = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, **options}
    return package.Trainer(
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def logged(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in metrics.items() if name in LOGGED}


@pytest.mark.parametrize("through", ["self", "net"])
def test_every_validation_is_counted_and_logged(through: str, tmp_path: Path) -> None:
    callback, model, seen = SopCallback(), Classifier(through), []

    class Watch(pl.Callback):  # type: ignore[misc,name-defined]
        def on_validation_end(self, trainer: Any, module: Any) -> None:
            seen.append((trainer.sanity_checking, logged(trainer.callback_metrics)))
            assert hooks_on(module) == 0
            assert (callback.counts is None) == trainer.sanity_checking

    trainer(tmp_path, callback, Watch()).fit(model, loader(), loader())
    # The sanity check, then two epochs.
    assert seen == [(True, {}), (False, LOGGED), (False, LOGGED)]
    assert callback.counts is not None and callback.counts.samples == 10
    assert callback.energy.total_j == pytest.approx(ENERGY_J, rel=1e-12, abs=0)
    assert hooks_on(model) == 0


def test_the_counts_are_those_of_our_counter(tmp_path: Path) -> None:
    callback, model = SopCallback(), Classifier()
    trainer(tmp_path, callback).validate(model, loader(), verbose=False)
    with snnprof.SopCounter(model) as sops, torch.no_grad():
        for x, _ in loader():
            model(x)
    assert callback.counts == sops.result()


def test_test_and_several_loaders(tmp_path: Path) -> None:
    callback = SopCallback(prefix="snn/", energy="spikformer")
    used = trainer(tmp_path, callback)
    used.test(Classifier(), loader(), verbose=False)
    assert used.callback_metrics["snn/synops"] == SYNOPS
    # spikformer: the rate times 4 * 3 nominal MACs, 0.9 pJ each
    assert used.callback_metrics["snn/energy_j"] == pytest.approx(
        0.5 * 12 * 0.9e-12, rel=1e-6, abs=0
    )
    (results,) = trainer(tmp_path, SopCallback()).test(Classifier(), loader(), verbose=False)
    assert results == LOGGED

    class Two(Classifier):
        def validation_step(self, batch: Any, number: int, dataloader_idx: int = 0) -> None:
            self.loss(batch)

    callback = SopCallback()
    trainer(tmp_path, callback).validate(Two(), [loader(10), loader(3)], verbose=False)
    assert callback.counts.samples == 13


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_a_failure_nothing_is_left_on_the_network(error: Any, tmp_path: Path) -> None:
    class Failing(Classifier):
        def validation_step(self, batch: Any, number: int) -> None:
            assert hooks_on(self) > 0
            raise error

    model = Failing()
    with pytest.raises((error, SystemExit)):
        trainer(tmp_path, SopCallback(), num_sanity_val_steps=0).fit(model, loader(), loader())
    assert hooks_on(model) == 0


def test_a_wrong_layout_is_a_warning_and_the_training_goes_on(tmp_path: Path) -> None:
    class Stepwise(Classifier):
        def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            x, y = batch
            return F.cross_entropy(sum(self.net(x) for _ in range(4)), y)

    used = trainer(tmp_path, SopCallback())
    with pytest.warns(RuntimeWarning, match="40 samples were counted, 10 were expected: "):
        used.fit(Stepwise(), loader(), loader())
    assert used.state.finished and not logged(used.callback_metrics)
    right = trainer(tmp_path, SopCallback(timesteps=4))
    right.fit(Stepwise(), loader(), loader())
    assert right.callback_metrics["synops"] == 4 * SYNOPS


def test_an_input_that_cannot_be_read_is_found_in_the_sanity_check(tmp_path: Path) -> None:
    model = Classifier()
    before = model.net[1].weight.clone()
    with pytest.raises(snnprof.SnnprofError, match="batch_dim=2, but the model's input has shape"):
        trainer(tmp_path, SopCallback(batch_dim=2)).fit(model, loader(), loader())
    assert torch.equal(model.net[1].weight, before) and hooks_on(model) == 0


def test_a_network_is_named_where_there_are_several(tmp_path: Path) -> None:
    class Two(Classifier):
        def __init__(self) -> None:
            super().__init__("net")
            self.head = nn.Linear(3, 3)

    with pytest.warns(RuntimeWarning, match="the network was never called"):
        trainer(tmp_path, SopCallback()).validate(Two(), loader(), verbose=False)
    callback = SopCallback("net")
    trainer(tmp_path, callback).validate(Two(), loader(), verbose=False)
    assert callback.counts.samples == 10
    model = Two()
    callback = SopCallback(model.net)
    trainer(tmp_path, callback).validate(model, loader(), verbose=False)
    assert callback.counts.samples == 10
    with pytest.raises(snnprof.SnnprofError, match="Two has no module of that name; it has net, h"):
        trainer(tmp_path, SopCallback("nett")).fit(Two(), loader(), loader())


def test_the_step_is_timed_by_the_clock_alone(tmp_path: Path) -> None:
    ticks = iter(float(n * n) for n in range(100))
    callback = SopCallback(step=True, clock=lambda: next(ticks))
    used = trainer(tmp_path, callback, max_epochs=1, num_sanity_val_steps=0)
    with pytest.warns(RuntimeWarning, match="peak_bytes is not logged: .* on a GPU only"):
        used.fit(Classifier(), loader(), loader())
    # Three steps, from 0 to 1, 4 to 9, 16 to 25: 1, 5, 9
    assert used.callback_metrics["step_s"] == 5
    assert "peak_bytes" not in used.callback_metrics


def test_a_gpu_is_waited_for_and_its_peak_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a GPU that is not there: what is asked of it, in order."""
    asked, ticks, found = [], iter((0.0, 2.0, 5.0, 6.0)), {}
    for name in ("synchronize", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name: asked.append(name) or 7)
    on_gpu = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    module = SimpleNamespace(log=lambda name, value, **how: found.update({name: (value, how)}))
    callback = SopCallback(step=True, clock=lambda: next(ticks), prefix="gpu/")
    callback.on_train_epoch_start(on_gpu, module)
    for number in range(2):
        callback.on_train_batch_start(on_gpu, module, None, number)
        callback.on_train_batch_end(on_gpu, module, None, None, number)
    callback.on_train_epoch_end(on_gpu, module)
    assert asked == ["reset_peak_memory_stats", *["synchronize"] * 4, "max_memory_allocated"]
    assert found == {
        "gpu/step_s": (1.5, {"sync_dist": True}),  # between 2 and 1 seconds
        "gpu/peak_bytes": (7.0, {"sync_dist": True, "reduce_fx": "max"}),
    }


def test_the_other_name_of_lightning(tmp_path: Path) -> None:
    other = library("pytorch_lightning")

    class Other(other.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def test_step(self, batch: Any, number: int) -> None:
            self.net(batch[0])

    used = trainer(tmp_path, SopCallback(), package=other)
    used.test(Other(), loader(), verbose=False)
    assert logged(used.callback_metrics) == LOGGED


@pytest.mark.parametrize("through", ["self", "net"])
def test_two_processes_log_what_both_counted(through: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, on samplers and workers
        warnings.filterwarnings("error", message="SOPs of this evaluation")
        for run in ("test", "fit"):  # in a fit, validation goes through DistributedDataParallel
            used = trainer(tmp_path, SopCallback(), devices=2, strategy="ddp_fork")
            loaders = (loader(),) if run == "test" else (loader(), loader())
            getattr(used, run)(Classifier(through), *loaders)
            assert logged(used.callback_metrics) == LOGGED
