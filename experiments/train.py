"""Trains a network: `python -m experiments.train recipe=cifar10 data.path=cifar-10-python.tar.gz` (`--help` for the
rest).
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hydra
import jax
import numpy as np
from omegaconf import DictConfig
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evomask import training
from experiments.shared import cli, memory


class Stopwatch:
    """Wall and processor seconds of a run over all its sittings, kept in `path`."""

    def __init__(self, path: Path):
        self.path = path
        self.before = json.loads(path.read_text()) if path.exists() else {"wall": 0.0, "processor": 0.0}
        self.began = time.perf_counter(), time.process_time()

    def save(self) -> dict[str, float]:
        seconds = {
            "wall": self.before["wall"] + time.perf_counter() - self.began[0],
            "processor": self.before["processor"] + time.process_time() - self.began[1],
        }
        write(self.path, json.dumps(seconds))
        return seconds


def write(path: Path, text: str) -> None:
    path.with_name(path.name + ".tmp").write_text(text, encoding="utf-8")
    os.replace(path.with_name(path.name + ".tmp"), path)


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


def write_curves(path: Path, state: training.TrainState, per_epoch: int) -> None:
    """One row a step: loss, accuracy on the batch and, at the end of an epoch, on the test set."""
    tests = np.asarray(state.test_accuracy)
    with open(path.with_name(path.name + ".tmp"), "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "loss", "accuracy", "test_accuracy"])
        for i, (loss, accuracy) in enumerate(zip(np.asarray(state.loss), np.asarray(state.accuracy)), 1):
            rows.writerow([i, loss, accuracy, "" if i % per_epoch else tests[i // per_epoch - 1]])
    os.replace(path.with_name(path.name + ".tmp"), path)


def machine() -> str:
    """What the training ran on, such as "2 CPU cores"."""
    device = jax.devices()[0]
    return f"{len(os.sched_getaffinity(0))} CPU cores" if device.platform == "cpu" else device.device_kind


def train(config: DictConfig) -> None:
    recipe = cli.instantiate(config.recipe)
    train, test = cli.instantiate(config.data)
    trainable = hydra.utils.instantiate(config.model, num_classes=len(train.names), _convert_="all")
    if config.start is not None:
        trainable = training.start_from(Path(config.start) / "checkpoints", trainable, train)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    per_epoch = len(train) // recipe.batch_size
    bar, on_step = progress_bar(recipe.epochs * per_epoch, per_epoch, recipe.batch_size)
    watch = Stopwatch(out / "seconds.json")
    try:
        with bar:
            state = training.fit(trainable, train, test, recipe, out / "checkpoints", on_step, stop_on_interrupt())
    finally:
        seconds = watch.save()
    write_curves(out / "curves.csv", state, per_epoch)
    classifier = training.finished(trainable, state, train)
    trainable.save(classifier, out / f"{config.name}.safetensors")
    found = training.measure(classifier, test)
    command = shlex.join(["python", "-m", "experiments.train", *sys.argv[1:]])
    source = config.data.get("path") or config.data["_target_"]
    text = training.card(config.name, command, recipe, source, train, found, seconds, machine())
    write(out / f"{config.name}.md", text)
    print(
        f"{config.name}: test accuracy {found['test accuracy']:.4f}, calibration error {found['calibration error']:.4f}; "
        f"the blank image is {found['blank label']} ({found['blank confidence']:.3f})"
    )
    print(f"weights {out / config.name}.safetensors, card {out / config.name}.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.run(train_or_stop, "train", argv, cli.CONF / "train")


def train_or_stop(config: DictConfig) -> int:
    try:
        train(config)
    except training.Interrupted as stopped:
        cli.report(f"{stopped}; the same command goes on from there")
        return 130
    return 0


if __name__ == "__main__":
    memory.keep_freed()
    sys.exit(main())
