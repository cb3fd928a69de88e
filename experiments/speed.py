"""What does an explanation cost? `python -m experiments.speed` times it beside its rivals, in turns in one run.

    forward        its forward passes alone: as many images, in batches as large, in one compiled program
    explain        the configured preset, as users call it
    dissertation   the published algorithm, compiled, at the same budget
    sequential     the same as a plain loop, one image at a time (timing/sequential.py); same masks, same evaluations
    published      that loop with the nine calls of the network that the published code makes for each mask
    rise           RISE with the settings of its paper
    blackbox       `explain` with a Python function that sleeps 1 ms for each batch of 32 x 32 pixels, beside its calls
                   alone and the search alone, with the same function in JAX and without the sleep
    phases         each phase of the generations of `explain` alone, see timing/phases.py
    frameworks     the forward passes in PyTorch and ONNX Runtime with the same weights, where these are installed

As good a mask as a loop's last one is no larger and no less confident; "explain, confident" is asked for that
confidence, and plans fewer evaluations, since it needs no more. A machine whose speed drifts treats all of them alike,
since every round runs each once, and a ratio is taken round by round. `stream=[100,1000]` and `slide=[20000]` report
instead the peak memory of processes that explain so many images, or a slide of so many pixels on a side.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

import evomask
from evomask import explaining, presets
from evomask.baselines import RISE
from evomask.data import photographs
from evomask.search.config import Config
from evomask.search.evaluate import batches
from evomask.types import Classifier, Explanation, InputError

from .explain import build_config
from .shared import cli
from .timing import memory, phases, rivals, sequential

LOOPS = ("sequential", "published")
AS_CONFIDENT = "explain, confident"
NAPS, SEARCH, BLACK_BOX = "naps alone", "search alone", "black box"
RUNS = ("forward", "explain", "dissertation", *LOOPS, "rise", "blackbox", "phases", "frameworks")
PHASE = "phase: "  # before the name of one
KEY = 0  # the seed of everything that draws


class Contestant(NamedTuple):
    """Something that can be timed."""

    name: str
    run: Callable[[], Any]
    images: int  # sent through the network by one run
    compile_seconds: float
    program_bytes: int | None = None  # of its largest compiled program, where it has any


def main(argv: list[str] | None = None) -> int:
    """Runs with these overrides (default: the command line) and returns the exit code."""
    return cli.launch(measure, "speed", argv)


def measure(config: DictConfig) -> int:
    """Times everybody on the shipped photograph and prints what they took, and the ratios that matter."""
    for name in ("pairs", "rise", "naps", "matching"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise InputError(f"{name} is {config[name]!r}: give a whole number of 1 or more")
    unknown = set(config.runs) - set(RUNS)
    if unknown:
        raise InputError(f"runs has {', '.join(sorted(map(str, unknown)))}: choose from {', '.join(RUNS)}")
    if config.stream is not None or config.slide is not None:
        Console().print(memory.table(config))
        return 0
    settings = build_config(config).replace(patience=None)  # its forward passes alone are as many as it plans
    classifier = evomask.as_classifier(cli.instantiate(config.model))
    photo = photographs.load(photographs.sample(), classifier.image_shape, getattr(classifier, "crop", 1.0))
    taking_part = list(contestants(classifier, photo.image, settings, config))
    results, times = take_turns(taking_part, config.pairs)
    console = Console()
    console.print(table(taking_part, times))
    console.print(ratios(taking_part, times, results))
    console.print(f"peak memory of this process, MiB: {memory.peak()}")
    return 0


def contestants(
    classifier: Classifier, image: np.ndarray, settings: Config, config: DictConfig
) -> Iterator[Contestant]:
    """Everybody in `config.runs`, compiled; who cannot take part is named on stderr."""
    key, published = jax.random.key(KEY), presets.dissertation(config.budget)
    label = int(np.argmax(jax.jit(lambda c, x: c(x))(classifier, image[None])[0]))
    explained = {"explain": settings, "dissertation": published}
    beside = functools.cache(lambda name: asked_beside(classifier, image, label, explained[name]))  # takes long
    for name in sorted(config.runs, key="forward".__eq__):  # last, for an explanation says how many passes it takes
        start = time.perf_counter()
        since = lambda: time.perf_counter() - start
        if name in ("dissertation", *LOOPS) and not hasattr(classifier, "features"):
            cli.say(f"{name}: left out, the published fitness needs a classifier with features")
        elif name == "forward":
            rest = beside("explain")
            start = time.perf_counter()
            compiled = compile_forward(classifier, image[None], settings, rest)
            run = functools.partial(compiled, classifier, image[None])
            yield Contestant(name, run, settings.evolving + rest, since(), used_bytes(compiled))
        elif name in explained:
            options = {"config": explained[name]}
            evomask.precompile(classifier, image[None], **options)
            seconds = since()
            programs = explaining.prepared(classifier, image, **options)
            program = max(used_bytes(ready.compiled()) for ready in programs)
            asked = explained[name].evolving + beside(name)
            run = functools.partial(evomask.explain, classifier, image[None], key=key, labels=[label], **options)
            yield Contestant(name, run, asked, seconds, program)
        elif name in LOOPS:
            sequential.precompile(classifier, image, published)
            options = {"key": key, "config": published, "as_published": name == "published"}
            run = functools.partial(sequential.explain, classifier, image, label, **options)
            yield Contestant(name, run, published.evaluations, since())
        elif name == "rise":
            method = functools.partial(RISE().explain, budget=config.rise)
            compiled = jax.jit(method).lower(classifier, image, label, key).compile()
            yield Contestant(
                name,
                functools.partial(compiled, classifier, image, label, key),
                config.rise,
                since(),
                used_bytes(compiled),
            )
        elif name == "blackbox":
            yield from napping(config.naps)
        elif name == "phases":
            compiled = phases.compile_phases(classifier, image, label, settings)
            each = since() / len(compiled)
            yield from (Contestant(PHASE + phase, run, settings.evaluations, each) for phase, run in compiled.items())
        elif name == "frameworks":
            yield from frameworks(classifier, image, settings.evaluations, config.batches)
    if "explain" in config.runs and set(LOOPS) & set(config.runs) and hasattr(classifier, "features"):
        settings = presets.with_budget(settings, min(config.matching, config.budget))
        yield as_confident(classifier, image, label, settings, published)


def as_confident(
    classifier: Classifier, image: np.ndarray, label: int, settings: Config, published: Config
) -> Contestant:
    """`explain`, asked for masks that keep as much confidence as the one that the published algorithm finds."""
    start, common = time.perf_counter(), {"key": jax.random.key(KEY), "labels": [label]}
    goal = evomask.explain(classifier, image[None], config=published, **common)
    ratio = min(float(goal.masked_confidence[0] / goal.confidence[0]), 1.0)
    settings = dataclasses.replace(settings, confidence_ratio=ratio)
    run = functools.partial(evomask.explain, classifier, image[None], config=settings, **common)
    return Contestant(AS_CONFIDENT, run, settings.evaluations, time.perf_counter() - start)


def napping(budget: int) -> Iterator[Contestant]:
    """A black box that sleeps, called as often and with batches as large as a search does it; a search with what it
    computes; and the search with the black box.
    """
    config, image = presets.smallest(budget), np.full((32, 32, 3), 0.5, np.float32)
    warmth, sizes = lambda batch: 9 * batch.mean((1, 2))[:, :2], []

    def nap(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        time.sleep(1e-3)
        return warmth(batch)

    classifiers = {SEARCH: evomask.as_classifier(warmth), BLACK_BOX: evomask.BlackBox(nap, 2)}
    compiling = {name: evomask.precompile(each, image[None], config=config) for name, each in classifiers.items()}
    search = functools.partial(evomask.explain, images=image[None], key=jax.random.key(KEY), config=config)
    sizes.clear()
    search(classifiers[BLACK_BOX])
    calls, largest = tuple(sizes), np.repeat(image[None], max(sizes), axis=0)

    def alone() -> None:
        for size in calls:
            nap(largest[:size])

    yield Contestant(NAPS, alone, config.evaluations, 0.0)
    for name, classifier in classifiers.items():
        yield Contestant(name, functools.partial(search, classifier), config.evaluations, compiling[name])


def frameworks(classifier: Classifier, image: np.ndarray, num: int, sizes: Sequence[int]) -> Iterator[Contestant]:
    """The forward passes of `num` images in other frameworks, each at its fastest batch size of those given."""
    for name, build in rivals.RIVALS.items():
        start = time.perf_counter()
        try:
            forward = build(classifier)
        except ModuleNotFoundError as error:
            cli.say(f"{name}: not installed ({error.name})")
            continue
        except InputError as error:
            cli.say(f"{name}: left out, {error}")
            continue
        check_same(forward, classifier, image, name)
        build_seconds = time.perf_counter() - start
        pace = {}
        for size in sizes:
            batch = np.repeat(image[None], size, axis=0)
            forward(batch)
            pace[size] = min(seconds(lambda: forward(batch))[0] for _ in range(3)) / size
        best = min(pace, key=pace.get)
        run = functools.partial(in_batches, forward, image, num, best)
        yield Contestant(f"{name}, batch {best}", run, num, build_seconds)


def in_batches(forward: rivals.Forward, image: np.ndarray, num: int, size: int) -> None:
    """Sends `num` images through, `size` at a time, the last batch smaller."""
    batch = np.repeat(image[None], size, axis=0)
    for done in range(0, num, size):
        forward(batch[: num - done])


def check_same(forward: rivals.Forward, classifier: Classifier, image: np.ndarray, name: str) -> None:
    """InputError unless another framework gives the same logits: a comparison of different networks means nothing."""
    batch = np.stack([image, 0.5 * image])
    apart = float(np.abs(forward(batch) - np.asarray(jax.jit(lambda c, x: c(x))(classifier, batch))).max())
    if not apart < 1e-2:
        raise InputError(f"{name} gives logits that are {apart:.3g} away from those of JAX: its description is wrong")


def asked_beside(classifier: Classifier, image: np.ndarray, label: int, settings: Config) -> int:
    """Images that an explanation asks about besides those of its generations: showings of the whole picture, the race,
    and the draws that verify what came out; none where nothing is shown anew.
    """
    if settings.perturbation is None:
        return 0
    found = evomask.explain(classifier, image[None], key=jax.random.key(KEY), labels=[label], config=settings)
    return int(found.evaluations[0]) - settings.evolving + int(found.precision.evaluations[0])


def compile_forward(
    classifier: Classifier, image: np.ndarray, settings: Config, beside: int = 0
) -> jax.stages.Compiled:
    """The forward passes of one explanation and nothing else: as many images, in batches as large, in one program."""
    most = settings.batch_size_for(classifier)
    sizes = [(stage.rounds, *batches(num, most)) for stage in settings.stages for num in settings.passes(stage)]
    if beside:
        sizes.append((1, *batches(beside, most)))

    def run(classifier: Classifier, image: jax.Array) -> jax.Array:
        def passed(total: jax.Array, dimmed: jax.Array):
            return total + classifier(image * dimmed[:, None, None, None]).sum(), None

        # Every picture differs from all others, or the compiler would compute what they share only once; and one pass
        # follows the other, as in a search.
        nums = [rounds * calls * size for rounds, calls, size in sizes]
        dims = jnp.split(jnp.linspace(0.5, 1.0, sum(nums)), np.cumsum(nums)[:-1])
        total = jnp.float32(0)
        for each, (*_, size) in zip(dims, sizes, strict=True):
            total = jax.lax.scan(passed, total, each.reshape(-1, size))[0]
        return total

    return jax.jit(run).lower(classifier, image).compile()


def used_bytes(compiled: jax.stages.Compiled) -> int | None:
    """Arguments, results and temporaries of a compiled program, where the backend says."""
    used = compiled.memory_analysis()
    return used and used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes


def take_turns(taking_part: Sequence[Contestant], rounds: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The result of everybody's last run, and their seconds in each round, after a first one that is not counted."""
    times = {contestant.name: [] for contestant in taking_part}
    results = {}
    for turn in range(rounds + 1):
        for contestant in taking_part:
            if turn == 0 and contestant.name in LOOPS:
                continue  # by far the longest, and its memory has been touched when it was compiled
            taken, results[contestant.name] = seconds(contestant.run)
            if turn > 0:
                times[contestant.name].append(taken)
    return results, {name: np.array(taken) for name, taken in times.items()}


def seconds(function: Callable) -> tuple[float, Any]:
    """Wall-clock seconds of one call, to the end of its computation, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def table(taking_part: Sequence[Contestant], times: dict[str, np.ndarray]) -> Table:
    """Everybody's median and fastest round in seconds, compilation apart, and the MiB of the compiled program."""
    out = Table(title=f"seconds, medians of {len(next(iter(times.values())))} rounds")
    out.add_column("", overflow="fold")
    for heading in ("compiling", "images", "running", "fastest", "ms/image", "MiB"):
        out.add_column(heading, no_wrap=True, justify="right")
    for who in taking_part:
        median, fastest = np.median(times[who.name]), times[who.name].min()
        used = "" if who.program_bytes is None else f"{who.program_bytes / 2**20:.0f}"
        figures = (f"{x:.3g}" for x in (median, fastest, 1000 * median / who.images))
        out.add_row(who.name, f"{who.compile_seconds:.1f}", str(who.images), *figures, used)
    return out


def ratios(taking_part: Sequence[Contestant], times: dict[str, np.ndarray], results: dict[str, Any]) -> Table:
    """The ratios that matter among those who took part, round by round."""
    each = {who.name: times[who.name] / who.images for who in taking_part}
    out = Table(title="ratios of times")
    out.add_column("", overflow="fold")
    for heading in ("median", "from", "to"):
        out.add_column(heading, no_wrap=True, justify="right")

    def add(name: str, values: np.ndarray) -> None:
        out.add_row(name, *(f"{x:.4g}" for x in (np.median(values), values.min(), values.max())))

    if {"explain", "forward"} <= each.keys():
        add("explain / forward, per image", each["explain"] / each["forward"])
        out.add_row("share of the network in explain", f"{np.median(each['forward'] / each['explain']):.1%}", "", "")
    alone = [name for name in each if name.startswith(PHASE)]
    if alone and "explain" in each:
        for name in alone:
            add(f"share of {name.removeprefix(PHASE)} in explain", each[name] / each["explain"])
        add("share of all else in explain", 1 - sum(each[name] for name in alone) / each["explain"])
    for loop in (loop for loop in LOOPS if loop in each):
        if "dissertation" in each:
            add(f"{loop} / dissertation, same evaluations", each[loop] / each["dissertation"])
        if "explain" in each:
            add(f"{loop} / explain, per image", each[loop] / each["explain"])
        if AS_CONFIDENT in each:
            name = f"{loop} / explain, to as good a mask"
            share = share_to_match(results[AS_CONFIDENT], results[loop])
            if share is None:
                out.add_row(name, "never", "", "")
            else:
                add(name, times[loop] / (share * times[AS_CONFIDENT]))
    if {"rise", "explain"} <= each.keys():
        add("rise / explain, one explanation", times["rise"] / times["explain"])
    if BLACK_BOX in each:
        add(f"{BLACK_BOX} / {NAPS}", each[BLACK_BOX] / each[NAPS])
        add(f"{BLACK_BOX} / {NAPS} and {SEARCH}", each[BLACK_BOX] / (each[NAPS] + each[SEARCH]))
    for name in each.keys() - {*RUNS, AS_CONFIDENT, NAPS, SEARCH, BLACK_BOX, *alone}:
        if "forward" in each:
            add(f"{name} / forward, per image", each[name] / each["forward"])
    return out


def share_to_match(found: Explanation, plain: sequential.Found) -> float | None:
    """How much of its evaluations `explain` needed for a feasible mask no larger and no less confident than the loop's
    last.

    None where it never had one.
    """
    last, history = plain.history[-1], found.history
    matches = history.feasible[0] & (history.area[0] <= last.area) & (history.confidence[0] >= last.confidence)
    return float(history.evaluations[0][matches.argmax()] / found.evaluations[0]) if matches.any() else None


if __name__ == "__main__":
    sys.exit(main())
