"""What is measured of a heat map: one entry of `METRICS` each, which gives a column of rows.parquet and one of tables.

A metric is a function of `Asked` that returns f32[B], and a line in `METRICS`. The user's own need no line: each is a
file ./conf/metric/NAME.yaml where programs are run, with `_target_` (the function), `better` and `head`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import jax
import numpy as np
from omegaconf import OmegaConf

from evomask.measures import faithfulness, metrics
from evomask.types import Array, Classifier, InputError

GRID = 8  # cells along each side, for muFidelity


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a metric may look at; pixels are blanked as the masks blank them. What several need is measured once."""

    score: Array  # f32[B, H, W]
    classifier: Classifier
    images: np.ndarray  # f32[B, H, W, C]
    blanks: np.ndarray  # f32[B, H, W, C]
    labels: np.ndarray  # int32[B]
    truth: Array | None  # bool[B, H, W]
    protocol: Any  # `protocol.Protocol`
    unlearnt: np.ndarray | None = None  # f32[B, H, W], the heat map for the network with shuffled weights, if asked for

    @property
    def curve(self) -> tuple[Any, ...]:
        """The arguments that insertion and deletion share."""
        return self.classifier, self.images, self.labels, self.score, self.blanks

    @functools.cached_property
    def deletion(self) -> metrics.Curves:
        return metrics.deletion_curves(*self.curve, steps=self.protocol.auc_steps)

    @functools.cached_property
    def drops(self) -> tuple[Array, Array]:
        """With the same subsets for all methods and images."""
        return metrics.drops(*self.curve, fidelity_subsets(self.protocol.fidelity_subsets, self.score.shape[1:]))


class Metric(NamedTuple):
    """How a heat map is measured, and how tables show it."""

    of: Callable[[Asked], Array]  # -> f32[B]
    better: int  # 1: more is better, -1: less is, 0: neither
    failure: float = float("nan")  # counted in tables where the value is NaN
    head: str = ""  # of its column in tables; none without
    needs_truth: bool = False


def sensitivity_n(asked: Asked) -> Array:
    """With as many subsets in all as muFidelity has, the same for all methods and images."""
    num = max(asked.protocol.fidelity_subsets // len(faithfulness.SIZES), 2)
    return faithfulness.sensitivity_n(*asked.curve, key=0, grid=GRID, num=num)


def road(asked: Asked) -> Array:
    """With the same noise for all methods."""
    return faithfulness.road(asked.classifier, asked.images, asked.labels, asked.score, key=0)


def shuffled(asked: Asked) -> Array:
    """The rank correlation with the heat map for the network with shuffled weights (Adebayo et al. 2018); NaN where
    that was not asked for.
    """
    if asked.unlearnt is None:
        return np.full(len(asked.score), np.nan, np.float32)
    return jax.vmap(metrics.rank_correlation)(asked.score, asked.unlearnt)


METRICS = {
    "insertion_auc": Metric(
        lambda asked: metrics.insertion_auc(*asked.curve, steps=asked.protocol.auc_steps), 1, 0.0, "insertion"
    ),
    "deletion_auc": Metric(lambda asked: metrics.mean_area(asked.deletion.probability), -1, 1.0, "deletion"),
    "mu_fidelity": Metric(lambda asked: jax.vmap(metrics.correlation)(*asked.drops), 1, 0.0, "muFidelity"),
    "sensitivity_n": Metric(sensitivity_n, 1, 0.0, "sensitivity-n"),
    "infidelity": Metric(lambda asked: faithfulness.infidelity_of(*asked.drops), -1, 1.0, "infidelity"),
    "road": Metric(road, 1, -0.5, "ROAD"),
    "calibration": Metric(lambda asked: faithfulness.calibration_of(asked.deletion), -1, 1.0, "calibration"),
    "shuffled": Metric(shuffled, 0, head="shuffled weights"),
    "distinct": Metric(lambda asked: metrics.distinct(asked.score), 0, head="distinct scores"),
    "gini": Metric(lambda asked: metrics.gini(asked.score), 1),
    "pointing_game": Metric(lambda asked: metrics.pointing_game(asked.score, asked.truth), 1, needs_truth=True),
    "energy": Metric(lambda asked: metrics.energy_in_object(asked.score, asked.truth), 1, needs_truth=True),
}


def own_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """What the files of a folder say of metrics, {name: {"_target_": ..., "better": ..., "head": ...}}."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        allowed = {"_target_", *Metric._fields} - {"of"}
        if not isinstance(node, dict) or not {"_target_", "better"} <= node.keys() <= allowed:
            raise InputError(f"{path} is no metric: give _target_ and better; allowed are {', '.join(sorted(allowed))}")
        found[path.stem] = node
    return found


def from_yaml(node: dict[str, Any]) -> Metric:
    """The metric that a file describes; its function is looked up when it is first called."""
    of = lambda asked: hydra.utils.get_method(node["_target_"])(asked)
    return Metric(of, **{key: value for key, value in node.items() if key != "_target_"})


OWN = own_metrics(Path("conf") / "metric")
METRICS |= {name: from_yaml(node) for name, node in OWN.items()}


def heat_map(asked: Asked) -> dict[str, np.ndarray]:
    """Every metric, f32[B]; NaN where it needs a truth that nobody knows."""
    nothing = np.full(len(asked.score), np.nan, np.float32)
    return {
        name: nothing if metric.needs_truth and asked.truth is None else np.asarray(metric.of(asked))
        for name, metric in METRICS.items()
    }


@functools.lru_cache(maxsize=1)  # all images of a run ask for the same
def fidelity_subsets(num: int, shape: tuple[int, int]) -> np.ndarray:
    """bool[num, H, W]: each is a fifth of the cells of an 8 x 8 grid; the same ones for all methods and images.

    Single pixels, as in the paper, would be noise that hides no feature of a large image.
    """
    return faithfulness.enlarged(metrics.random_subsets(jax.random.key(0), num, (GRID, GRID), GRID**2 // 5), shape)
