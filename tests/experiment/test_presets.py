"""Presets: what they say, what a file of one's own may say, and how mistakes are named."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

import snnprof
from snnprof.experiment.augmentation import STEPS
from snnprof.experiment.augmentation.step import make_step
from snnprof.experiment.configuration import Configuration, configure
from snnprof.experiment.configuration_keys import KEYS
from snnprof.experiment.data_sets import DATA_SETS
from snnprof.experiment.presets import find_preset, preset_names


def of(preset: str, **given: object) -> Configuration:
    return configure(find_preset(preset), given, "given")


def own(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text)
    return str(file)


def test_the_six_presets() -> None:
    assert preset_names() == [
        "cifar10", "cifar100", "digits", "dvs-cifar10", "imagenet1k", "imagenet200",
    ]  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_every_value_of_a_preset_has_a_source(name: str) -> None:
    preset = find_preset(name)
    assert preset.values.keys() == preset.sources.keys()
    assert all(preset.sources.values())


def test_the_papers_values() -> None:
    """The supplement: 0.025, 0, 256 for ImageNet-1k; 0.01, 5e-4, 64 for the others; 300 epochs."""
    keys = ("learning_rate", "weight_decay", "batch_size", "epochs", "momentum", "nesterov")
    for name in set(preset_names()) - {"digits"}:
        expected = (0.025, 0, 256) if name == "imagenet1k" else (0.01, 5e-4, 64)
        values = of(name).values
        assert tuple(values[key] for key in keys) == (*expected, 300, 0.9, True)
        assert values["timesteps"] == (10 if name == "dvs-cifar10" else 4)


# paper-facts.md: "SGD momentum 0.9, Nesterov"; "cosine annealing"; "Online: zero_grad, backward and
# step at every time step"; "label smoothing 0.1 and a 5-epoch linear warm-up may be an edit of that
# copy"; "mixup alpha 0.8 and CutMix alpha 1.0, switched with probability 0.5"; its smoothing of 0.1
# is that of the labels here, so 0 in the step. Cutout by its authors: 16 on CIFAR-10, 8 on -100.
MIXED = {"step": "mixup-or-cutmix", "mixup": 0.8, "cutmix": 1.0, "switch": 0.5, "smoothing": 0.0}
FLIP, RANDOM_PART = {"step": "flip"}, {"step": "random-resized-crop"}
OF_CIFAR = {"step": "auto-augment", "policy": "cifar10"}
OF_IMAGENET = {"step": "auto-augment", "policy": "imagenet"}


def crop(padding: int) -> dict[str, object]:
    return {"step": "random-crop", "padding": padding}


def cutout(size: int) -> dict[str, object]:
    return {"step": "cutout", "size": size}


AUGMENTATIONS = {
    "digits": [],
    "cifar10": [crop(4), FLIP, OF_CIFAR, cutout(16), MIXED],
    "cifar100": [crop(4), FLIP, OF_CIFAR, cutout(8), MIXED],
    "imagenet200": [crop(8), FLIP, OF_IMAGENET, cutout(16), MIXED],
    "imagenet1k": [RANDOM_PART, FLIP, OF_IMAGENET, MIXED],
    "dvs-cifar10": [FLIP, {"step": "roll", "shift": 5}, {"step": "rotate", "degrees": 15.0}],
}
OF_PRESETS = {
    "digits": ("vgg5", "lif", "fp32", "online", "digits", None, 0, 0.0),
    "cifar10": ("resnet18", "hdlif", "1bit", "online-step", "cifar10", 32, 5, 0.1),
    "cifar100": ("resnet18", "hdlif", "1.5bit", "online-step", "cifar100", 32, 5, 0.1),
    "imagenet200": ("resnet18", "hdlif", "1bit", "online-step", "imagenet200", 64, 5, 0.1),
    "imagenet1k": ("resnet34", "hdlif", "1.5bit", "online-step", "imagenet", 224, 5, 0.1),
    "dvs-cifar10": ("vgg_dvs", "hdlif", "1bit", "online-step", "dvs-cifar10", 48, 5, 0.0),
}


@pytest.mark.parametrize("name", preset_names())
def test_every_other_value_by_hand(name: str) -> None:
    values = of(name).values
    keys = (
        "model", "neuron", "weights", "mode", "data", "image_size", "warmup_epochs",
        "label_smoothing",
    )  # fmt: skip
    assert tuple(values[key] for key in keys) == OF_PRESETS[name]
    assert (values["optimizer"], values["schedule"], values["loss"]) == ("sgd", "cosine", "sum")
    assert values["augmentation"] == AUGMENTATIONS[name]


def test_sources_claim_no_more_than_the_supplement_says() -> None:
    """It names ImageNet-1k, and no other data set, network, T or mode."""
    for name in preset_names():
        sources = find_preset(name).sources
        for key in sources.keys() & {"model", "neuron", "timesteps", "mode", "image_size", "loss"}:
            assert "supplement:" not in sources[key], (name, key)
        assert ("supplement: ImageNet-1k" in sources["data"]) == (name == "imagenet1k")
    assert find_preset("imagenet200").sources["model"].startswith("open: ")
    assert "16, as for cifar10, is open" in find_preset("imagenet200").sources["augmentation"]


@pytest.mark.parametrize("name", preset_names())
def test_other_data_state_their_network_anew(name: str) -> None:
    """The source of a network is of one data set; that of CIFAR-10 and CIFAR-100 is one."""
    preset = find_preset(name)
    assert preset.origins["data"] == f"preset {name}"
    if name != "cifar100":
        assert preset.origins["model"] == f"preset {name}"


def test_the_papers_mode_can_be_overridden_and_lif_is_told_its_weights() -> None:
    assert of("cifar10", mode="online").values["mode"] == "online"
    assert of("cifar10").origins["mode"] == "preset cifar10"
    lif = of("cifar10", neuron="lif")
    assert lif.values["weights"] == "1bit"
    assert "rows of LIF are fp32" in lif.sources["weights"]
    said = "Weights 1bit are the preset's, whose neuron was replaced: supplement: 1 bit of HD-LIF"
    assert said in lif.words
    for other in (of("cifar10"), of("cifar10", neuron="lif", weights="fp32"), of("digits")):
        assert "whose neuron was replaced" not in other.words


@pytest.mark.parametrize("name", preset_names())
def test_the_page_says_what_the_preset_says(name: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    (line,) = [x for x in page.read_text().splitlines() if x.startswith(f"| `{name}` |")]
    _, _, network, weights, timesteps, epochs, batch, rate, decay, mode, *_ = line.split("|")
    values = of(name).values
    neuron = {"lif": "LIF", "hdlif": "HD-LIF"}[values["neuron"]]
    assert network.strip() == f"{values['model']}, {neuron}"
    assert weights.replace(" ", "") == values["weights"]
    assert [int(cell) for cell in (timesteps, epochs, batch)] == [
        values[key] for key in ("timesteps", "epochs", "batch_size")
    ]
    assert [float(rate), float(decay)] == [values["learning_rate"], values["weight_decay"]]
    assert mode.strip() == f"`{values['mode']}`"


@pytest.mark.parametrize("name", preset_names())
def test_every_step_of_an_augmentation_is_known_and_none_smooths(name: str) -> None:
    """Auto-Augment needs kornia, and is looked up alone."""
    for given in of(name).values["augmentation"]:
        kind = STEPS.find(given["step"])
        if given["step"] != "auto-augment":
            assert getattr(make_step(given), "smoothing", 0) == 0
        assert {f.name for f in dataclasses.fields(kind)} >= given.keys() - {"step"}
    assert of(name).values["data"] in DATA_SETS


def test_digits_is_what_run_does_where_nothing_is_said() -> None:
    preset = find_preset("digits")
    for key, value in preset.values.items():
        usual = KEYS[key].default
        assert usual is None or type(value)(usual) == value, key


def test_what_is_given_comes_first_and_origins_say_who_gave_it() -> None:
    found = of("cifar100", epochs=3, neuron="lif")
    assert (found.values["epochs"], found.origins["epochs"]) == (3, "given")
    assert (found.values["data"], found.origins["data"]) == ("cifar100", "preset cifar100")
    assert (found.values["learning_rate"], found.origins["learning_rate"]) == (
        0.01, "preset cifar10",
    )  # fmt: skip
    assert (found.values["momentum"], found.origins["momentum"]) == (0.9, "preset digits")
    assert (found.values["seed"], found.origins["seed"]) == (0, "default")
    assert "epochs" not in found.sources
    assert found.sources["learning_rate"] == "supplement: 0.01"


def test_a_configuration_as_toml_is_a_preset_again(tmp_path: Path) -> None:
    found = of("imagenet1k", seed=7, variants=["leak=0.9"])
    again = configure(find_preset(own(tmp_path, found.to_toml())), {}, "given")
    assert again.plain == found.plain
    assert tomllib.loads(found.to_toml()) == found.plain


def test_a_file_of_ones_own_stands_on_a_preset_or_on_another_file(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('base = "cifar10"\nseed = 5\n')
    found = find_preset(own(tmp_path, 'base = "base.toml"\nepochs = 20\n'))
    assert found.values["epochs"] == 20
    assert found.values["seed"] == 5
    assert found.values["data"] == "cifar10"
    assert "epochs" not in found.sources  # the supplement's 300 is not its source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"mine.toml: unknown key 'epoch'; did you mean 'epochs'\?"),
        ("zzz = 3", "unknown key 'zzz'; known: model, neuron"),
        ("epochs = 1.5", r"mine.toml: epochs = 1.5: must be a whole number"),
        ("epochs = true", "epochs = True: must be a whole number"),
        ('learning_rate = "fast"', "learning_rate = 'fast': must be a number"),
        ("nesterov = 1", "nesterov = 1: must be true or false"),
        (
            'augmentation = "flip"',
            "'flip': must be a list of names, or of tables with a step",
        ),
        ('base = "cifar"', "unknown preset 'cifar'; known: cifar10, cifar100, digits"),
        ("base = 3", "base = 3: must be the name of a preset"),
        ('base = "mine.toml"', "its bases lead back to"),
        ("epochs = ", "preset '.*mine.toml': "),
        ("[sources]\nepoch = 'x'", "unknown key 'epoch'"),
        ("[sources]\nepochs = 3", "must be a sentence"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(snnprof.SnnprofError, match=message):
        find_preset(own(tmp_path, text))


def test_what_is_given_wrongly_is_named() -> None:
    with pytest.raises(snnprof.SnnprofError, match="unknown preset 'cifar9'; known: cifar10"):
        find_preset("cifar9")
    with pytest.raises(snnprof.SnnprofError, match=r"preset 'not-there.toml': No such file"):
        find_preset("not-there.toml")
    with pytest.raises(snnprof.SnnprofError, match=r"given: unknown key 'batchsize'; did you"):
        of("digits", batchsize=3)


def test_an_optimizer_of_ones_own_has_its_own_learning_rate() -> None:
    found = of("digits", optimizer="mine:adam")
    assert found.values["learning_rate"] is None
    assert found.values["schedule"] is None  # the cosine is of our SGD
    assert of("cifar10", optimizer="mine:adam", schedule="mine:steps").values["schedule"]
    with pytest.raises(snnprof.SnnprofError, match="schedule=cosine would be ignored: optimizer"):
        of("digits", optimizer="mine:adam", schedule="cosine")
    with pytest.raises(snnprof.SnnprofError, match=r"weight_decay=0\.1 would be ignored"):
        of("digits", optimizer="mine:adam", weight_decay=0.1)
    with pytest.raises(snnprof.SnnprofError, match="warmup_epochs=2 would be ignored"):
        of("digits", schedule="mine:steps", warmup_epochs=2)
