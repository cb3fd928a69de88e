"""Trains a network: `python -m experiments.train recipe=cifar10 data.path=cifar-10-python.tar.gz` (`--help` for the
rest).
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import hydra
import jax
import numpy as np
from omegaconf import DictConfig
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evomask import training
from evomask.data import Dataset, pictures
from evomask.files import write_atomically
from evomask.report import records
from evomask.types import Classifier, InputError

from .shared import cli, memory


class Stopwatch:
    """Wall and processor seconds of a run over all its sittings, kept in `path`."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.before = json.loads(path.read_text()) if path.exists() else {"wall": 0.0, "processor": 0.0}
        except ValueError as error:
            raise InputError(
                f"'{path}' is damaged ({error}): delete it, and the seconds are counted from zero"
            ) from error
        self.began = time.perf_counter(), time.process_time()

    def save(self) -> dict[str, float]:
        seconds = {
            "wall": self.before["wall"] + time.perf_counter() - self.began[0],
            "processor": self.before["processor"] + time.process_time() - self.began[1],
        }
        write(self.path, json.dumps(seconds))
        return seconds


def write(path: Path, text: str) -> None:
    content = text.encode("utf-8", "backslashreplace")  # names may be any bytes
    write_atomically(path, lambda file: file.write(content))


def progress_bar(total: int, per_epoch: int, batch_size: int):
    """A progress bar and the `on_step` that moves it; without a terminal, one line for each epoch."""
    columns = ("epoch {task.fields[epoch]}", "{task.fields[text]}")
    bar = Progress(
        TextColumn(columns[0]),
        BarColumn(),
        TextColumn(columns[1]),
        TimeRemainingColumn(),
        disable=not sys.stdout.isatty(),
    )
    task = bar.add_task("", total=total, epoch=1, text="compiling")
    last = None  # (steps done, time) at the last update

    def on_step(state: training.TrainState, done: int) -> None:
        nonlocal last
        end = done % per_epoch == 0
        if last is not None and not end and (bar.disable or done % 10):
            return
        epoch, now = (done - 1) // per_epoch, (done, time.perf_counter())
        loss, accuracy = float(state.loss[done - 1]), float(state.accuracy[done - 1])
        speed = "" if last is None else f"  {(done - last[0]) * batch_size / (now[1] - last[1]):,.0f} images/s"
        tested = (
            f"  test accuracy {float(state.test_accuracy[epoch if end else epoch - 1]):.4f}" if end or epoch else ""
        )
        text = f"loss {loss:.3f}  accuracy {accuracy:.3f}{speed}{tested}"
        bar.update(task, completed=done, epoch=epoch + 1, text=text)
        if end and bar.disable:
            print(f"epoch {epoch + 1}  {text}", flush=True)
        last = now

    return bar, on_step


def stop_on_interrupt():
    """A function that says whether Ctrl-C was pressed; pressed twice, it stops at once."""
    pressed = []

    def handler(*_):
        pressed.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handler)
    return lambda: bool(pressed)


class Job(NamedTuple):
    """What is trained on what, and where it goes."""

    name: str
    out: Path
    recipe: training.Recipe
    train: Dataset
    test: Dataset
    trainable: training.Trainable
    source: str  # of the images

    @property
    def per_epoch(self) -> int:
        return len(self.train) // self.recipe.batch_size


class Trained(NamedTuple):
    """What came out of it."""

    state: training.TrainState
    classifier: Classifier
    measured: dict[str, float | int | str]


def prepare(config: DictConfig) -> Job:
    """Everything that can be wrong with the options is found here, before the training."""
    recipe = cli.instantiate(config.recipe)
    train, test = cli.instantiate(config.data)
    trainable = hydra.utils.instantiate(config.model, num_classes=len(train.names), _convert_="all")
    if config.start is not None:
        trainable = training.start_from(pictures.located(config.start) / "checkpoints", trainable, train)
    training.check_sets(train, test, recipe)
    if str(config.name) != Path(str(config.name)).name:
        raise InputError(f"name is {config.name!r}: give a name for files, and the folder as out=...")
    source = config.data.get("path") or config.data["_target_"]
    return Job(str(config.name), records.prepare_folder(config.out), recipe, train, test, trainable, source)


def learn(job: Job) -> Trained:
    """Trains, under a progress bar, from the newest checkpoint where there is one; then measures."""
    bar, on_step = progress_bar(job.recipe.epochs * job.per_epoch, job.per_epoch, job.recipe.batch_size)
    before = signal.getsignal(signal.SIGINT)
    try:
        stop = stop_on_interrupt()
        with bar:
            folder = job.out / "checkpoints"
            state = training.fit(job.trainable, job.train, job.test, job.recipe, folder, on_step, stop)
    finally:
        signal.signal(signal.SIGINT, before)
    classifier = training.finished(job.trainable, state, job.train, job.recipe)
    return Trained(state, classifier, training.measure(classifier, job.test))


def curves(state: training.TrainState, per_epoch: int) -> str:
    """CSV, one row a step: loss, accuracy on the batch and, at the end of an epoch, on the test set."""
    text = io.StringIO()
    rows, tests = csv.writer(text, lineterminator="\n"), np.asarray(state.test_accuracy)
    rows.writerow(["step", "loss", "accuracy", "test_accuracy"])
    for i, (loss, accuracy) in enumerate(zip(np.asarray(state.loss), np.asarray(state.accuracy)), 1):
        rows.writerow([i, loss, accuracy, "" if i % per_epoch else tests[i // per_epoch - 1]])
    return text.getvalue()


def card(job: Job, trained: Trained, seconds: dict[str, float]) -> str:
    """The Markdown card of what was trained by this command line."""
    command = shlex.join(["evomask", "train", *sys.argv[1:]])
    return training.card(job.name, command, job.recipe, job.source, job.train, trained.measured, seconds, machine())


def write_all(job: Job, trained: Trained, seconds: dict[str, float]) -> None:
    """Weights, card and curves, each whole or not at all."""
    write(job.out / "curves.csv", curves(trained.state, job.per_epoch))
    job.trainable.save(trained.classifier, job.out / f"{job.name}.safetensors")
    write(job.out / f"{job.name}.md", card(job, trained, seconds))


def machine() -> str:
    """What the training ran on, such as "2 CPU cores"."""
    device = jax.devices()[0]
    return f"{len(os.sched_getaffinity(0))} CPU cores" if device.platform == "cpu" else device.device_kind


def train(config: DictConfig) -> None:
    """Trains, writes, and says what came out."""
    job = prepare(config)
    watch = Stopwatch(job.out / "seconds.json")
    try:
        trained = learn(job)
    finally:
        seconds = watch.save()
    write_all(job, trained, seconds)
    found = trained.measured
    print(
        f"{job.name}: test accuracy {found['test accuracy']:.4f}, calibration error {found['calibration error']:.4f}; "
        f"the blank image is {found['blank label']} ({found['blank confidence']:.3f})"
    )
    print(f"weights {job.out / job.name}.safetensors, card {job.out / job.name}.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(train_or_stop, "train", argv, cli.CONF / "train")


def train_or_stop(config: DictConfig) -> int:
    try:
        train(config)
    except training.Interrupted as stopped:
        cli.say(f"{stopped}; the same command goes on from there")
        return 130
    return 0


if __name__ == "__main__":
    memory.keep_freed()
    sys.exit(main())
