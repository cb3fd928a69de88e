"""What else can be asked about one photograph: its area-confidence front, several masks, how far seeds agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from evomask import niches, stability
from evomask.niches import Several
from evomask.report import sheets
from evomask.report.sheets import Sheet
from evomask.search.config import Config
from evomask.stability import Stability
from evomask.types import Classifier, Explanation, InputError, Question, whole


class Further(NamedTuple):
    """Which of these are asked for; None: not."""

    front: int | None  # bins of area
    several: int | None  # masks
    disjoint: bool
    seeds: int | None
    film: bool
    effect: bool
    full: bool


class Found(NamedTuple):
    """What was found of one image (no leading axes); None: not asked for. The rest is the explanation's own."""

    several: Several | None
    stability: Stability | None
    effect: bool  # whether it is to be drawn
    full: bool  # likewise, at the size of the photograph


def check(further: Further) -> Further:
    """Refuses numbers that make no sense, before anything is searched."""
    for name, least in (("front", 1), ("several", 2), ("seeds", 2)):
        if (value := getattr(further, name)) is not None:
            whole(name, value, least)
    for name in ("disjoint", "film", "effect", "full"):
        if not isinstance(value := getattr(further, name), bool):
            raise InputError(f"{name} is {value!r}: give true or false")
    return further


def search(
    further: Further, classifier: Classifier, questions: Sequence[Question], *, key: jax.Array, config: Config
) -> Found:
    """Searches as often as it takes for an answer to the one question."""
    asked, masks, seeds = (classifier, questions), None, None
    if further.several is not None:
        masks = niches.several_of(*asked, further.several, disjoint=further.disjoint, key=key, config=config)
    if further.seeds is not None:
        seeds, _ = stability.across_seeds_of(*asked, further.seeds, key=key, config=config)
    masks, seeds = (found and jax.tree.map(lambda field: np.asarray(field)[0], found) for found in (masks, seeds))
    return Found(masks, seeds, further.effect, further.full)


def drawn(explanation: Explanation, found: Found, name: str) -> list[Sheet]:
    """Picture, numbers and arrays of everything that was asked for."""
    parts = sheets.own(explanation, name=name)
    parts += [sheets.effect(explanation, name=name)] if found.effect else []
    parts += [] if found.several is None else [sheets.several(found.several, name=name)]
    return parts + (
        [] if found.stability is None else [sheets.stability(explanation.image, found.stability, name=name)]
    )


def said(explanation: Explanation, found: Found) -> list[str]:
    """A line about everything that was asked for, and where to find it."""
    lines = []
    if explanation.front is not None:
        lines.append(f"front of {np.isfinite(explanation.front.area).sum()} masks: front.png, .json, .npz")
    if explanation.film is not None:
        lines.append(f"film of {len(explanation.film)} generations: film.gif, .png, .json, .npz")
    if found.effect:
        lines.append("pixels that speak for the class, and against it: effect.png, .json, .npz")
    if found.full:
        lines.append("the mask in the photograph at its own size: full.png, .json, .npz")
    if found.several is not None:
        masks, most = found.several.explanations, found.several.shared.max()
        met, asked = sum(bool(one.met) for one in masks), " or ".join(dict.fromkeys(found.several.demanded))
        lines.append(
            f"{met} of {len(masks)} masks {asked}, at most {most:.0%} of one in earlier ones: several.png, .json, .npz"
        )
    if found.stability is not None:
        numbers = stability.facts(found.stability)
        lines.append(
            f"{numbers['seeds']} seeds, {numbers['met']} {numbers['demand']}, area {numbers['area']['mean']:.1%} ± "
            f"{numbers['area']['std']:.1%}, mean IoU {numbers['mean_iou']:.2f}: stability.png, .json, .npz"
        )
    said = [found.several and niches.sentence(found.several), found.stability and stability.sentence(found.stability)]
    return lines + [line for line in said if line]
