"""Keys of a training's configuration: what each may be, and what it is where nobody says."""

from __future__ import annotations

from dataclasses import dataclass

from snnprof.core.errors import SnnprofError
from snnprof.core.type_words import IN_WORDS
from snnprof.experiment.settings import BATCH_SIZE, EPOCHS, LEARNING_RATE, NEURON, WEIGHTS
from snnprof.experiment.trainer import Recipe
from snnprof.training.layouts import AUTO

SGD, COSINE = "sgd", "cosine"


@dataclass(frozen=True)
class Key:
    """A value that can be set.

    Attributes:
        kind: str, int, float, bool or list.
        help: for the command line.
        default: None where it is left to what is run.
        code: may be ``package.module:function``, or a function in Python.
        alters: whether it alters what is trained: a training that is taken up again has it alike.
    """

    kind: type
    help: str
    default: object = None
    code: bool = False
    alters: bool = True


KEYS: dict[str, Key] = {
    "model": Key(str, "A network of ours, or package.module:function.", "vgg5", code=True),
    "neuron": Key(str, "A neuron, variants joined with +.", NEURON),
    "weights": Key(str, "fp32, 1bit or 1.5bit.", WEIGHTS),
    "variants": Key(list, "NAME[=VALUE] of every neuron, or of the network; repeat it.", ()),
    "mode": Key(str, "Training mode.", "online"),
    "timesteps": Key(int, "T.", 4),
    "layout": Key(str, "How the network takes its time steps.", AUTO),
    "loss": Key(str, "sum, step, tet, ottt, mse, or package.module:function.", code=True),
    "metric": Key(str, "accuracy, none, or package.module:function.", code=True),
    "data": Key(str, "A data set, or package.module:function.", "digits", code=True),
    "data_dir": Key(str, "Folder that holds the data set.", alters=False),
    "image_size": Key(int, "Pixels; the data's own where left out."),
    "augmentation": Key(list, "STEP[:STRENGTH=VALUE,...], in order; repeat it; none for none.", ()),
    "label_smoothing": Key(float, "Share of a label that goes to all classes alike.", 0.0),
    "epochs": Key(int, "Passes over the training samples.", EPOCHS),
    "steps": Key(int, "Training steps of an epoch, for a loader without a length."),
    "batch_size": Key(int, "Samples of a training step.", BATCH_SIZE),
    "optimizer": Key(str, "sgd, or package.module:function.", SGD, code=True),
    "learning_rate": Key(float, "Of SGD, the highest.", LEARNING_RATE),
    "momentum": Key(float, "Of SGD.", Recipe.momentum),
    "nesterov": Key(bool, "Nesterov momentum.", Recipe.nesterov),
    "weight_decay": Key(float, "Of SGD.", Recipe.weight_decay),
    "schedule": Key(str, "cosine, or package.module:function.", COSINE, code=True),
    "warmup_epochs": Key(int, "Epochs of linear warm-up before the cosine.", 0),
    "seed": Key(int, "Of weights, batches, augmentation and all else that is drawn.", 0),
    "amp": Key(str, "Mixed precision: bf16 or fp16."),
    "compile": Key(bool, "Training steps through torch.compile.", False),
    "channels_last": Key(bool, "Weights and images in that memory format.", False),
    "sync_bn": Key(bool, "Batch norms over all processes, under torchrun.", False),
    "fsdp": Key(bool, "Parameters divided among processes, under torchrun.", False, alters=False),
    "strict": Key(bool, "NaN or infinity in a layer's input ends the training.", False),
    "energy": Key(list, "Energy convention; repeat it.", ("operands",), alters=False),
    "device": Key(str, "auto, cpu or cuda.", "auto", alters=False),
    "workers": Key(int, "Processes that load data.", 0, alters=False),
    "checkpoint": Key(str, "File with weights to start from."),
}


def check_value(where: str, key: str, value: object) -> None:
    """Raise SnnprofError for a value of another type than the key has; 1 is a number, True none."""
    kind = KEYS[key].kind
    if kind is list:
        _check_list(where, key, value)
        return
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:
        raise SnnprofError(f"{where}: {key} = {value!r}: must be {IN_WORDS[kind]}")


def _check_list(where: str, key: str, value: object) -> None:
    entries = (str, dict) if key == "augmentation" else (str,)
    whole = isinstance(value, list | tuple) and all(isinstance(v, entries) for v in value)
    if not whole:
        also = ", or of tables with a step" if dict in entries else ""
        raise SnnprofError(f"{where}: {key} = {value!r}: must be a list of names{also}")
