"""From a configuration to the numbers of an image: what decides them, and the function that makes them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from evomask import fills, perturbations, presets
from evomask.data import pictures
from evomask.decisions import Classes
from evomask.measures import metrics
from evomask.questions import ask
from evomask.types import Classifier, InputError, Key

from ..shared import cli
from . import judge, measured, protocol, runs, sources
from .trust import Trust

if TYPE_CHECKING:  # which images there are, their own digest says
    from .imagesets import ImageSet

OURS = "evomask.explain"  # the target of conf/method/evomask.yaml and its like


def decisive(config: DictConfig, weights: str, images: ImageSet, elsewhere: str | None = None) -> dict[str, Any]:
    """What decides the numbers of a run, and nothing else: its hash is the name of the run."""
    method = plain(config.method)
    # The fill is one for all methods; the interpreter says where, not what.
    method = {key: method[key] for key in method if key not in ("fill", "python")}
    if method["_target_"] == OURS:
        method |= preset(config)
    if "path" in method and not method["_target_"].startswith("hydra.utils."):  # what the file holds, wherever it lies
        method["path"] = sources.digest(np.frombuffer(_read(method["path"]), np.uint8))
    names = ("budget", "seeds", "cut_steps", "cut_areas", "auc_steps", "fidelity_subsets")
    found = {
        "schema": runs.SCHEMA,
        "method": method,
        "fill": plain(config.preset.fill),
        "confidence_ratio": config.preset.confidence_ratio,
        "model": {key: value for key, value in plain(config.model).items() if key != "path"},
        "weights": weights,
        "images": images.arrays(),
        **{name: plain(config[name]) for name in names},
    }
    if not isinstance(decision := cli.instantiate(config.decision), Classes):
        found["decision"] = plain(config.decision) | {"arrays": jax.tree.leaves(decision)}
    if config.trust is not None:
        found["trust"] = plain(config.trust) | {"demand": config.preset.demand, "elsewhere": elsewhere}
    if config.shuffled:
        found["shuffled"] = True
    if measured.OWN:
        found["metrics"] = sorted(measured.OWN)
    own = sources.own(built(config))
    return found | ({"own": own} if own else {})


def built(config: DictConfig) -> dict[str, Any]:
    """The parts of a configuration whose `_target_`s decide the numbers."""
    method = plain(config.method)
    parts = preset(config) if method["_target_"] == OURS else {"fill": plain(config.preset.fill)}
    asked = {"model": plain(config.model), "decision": plain(config.decision)}
    return {"method": method, "parts": parts, **asked, "metrics": measured.OWN}


def preset(config: DictConfig) -> dict[str, Any]:
    """The preset under the budget of the job; stages that were set to null are left out."""
    node = plain(config.preset)
    stages = {name: stage for name, stage in node["stages"].items() if stage}
    for name in (name for name, stage in stages.items() if "_target_" not in stage):
        given = ", ".join(f"preset.stages.{name}.{key}" for key in stages[name])
        raise InputError(
            f"{given} is set, but stages={HydraConfig.get().runtime.choices['stages']} has no stage {name!r}: "
            "choose other stages, or leave that out"
        )
    return node | {"budget": config.budget, "stages": stages}


class Job(NamedTuple):
    """One run, and what it works with."""

    title: str  # what sets it apart from the other jobs of a sweep
    method: str
    folder: Path
    classifier: Classifier
    weights: str  # digest
    images: ImageSet
    elsewhere: Classifier | None = None  # another network, on which masks are judged too


def build(config: DictConfig, job: Job) -> Callable[[int, int], runs.Chunk]:
    """The function (seed, index of an image) -> its results.

    Images go through it one by one: the last bits of a compiled program's results can depend on how many images it was
    compiled for, and a run has the same bits however it is divided.

    Raises:
      InputError: a part of the method or its settings cannot be what they are.
    """
    fill = cli.instantiate(config.preset.fill)
    fill = fill if isinstance(fill, tuple) else (fill,)
    method = build_method(config, job.method, fill)
    rules = protocol.Protocol(
        config.preset.confidence_ratio,
        config.cut_steps,
        tuple(config.cut_areas),
        config.auc_steps,
        config.fidelity_subsets,
        build_trust(config, fill, job.elsewhere),
    )
    pixels, labels, truth = job.images.pixels, job.images.labels, job.images.truth

    def unlearnt(network: Classifier, image: np.ndarray, key: Key) -> np.ndarray:
        """The method's score for what the network with shuffled weights, the same for all methods, predicts."""
        key_shuffle, key_method = jax.random.split(key)
        network = metrics.shuffle_weights(key_shuffle, network)
        return method(network, ask(network, image, None, None, key_method, fill), key_method, config.budget).score

    def explain(seed: int, index: int) -> runs.Chunk:
        key, one = jax.random.key(seed), slice(index, index + 1)
        classifier = job.images.asked(job.classifier, index)
        questions = ask(classifier, pixels[one], labels[one], None, key, fill)
        found = method(classifier, questions, key, config.budget)
        if config.shuffled:
            found = found._replace(unlearnt=unlearnt(job.classifier, pixels[one], jax.random.fold_in(key, index)))
        chunk = protocol.measure(key, found, classifier, questions, None if truth is None else truth[one], rules)
        return protocol.identified(chunk, job.images, index, seed, job.method)

    return explain


def build_method(config: DictConfig, name: str, fill: tuple[fills.Fill, ...]) -> Callable[..., protocol.Found]:
    """The function (classifier, questions, key, budget) -> found."""
    if config.method["_target_"] == OURS:
        return functools.partial(protocol.evolve, cli.instantiate(OmegaConf.create(preset(config))))
    baseline = cli.instantiate(config.method)
    if not callable(baseline):
        raise InputError(
            f"method {name} is a {type(baseline).__name__}: give a function, or a class whose objects are called"
        )
    if dataclasses.is_dataclass(baseline) and any(field.name == "fill" for field in dataclasses.fields(baseline)):
        if len(fill) > 1:
            raise InputError(f"{name} blanks pixels in one way only: give one fill=... to compare it")
        baseline = dataclasses.replace(baseline, fill=fill[0])
    return functools.partial(protocol.attribute, baseline, name)


def build_trust(config: DictConfig, fill: tuple[fills.Fill, ...], elsewhere: Classifier | None) -> Trust | None:
    """How masks are put to the test; None where that is not asked."""
    asked = config.trust
    if asked is None:
        return None
    parts = {"fill": fill, "confidence_ratio": config.preset.confidence_ratio, "demand": config.preset.demand}
    tried = presets.evomask().replace(perturbation=perturbations.named(asked.perturbation), **parts)
    return Trust(judge.CHANGES[asked.perturbation], tried, asked.draws, asked.draws_apart, asked.prefixes, elsewhere)


def _read(path: str) -> bytes:
    try:
        return pictures.located(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"method.path={path} cannot be read ({error.strerror}): give the .npz file of heat maps"
        ) from error


def plain(node: Any) -> Any:
    """Resolved, and without types of OmegaConf."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
