"""Decisions: what of a network's outputs is explained, be it a class, a box, a distance or a risk.

A decision makes logits of a few alternatives of whatever the network returns: `the risk is above 0.2` and `it is not`.
With them a network is a `Classifier` like any other, so that sufficiency, necessity, precision, scores, tables and
pictures work on it without knowing. Where there are two alternatives, the margin of the first one is its log-odds in
nats, zero at the threshold, and its confidence is the sigmoid of that: one half at the threshold.

>>> risk = evomask.as_classifier(lambda images: 4.0 * images[:, :4, :4].mean((1, 2, 3)))
>>> images, config = np.full((1, 8, 8, 1), 0.75, np.float32), evomask.presets.smallest(500)
>>> found = evomask.explain(risk, images, key=0, config=config, decision=Threshold(1.0, name="risk"))
>>> found.names, found.complete.tolist(), int(found.mask[0, 4:].sum() + found.mask[0, :, 4:].sum())
(('risk above 1', 'risk of 1 or less'), [True], 0)
"""

from __future__ import annotations

import numpy as np  # noqa: F401 (for the doctest)

import evomask  # noqa: F401 (for the doctest)
from evomask.classifiers.decided import Decided
from evomask.decisions.base import Decision, decided
from evomask.decisions.embeddings import Similarity
from evomask.decisions.numbers import Between, Classes, Label, Threshold
from evomask.decisions.places import Box, Segment

__all__ = ["Between", "Box", "Classes", "Decided", "Decision", "Label", "Segment", "Similarity", "Threshold", "decided"]
