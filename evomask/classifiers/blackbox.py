"""Any Python function of a batch of images as a `Classifier`: PyTorch, ONNX Runtime, scikit-learn, a service elsewhere.

The function gets f32[N, H, W, C] in [0, 1], a NumPy array of its own, and returns scores [N, K]. Where `model`,
`session` and `estimator` are yours, and channels-first and normalisation are theirs:

    def torch_model(images):
        with torch.inference_mode():
            return model((torch.from_numpy(images).permute(0, 3, 1, 2) - mean) / std).numpy()

    def onnx_session(images):
        return session.run(None, {"input": images.transpose(0, 3, 1, 2)})[0]

    def sklearn_estimator(images):  # with outputs="probabilities"
        return estimator.predict_proba(images.reshape(len(images), -1))

    def service(images):  # with timeout=30, retries=5, workers=4
        body = io.BytesIO()
        np.save(body, images)
        with urllib.request.urlopen("http://localhost:8000/predict", body.getvalue()) as answer:
            return json.load(answer)

    found = evomask.explain(evomask.BlackBox(torch_model, 1000), images, key=jax.random.key(0))

Where many images are explained, `evomask.explain_stream` hands out each one as it is finished, so a service that dies
at the tenth takes nothing from the nine before.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import inspect
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from evomask import settings
from evomask.data.classes import as_names
from evomask.types import Array, InputError, record, static, whole

LONGEST_PAUSE = 60.0  # seconds between two attempts, however many went before
LAST_WAIT = 5.0  # seconds that the end of the process waits for attempts that were given up
UNDECIDED = (
    "sigmoid",
    "values",
)  # outputs that are not classes of which one is right: a decision says what is explained
OUTPUTS = ("logits", "probabilities", *UNDECIDED)
SURE = 1e-6  # of a sigmoid, which reaches 0 and 1 by rounding: 13.8 nats
SUM_TOLERANCE = 1e-3  # of probabilities, which should sum to one; half precision is off by less


@record
class BlackBox:
    """A Python function as a classifier, called once or twice for the whole batch of a generation (see
    `evomask.search.evaluate`).

    The function is called from the compiled search, by a callback. It must be deterministic for the same key
    to give the same masks, and must not mind being called from other threads. One that runs JAX itself is kept on the
    CPU, since an accelerator cannot run it while the search waits there for the answer. Equal functions share a
    compiled program,
    and functions are equal when they are the same object: define one once, not anew for every call.

    Args:
      function: images f32[N, H, W, C] in [0, 1] -> scores [N, K], anything that NumPy makes an array of numbers of;
        [N] will do where K is 1.
      num_classes: K; 2 or more, unless a decision makes alternatives of a single number.
      image_shape: the one (H, W, C) that it takes, if there is only one.
      labels: names of the K classes.
      outputs: what the scores are, "logits" or "probabilities" of classes of which one is right (they sum to one, and
        become logits by their logarithm), or "sigmoid", probabilities of labels of which several may be right: they
        become log-odds, and a decision says which label is explained, `evomask.decisions.Label("rain")`; "values",
        whatever numbers the decision takes.
      batch_size: the most images that the function is given at once, by all its workers together. Where it is smaller
        than a generation, several calls follow each other.
      timeout: seconds until an attempt counts as failed; None waits for ever. A function that hangs cannot be stopped:
        its thread is left behind, and the process waits for it at its end, five seconds at most.
      retries: how often an attempt that failed, whatever the exception, is repeated.
      backoff: seconds before the first repetition; each pause is twice the one before, a minute at most.
      workers: the most calls at a time. Above one, a batch is cut into as many parts, and each is retried on its own.

    Raises (from `explain`, in the words and the type of the function where it is the function's exception):
      TimeoutError: the last attempt took longer than `timeout`.
      InputError: the scores have another shape, are no numbers, or are not what `outputs` says. What is said of logits
        that look like probabilities is said at the first call only, before the search.

    >>> def warmth(images):
    ...     return [[image[..., 0].sum(), image[..., 2].sum()] for image in images]
    >>> classifier = BlackBox(warmth, num_classes=2, labels=("red", "blue"))
    >>> classifier(jnp.zeros((1, 4, 4, 3)).at[..., 0].set(1.0))
    Array([[16.,  0.]], dtype=float32)
    """

    function: Callable[[np.ndarray], np.ndarray] = static()
    num_classes: int = static()
    image_shape: tuple[int, int, int] | None = static(default=None)
    labels: tuple[str, ...] | None = static(default=None)
    outputs: str = static(default="logits")
    batch_size: int = static(default=256)
    timeout: float | None = static(default=None)
    retries: int = static(default=0)
    backoff: float = static(default=0.5)
    workers: int = static(default=1)

    def __post_init__(self):
        if not isinstance(self.function, _Same):
            for name, value in _settings(self).items():
                object.__setattr__(self, name, value)
        for name, form in (("image_shape", tuple), ("labels", as_names)):  # lists would not be hashable
            if getattr(self, name) is not None:
                object.__setattr__(self, name, form(getattr(self, name)))

    def __call__(self, images: Array) -> Array:
        # JAX prints the traceback of every failing callback before it raises it; ours appears once, where it is raised.
        logging.getLogger("jax._src.callback").addFilter(_not_ours)
        # In place costs next to nothing, but NumPy sees no accelerator's memory.
        return jax.lax.platform_dependent(images, cpu=self._in_place, default=self._copied)

    def _in_place(self, images: Array) -> Array:
        return buffer_callback(self._write, self._result(images), vmap_method="expand_dims")(images)

    def _copied(self, images: Array) -> Array:
        return jax.pure_callback(self._answer, self._result(images), images, vmap_method="expand_dims")

    def _result(self, images: Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((images.shape[0], self.num_classes), jnp.float32)

    def _write(self, _, scores: Any, images: Any) -> None:  # `Buffer`s
        np.asarray(scores)[...] = self._answer(np.asarray(images))

    def _answer(self, images: Array | np.ndarray) -> np.ndarray:
        """The callback: under vmap there are more leading axes, which become one batch."""
        # A copy, because the function may write into it and because JAX's own memory must not leave the callback.
        batch = np.array(images, np.float32).reshape(-1, *images.shape[-3:])
        try:
            parts = [
                self._logits(batch[done : done + self.batch_size]) for done in range(0, len(batch), self.batch_size)
            ]
        except BaseException as error:  # it passes through XLA as text: see `own_errors`
            raise _Failed(_remember(error)) from error
        return np.concatenate(parts).reshape(*images.shape[:-3], self.num_classes)

    def _logits(self, images: np.ndarray) -> np.ndarray:
        workers = min(self.workers, len(images))
        if workers == 1:
            scores = self._scores(images)
        else:
            with ThreadPoolExecutor(workers) as pool:
                scores = np.concatenate(list(pool.map(self._scores, np.array_split(images, workers))))
        if self.outputs == "probabilities":
            return np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        if self.outputs == "sigmoid":
            chances = np.clip(scores, np.float32(SURE), np.float32(1 - SURE))
            return np.log(chances) - np.log1p(-chances)
        if self.outputs == "values":
            return scores
        if self.function.is_new and _are_probabilities(scores):
            raise InputError(
                "the black box returned probabilities (from 0 to 1, summing to one) where logits were expected: pass "
                "outputs='probabilities' (logits that only happen to sum to one: add a constant to all of them)"
            )
        self.function.is_new = False
        return scores

    def _scores(self, images: np.ndarray) -> np.ndarray:
        """Scores f32[N, K] of a part of the batch, with repetitions."""
        for attempt in itertools.count():
            try:
                # A copy, while a later attempt may need what this one writes into, or goes on to when it is given up.
                scores = self.function(images if attempt == self.retries else images.copy(), self.timeout)  # pyright: ignore[reportCallIssue]
                break
            except Exception:
                if attempt == self.retries:
                    raise
            time.sleep(min(self.backoff * 2.0**attempt, LONGEST_PAUSE))
        return _checked(scores, (len(images), self.num_classes), self.outputs)


class _Same:
    """A function that equals another only if both are one object: not every callable has a hash, or one that tells.

    Calls are made in a thread that may be given up where there is a timeout, and with JAX on the CPU.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.is_new = True  # never answered yet
        # Every access to a bound method makes a new object.
        self._id = (id(function.__self__), id(function.__func__)) if inspect.ismethod(function) else (id(function),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._id == other._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return repr(self.function)

    def __call__(self, images: np.ndarray, timeout: float | None):
        if timeout is None:
            return self._on_cpu(images)
        answers: queue.SimpleQueue = queue.SimpleQueue()

        def work() -> None:
            try:
                answers.put((self._on_cpu(images), None))
            except BaseException as error:
                answers.put((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            answer, error = answers.get(timeout=timeout)
        except queue.Empty:
            _given_up.append(thread)
            raise TimeoutError(f"the black box took longer than {timeout:g} s for {len(images)} images") from None
        if error is not None:
            raise error
        return answer

    def _on_cpu(self, images: np.ndarray):
        with settings.users(), jax.default_device(jax.local_devices(backend="cpu")[0]):
            return self.function(images)


_given_up: list[threading.Thread] = []  # what still runs after its timeout


@atexit.register
def _end_given_up() -> None:
    """Ends the threads that were given up, each when it next comes back to Python, before the interpreter goes.

    One that comes back later finds no interpreter any more, and if C++ called it, that aborts the whole process.
    """
    until = time.monotonic() + LAST_WAIT
    while (alive := [thread for thread in _given_up if thread.is_alive()]) and time.monotonic() < until:
        for thread in alive:  # more than once: the function may catch it, and try again
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        alive[0].join(0.1)


class _Failed(Exception):
    """Carries the number of a remembered exception through XLA, which turns every exception into text."""


_failures: collections.OrderedDict[str, BaseException] = collections.OrderedDict()
_numbers = itertools.count()
_REMEMBERED = 64  # more than programs that fail at the same time


def _remember(error: BaseException) -> str:
    number = f"<black box failure {next(_numbers)}>"
    _failures[number] = error
    while len(_failures) > _REMEMBERED:
        _failures.popitem(last=False)
    return number


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """While open, an exception that a black box raised inside a compiled program comes out as itself.

    >>> def broken(images):
    ...     raise OSError("no route to the network")
    >>> with own_errors():
    ...     jax.jit(BlackBox(broken, 2))(jnp.ones((1, 4, 4, 3))).block_until_ready()
    Traceback (most recent call last):
    ...
    OSError: no route to the network
    """
    try:
        yield
    except Exception as error:
        text = f"{error} {error!r}"
        original = next((_failures.pop(number) for number in list(_failures) if number in text), None)
        if original is None:
            raise
        # Its cause stays what it was; XLA's account of the same failure is not shown.
        raise original from (original.__cause__ or original.__context__)


def completed(program: Callable[..., Any], *args, **kwargs) -> Any:
    """What a compiled program returns, finished; an exception that a black box raised in it comes out as itself.

    >>> completed(jax.jit(jnp.sum), jnp.arange(4))
    Array(6, dtype=int32)
    """
    with own_errors():
        return jax.block_until_ready(program(*args, **kwargs))


def _not_ours(entry: logging.LogRecord) -> bool:
    return not (entry.exc_info and isinstance(entry.exc_info[1], _Failed))


def _checked(scores, shape: tuple[int, int], outputs: str) -> np.ndarray:
    """The scores as f32[N, K]; NaN is left to the search and the verification, which treat it as for any classifier."""
    array = np.asarray(scores)
    if shape[1] == 1 and array.shape == shape[:1]:
        array = array[:, None]
    is_number = array.dtype.kind in "fiu" or jnp.issubdtype(array.dtype, jnp.floating)  # bfloat16 is of kind "V"
    if array.shape != shape or not is_number:
        raise InputError(
            f"the black box returned {array.dtype}{list(array.shape)} for {shape[0]} images: it must return numbers "
            f"[{shape[0]}, {shape[1]}], one row per image and one column per class"
        )
    array = array.astype(np.float32)
    known = array[~np.isnan(array).any(1)]
    if outputs == "probabilities" and not _are_probabilities(known):
        raise InputError(f"the black box returned {_unlike_probabilities(known)}")
    if outputs == "sigmoid" and known.size and not -SUM_TOLERANCE <= known.min() <= known.max() <= 1 + SUM_TOLERANCE:
        raise InputError(
            f"the black box returned values from {known.min():.4g} to {known.max():.4g} where sigmoids were promised, "
            "which are from 0 to 1: pass outputs='values' where they are log-odds already"
        )
    return array


def _unlike_probabilities(scores: np.ndarray) -> str:
    """What f32[N, K] are instead of probabilities, and the remedy."""
    low, high, sums = scores.min(), scores.max(), scores.sum(axis=1)
    if low >= -SUM_TOLERANCE and high <= 1 + SUM_TOLERANCE:
        # As logits they would go through a softmax, which makes 0.35 of the 0.99 of a sigmoid.
        return (
            f"values from 0 to 1 whose rows sum to {sums.min():.4g} to {sums.max():.4g}, not to one, where "
            "probabilities were promised: one class may be right for each image; the sigmoids of several labels at "
            "a time are outputs='sigmoid', with decision=evomask.decisions.Label(...)"
        )
    return (
        f"values from {low:.4g} to {high:.4g} where probabilities were promised, which are from 0 to 1 and sum to one: "
        "pass outputs='logits' where they are logits that a softmax makes probabilities of"
    )


def _are_probabilities(scores: np.ndarray) -> bool:
    low, high = -SUM_TOLERANCE, 1 + SUM_TOLERANCE
    sums = scores.sum(axis=1, dtype=np.float64)
    return bool(((scores >= low) & (scores <= high)).all() and (np.abs(sums - 1) <= SUM_TOLERANCE).all())


def _settings(box: BlackBox) -> dict[str, Any]:
    """The settings as plain Python values, or an InputError."""
    if not callable(box.function):
        raise InputError(f"function is a {type(box.function).__name__}: give a function of images f32[N, H, W, C]")
    if box.outputs not in OUTPUTS:
        raise InputError(f"outputs is {box.outputs!r}: give one of {', '.join(OUTPUTS)}")
    timeout = None if box.timeout is None else _seconds("timeout", box.timeout, "seconds above 0, or None")
    if timeout == 0:
        raise InputError(f"timeout is {box.timeout!r}: give seconds above 0, or None")
    least = {
        "num_classes": 1 if box.outputs in UNDECIDED else 2,
        "batch_size": 1,
        "workers": 1,
        "retries": 0,
    }
    backoff = _seconds("backoff", box.backoff, "seconds of 0 or more")
    numbers = {name: whole(name, getattr(box, name), number) for name, number in least.items()}
    return numbers | {"function": _Same(box.function), "timeout": timeout, "backoff": backoff}


def _seconds(name: str, value: Any, wanted: str) -> float:
    """A float of 0 or more, and not infinite, of any number."""
    try:
        seconds = float("nan") if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise InputError(f"{name} is {value!r}: give {wanted}")
    return seconds
