"""Explain a classifier's decision on photographs; `python -m experiments.explain --help` says how."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import evomask
from evomask import certificate as certificates
from evomask import fills, validate
from evomask.certificate import Certificate
from evomask.classifiers.wrappers import check_classifier
from evomask.data import class_index, photographs
from evomask.data.photographs import ImageError, Photo
from evomask.report import plots, records
from evomask.report.reasons import fills_held, reasons
from evomask.search.config import Config
from evomask.search.front import Collect
from evomask.types import Classifier, Explanation, InputError, Status
from experiments.shared import cli, further
from experiments.shared.further import Further


class Asked(NamedTuple):
    """What is asked about every photograph."""

    seed: int
    label: int | None
    contrast: int | None
    certify: bool
    prune: int | None  # evaluations


class Timed(NamedTuple):
    """The explanation of one image and its certificate (no leading axes), and how long they took."""

    explanation: Explanation
    certificate: Certificate | None
    compile_seconds: float
    run_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.run(explain_photographs, "explain", argv)


def explain_photographs(config: DictConfig) -> int:
    """Loads, explains, writes and tabulates, image by image; 2 if an image had to be left out."""
    seed = _seed(config.seed)
    out = records.prepare_folder(config.out)
    settings = build_config(config)
    classifier = evomask.as_classifier(cli.instantiate(config.model))
    shape = image_shape(classifier)
    paths = photographs.expand(photographs.default_for(shape) if config.image is None else config.image)
    names = getattr(classifier, "labels", None) or tuple(map(str, range(check_classifier(classifier, shape))))
    label, contrast = class_index(config.label, names), class_index(config.contrast, names, "contrast")
    asked = Asked(seed, label, contrast, config.certify, config.prune)
    more = further.check(Further(config.front, config.several, config.demand, config.disjoint, config.seeds))
    if more.front is not None:
        settings = dataclasses.replace(settings, front=Collect(more.front))
    validate.configuration(settings, shape[:2])
    plain = OmegaConf.to_container(config, resolve=True)

    photos = load_all(paths, shape, getattr(classifier, "crop", 1.0))
    stages = [stage.name for stage in settings.stages]
    ends = np.cumsum([stage.rounds * settings.generation_cost(stage) for stage in settings.stages])
    found = []
    for photo in photos:
        timed = explain_photo(classifier, photo, asked, settings)
        blank = np.asarray(fills.blank(settings.fills[0], jax.random.key(seed), photo.image))
        certificate = timed.certificate
        figure = plots.explanation_figure(
            photo.image,
            timed.explanation,
            names,
            stages=stages,
            ends=ends,
            blank=blank,
            name=photo.name,
            minimal=None if certificate is None else bool(certificate.minimal),
        )
        folder = records.write_explanation(
            out / photo.name,
            photo.image,
            timed.explanation,
            figure,
            labels=names,
            seed=seed,
            compile_seconds=timed.compile_seconds,
            run_seconds=timed.run_seconds,
            config=plain,
            certificate=None if certificate is None else certificates.report(certificate, timed.explanation.genome),
        )
        context = {"key": jax.random.key(seed), "config": dataclasses.replace(settings, front=None), "blank": blank}
        lines = further.write(folder, more, classifier, photo, timed.explanation, names, **context)
        found.append((timed, lines))
    if found:
        Console().print(summary(photos, [timed.explanation for timed, _ in found], names))
        for photo, (timed, lines) in zip(photos, found):
            for line in (*remarks(timed, names), *lines):
                print(f"{photo.name}: {line}")
        print(
            f"written to {out}{'/' + photos[0].name if len(photos) == 1 else '/<image>'}/explanation.png, .json, .npz"
        )
    return 0 if len(photos) == len(paths) else 2


def build_config(config: DictConfig) -> Config:
    """The preset, with the budget of the command line where there is one."""
    if config.budget is not None:
        config.preset.budget = config.budget
    return cli.instantiate(config.preset)


def explain_photo(classifier: Classifier, photo: Photo, asked: Asked, settings: Config) -> Timed:
    """Compiles (for the first image only) and explains, under a progress bar on stderr; prunes or certifies if asked."""
    image, key = photo.image[None], jax.random.key(asked.seed)
    labels, contrast = ([index] if index is not None else None for index in (asked.label, asked.contrast))
    with _progress() as bar:
        task = bar.add_task(f"{photo.name}: compiling", total=None)
        compile_seconds = evomask.precompile(
            classifier, image, contrast=contrast is not None, config=settings, progress=True
        )
        bar.update(task, description=f"{photo.name}: evolving", total=settings.evaluations, completed=0)
        start = time.perf_counter()
        found = evomask.explain(
            classifier,
            image,
            key=key,
            labels=labels,
            contrast=contrast,
            config=settings,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        certificate = None
        if asked.prune is not None:
            bar.update(task, description=f"{photo.name}: pruning")
            found, certificate = certificates.make_minimal(
                classifier, image, found, key=key, config=settings, budget=asked.prune
            )
        elif asked.certify:
            bar.update(task, description=f"{photo.name}: certifying")
            certificate = certificates.certify(classifier, image, found, key=key, config=settings)
        seconds = time.perf_counter() - start
    return Timed(
        *(records.select(part, 0) if part else None for part in (found, certificate)), compile_seconds, seconds
    )


def load_all(paths: Sequence[Path], shape: tuple[int, int, int], crop: float) -> list[Photo]:
    """Every image that can be loaded; the others, and what was changed in these, are reported on stderr."""
    photos: dict[Path, Photo] = {}
    for path in paths:
        try:
            photo = photographs.load(path, shape, crop)
        except ImageError as error:
            cli.report(f"error: {error}")
            continue
        for notice in photo.notices:
            cli.report(f"note: {path} {notice}")
        photos[path] = photo
    names = photographs.unique_names(list(photos))
    return [dataclasses.replace(photo, name=name) for photo, name in zip(photos.values(), names)]


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed!r}: give an integer from 0 to {2**32 - 1}")
    return seed


def image_shape(classifier: Classifier) -> tuple[int, int, int]:
    """Height, width and channels of the images that a classifier takes; InputError where it does not say."""
    shape = getattr(classifier, "image_shape", None)
    if shape is None:
        raise InputError(
            f"classifier {type(classifier).__name__} does not say what size of image it takes: "
            "give model.image_shape=[height,width,channels], or the classifier an attribute image_shape"
        )
    return tuple(shape)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("evaluations"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def summary(photos: Sequence[Photo], found: Sequence[Explanation], names: Sequence[str]) -> Table:
    """A row for each image; for several, a last line with the number of complete masks and their mean area."""
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    for heading in ("confidence", "masked", "inverse", "area"):
        table.add_column(heading, justify="right")
    table.add_column("status")
    areas = [float(explanation.area) for explanation in found if explanation.complete]
    if len(found) > 1:
        mean = f", {np.mean(areas):.1%} of the pixels on average" if areas else ""
        table.caption = f"{len(areas)} of {len(found)} complete{mean}"
    for photo, explanation in zip(photos, found):
        numbers = [explanation.confidence, explanation.masked_confidence, explanation.inverse_confidence]
        cells = [photo.name, names[int(explanation.label)], *(f"{x:.2f}" for x in numbers), f"{explanation.area:.1%}"]
        status = Status(int(explanation.status)).name.lower().replace("_", " ")
        table.add_row(*map(Text, cells), status)
    return table


def remarks(timed: Timed, names: Sequence[str]) -> list[str]:
    """What the table has no room for: what a mask lacks, which fills it is complete under, its certificate."""
    explanation, certificate = timed.explanation, timed.certificate
    held = ", ".join(fills_held(explanation)) or "none"
    lines = [*reasons(explanation, names), f"complete under {held} (of the fills {', '.join(fills.SHIPPED)})"]
    if certificate is not None:
        cost = f"; {certificate.evaluations} evaluations apart from the search's" if certificate.evaluations else ""
        lines.append(certificates.sentence(certificate, explanation.complete) + cost)
    return lines


if __name__ == "__main__":
    sys.exit(main())
