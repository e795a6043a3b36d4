"""Data sets by name: where they lie, how their files are read, and what is done to the pixels.

A data set is one function, from (image size or None, seed) to a
:class:`~snnprof.experiment.data.Data`; those that lie on disk take ``data_dir`` too, those with
time steps of their own ``timesteps``, and those that are streamed ``loading``.
"""

from snnprof.experiment.data_sets.cifar import cifar10, cifar100
from snnprof.experiment.data_sets.event_frames import dvs128_gesture, dvs_cifar10
from snnprof.experiment.data_sets.imagenet import imagenet, imagenet200
from snnprof.experiment.data_sets.in_memory import Dataset, digits, random
from snnprof.experiment.data_sets.registry import DATA_SETS, find_data_set, load

__all__ = [
    "DATA_SETS",
    "Dataset",
    "cifar10",
    "cifar100",
    "digits",
    "dvs128_gesture",
    "dvs_cifar10",
    "find_data_set",
    "imagenet",
    "imagenet200",
    "load",
    "random",
]
