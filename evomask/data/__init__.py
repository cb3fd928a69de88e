"""Image sets and photographs: what is on disk, as arrays.

`sets` reads whole sets (CIFAR-10, Imagenette, folders) for training and benchmarks, `photographs` single pictures for
explaining.
"""

from evomask.data.sets import (
    CIFAR10_ARCHIVE,
    CIFAR10_LABELS,
    IMAGENET_WNIDS,
    PLANTED_LABELS,
    TEST_FOLDERS,
    DataError,
    Dataset,
    class_names,
    decode,
    digits,
    load,
    planted,
    planted_evidence,
    samples,
)

__all__ = [
    "CIFAR10_ARCHIVE",
    "CIFAR10_LABELS",
    "IMAGENET_WNIDS",
    "TEST_FOLDERS",
    "PLANTED_LABELS",
    "DataError",
    "Dataset",
    "class_names",
    "decode",
    "digits",
    "load",
    "planted",
    "planted_evidence",
    "samples",
]
