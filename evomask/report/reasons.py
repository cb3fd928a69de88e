"""Why a mask is not complete, in words and numbers: nothing that failed goes without saying by how much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np  # noqa: F401 (for the doctest)

from evomask.types import Explanation


def reasons(explanation: Explanation, labels: Sequence[str]) -> tuple[str, ...]:
    """One line for each condition that the mask of one image does not meet, with what is missing; () if it is complete.

    Args:
      explanation: of one image (no batch axis).
      labels: the K class names.
    """
    nats, probability = explanation.missing, explanation.missing_probability
    by = lambda name: f"by {getattr(nats, name):.3g} nats ({getattr(probability, name):.3g} in probability)"
    name = lambda index: f"“{labels[int(index)]}”"
    explained, other = explanation.label, explanation.masked_label
    lines = []
    if other != explained:
        lines.append(f"the masked image is {name(other)}: {name(explained)} is behind {by('keeps_class')}")
    if probability.keeps_confidence > 0:
        wanted = explanation.masked_confidence + probability.keeps_confidence
        asked = f"confidence {explanation.masked_confidence:.2f} of the {wanted:.2f} asked for"
        lines.append(f"the masked image has {asked}: it falls short {by('keeps_confidence')}")
    if explanation.inverse_label == explained:
        lines.append(f"without the mask the image is still {name(explained)}, ahead {by('loses_class')}")
    return tuple(lines)


def fills_held(explanation: Explanation) -> tuple[str, ...]:
    """The names of the fills under which the mask of one image is complete.

    >>> from types import SimpleNamespace
    >>> fills_held(SimpleNamespace(fills=("black", "grey", "blur"), complete_under=np.array([True, False, True])))
    ('black', 'blur')
    """
    return tuple(name for name, holds in zip(explanation.fills, explanation.complete_under, strict=True) if holds)
