"""Image sets and photographs: what is on disk, as arrays.

`pictures` decodes every file and says what is looked at in a folder; `classes` leads from what a person writes to a
class; `sets` reads whole sets (CIFAR-10, Imagenette, folders) for training and benchmarks, `generated` makes some;
`photographs` reads single pictures for explaining.
"""

from evomask.data.classes import (
    CIFAR10_LABELS,
    IMAGENET_LABELS,
    IMAGENET_WNIDS,
    class_index,
    class_indices,
    class_names,
)
from evomask.data.generated import PLANTED_LABELS, SHAPES, planted, planted_evidence, scenes
from evomask.data.pictures import DataError, ImageError, decode
from evomask.data.sets import CIFAR10_ARCHIVE, TEST_FOLDERS, Dataset, digits, load, samples

__all__ = [
    "CIFAR10_ARCHIVE",
    "CIFAR10_LABELS",
    "IMAGENET_LABELS",
    "IMAGENET_WNIDS",
    "PLANTED_LABELS",
    "SHAPES",
    "TEST_FOLDERS",
    "DataError",
    "Dataset",
    "ImageError",
    "class_index",
    "class_indices",
    "class_names",
    "decode",
    "digits",
    "load",
    "planted",
    "planted_evidence",
    "samples",
    "scenes",
]
