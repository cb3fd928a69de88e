"""Methods on image sets; `python -m experiments.benchmark --help` says how, `benchmarks.runs` what it leaves behind."""

from __future__ import annotations

import functools
import json
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

import evomask
from evomask.baselines import rex
from evomask.report import records
from evomask.types import Classifier, InputError

from .benchmarks import imagesets, judge, runs, sources, sweeps
from .benchmarks.jobs import Job, build, built, decisive, plain
from .explain import image_shape
from .shared import cli
from .shared.compiling import compile_seconds

# Overrides that need no place in a title: they say where and how a run happens, not what it is.
ASIDE = ("experiment", "out", "chunk", "wait", "again", "data.path", "method.python", "launcher")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(benchmark, "benchmark", argv)


def benchmark(config: DictConfig) -> int:
    """One job: finds out which run it is, and does what is left of it. 0 done, 1 failed, 2 bad input."""
    check(config)
    job = prepare(config)
    partly = 2 if job.images.damaged else 0  # some images could not be read and are left out
    try:
        with runs.locked(job.folder, config.wait):
            declare(job)
            record = runs.begin(
                job.folder, new_record(config, job), OmegaConf.to_yaml(config, resolve=True), config.again
            )
            if record is None:
                cli.say(f"{job.title}: finished before, in {job.folder}")
                return partly
            return max(partly, _kept(config, job, record))
    except runs.Busy:
        cli.say(
            f"{job.title}: another process is working on this run, in {job.folder}, and finishes it "
            "(wait=true waits until it has)"
        )
        return 0


def check(config: DictConfig) -> None:
    """Raises InputError for values that have no meaning, before anything is loaded."""
    for name in ("budget", "chunk", "cut_steps", "auc_steps", "fidelity_subsets"):
        if isinstance(config[name], bool) or not isinstance(config[name], int) or config[name] < 1:
            raise InputError(f"{name} is {config[name]!r}: give a whole number of 1 or more")
    seeds = list(config.seeds) if isinstance(config.seeds, ListConfig) else [None]
    if not seeds or len(set(seeds)) < len(seeds) or not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
        raise InputError(
            f"seeds is {config.seeds}: give a list of different integers from 0 to {2**32 - 1}, such as [0,1,2]"
        )
    if type(config.shuffled) is not bool:
        raise InputError(f"shuffled is {config.shuffled!r}: give true or false")
    decision = HydraConfig.get().runtime.choices["decision"]
    if config.shuffled and decision != "classes":  # of others, what is asked would be shuffled as the weights are
        raise InputError(f"shuffled=true explains classes, not decision={decision}: leave one of them out")
    if config.trust is not None:
        check_trust(config.trust)
    if not all(isinstance(area, float) and 0 < area <= 1 for area in config.cut_areas):
        raise InputError(f"cut_areas is {config.cut_areas}: give fractions of the image, such as [0.05,0.1]")
    if any(override.lstrip("+~").startswith("method.fill") for override in HydraConfig.get().overrides.task):
        raise InputError("method.fill cannot be set here, for every method blanks pixels alike: set fill=...")


def check_trust(asked: DictConfig) -> None:
    """The same of how masks are judged."""
    if asked.perturbation not in judge.CHANGES:
        raise InputError(f"trust.perturbation is {asked.perturbation!r}: give one of {', '.join(judge.CHANGES)}")
    for name, least in (("draws", 1), ("draws_apart", 0), ("prefixes", 1)):
        if type(asked[name]) is not int or asked[name] < least:
            raise InputError(f"trust.{name} is {asked[name]!r}: give a whole number of {least} or more")


def prepare(config: DictConfig) -> Job:
    """Loads the network and the images, and derives from them and the configuration which run this is."""
    network, source = {"model": plain(config.model), "decision": plain(config.decision)}, plain(config.data)
    own = json.dumps(sources.own(network))  # an own network that was edited is another one
    classifier, weights = _classifier(json.dumps(network), own)
    images = _images(json.dumps(source), json.dumps(network), own, config.target)
    choices = HydraConfig.get().runtime.choices
    there = plain(config.trust.elsewhere) if config.trust is not None else None
    elsewhere, other = None, None
    if there:
        there = network | {"model": there}
        elsewhere, other = _classifier(json.dumps(there), json.dumps(sources.own(there)))
    name = sources.digest(decisive(config, weights, images, other))
    folder = records.prepare_folder(config.out) / choices.get("experiment", "benchmark").replace("/", "_") / name
    method = choices["method"]
    return Job(_title(method), method, folder, classifier, weights, images, elsewhere)


def declare(job: Job) -> None:
    """Writes beside the runs what the sweep of their experiment is, for tables to read."""
    choices = HydraConfig.get().runtime.choices
    if "experiment" in choices:
        sweeps.write(job.folder.parent, choices["experiment"])


def new_record(config: DictConfig, job: Job) -> dict[str, Any]:
    """record.json of a run that begins; the images are written beside it."""
    overrides = dict(
        override.lstrip("+").split("=", 1) for override in HydraConfig.get().overrides.task if "=" in override
    )
    overrides = {key: value for key, value in overrides.items() if key not in ASIDE}
    return {
        "schema": runs.SCHEMA,
        "status": "running",
        "error": None,
        "hash": job.folder.name,
        "experiment": job.folder.parent.name,
        "method": job.method,
        "choices": {
            k: v for k, v in plain(HydraConfig.get().runtime.choices).items() if "hydra" not in k and k != "launcher"
        },
        "overrides": overrides,
        "budget": config.budget,
        "seeds": plain(config.seeds),
        "images": {
            "file": runs.write_images(job.folder.parent, job.images.arrays()),
            "num": len(job.images.images),
            "left_out": job.images.left_out,
        },
        "weights": job.weights,
        "code": sources.version(built(config)),
        "versions": records.versions(),
        "device": jax.devices()[0].device_kind,
        "asked": datetime.now(UTC).isoformat(timespec="microseconds"),
        "sittings": [],
    }


def _kept(config: DictConfig, job: Job, record: dict[str, Any]) -> int:
    """`work`, with whatever happens noted in record.json; a failure is reported and does not stop the other jobs."""
    try:
        work(config, job, record)
        return 0
    except KeyboardInterrupt:
        runs.write_record(job.folder, record | {"status": "interrupted"})
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        error_record = {"type": type(error).__name__, "message": message, "traceback": traceback.format_exc()}
        runs.write_record(job.folder, record | {"status": "failed", "error": error_record})
        if cli.FULL_ERROR:
            raise
        cli.say(f"error: {job.title}: {message}")
        return 2 if isinstance(error, (*cli.BAD_INPUT, ValueError, ImportError)) else 1


def work(config: DictConfig, job: Job, record: dict[str, Any]) -> None:
    """Makes the chunks that are missing, then the rows of them all, and finishes the record."""
    sitting = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": 0.0, "compile_seconds": 0.0}
    record["sittings"] = [*record["sittings"], sitting]
    todo = runs.missing(job.folder, record["seeds"], len(job.images.names), config.chunk)
    total = len(job.images.names) * len(record["seeds"])
    before = total - sum(stop - start for _, start, stop in todo)
    begun = time.perf_counter()
    with compile_seconds() as compiled, _progress() as bar:
        explain = build(config, job)
        sitting["outside"] = outside(config.method)
        task = bar.add_task(job.title, total=total, completed=before, before=before)
        for seed, start, stop in todo:
            watch, found = time.perf_counter() - sum(compiled), []
            for index in range(start, stop):
                found.append(explain(seed, index))
                bar.advance(task)
            seconds = time.perf_counter() - sum(compiled) - watch
            runs.write_chunk(job.folder, seed, start, stop, runs.join(found), seconds)
            sitting |= {"seconds": round(time.perf_counter() - begun, 3), "compile_seconds": round(sum(compiled), 3)}
            runs.write_record(job.folder, record)
    seconds = {
        "run_seconds": round(runs.merge(job.folder), 3),
        "compile_seconds": round(sum(each["compile_seconds"] for each in record["sittings"]), 3),
    }
    runs.write_record(job.folder, record | {"status": "finished"} | seconds)


def outside(method: DictConfig) -> dict[str, str]:
    """Versions of the packages that a method runs in another environment than this one."""
    python = method.get("python")
    return {} if python is None else {"rex_xai": rex.start(python).version}


@functools.lru_cache(maxsize=2)  # of a job, with the network on which its masks are judged too
def _classifier(network: str, own: str) -> tuple[Classifier, str]:
    """The classifier that a model and a decision (JSON) stand for, and the digest of its arrays; kept for the next
    job, while the user's files that it is made of stay the same.
    """
    del own
    node = OmegaConf.create(json.loads(network))
    classifier = evomask.as_classifier(cli.instantiate(node.model))
    classifier = evomask.decisions.decided(classifier, cli.instantiate(node.decision))
    return classifier, sources.digest([np.asarray(leaf) for leaf in jax.tree.leaves(classifier)])


@functools.lru_cache(maxsize=1)
def _images(source: str, network: str, own: str, target: str) -> imagesets.ImageSet:
    """The images that a configuration (JSON) stands for, for that classifier; kept for the next job."""
    classifier, _ = _classifier(network, own)
    node = json.loads(source)
    num, only_correct = node.pop("num"), node.pop("only_correct")
    node |= {"shape": image_shape(classifier), "crop": getattr(classifier, "crop", 1.0)}
    found = imagesets.select(cli.instantiate(OmegaConf.create(node)), classifier, num, only_correct, target)
    fewer = "" if num is None or num == len(found.images) else f", fewer than data.num={num}"
    left_out = f"; {found.left_out} left out, which the network takes for something else" if found.left_out else ""
    cli.say(f"{len(found.images)} images{fewer}{left_out}")
    return found


def _title(method: str) -> str:
    """What the sweep of an experiment varies; without one, what was overridden."""
    overrides = [text.lstrip("+") for text in HydraConfig.get().overrides.task]
    varied = [text for text in overrides if text.partition("=")[0] in (HydraConfig.get().sweeper.params or ())]
    telling = varied or [text for text in overrides if text.partition("=")[0] not in ASIDE]
    return " ".join(text.removeprefix("method=") for text in telling) or method


class _Rate(ProgressColumn):
    """Images a second, or seconds an image."""

    def render(self, task: Task) -> Text:
        speed = (task.completed - task.fields["before"]) / (task.finished_time or task.elapsed or 1.0)
        return Text("" if not speed else f"{speed:.1f} images/s" if speed >= 1 else f"{1 / speed:.0f} s/image")


def _progress() -> Progress:
    title = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns = (
        title,
        BarColumn(12),
        MofNCompleteColumn(),
        _Rate(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), expand=True)


if __name__ == "__main__":
    from .benchmark import main as importable  # by its name, as the processes of a launcher look for it

    sys.exit(importable())
