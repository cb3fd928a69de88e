"""The images of a benchmark: where they come from (`conf/data/`), and which of them are explained.

A source is a function `(shape, crop, ...)` -> `Source`; nothing of it is decoded before it is asked for.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import OmegaConf

from evomask import data, questions, training
from evomask.classifiers import cnn
from evomask.classifiers.wrappers import check_classifier
from evomask.data import DataError, Dataset, ImageError, photographs, pictures
from evomask.decisions import Decided, Decision, decided
from evomask.settings import cache_folder
from evomask.types import Classifier, InputError

from ..shared import cli

Shape = tuple[int, int, int]
GOLDEN_RATIO = (5**0.5 - 1) / 2
TARGETS = ("label", "predicted", "second", "fifth", "random")


class Source(NamedTuple):
    """N images that can be had one by one."""

    names: Sequence[str]
    read: Callable[[int], np.ndarray]  # index -> uint8[H, W, C]
    labels: np.ndarray | None = None  # int32[N], indices into classes
    classes: tuple[str, ...] = ()
    truth: np.ndarray | None = None  # bool[N, H, W], the evidence
    # (network, index) -> what is asked of the image where that is not its class; None: nothing, it is left out.
    decide: Callable[[Any, int], Decision | None] | None = None


class ImageSet(NamedTuple):
    """The images that are explained, and the class that is explained in each."""

    images: np.ndarray  # uint8[N, H, W, C]
    labels: np.ndarray  # int32[N], classes of the classifier
    names: tuple[str, ...]
    classes: tuple[str, ...]  # of the classifier
    truth: np.ndarray | None  # bool[N, H, W]
    left_out: int  # images that were looked at and not taken, because the classifier errs on them
    damaged: tuple[str, ...] = ()  # names of images that cannot be read
    decisions: tuple[Decision, ...] = ()  # of each image; empty: its class

    @property
    def pixels(self) -> np.ndarray:
        """f32[N, H, W, C] in [0, 1]."""
        return self.images.astype(np.float32) / np.float32(255)

    def arrays(self) -> dict[str, np.ndarray]:
        """As they are written beside the runs."""
        found = {
            "images": self.images,
            "labels": self.labels,
            "names": np.array(self.names),
            "classes": np.array(self.classes),
        }
        if self.decisions:
            leaves = [jax.tree.leaves(decision) for decision in self.decisions]
            found |= {f"decision_{part}": np.stack(values) for part, values in enumerate(zip(*leaves, strict=True))}
        return found if self.truth is None else found | {"truth": self.truth}

    def asked(self, network: Any, index: int) -> Classifier:
        """The network with the decision that is explained of an image."""
        return decided(network, self.decisions[index]) if self.decisions else network


# --------------------------------------------------------------------------------------------------------- sources


def samples(shape: Shape, crop: float) -> Source:
    """What evomask ships: three photographs without labels or, for small networks, ten labelled CIFAR-10 pictures."""
    if min(shape[:2]) > photographs.SMALL:
        return from_files([photographs.sample(name) for name in ("cat", "coffee", "rocket")], shape, crop)
    files = sorted(photographs.default_for(shape).glob("*.png"))
    labels = np.array([file.stem.split("_")[2] for file in files], np.int32)  # cifar10_<number>_<label>.png
    return from_files(files, shape, crop)._replace(labels=labels, classes=data.CIFAR10_LABELS)


def foolbox(shape: Shape, crop: float) -> Source:
    """The labelled samples of the package foolbox: ImageNet photographs or, for small networks, CIFAR-10 pictures."""
    return from_dataset(
        data.samples("foolbox_imagenet" if min(shape[:2]) > photographs.SMALL else "foolbox_cifar10"), shape
    )


def test_set(shape: Shape, crop: float, path: str) -> Source:
    """The test images of anything that `evomask.data.load` reads: CIFAR-10's archive or its folder, or train/ and
    test/.
    """
    path = pictures.located(path)
    if path.is_dir() and not (path / "data_batch_1").exists():
        return tree(shape, crop, str(path))
    return from_dataset(data.load(path)[1], shape)


def tree(shape: Shape, crop: float, path: str, skip: Sequence[str] = ()) -> Source:
    """<path>/<class>/<image>, or the same under <path>/test or <path>/val, cropped and resized to the network's size.

    Raises:
      DataError: there is no such folder, or no class in it.
    """
    root = pictures.located(path)
    if not root.is_dir():
        raise DataError(
            f"no folder of images at '{root}': unpack the image set there, or give its place as data.path=..."
        )
    root = next((root / name for name in data.TEST_FOLDERS if (root / name).is_dir()), root)
    found = {name: files for name, files in pictures.by_folder(root).items() if name not in skip}
    if not found:
        raise DataError(f"'{root}' holds no <class>/<image>: give the folder above the classes as data.path=...")
    names = [f"{pictures.printable(name)}/{stem}" for name in found for stem in pictures.unique_names(found[name])]
    labels = np.repeat(np.arange(len(found), dtype=np.int32), [len(files) for files in found.values()])
    files = [file for name in found for file in found[name]]
    return from_files(files, shape, crop)._replace(names=names, labels=labels, classes=data.class_names(list(found)))


def listed(shape: Shape, crop: float, path: str | Sequence[str]) -> Source:
    """Images without labels: a file, a folder, a pattern, or a list of them."""
    return from_files(photographs.expand(path), shape, crop)


def planted(shape: Shape, crop: float, candidates: int, seed: int) -> Source:
    """Generated images whose evidence is known, see `evomask.data.planted_evidence`; no network learns these."""
    if shape[0] != shape[1] or shape[2] != 3:
        raise DataError(f"planted evidence needs square images in colour, the network takes {list(shape)}: use another")
    make = jax.jit(data.planted_evidence, static_argnums=(1, 2))
    pixels, labels, truth = jax.device_get(make(jax.random.fold_in(jax.random.key(seed), 1), candidates, shape[0]))
    pixels = np.asarray(np.round(255 * pixels), np.uint8)
    names = [f"planted_{seed}_{index:05}" for index in range(candidates)]
    return Source(names, pixels.__getitem__, labels, data.PLANTED_LABELS, truth)


def from_files(files: Sequence[Path], shape: Shape, crop: float) -> Source:
    """Cropped and resized as by `experiments.explain`."""
    read = lambda index: pictures.read(files[index], str(files[index]), tuple(shape), crop)[0]
    return Source(pictures.unique_names(files), read)


def from_dataset(found: Dataset, shape: Shape) -> Source:
    """Images in memory, which must have the network's size."""
    if found.images.shape[1:] != tuple(shape):
        raise DataError(
            f"the images are {list(found.images.shape[1:])}, the network takes {list(shape)}: "
            "choose another model=... or data=..."
        )
    names = [f"{index:05}" for index in range(len(found))]
    return Source(names, found.images.__getitem__, found.labels, found.names)


# ------------------------------------------------------------------------------------------------------- selection


def select(source: Source, classifier: Classifier, num: int | None, only_correct: bool, target: str) -> ImageSet:
    """The first images of every class in turn, until there are `num` of them (None: all).

    Where there are more classes than that, they take their turns in an order that is spread over all of them (by the
    golden ratio), for classes that follow each other are alike: the first sixty of ImageNet are fish, birds and snakes.

    Args:
      source: images that cannot be read are named on stderr and left out.
      only_correct: images whose class the classifier does not predict are passed over and counted. Images without
        labels are all taken.
      target: which class is explained: the image's "label", the one "predicted", or a wrong one: the "second" or the
        "fifth" after the predicted one, or a "random" other one, the same for every method. Images without labels: the
        predicted, as is of a decision that is not about the image's class the alternative that stands.

    Raises:
      InputError: the classes are not the classifier's, or no image is left.
    """
    if target not in TARGETS:
        raise InputError(f"target is {target!r}: choose one of {', '.join(TARGETS)}")
    if num is not None and (isinstance(num, bool) or not isinstance(num, int) or num < 1):
        raise InputError(f"data.num is {num!r}: give a whole number of 1 or more, or null for all images")
    if source.decide is not None:
        if isinstance(classifier, Decided):
            raise InputError("these images come with what is asked of them: leave decision=classes")
        return _decisions(source, source.decide, classifier, num)
    names = getattr(classifier, "labels", None)
    shape = getattr(classifier, "image_shape", None) or source.read(0).shape
    labels = None
    if source.labels is not None and target != "predicted" and not isinstance(classifier, Decided):
        labels = class_indices(source.classes, names, classifier, shape)[source.labels]
    queues = _by_class(source)
    if num is not None and num < len(queues):
        queues = [queues[index] for index in np.argsort(np.arange(len(queues)) * GOLDEN_RATIO % 1)]
    taken, left_out, damaged = [], 0, []
    while queues and (num is None or len(taken) < num):
        queue = queues.pop(0)
        for index in queue:
            try:
                image = source.read(index)
            except ImageError as error:  # the others are explained
                cli.say(f"left out: {error}")
                damaged.append(source.names[index])
                continue
            logits = questions.logits(classifier, image.astype(np.float32) / np.float32(255))
            predicted = int(np.argmax(logits))
            if labels is None or not only_correct or predicted == labels[index]:
                label = predicted if labels is None else labels[index]
                taken.append((index, image, asked_about(logits, label, target, index)))
                queues.append(queue)  # its next image is due when the other classes have had their turn
                break
            left_out += 1
    if not taken and damaged:
        raise InputError(f"no image is left: {len(damaged)} cannot be read, the classifier errs on {left_out}")
    if not taken:
        raise InputError(
            f"the classifier errs on all of the {left_out} images: set data.only_correct=false or another model"
        )
    rows, pixels, explained = zip(*taken, strict=True)
    classes = names or tuple(map(str, range(check_classifier(classifier, pixels[0].shape))))
    truth = None if source.truth is None else np.stack([source.truth[row] for row in rows])
    return ImageSet(
        np.stack(pixels),
        np.array(explained, np.int32),
        tuple(source.names[row] for row in rows),
        tuple(classes),
        truth,
        left_out,
        tuple(damaged),
    )


def _decisions(
    source: Source, decide: Callable[[Any, int], Decision | None], network: Any, num: int | None
) -> ImageSet:
    """The first `num` images of which anything is asked, with that; the first alternative of each is explained."""
    decisions = ((index, decide(network, index)) for index in range(len(source.names)))
    taken = list(itertools.islice(((index, one) for index, one in decisions if one is not None), num))
    if not taken:
        raise InputError(
            f"of none of the {len(source.names)} images anything is asked: train the network, or draw more"
        )
    rows, asked = zip(*taken, strict=True)
    return ImageSet(
        np.stack([source.read(row) for row in rows]),
        np.zeros(len(rows), np.int32),
        tuple(source.names[row] for row in rows),
        ("stands", "does not stand"),
        None if source.truth is None else source.truth[list(rows)],
        rows[-1] + 1 - len(rows),
        decisions=asked,
    )


def asked_about(logits: np.ndarray, label: int, target: str, index: int) -> int:
    """The class that is asked about, of logits f32[K] of image `index` whose class is `label`.

    >>> logits = np.array([0.0, 5.0, 1.0, 4.0, 3.0, 2.0])
    >>> [asked_about(logits, 1, target, 0) for target in ("label", "second", "fifth")]
    [1, 3, 2]
    """
    others = np.array([each for each in np.argsort(-logits, kind="stable") if each != label])
    if target in ("second", "fifth"):
        return int(others[min({"second": 0, "fifth": 3}[target], len(others) - 1)])
    if target == "random":
        return int(np.random.default_rng(index).choice(others))
    return int(label)


def _by_class(source: Source) -> list:
    """One iterator over the indices of each class."""
    if source.labels is None:
        return [iter(range(len(source.names)))]
    return [iter(np.flatnonzero(source.labels == label).tolist()) for label in range(len(source.classes))]


def class_indices(
    classes: Sequence[str], names: Sequence[str] | None, classifier: Classifier, shape: Shape
) -> np.ndarray:
    """int32[K]: the classifier's index of each class, by name; by number where the classifier has no names. `shape` is
    that of the images.
    """
    if names is not None:
        return data.class_indices(classes, names)
    num = check_classifier(classifier, shape)
    if num != len(classes):
        raise InputError(f"the images have {len(classes)} classes and the classifier {num}: set target=predicted")
    return np.arange(num, dtype=np.int32)


# -------------------------------------------------------------------------------------------- the network of `planted`


def planted_network() -> Classifier:
    """The network of `recipe=planted`, trained here the first time that it is asked for (under a minute on a CPU) and
    then kept in the cache folder (`EVOMASK_CACHE`).
    """
    config = OmegaConf.load(cli.CONF / "train" / "recipe" / "planted.yaml")
    widths, recipe = (
        tuple(config.model.widths),
        training.Recipe(**{k: v for k, v in config.recipe.items() if k != "_target_"}),
    )

    def train(path: Path) -> None:
        cli.say("training the network of the planted evidence")
        train, test = data.planted()
        trainable = training.residual_cnn(len(train.names), widths=widths)
        state = training.fit(trainable, train, test, recipe)
        trainable.save(training.finished(trainable, state, train), path)

    return cnn.load(trained_once("planted", f"{widths} {recipe}", train))


def trained_once(name: str, settings: str, train: Callable[[Path], None]) -> Path:
    """The file of a network in the cache folder, which `train` writes the first time that it is asked for with these
    settings, this version of JAX and this kind of device.
    """
    settings = f"{settings} {jax.__version__} {jax.devices()[0].device_kind}"
    path = cache_folder() / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train(path)
    return path
