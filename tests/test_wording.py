"""The sentence of a picture is true whatever a search ended with."""

import dataclasses

import numpy as np
import pytest
import synthetic

from evomask.measures.certainty import Precision, Tally
from evomask.report import wording
from evomask.types import Status

KEEPS = "These 12 % of the pixels alone make the network say “espresso” (0.90)"
LOSES = "without them it says “iPod” (“espresso” 0.05)"
ONCE = "The picture was shown in one way only."
STAYS = {
    "necessary": np.False_,
    "complete": np.False_,
    "inverse_label": np.int32(1),
    "inverse_confidence": np.float32(0.7),
}
FAILS = {
    "sufficient": np.False_,
    "complete": np.False_,
    "masked_label": np.int32(0),
    "masked_confidence": np.float32(0.3),
}
HELD = {count: Precision(Tally(*np.array([count] * 3 + [200])), None, 600, False, 200, 0) for count in (200, 120)}
SAID = {
    "complete": (Status.COMPLETE, {}, f"{KEEPS}; {LOSES}. {ONCE}"),
    "holds": (Status.COMPLETE, {"precision": HELD[200]}, f"{KEEPS}; {LOSES}. It holds for 100 % of small changes."),
    "does not hold": (
        Status.COMPLETE,
        {"precision": HELD[120]},
        f"{KEEPS}; {LOSES}. It does not hold: it is so for only 60 % of small changes.",
    ),
    "not necessary": (
        Status.NOT_NECESSARY,
        STAYS | {"precision": HELD[120]},
        f"{KEEPS}, but without them it still says “espresso” (0.70). "
        "The mask does what was asked for 60 % of small changes.",
    ),
    "not sufficient": (
        Status.NOT_SUFFICIENT,
        FAILS,
        f"Of these 12 % of the pixels alone the network says “iPod” (“espresso” 0.30); {LOSES}. {ONCE}",
    ),
    "neither": (
        Status.NEITHER,
        FAILS | STAYS,
        "Of these 12 % of the pixels alone the network says “iPod” (“espresso” 0.30), and without them it still says "
        f"“espresso” (0.70). {ONCE}",
    ),
    "too unsure": (
        Status.NEITHER,
        FAILS | {"masked_label": np.int32(1)},
        f"Of these 12 % of the pixels alone the network says “espresso” (0.30), of the 0.60 asked for; {LOSES}. {ONCE}",
    ),
    "sufficient": (
        Status.SUFFICIENT,
        STAYS | {"demand": "sufficient"},
        f"{KEEPS}, but without them it still says “espresso” (0.70). Only the former was asked for. {ONCE}",
    ),
    "necessary": (
        Status.NECESSARY,
        FAILS | {"demand": "necessary"},
        "Without these 12 % of the pixels the network says “iPod” (“espresso” 0.05); of them alone it says “iPod” "
        f"(“espresso” 0.30). Only the former was asked for. {ONCE}",
    ),
    "blank class": (
        Status.BLANK_CLASS,
        {"blank_confidence": np.float32(0.6)},
        f"{KEEPS}; {LOSES}. But it says “espresso” of the blank picture, too (0.60): that is not conclusive.",
    ),
    "contrast": (
        Status.COMPLETE,
        {"contrast": np.int32(0)},
        f"Asked to choose between “espresso” and “iPod”: {KEEPS[0].lower()}{KEEPS[1:]}; {LOSES}. {ONCE}",
    ),
    "counterfactual": (
        Status.COUNTERFACTUAL,
        {"predicted": np.int32(0), "predicted_confidence": np.float32(0.62)},
        "The network says “iPod” (0.62) of the whole picture; these 12 % of the pixels alone make it say “espresso” "
        f"(0.90). {ONCE}",
    ),
    "empty": (
        Status.NEITHER,
        FAILS | STAYS | {"area": np.float32(0)},
        "The mask is empty: it keeps no pixel, and of the blank picture the network says “iPod” (“espresso” 0.30).",
    ),
    "everything": (
        Status.COMPLETE,
        {"area": np.float32(1)},
        f"All of the pixels make the network say “espresso” (0.90); {LOSES}. {ONCE}",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_the_sentence_says_what_was_found(case):
    status, fields, said = SAID[case]
    found = dataclasses.replace(synthetic.explanation(32, status), names=("iPod", "espresso"), **fields)
    assert wording.sentence(found) == said


def test_a_decision_that_breaks_is_said_to():
    held = dataclasses.replace(HELD[120], counts=Tally(*np.array([80, 80, 80, 110])))
    found = dataclasses.replace(synthetic.explanation(32, Status.DECISION_BREAKS), precision=held)
    ending = "The decision itself breaks: for only 55 % of small changes does the whole picture keep its class."
    assert wording.sentence(found).endswith(ending)
    assert wording.line(found, "cup") == "cup: “1”, 12 % of the pixels, decision breaks, does not hold (40 %)"
