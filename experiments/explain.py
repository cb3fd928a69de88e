"""Explain a classifier's decision on photographs; `python -m experiments.explain --help` says how."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from evomask import validate
from evomask.certificate import Certificate
from evomask.classifiers.wrappers import check_classifier
from evomask.data import class_index, photographs
from evomask.data.photographs import ImageError, Photo
from evomask.explaining import explain_questions
from evomask.measures.certainty import sentence
from evomask.questions import ask
from evomask.report import records, sheets
from evomask.report.full import full
from evomask.report.reasons import fills_held, reasons
from evomask.search.config import Config
from evomask.search.front import Collect
from evomask.types import Classifier, Explanation, InputError, Status, whole

from .shared import answers, cli, further
from .shared.answers import Answer
from .shared.further import Further


class Asked(NamedTuple):
    """What is asked about every photograph."""

    seed: int
    label: int | None
    contrast: int | None
    certify: bool
    prune: int | None  # evaluations
    further: Further


class Found(NamedTuple):
    """The answers about one photograph, no leading axes."""

    explanation: Explanation
    certificate: Certificate | None
    further: further.Found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(explain_photographs, "explain", argv)


def explain_photographs(config: DictConfig) -> int:
    """Loads, searches, draws, writes and tabulates, image by image; 2 if an image had to be left out.

    What was answered before is not searched again, so that a killed run of many images goes on where it was.
    """
    out = records.prepare_folder(config.out)
    settings = build_config(config)
    classifier = cli.classifier(config)
    shape = image_shape(classifier)
    paths = photographs.expand(photographs.default_for(shape) if config.image is None else config.image)
    names = getattr(classifier, "labels", None) or tuple(map(str, range(check_classifier(classifier, shape))))
    asked = build_questions(config, names)
    settings = dataclasses.replace(settings, film=asked.further.film)
    if asked.further.front is not None:
        settings = dataclasses.replace(settings, front=Collect(asked.further.front))
    if asked.further.effect and not hasattr(settings.scoring, "effects"):
        rule = type(settings.scoring).__name__
        raise InputError(
            f"effect is true, but scoring {rule} says nothing of effects: give scoring=good_masks or effects"
        )
    validate.configuration(settings, shape[:2])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    made_by = answers.code(plain)
    bands = {key: plain[key] for key in ("channels", "levels")}
    fitted = {"crop": getattr(classifier, "crop", 1.0), "fit": config.fit}
    load = functools.partial(photographs.load, shape=shape, **fitted, **bands)

    said = []
    for photo in load_all(paths, load):
        request = answers.request(photo.image, plain, made_by)
        answer = None if config.again else answers.before(out / photo.name, request)
        if answer is not None:
            cli.say(f"{photo.name}: answered before; again=true searches anew")
        else:
            try:
                original = photographs.upright(photo.path, shape[2], **bands) if asked.further.full else None
                found = search(classifier, photo, asked, settings)
            except InputError as error:  # about this photograph: the others are explained all the same
                cli.say(f"error: {photo.name}: {error}")
                continue
            answer = Answer(photo.name, sheets.numbers(found.explanation), remarks(found))
            run = {"remarks": answer.remarks, "seed": asked.seed, "config": plain, "request": request}
            enlarged = [] if original is None else [full(found.explanation, original, **fitted)]
            records.write(out / photo.name, drawn(found, photo, enlarged, run))
        said.append(answer)
    if said:
        Console().print(overview(said))
        for answer in said:
            for line in answer.remarks:
                print(f"{answer.name}: {line}")
        where = said[0].name if len(said) == 1 else "<image>"
        print(f"written to {out}/{where}/explanation.png, .json, .npz")
    if len(said) > 1:
        names = records.write_contact(out, [answer.name for answer in said])
        print(f"all of them at a glance: {', '.join(f'{out}/{name}' for name in names)}")
    return 0 if len(said) == len(paths) else 2


def build_config(config: DictConfig) -> Config:
    """The preset, with the budget and the demand of the command line where these are given."""
    for key in ("budget", "demand"):
        if config.get(key) is not None:
            config.preset[key] = config[key]
    return cli.instantiate(config.preset)


def build_questions(config: DictConfig, names: Sequence[str]) -> Asked:
    """What the command line asks, checked; `names` of the K classes."""
    more = further.check(
        Further(config.front, config.several, config.disjoint, config.seeds, config.film, config.effect, config.full)
    )
    label, contrast = (class_index(config[key], names, key) for key in ("label", "contrast"))
    if label is not None and label == contrast:
        raise InputError(f"label and contrast are both {names[label]!r}: give another contrast or label")
    prune = None if config.prune is None else whole("prune", config.prune)
    if not isinstance(config.certify, bool):
        raise InputError(f"certify is {config.certify!r}: give true or false")
    return Asked(_seed(config.seed), label, contrast, config.certify, prune, more)


def search(classifier: Classifier, photo: Photo, asked: Asked, settings: Config) -> Found:
    """Compiles (for the first image only) and explains, under a progress bar on stderr; prunes or certifies, and asks
    further, where that is wanted.
    """
    image, key = photo.image[None], jax.random.key(asked.seed)
    labels, contrast = ([index] if index is not None else None for index in (asked.label, asked.contrast))
    image, labels, contrast = validate.inputs(classifier, image, labels, contrast, settings)
    questions = ask(classifier, image, labels, contrast, key, settings.fills)  # what cannot be asked is not compiled
    with _progress() as bar:
        task = bar.add_task(f"{photo.name}: compiling", total=None)
        evomask.precompile(classifier, image, contrast=contrast is not None, config=settings)
        bar.update(task, description=f"{photo.name}: evolving", total=settings.evolving, completed=0)
        advance = lambda done, total: bar.update(task, completed=done, total=total)
        found = explain_questions(classifier, questions, key=key, config=settings, progress=advance)
        certificate = None
        if asked.prune is not None:
            bar.update(task, description=f"{photo.name}: pruning")
            found, certificate = certificates.make_minimal(
                classifier, image, found, key=key, config=settings, budget=asked.prune
            )
        elif asked.certify:
            bar.update(task, description=f"{photo.name}: certifying")
            certificate = certificates.certify(classifier, image, found, key=key, config=settings)
    explanation, certificate = jax.tree.map(lambda field: np.asarray(field)[0], (found, certificate))
    plain = dataclasses.replace(settings, front=None, film=False)
    more = further.search(asked.further, classifier, questions, key=key, config=plain)
    return Found(explanation, certificate, more)


def drawn(found: Found, photo: Photo, enlarged: list[sheets.Sheet], run: dict[str, Any]) -> list[sheets.Sheet]:
    """Everything that becomes a file, before any of it is written."""
    others = [*further.drawn(found.explanation, found.further, photo.name), *enlarged]
    parts = ["explanation", *(one.name for one in others)]
    files = [name for name in records.FILES if name.rpartition(".")[0] in parts]
    first = sheets.explanation(
        found.explanation,
        name=photo.name,
        certificate=found.certificate,
        run={**run, "files": files},
        channels=photo.channels,
    )
    return [first, *others]


def load_all(paths: Sequence[Path], load: Callable[[Path], Photo]) -> Iterator[Photo]:
    """Every image that can be loaded; the others, and what was changed in these, are reported on stderr."""
    for path, name in zip(paths, photographs.unique_names(paths)):
        try:
            photo = load(path)
        except ImageError as error:
            cli.say(f"error: {error}")
            continue
        for notice in photo.notices:
            cli.say(f"note: {path} {notice}")
        yield dataclasses.replace(photo, name=name)


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
    name = TextColumn("{task.description}", markup=False)  # brackets are part of a name
    columns = (name, BarColumn(), MofNCompleteColumn(), TextColumn("evaluations"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def overview(said: Sequence[Answer]) -> Table:
    """A row for each image; for several, a last line that says how many of which kind there are."""
    found = [answer.numbers for answer in said]
    predicted = any(one["status"] == "counterfactual" for one in found)
    table = Table()
    for heading in ("image", "class", *["predicted"] * predicted):
        table.add_column(heading, overflow="fold")
    for heading in ("confidence", "masked", "inverse", "area"):
        table.add_column(heading, justify="right")
    table.add_column("status", overflow="fold")
    if len(found) > 1:
        table.caption = tally(found)
    for answer, one in zip(said, found):
        classes = [one["label"]] + [f"{one['predicted']} {one['predicted_confidence']:.2f}"] * predicted
        numbers = [one["confidence"], one["masked_confidence"], one["inverse_confidence"]]
        cells = [*("nan" if x is None else f"{x:.2f}" for x in numbers), f"{one['area']:.1%}"]
        table.add_row(*map(Text, [answer.name, *classes, *cells, one["status"].replace("_", " ")]))
    return table


def tally(found: Sequence[Mapping[str, Any]]) -> str:
    """How many masks are what was demanded, and their mean area; what cannot be is counted apart.

    >>> of = lambda status, area: {"status": status, "area": area, "sufficient": True, "demand": "complete"}
    >>> tally([of("complete", 0.1), of("complete", 0.2), of("neither", 0.9), of("blank_class", 0.01)])
    '2 of 3 complete, 15.0% of the pixels on average; 1 blank class, counted apart'
    >>> tally([of("counterfactual", 0.5)])
    '1 of 1 counterfactual masks makes its class win'
    """
    with_status = lambda *statuses: [one for one in found if one["status"] in statuses]
    met, blank = with_status("complete", "sufficient", "necessary"), with_status("blank_class")
    counterfactual, breaking = with_status("counterfactual"), with_status("decision_breaks")
    rest, parts = len(found) - len(blank) - len(counterfactual) - len(breaking), []
    if rest:
        mean = f", {np.mean([one['area'] for one in met]):.1%} of the pixels on average" if met else ""
        parts.append(f"{len(met)} of {rest} {found[0]['demand']}{mean}")
    if blank:
        parts.append(f"{len(blank)} blank class, counted apart")
    if breaking:
        parts.append(f"{len(breaking)} whose decision breaks, counted apart")
    if counterfactual:
        wins = sum(one["sufficient"] for one in counterfactual)
        ending = "makes its class win" if wins == 1 else "make their class win"
        parts.append(f"{wins} of {len(counterfactual)} counterfactual masks {ending}")
    return "; ".join(parts)


def remarks(found: Found) -> list[str]:
    """What the table has no room for: what a mask lacks, under which fills it does what was demanded, its certificate,
    and what else was asked for.
    """
    explanation, certificate = found.explanation, found.certificate
    lines = list(reasons(explanation))
    if explanation.status == Status.COUNTERFACTUAL:
        predicted = explanation.name(explanation.predicted)
        lines.append(f"the image is predicted as “{predicted}”, so necessity is not applicable")
    else:
        held = ", ".join(fills_held(explanation)) or "none"
        lines.append(f"{explanation.demand} under {held} (of the fills {', '.join(explanation.fills)})")
    if explanation.precision is not None:
        lines.append(sentence(explanation.precision))
    if certificate is not None:
        cost = f"; {certificate.evaluations} evaluations apart from the search's" if certificate.evaluations else ""
        lines.append(certificates.sentence(certificate, explanation.met, explanation.demand) + cost)
    return lines + further.said(explanation, found.further)


if __name__ == "__main__":
    sys.exit(main())
