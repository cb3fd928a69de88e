"""Any Python function is a classifier: the same masks as a native one, its own errors, and nothing lost to a bad
service.
"""

import contextlib
import http.server
import io
import json
import logging
import threading
import time
import traceback
import urllib.error
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import nnx
from hydra import compose, initialize_config_dir
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import evomask
from evomask import operators, validate
from evomask.baselines import RISE
from evomask.classifiers import blackbox
from evomask.classifiers.blackbox import BlackBox, own_errors
from evomask.measures import metrics
from evomask.measures.budget import Account
from evomask.search import fitness
from evomask.search.config import Config
from evomask.types import InputError
from experiments.shared import cli

KEY = jax.random.key(5)
SIDE = 8
CONFIG = Config(
    stages=(evomask.Stage("only", population=10, genes=4, radii=(1, 2), generations=11),),
    operators=evomask.Operators(operators.Tournament(2), operators.Uniform(0.5), operators.Replace(), operators.Plus()),
    fitness=fitness.smallest_complete(),
)
GENERATION = 20  # ten masks and their inverses
EVIDENCE = oracles.box_mask((2, 2, 4, 2), SIDE, SIDE)
IMAGES = np.where(EVIDENCE[None, ..., None], 1.0, np.random.default_rng(0).uniform(0, 0.5, (2, SIDE, SIDE, 1)))
IMAGES = IMAGES.astype(np.float32)


def logits(images):
    """Class 1 where the box is bright: f32[N, 8, 8, 1] -> f32[N, 2]."""
    bright = 20.0 * (images[:, EVIDENCE, 0].mean(1) - 0.5)
    return np.stack([np.zeros_like(bright), bright], axis=1)


def probabilities(images):
    odds = np.exp(logits(images))
    return odds / odds.sum(1, keepdims=True)


class Service:
    """Calls whatever it is told to, so that many tests need only one compiled program; counts, and notes the sizes."""

    def __init__(self):
        self.function, self.sizes = logits, []

    def __call__(self, images):
        self.sizes.append(len(images))
        return self.function(images)


SERVICE = Service()
BOX = BlackBox(SERVICE, 2, image_shape=(SIDE, SIDE, 1))


@pytest.fixture
def service():
    SERVICE.function, SERVICE.sizes = logits, []
    BOX.function.is_new = True
    return SERVICE


def explain(classifier=BOX, images=IMAGES, config=CONFIG, **options):
    return evomask.explain(classifier, images, **{"key": KEY, "config": config} | options)


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# --------------------------------------------------------------------------------------------- the same as native


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(3)
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(4 * SIDE * SIDE, 3, rngs=rngs)

    def __call__(self, images):
        return 5.0 * self.dense(nnx.relu(self.conv(images)).reshape(images.shape[0], -1))


def test_a_flax_network_in_a_black_box_gives_the_same_masks_as_itself():
    """The function itself runs JAX, inside a callback of a program that waits for it: that must not hang either."""
    network = Network()
    forward = nnx.jit(lambda images: network(images))
    boxed = explain(BlackBox(lambda images: np.asarray(forward(jnp.asarray(images))), 3))
    native = explain(evomask.as_classifier(network))
    for field in ("mask", "stage_masks", "genome", "label", "status", "evaluations"):
        np.testing.assert_array_equal(getattr(boxed, field), getattr(native, field), err_msg=field)
    np.testing.assert_allclose(boxed.masked_confidence, native.masked_confidence, atol=1e-5)
    np.testing.assert_allclose(boxed.score, native.score, atol=1e-4)
    assert len(np.unique(boxed.mask, axis=0)) == 2 and 0 < boxed.area.min()


def test_the_function_is_called_once_for_each_generation(service):
    found = explain()
    assert found.complete.all()
    searched = [size for size in service.sizes if size > 1]  # the verification looks at one image at a time
    assert searched == [GENERATION] * 12 * 2
    assert found.evaluations.tolist() == [sum(searched) // 2] * 2
    assert service.sizes[:2] == [1, 1] and set(service.sizes) == {1, GENERATION}


def test_the_function_gets_an_array_of_its_own(service):
    def careless(images):
        assert isinstance(images, np.ndarray) and images.dtype == np.float32 and images.shape[1:] == (SIDE, SIDE, 1)
        scores = logits(images)
        images[:] = np.nan
        return scores.tolist()

    expected = explain()
    service.function = careless
    assert_same(explain(), expected)


def test_probabilities_become_logits(service):
    expected = explain()
    found = explain(BlackBox(probabilities, 2, outputs="probabilities"))
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.masked_confidence, expected.masked_confidence, atol=1e-5)
    certain = BlackBox(lambda images: [[0, 1]] * len(images), 2, outputs="probabilities")(jnp.asarray(IMAGES))
    np.testing.assert_allclose(jax.nn.softmax(certain), [[0, 1]] * 2)
    assert np.isfinite(certain).all()


def test_under_vmap_there_is_one_call(service):
    seen = jax.vmap(BOX)(jnp.asarray(np.stack([IMAGES] * 3)))
    assert service.sizes == [6] and seen.shape == (3, 2, 2)
    np.testing.assert_allclose(seen[2], logits(IMAGES), rtol=1e-6)


def test_each_function_has_a_program_of_its_own():
    """A callable that claims to equal every other, and has no hash, is told apart all the same."""

    class Constant:
        def __init__(self, favourite):
            self.favourite = favourite

        def __eq__(self, other):
            return True

        def scores(self, images):
            return 9.0 * np.eye(3)[[self.favourite] * len(images)]

        __call__ = scores

    program = jax.jit(lambda box, images: box(images))
    zero, one = Constant(0), Constant(1)
    said = [program(BlackBox(f, 3), IMAGES).argmax(1).tolist() for f in (zero, one, zero.scores, one.scores, one)]
    assert said == [[0, 0], [1, 1], [0, 0], [1, 1], [1, 1]]
    assert program._cache_size() == 4
    assert BlackBox(one.scores, 3) == BlackBox(one.scores, 3) != BlackBox(one.scores, 3, timeout=1.0)


def test_scikit_learn():
    """Ten digits by logistic regression: its own predictions, seen through masks."""
    digits = load_digits()
    pixels = digits.data / 16
    estimator = LogisticRegression(C=10.0, max_iter=2000).fit(pixels[:500], digits.target[:500])
    function = lambda images: estimator.predict_proba(images.reshape(len(images), -1))
    box = BlackBox(function, 10, image_shape=(8, 8, 1), labels=map(str, digits.target_names), outputs="probabilities")
    found = explain(box, pixels[:3].reshape(3, 8, 8, 1))
    assert found.label.tolist() == estimator.predict(pixels[:3]).tolist() == [0, 1, 2]
    kept = pixels[:3] * found.mask.reshape(3, -1)
    expected = estimator.predict_proba(kept)[np.arange(3), found.label]
    np.testing.assert_allclose(found.masked_confidence, expected, atol=1e-5)
    np.testing.assert_array_equal(found.masked_label, estimator.predict(kept))
    assert found.complete.sum() >= 2 and box.labels[3] == "3"


# ---------------------------------------------------------------------------------------------------- what goes wrong


class Overheated(Exception):
    """Not one that anybody else raises; its message is not its only argument."""

    def __init__(self, code, where):
        super().__init__(code, where)
        self.code = code


def dies_at(call, error):
    calls = iter(range(10**6))

    def function(images):
        if next(calls) == call:
            raise error
        return logits(images)

    return function


@pytest.mark.parametrize("call", [0, 2, 9], ids=["first", "search", "later"])
def test_an_exception_comes_out_as_itself(service, call, caplog, capfd):
    error = Overheated(7, "rack 3")
    service.function = dies_at(call, error)
    with pytest.raises(Overheated) as caught:
        explain()
    assert caught.value is error and caught.value.code == 7
    text = "".join(traceback.format_exception(caught.value))
    assert "in function\n    raise error" in text and "XlaRuntimeError" not in text and "JaxRuntimeError" not in text
    assert not caplog.records and "Traceback" not in capfd.readouterr().err  # said once, where it is raised
    assert len(service.sizes) == call + 1  # nothing is asked any more
    service.function = logits
    assert explain().complete.all()  # no trace is left


@pytest.mark.parametrize(
    "ask",
    [
        lambda: RISE()(BOX, IMAGES[:1], [1], key=KEY, budget=8),
        lambda: Account(BOX, 8)(IMAGES),
        lambda: metrics.judge(BOX, IMAGES[:1], [1], np.ones((1, *IMAGES.shape[1:3]), bool), IMAGES[:1]),
        lambda: metrics.deletion_auc(BOX, IMAGES[:1], [1], IMAGES[:1, :, :, 0], IMAGES[:1], steps=2),
        lambda: metrics.mu_fidelity(BOX, IMAGES[:1], [1], IMAGES[:1, :, :, 0], IMAGES[:1], IMAGES[:2, :, :, 0] > 0),
    ],
    ids=["compiled", "on the host", "judge", "auc", "fidelity"],
)
def test_whoever_asks_lets_an_exception_out(service, ask):
    error = Overheated(7, "rack 3")
    service.function = dies_at(0, error)
    with pytest.raises(Overheated) as caught:
        ask()
    assert caught.value is error


def test_certifying_lets_an_exception_out(service):
    found = explain()
    error = Overheated(7, "rack 3")
    service.function = dies_at(0, error)
    with pytest.raises(Overheated) as caught:
        evomask.certify(BOX, IMAGES, found, key=KEY, config=CONFIG)
    assert caught.value is error


@pytest.mark.parametrize("way", ["_in_place", "_copied"])
def test_both_ways_out_of_a_compiled_program(service, way):
    """The one of accelerators runs on a CPU too: same scores, one call for a whole batch, and its exceptions as
    themselves.
    """
    call = jax.jit(getattr(BOX, way))
    np.testing.assert_array_equal(call(IMAGES), logits(IMAGES))
    many = np.stack([IMAGES, 1 - IMAGES, 0 * IMAGES])
    np.testing.assert_array_equal(jax.vmap(call)(many), np.stack([logits(images) for images in many]))
    assert service.sizes == [2, 6]
    error = Overheated(7, "rack 3")
    service.function = dies_at(0, error)
    with pytest.raises(Overheated) as caught:
        blackbox.completed(call, IMAGES)
    assert caught.value is error


def test_the_cause_of_an_exception_is_kept():
    def function(images):
        try:
            return {}["weights"]
        except KeyError as error:
            raise OSError("cannot load the model") from error

    with pytest.raises(OSError, match="^cannot load the model$") as caught:
        explain(BlackBox(function, 2))
    assert isinstance(caught.value.__cause__, KeyError)


def test_other_errors_pass_and_other_callbacks_are_still_logged(caplog):
    with pytest.raises(ZeroDivisionError), own_errors():
        1 / 0

    def broken(x):
        raise OSError("not a black box")

    with pytest.raises(Exception, match="not a black box"), own_errors():
        jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(broken, x, x))(jnp.ones(2)))
    assert any(entry.name == "jax._src.callback" and entry.levelno == logging.ERROR for entry in caplog.records)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: logits(x)[:, :1],
            r"returned float32\[1, 1\] for 1 images: it must return numbers \[1, 2\], one row",
        ),
        (lambda x: logits(x)[0], r"returned float32\[2\] for 1 images: it must return numbers \[1, 2\]"),
        (lambda x: [["cat", "dog"]] * len(x), r"returned <U3\[1, 2\] for 1 images"),
        (lambda x: None, r"returned object\[\] for 1 images"),
        (probabilities, "returned probabilities .* where logits were expected: pass outputs='probabilities'"),
        (lambda x: np.nan * logits(x), "returned NaN or infinity for 1 of 1 images"),
    ],
    ids=["one class", "one row", "names", "nothing", "probabilities", "nan"],
)
def test_bad_answers_are_named_at_the_first_call(service, function, message):
    service.function = function
    with pytest.raises(InputError, match=message):
        explain()
    assert service.sizes == [1]


def test_logits_are_not_held_for_probabilities_later_on(service):
    """At the first call one speaks of the whole image; later any image may have logits that sum to one."""
    service.function = lambda images: logits(images) if len(service.sizes) < 3 else np.array([[0.5, 0.5]] * len(images))
    assert explain().history.confidence[:, -1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("scores", [[3.0, -1.0], [0.9, 0.9], [-0.5, 1.5]])
def test_probabilities_that_are_none(scores):
    with pytest.raises(InputError, match="values from .* where .*probabilities were promised"):
        explain(BlackBox(lambda images: [scores] * len(images), 2, outputs="probabilities"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(function=3), "function is a int: give a function"),
        (dict(num_classes=1), "num_classes is 1: give a whole number of 2 or more"),
        (dict(outputs="scores"), "outputs is 'scores': give one of logits, probabilities, sigmoid, values"),
        (dict(batch_size=0), "batch_size is 0: give a whole number of 1 or more"),
        (dict(workers=1.5), "workers is 1.5: give a whole number of 1 or more"),
        (dict(retries=-1), "retries is -1: give a whole number of 0 or more"),
        (dict(timeout=0), "timeout is 0: give seconds above 0, or None"),
        (dict(backoff=-1.0), "backoff is -1.0: give seconds of 0 or more"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        BlackBox(**{"function": logits, "num_classes": 2} | settings)


def test_what_other_checks_say_of_a_black_box():
    with pytest.raises(InputError, match=r"takes images of shape \(8, 8, 1\), got \(8, 4, 1\): resize"):
        explain(images=IMAGES[:, :, :4])
    with pytest.raises(InputError, match="has 2 classes and 3 labels"):
        explain(BlackBox(logits, 2, labels=["a", "b", "c"]))
    with pytest.raises(InputError, match="compares features, but the classifier has none"):
        validate.inputs(BOX, IMAGES, None, None, evomask.presets.dissertation())


# -------------------------------------------------------------------------------------------- slow and bad services


def test_repetitions_back_off_exponentially(monkeypatch):
    pauses = []
    monkeypatch.setattr(blackbox, "LONGEST_PAUSE", 3.0)
    monkeypatch.setattr(time, "sleep", pauses.append)
    calls = iter(range(100))

    def recovers_at_the_fifth(images):
        if next(calls) < 4:
            raise ConnectionError("busy")
        return logits(images)

    box = BlackBox(recovers_at_the_fifth, 2, retries=4)
    np.testing.assert_array_equal(box(jnp.asarray(IMAGES)), logits(IMAGES))
    assert pauses == [0.5, 1.0, 2.0, 3.0]
    with pytest.raises(ConnectionError, match="^still busy$"), own_errors():
        np.asarray(BlackBox(dies_at(0, ConnectionError("still busy")), 2)(jnp.asarray(IMAGES)))


def test_a_bad_answer_is_not_asked_for_again():
    calls = []
    with pytest.raises(InputError, match=r"returned int64\[2\]"), own_errors():
        np.asarray(BlackBox(lambda images: calls.append(1) or [1, 2], 2, retries=5)(jnp.asarray(IMAGES)))
    assert len(calls) == 1


def test_a_hanging_call_is_given_up_and_repeated():
    woken, calls = threading.Event(), iter(range(100))

    def hangs_once(images):
        if next(calls) == 0:
            woken.wait(30)
            images[:] = np.nan  # far too late
        return logits(images)

    with pytest.raises(TimeoutError, match=r"^the black box took longer than 0.05 s for 2 images$"), own_errors():
        np.asarray(BlackBox(hangs_once, 2, timeout=0.05)(jnp.asarray(IMAGES)))
    calls = iter(range(100))
    box = BlackBox(hangs_once, 2, timeout=0.2, retries=1, backoff=0.0)
    np.testing.assert_array_equal(box(jnp.asarray(IMAGES)), logits(IMAGES))
    woken.set()


def test_what_was_given_up_ends_before_the_interpreter():
    """A thread that outlives it aborts the process where C++ called back into Python, though all went well."""
    threads = []

    def never_returns(images):
        threads.append(threading.current_thread())
        while True:
            time.sleep(0.01)

    with pytest.raises(TimeoutError), own_errors():
        np.asarray(BlackBox(never_returns, 2, timeout=0.05)(jnp.asarray(IMAGES)))
    blackbox._end_given_up()  # as at exit
    assert [thread.is_alive() for thread in threads] == [False]


def test_a_batch_is_shared_by_workers_and_no_more_than_those(service):
    together, most = threading.Barrier(3, timeout=20), []
    running, lock = set(), threading.Lock()

    def function(images):
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        if len(images) > 1:
            together.wait()  # passes only if three calls are made at a time
        with lock:
            running.discard(threading.get_ident())
        return logits(images)

    expected = explain()
    found = explain(BlackBox(function, 2, workers=3, timeout=20.0))
    assert_same(found, expected)  # every part at its place
    assert max(most) == 3


@contextlib.contextmanager
def serve(fails):
    """A service at localhost; `fails(number)` says which requests get an error. Yields its address and log."""
    answered, lock = {True: 0, False: 0}, threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            images = np.load(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))))
            with lock:
                bad = fails(sum(answered.values()))
                answered[not bad] += 1
            self.send_response(503 if bad else 200)
            self.end_headers()
            self.wfile.write(b"" if bad else json.dumps(logits(images).tolist()).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}", answered
        finally:
            server.shutdown()
            thread.join()


def ask(address):
    def function(images):
        body = io.BytesIO()
        np.save(body, images)
        try:
            with urllib.request.urlopen(address, body.getvalue(), timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()
            raise

    return function


def test_a_service_that_fails_one_call_in_ten_loses_nothing(service):
    with serve(lambda number: False) as (address, answered):
        service.function = ask(address)
        expected = explain()
        calls = len(service.sizes)
        assert answered == {True: calls, False: 0}
    with serve(lambda number: number % 10 == 3) as (address, answered):
        found = explain(BlackBox(ask(address), 2, retries=3, backoff=0.0, workers=2, timeout=30.0))
        assert answered[True] == calls + 2 * 12  # the search has two parts for each call
        assert answered[False] == len(range(3, sum(answered.values()), 10)) >= 8
    assert_same(found, expected)
    with serve(lambda number: number > 5) as (address, _), pytest.raises(urllib.error.HTTPError, match="503"):
        service.function = ask(address)
        explain()


# ------------------------------------------------------------------------------------------------------ configuration


def test_by_its_name_on_the_command_line():
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        overrides = ["model=blackbox", f"model.function.path={__name__}.logits", "model.num_classes=2"]
        config = compose("explain", overrides=[*overrides, "model.image_shape=[8,8,1]", "model.labels=[dark,bright]"])
    box = evomask.as_classifier(cli.instantiate(config.model))
    assert box == BlackBox(logits, 2, image_shape=(8, 8, 1), labels=("dark", "bright"))
