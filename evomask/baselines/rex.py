"""ReX through the `rex-xai` package, which pins NumPy 1.26 and therefore runs in an environment of its own."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from evomask.baselines import rex_worker
from evomask.baselines.base import on_host
from evomask.baselines.rex_worker import MUTANTS, receive, send
from evomask.fills import Constant
from evomask.measures.budget import Account, Spent
from evomask.types import InputError, Key, record, static

REMEDY = (
    "python3.11 -m venv .venv-rex; .venv-rex/bin/pip install torch==2.13.0 rex-xai==0.4.1; "
    "then python=.venv-rex/bin/python"
)


@record
class ReX:
    """ReX (Chockler, Kelly, Kroening & Sun 2024), `rex_xai` 0.4: the causal responsibility of every pixel for the
    label.

    `python` is the interpreter of the environment that ReX is installed in. It is started once, and sends masks
    whose probabilities are computed here, from the same classifier, pixels, fill and account as of any other method;
    ReX itself sees neither. A search divides the image at random into boxes and those that keep the label into boxes
    again, down to `tree_depth` divisions or `min_box_size` pixels; searches are multiplied with each other. The package
    makes 20 of them; here it is as many as the budget pays for, 14 evaluations for a division, or at most `iterations`.
    The mask that the package cuts from the map is not asked for: masks are cut from all maps by the same rules.
    Deterministic for a key; range [0, 1]; 0 everywhere where no mask had the label. Products are float32, as in the
    package: under a budget of many thousands the least of them may become 0, which `iterations=20` avoids.

    >>> from evomask.classifiers import as_classifier
    >>> classifier = as_classifier(lambda images: images.mean((1, 2)))
    >>> ReX()(classifier, np.ones((1, 8, 8, 3)), [0], key=jax.random.key(0), budget=50)
    Traceback (most recent call last):
    evomask.types.InputError: ReX needs an environment of its own, for it pins NumPy 1.26: python3.11 -m venv .venv-rex;
    ...
    """

    python: str | None = static(default=None)
    iterations: int | None = static(default=None)
    tree_depth: int = static(default=10)
    min_box_size: int = static(default=10)
    fill: Callable = Constant()

    __call__ = on_host

    def cost(self, image_shape: tuple[int, ...], budget: int) -> Spent:
        return Spent(forward=1 + MUTANTS * max((budget - 1) // MUTANTS, 1))  # at most

    def explain(self, predict: Account, image: np.ndarray, label: int, key: Key, budget: int) -> np.ndarray:
        if self.python is None:
            raise InputError(f"ReX needs an environment of its own, for it pins NumPy 1.26: {REMEDY}")
        fill_key, seed_key = jax.random.split(key)
        blank = np.asarray(self.fill(fill_key, image))
        worker = start(self.python)
        return worker.ask(
            lambda masks: predict(np.where(masks[..., None], image[None], blank[None])),
            shape=image.shape[:2],
            label=label,
            confidence=predict(image[None])[0, label],
            seed=int(jax.random.randint(seed_key, (), 0, 2**31 - 1)),
            budget=budget - 1,
            iterations=self.iterations or 0,
            tree_depth=self.tree_depth,
            min_box_size=self.min_box_size,
        )


class Worker:
    """A process that is asked for heat maps, and that asks back what the classifier says of masks.

    Raises:
      InputError: the process cannot be started, or ends before it is ready.
    """

    def __init__(self, command: Sequence[str]):
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)
        except OSError as error:
            self._log.close()
            raise InputError(f"python={command[0]!r} cannot be started ({error.strerror}): {REMEDY}") from error
        self.close = weakref.finalize(self, _end, self._process, self._log)
        try:
            self.version = receive(self._process.stdout)["rex"].item()
        except EOFError as error:
            said = self._last_words()
            self.close()
            raise InputError(f"python={command[0]!r} cannot run ReX ({said}): {REMEDY}") from error

    def ask(self, predict: rex_worker.Predict, **request) -> np.ndarray:
        """The heat map f32[H, W]; RuntimeError where the process ends. Errors of `predict` are passed on and end it."""
        try:
            message = self._turn(**request)
            while "score" not in message:
                message = self._turn(probabilities=predict(message["masks"]))
        except BaseException:  # in the middle of a conversation, which the next one could not tell from its own
            self.close()
            raise
        return message["score"]

    def _turn(self, **arrays) -> dict[str, np.ndarray]:
        try:
            send(self._process.stdin, **arrays)
            return receive(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"ReX has stopped: {self._last_words()}") from error

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def start(python: str) -> Worker:
    """The worker of that interpreter, which is kept for the next image."""
    worker = _started(python)
    if not worker.close.alive:
        _started.cache_clear()
        worker = _started(python)
    return worker


@functools.cache
def _started(python: str) -> Worker:
    # -I: neither this folder, where modules are called shap and lime, nor PYTHONPATH are looked through for packages.
    return Worker([str(Path(python).expanduser()), "-I", rex_worker.__file__])


def _end(process: subprocess.Popen, log) -> None:
    process.kill()
    with contextlib.suppress(BrokenPipeError):  # what was still to be sent
        process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]
    process.stdout.close()  # pyright: ignore[reportOptionalMemberAccess]
    process.wait()
    log.close()
