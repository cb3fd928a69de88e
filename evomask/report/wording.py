"""What the network says of a mask, in plain words: the sentence under a heading, the lines under a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace  # noqa: F401 (for the doctest)

import numpy as np

from evomask.measures.certainty import plain_sentence, verdict
from evomask.report.drawing import one_line
from evomask.report.reasons import status_word
from evomask.types import Explanation, Status


def sentence(found: Explanation) -> str:
    """What the mask of one image shows, for those who read nothing else: what it keeps, what is lost without it, and
    whether that holds.
    """
    if not found.area:
        said = _says(found, found.masked_label, found.masked_confidence)
        return f"The mask is empty: it keeps no pixel, and of the blank picture the network {said}."
    said = _counterfactual(found) if found.status == Status.COUNTERFACTUAL else _both(found)
    if found.contrast >= 0:
        said = f"Asked to choose between {_name(found, found.label)} and {_name(found, found.contrast)}: {said}"
    if found.status == Status.BLANK_CLASS:
        blank = f"it says {_name(found, found.label)} of the blank picture, too ({found.blank_confidence:.2f})"
        return f"{said} But {blank}: that is not conclusive."
    if found.met and not found.complete and found.status != Status.COUNTERFACTUAL:
        said = f"{said} Only the former was asked for."
    if found.precision is None:
        return f"{said} The picture was shown in one way only."
    met = bool(found.sufficient if found.status == Status.COUNTERFACTUAL else found.met)
    return f"{said} {plain_sentence(found.precision, met)}"


def under(found: Explanation, predicted: int, confidence: float) -> tuple[str, str]:
    """What is said under a picture: the class predicted for it, and the confidence in the explained one.

    >>> found = SimpleNamespace(label=1, name=["iPod", "espresso"].__getitem__)
    >>> under(found, 1, 0.95), under(found, 0, 0.1)
    (('says “espresso”', '(0.95)'), ('says “iPod”', '(“espresso” 0.10)'))
    """
    number = f"{confidence:.2f}"
    rest = number if predicted == found.label else f"“{found.name(found.label)}” {number}"
    return f"says “{found.name(predicted)}”", f"({rest})"


def line(found: Explanation, name: str) -> str:
    """One image in a line: what it is called, the class, how much is kept, and whether that is what was asked for."""
    parts = [_name(found, found.label), f"{percent(found.area)} of the pixels", status_word(found)]
    if found.precision is not None:
        share = 100 * float(getattr(found.precision.estimate, found.precision.asked))
        parts.append(f"{verdict(found.precision)} ({math.floor(share + 1e-9)} %)")
    return f"{one_line(name)}: {', '.join(parts)}"


def channels_shown(count: int, names: Sequence[str] = ()) -> str:
    """Which of the channels a picture shows, where that is not plain: see `arrays.as_rgb`.

    >>> channels_shown(5, ["nir", "red", "green", "blue", "swir"])
    'of 5 channels nir, red, green are shown as red, green, blue'
    >>> channels_shown(3), channels_shown(1, ["nir"]), channels_shown(2)
    ('', 'the channel is nir', 'of 2 channels 0, 1 are shown as red, green')
    """
    if count == 1:
        return f"the channel is {one_line(names[0])}" if names else ""
    colours = ("red", "green", "blue")[:count]
    if count == 3 and tuple(names or colours) == colours:
        return ""
    shown = (names or tuple(map(str, range(count))))[:3]
    return f"of {count} channels {', '.join(map(one_line, shown))} are shown as {', '.join(colours)}"


def percent(share: float) -> str:
    """A share in two figures; neither all nor nothing unless it is.

    >>> percent(0.4073), percent(0.0412), percent(0.996), percent(1.0), percent(0.00004)
    ('41 %', '4.1 %', '99.6 %', '100 %', '0.004 %')
    """
    value = 100 * float(share)
    if 99.5 <= value < 100:
        return f"{math.floor(10 * value) / 10:.1f} %"
    return f"{value:.0f} %" if value >= 9.95 else f"{float(f'{value:.2g}'):f}".rstrip("0").rstrip(".") + " %"


def _both(found: Explanation) -> str:
    """What the network says of what is kept, and of the rest."""
    kept, lost = bool(found.sufficient), found.inverse_label != found.label
    without = _says(found, found.inverse_label, found.inverse_confidence, still=not lost)
    if found.demand == "necessary":
        rest = _says(found, found.masked_label, found.masked_confidence)
        joint = "; " if lost else ", and "
        return _sentence(f"without {_pixels(found, '')} the network {without}{joint}of them alone it {rest}", found)
    first = _kept(found, "the network")
    if np.isnan(found.inverse_confidence):
        return _sentence(first, found)
    joint = {(True, False): ", but ", (False, False): ", and "}.get((kept, lost), "; ")
    return _sentence(f"{first}{joint}without them it {without}", found)


def _counterfactual(found: Explanation) -> str:
    whole = f"The network says {_name(found, found.predicted)} ({found.predicted_confidence:.2f}) of the whole picture"
    return f"{whole}; {_kept(found, 'it')}."


def _kept(found: Explanation, network: str) -> str:
    """What the network says of what is kept, and whether that is enough."""
    pixels = _pixels(found)
    if found.sufficient:
        return f"{pixels} make {network} say {_name(found, found.label)} ({found.masked_confidence:.2f})"
    said = f"of {pixels} {network} {_says(found, found.masked_label, found.masked_confidence)}"
    wanted = found.masked_confidence + found.missing_probability.keeps_confidence
    is_unsure = found.masked_label == found.label and wanted > found.masked_confidence
    return f"{said}, of the {wanted:.2f} asked for" if is_unsure else said


def _pixels(found: Explanation, alone: str = " alone") -> str:
    return "all of the pixels" if found.area == 1 else f"these {percent(found.area)} of the pixels{alone}"


def _says(found: Explanation, predicted: int, confidence: float, still: bool = False) -> str:
    number = f"{confidence:.2f}"
    rest = number if predicted == found.label else f"{_name(found, found.label)} {number}"
    return f"{'still ' * still}says {_name(found, predicted)} ({rest})"


def _name(found: Explanation, index: int) -> str:
    return f"“{one_line(found.name(index))}”"


def _sentence(said: str, found: Explanation) -> str:
    """Its first letter a capital, unless something stands before it."""
    return (said if found.contrast >= 0 else said[0].upper() + said[1:]) + "."
