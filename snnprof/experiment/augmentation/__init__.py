"""Augmentation of training batches: on their device, image by image, from a seed.

An :class:`Augmentation` is a list of steps by name (:data:`STEPS`), each with its strengths.
Nothing is drawn from torch's generators: what is drawn comes from one generator of its own, on the
CPU, so that every device sees the same, and a training that is resumed goes on where it was. Which
part of a file is read follows from a seed that comes with the order of the samples, and its index,
whichever process reads it.
"""

from snnprof.experiment.augmentation.augmentation import Augmentation
from snnprof.experiment.augmentation.augmented_data import AugmentedData, augmented
from snnprof.experiment.augmentation.auto_augment import AutoAugment
from snnprof.experiment.augmentation.mixing import CutMix, Mixup, MixupOrCutMix
from snnprof.experiment.augmentation.picture import save_batch_picture
from snnprof.experiment.augmentation.placing import Cutout, Flip, RandomCrop, Roll, Rotate
from snnprof.experiment.augmentation.reading import RandomResizedCrop
from snnprof.experiment.augmentation.step import STEPS, Draws, Step

__all__ = [
    "STEPS",
    "Augmentation",
    "AugmentedData",
    "AutoAugment",
    "CutMix",
    "Cutout",
    "Draws",
    "Flip",
    "Mixup",
    "MixupOrCutMix",
    "RandomCrop",
    "RandomResizedCrop",
    "Roll",
    "Rotate",
    "Step",
    "augmented",
    "save_batch_picture",
]
