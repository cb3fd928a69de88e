"""An `Explanation` with known values, for the tests of what is made from one."""

import numpy as np

from evomask import fills
from evomask.types import Answer, Explanation, History, Missing, Status, Verdict


def missing(status: Status, amount: float) -> Missing:
    """The same amount of every condition that the status says is not met."""
    conditions = np.array(
        [
            status is Status.NEITHER,
            status in (Status.NEITHER, Status.NOT_SUFFICIENT),
            status in (Status.NEITHER, Status.NOT_NECESSARY),
        ]
    )
    return Missing(*(amount * conditions.astype(np.float32)))


def explanation(size: int = 32, status: Status = Status.COMPLETE, infeasible: int = 3) -> Explanation:
    """One image, two stages, classes 0 and 1: a square of a quarter of the area, a smaller one in it."""
    gross = np.zeros((size, size), bool)
    gross[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
    fine = np.zeros((size, size), bool)
    fine[3 * size // 8 : 5 * size // 8, size // 4 : 3 * size // 4] = True
    rows, cols = np.mgrid[0:size, 0:size] / size - 0.5
    generations = np.arange(20)
    scalar = np.float32
    return Explanation(
        image=np.full((size, size, 3), 0.5, np.float32),
        blanks=np.zeros((1, size, size, 3), np.float32),
        mask=fine,
        stage_masks=np.stack([gross, fine]),
        score=(np.exp(-20 * (rows**2 + cols**2)) * fine).astype(np.float32),
        genome=np.array([[size // 2, size // 2, size // 8], [0, 0, -1]], np.int32),
        label=np.int32(1),
        contrast=np.int32(-1),
        confidence=scalar(0.8),
        masked_confidence=scalar(0.9),
        inverse_confidence=scalar(0.05),
        blank_confidence=scalar(0.01),
        predicted=np.int32(1),
        predicted_confidence=scalar(0.8),
        masked_label=np.int32(1),
        inverse_label=np.int32(0),
        blank_label=np.int32(0),
        stage_labels=np.array([1, 1], np.int32),
        stage_confidences=np.array([0.85, 0.9], np.float32),
        area=scalar(fine.mean()),
        cp=scalar(0.9 / fine.mean()),
        cp_floored=scalar(0.9 / fine.mean()),
        sufficient=np.bool_(True),
        necessary=np.bool_(True),
        complete=np.bool_(True),
        missing=missing(status, 2.5),
        missing_probability=missing(status, 0.3),
        under_fills=Verdict(*[np.array([True, True, False, True, False, True])] * 3),
        status=np.int32(status),
        evaluations=np.int32(2000),
        history=History(
            fitness=np.linspace(-1, 1, 20, dtype=np.float32),
            confidence=np.linspace(0.2, 0.9, 20, dtype=np.float32),
            area=np.linspace(0.7, 0.125, 20, dtype=np.float32),
            feasible=generations >= infeasible,
            evaluations=((generations + 1) * 100).astype(np.int32),
        ),
        whole=Answer(np.int32(1), scalar(0.8), np.log(scalar(0.8)), np.log(scalar(4)), scalar(0.6)),
        blank=Answer(np.int32(0), scalar(0.01), np.log(scalar(0.01)), np.log(scalar(0.01 / 0.99)), scalar(-0.98)),
        fills=tuple(fills.SHIPPED),
        stages=("gross", "fine"),
        ends=np.array([1000, 2000], np.int32),
    )
