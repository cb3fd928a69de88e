"""Trains a network: `python -m experiments.train recipe=cifar10 data.path=cifar-10-python.tar.gz`."""

from __future__ import annotations

import signal
import sys
import time

import hydra
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evomask import training


def progress_bar(total: int, per_epoch: int, batch_size: int):
    """A rich progress bar and the `on_step` callback that moves it."""
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    bar = Progress(*columns, disable=not sys.stdout.isatty())
    task = bar.add_task("", total=total, epoch=1, text="")
    last = [time.perf_counter(), None]

    def on_step(state, done):
        if done % 10 and done != total:
            return
        now, before = time.perf_counter(), last[1]
        rate = "" if before is None else f"{(done - before) * batch_size / (now - last[0]):.0f} images/s"
        last[:] = [now, done]
        text = f"loss {float(state.loss[done - 1]):.3f}  accuracy {float(state.accuracy[done - 1]):.3f}  {rate}"
        bar.update(task, completed=done, epoch=(done - 1) // per_epoch + 1, text=text)
        if bar.disable and done % per_epoch < 10:
            print(f"step {done} of {total}: {text}  test {[round(float(a), 4) for a in state.test_accuracy if a]}", flush=True)

    return bar, on_step


@hydra.main(version_base=None, config_path="../conf/train", config_name="train")
def main(config) -> None:
    recipe = hydra.utils.instantiate(config.recipe, _convert_="all")
    train, test = hydra.utils.instantiate(config.data)
    module = hydra.utils.instantiate(config.model, num_classes=len(train.names), _convert_="all")
    per_epoch = len(train) // recipe.batch_size
    bar, on_step = progress_bar(recipe.epochs * per_epoch, per_epoch, recipe.batch_size)
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    began = time.perf_counter()
    try:
        with bar:
            state = training.fit(training.linen(module), train, test, recipe, f"{config.out}/checkpoints", on_step,
                                 lambda: bool(interrupted))
    except training.Interrupted as stopped:
        sys.exit(f"{stopped}; the same command goes on from there")
    print(f"{time.perf_counter() - began:.0f} s, test accuracy {float(state.test_accuracy[-1]):.4f}")


if __name__ == "__main__":
    main()
