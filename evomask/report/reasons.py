"""Why a mask is not what was demanded, in words and numbers: nothing that failed goes without saying by how much."""

from __future__ import annotations

import numpy as np  # noqa: F401 (for the doctest)

from evomask.types import Explanation, Status

SENTENCES = {
    Status.COMPLETE: "complete: the mask is sufficient and necessary",
    Status.NOT_SUFFICIENT: "not sufficient: the masked image loses the class or too much confidence",
    Status.NOT_NECESSARY: "not necessary: without the mask the class stays",
    Status.NEITHER: "neither sufficient nor necessary",
    Status.BLANK_CLASS: "not conclusive: the blank image has this class as well",
    Status.UNSTABLE: "unstable: the verification does not confirm the search",
    Status.SUFFICIENT: "sufficient, as demanded: the masked image keeps the class and its confidence",
    Status.DECISION_BREAKS: "the decision breaks: the whole image loses the class by itself",
    Status.NECESSARY: "necessary, as demanded: without the mask the class is lost",
}


def status_word(found: Explanation) -> str:
    """The status of one image's mask as it stands in tables: `not sufficient`.

    >>> from types import SimpleNamespace
    >>> status_word(SimpleNamespace(status=np.int32(4)))
    'blank class'
    """
    return Status(int(found.status)).name.lower().replace("_", " ")


def status_sentence(found: Explanation) -> str:
    """The status of one image's mask in a sentence.

    >>> from types import SimpleNamespace
    >>> status_sentence(SimpleNamespace(status=np.int32(6), sufficient=np.True_))
    'counterfactual: another class is predicted, the mask makes this one win'
    """
    status = Status(int(found.status))
    if status == Status.COUNTERFACTUAL:
        ending = "the mask makes this one win" if found.sufficient else "no mask was found that makes this one win"
        return f"counterfactual: another class is predicted, {ending}"
    return SENTENCES[status]


def reasons(found: Explanation) -> tuple[str, ...]:
    """One line for each demanded condition that the mask of one image does not meet, with what is missing; () if none.

    Of a counterfactual mask only the class and its confidence are asked, for its inverse has nothing to lose.

    Args:
      found: of one image (no batch axis).
    """
    nats, probability = found.missing, found.missing_probability
    by = lambda name: f"by {getattr(nats, name):.3g} nats ({getattr(probability, name):.3g} in probability)"
    name = lambda index: f"“{found.name(index)}”"
    explained, other = found.label, found.masked_label
    lines = []
    asks_whether_kept, asks_whether_lost = found.demand != "necessary", found.demand != "sufficient"
    if other != explained and asks_whether_kept:
        lines.append(f"the masked image is {name(other)}: {name(explained)} is behind {by('keeps_class')}")
    if probability.keeps_confidence > 0 and asks_whether_kept:
        wanted = found.masked_confidence + probability.keeps_confidence
        asked = f"confidence {found.masked_confidence:.2f} of the {wanted:.2f} asked for"
        lines.append(f"the masked image has {asked}: it falls short {by('keeps_confidence')}")
    if found.inverse_label == explained and asks_whether_lost and found.status != Status.COUNTERFACTUAL:
        lines.append(f"without the mask the image is still {name(explained)}, ahead {by('loses_class')}")
    return tuple(lines)


def fills_held(found: Explanation) -> tuple[str, ...]:
    """The names of the fills under which the mask of one image is what was demanded.

    >>> from types import SimpleNamespace
    >>> under = SimpleNamespace(complete=np.array([True, False, True]))
    >>> fills_held(SimpleNamespace(fills=("black", "grey", "blur"), under_fills=under, demand="complete"))
    ('black', 'blur')
    """
    under = getattr(found.under_fills, found.demand)
    return tuple(name for name, holds in zip(found.fills, under, strict=True) if holds)
