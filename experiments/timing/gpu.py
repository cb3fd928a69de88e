"""What does an accelerator make of it? `python -m experiments.timing.gpu` finds out in ten minutes and writes one file.

    python -m experiments.timing.gpu                  out/gpu.json; run again, it goes on with what is missing
    python -m experiments.timing.gpu --out h200.json --minutes 5

Everything runs twice, and the second time counts; compiling is apart. What is measured:

    forward       images a second at each batch size, in each precision; how far from float32 the answers are
    explain       seconds an image with so many searched side by side, the share of it that the forward passes alone
                  take at the batch size that suits them best, memory and, where nvidia-smi is, how busy the device is
    stream        many images one after the other, as a test set is explained, and what 10,000 would take
    same bits     whether one key gives the same masks and scores twice
    torch         a PyTorch module on the same device, whose tensors cross by DLPack, beside the same through NumPy

It asks for `preset=smallest`, whose cost is known beforehand. The file is written after every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import evomask
from evomask import presets
from evomask.data import photographs
from evomask.files import write_atomically
from evomask.report.records import as_json, prepare_folder
from evomask.settings import one_blas_thread, reuse_memory
from evomask.types import Classifier, InputError

from ..speed import seconds

KEY = 0
PRECISIONS = {"float32": "highest", "TF32": "tensorfloat32", "bfloat16": "bfloat16"}  # of products, as JAX names them
TEST_SET = 10_000  # images of CIFAR-10's
STREAMED = {"cifar10": "images", "efficientnet_lite0": "photographs"}  # how many, by which option

Figure = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    """Measures with these options (default: the command line) and returns the exit code."""
    options = parser().parse_args(argv)
    reuse_memory()
    try:
        prepare_folder(options.out.parent)
        done = read(options.out)
        with one_blas_thread():
            left = fill_in(done, plan(options), options.out, time.monotonic() + 60 * options.minutes)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if left:
        print(f"not measured for want of time: {', '.join(left)}; run it again", file=sys.stderr)
    print(f"{len(done['figures'])} figures in {options.out}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The options; the defaults are for a large device."""
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--out", type=Path, default=Path("out/gpu.json"))
    out.add_argument("--minutes", type=float, default=10, help="nothing is begun after that")
    out.add_argument("--networks", nargs="+", default=["efficientnet_lite0", "cifar10"])
    out.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128, 512])
    out.add_argument("--together", nargs="+", type=int, default=[1, 4, 16, 64, 256])
    out.add_argument("--budget", type=int, default=2000, help="evaluations of one explanation")
    out.add_argument("--images", type=int, default=1000, help="of the size of CIFAR-10's, in a stream")
    out.add_argument("--photographs", type=int, default=200, help="likewise, of Lite0's")
    return out


def read(path: Path) -> dict[str, Any]:
    """What was measured before, on this device; InputError where it was another."""
    here = device()
    if not path.exists():
        return {"device": here, "figures": {}}
    try:
        done = json.loads(path.read_bytes())
        found = done["device"], done["figures"].keys()
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is no file of this program: give --out another name") from error
    if found[0] != here:
        raise InputError(f"{path} is of another device or version, {found[0]}: give --out another name")
    return done


def device() -> dict[str, Any]:
    """The device and what runs on it."""
    first = jax.local_devices()[0]
    versions = {"evomask": evomask.__version__, "jax": jax.__version__, "jaxlib": jax.lib.__version__}
    return {"platform": first.platform, "kind": first.device_kind, "devices": jax.local_device_count(), **versions}


def fill_in(done: dict[str, Any], planned: dict[str, Callable[[], Figure]], path: Path, end: float) -> list[str]:
    """Measures what is missing, in order, and says what there was no time to begin."""
    missing = [name for name in planned if name not in done["figures"]]
    for position, name in enumerate(missing):
        if time.monotonic() > end:
            return missing[position:]
        start = time.perf_counter()
        figure = planned[name]()
        done["figures"][name] = figure | {"wall_seconds": time.perf_counter() - start}
        write_atomically(path, lambda file: file.write(as_json(done)))
        print(f"{name}: {figure}", flush=True)
    return []


def plan(options: argparse.Namespace) -> dict[str, Callable[[], Figure]]:
    """Every figure by its name, the cheapest first."""
    networks = {name: evomask.load(name) for name in options.networks}
    planned: dict[str, Callable[[], Figure]] = {}
    add = lambda name, measure, *given: planned.__setitem__(name, functools.partial(measure, *given))
    for name, classifier in networks.items():
        add(f"same bits, {name}", same_bits, classifier, options.budget)
        for precision in PRECISIONS:
            add(f"forward, {name}, {precision}", forward, classifier, PRECISIONS[precision], options.batches)
    add("torch", torch_module, options.budget)
    for name, classifier in networks.items():
        for count in options.together:
            add(f"explain, {name}, together {count}", explain, classifier, count, options.budget, options.batches)
    for name in networks.keys() & STREAMED.keys():
        count = getattr(options, STREAMED[name])
        add(f"stream, {name}", stream, networks[name], count, options.budget, max(options.together))
    return planned


def pictures(shape: tuple[int, ...], count: int) -> Iterator[np.ndarray]:
    """So many different pictures: the shipped photograph, each time with noise of its own."""
    photo, draw = photographs.load(photographs.sample(), shape).image, np.random.default_rng(KEY)
    for _ in range(count):
        yield np.clip(photo + draw.normal(0, 0.05, shape), 0, 1).astype(np.float32)


def forward(classifier: Classifier, precision: str, sizes: list[int]) -> Figure:
    """Images a second at each batch size, and the answers beside those of full precision."""
    images = np.stack([*pictures(classifier.image_shape, 8)])
    with jax.default_matmul_precision("highest"):
        exact = np.asarray(jax.jit(lambda network, batch: network(batch))(classifier, images))
    with jax.default_matmul_precision(precision):
        logits = np.asarray(jax.jit(lambda network, batch: network(batch))(classifier, images))
        pace = {str(size): _pace(classifier, size) for size in sizes}
    same = float((logits.argmax(1) == exact.argmax(1)).mean())
    return {"images_per_second": pace, "logits_apart": float(np.abs(logits - exact).max()), "same_class": same}


def _pace(classifier: Classifier, size: int) -> float:
    """Images a second in batches of one size."""
    batch = jnp.asarray(np.stack([*pictures(classifier.image_shape, 1)] * size))
    call = jax.jit(lambda network, images: network(images).sum(0))
    calls = max(1, 256 // size)

    return calls * size / _second(lambda: [call(classifier, batch) for _ in range(calls)])[0]


def _second(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the second call, and its result."""
    run()
    return seconds(run)


def explain(classifier: Classifier, count: int, budget: int, sizes: list[int]) -> Figure:
    """One call with so many images side by side."""
    config = presets.smallest(budget).replace(together=count)
    images = np.stack([*pictures(classifier.image_shape, count)])
    jax.clear_caches()  # or what was compiled for another figure would seem to cost nothing
    compiling = evomask.precompile(classifier, images, config=config)
    run = functools.partial(evomask.explain, classifier, images, key=KEY, config=config)
    run()
    with busy() as samples:
        taken, found = seconds(run)
    asked, best = int(found.evaluations.sum()), max(_pace(classifier, size) for size in sizes)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "seconds_per_image": taken / count,
        "evaluations": asked,
        "share_of_forward_passes": asked / best / taken,
        "compile_seconds": compiling,
        "peak_bytes_so_far": memory,
        "utilisation_percent": float(np.mean(samples)) if samples else None,
    }


@contextlib.contextmanager
def busy() -> Iterator[list[float]]:
    """While open, how busy the first NVIDIA device is, in per cent, every fifth of a second; empty where none is."""
    samples: list[float] = []
    if shutil.which("nvidia-smi") is None:
        yield samples
        return
    query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        try:
            yield samples
        finally:
            watch.terminate()
            said, _ = watch.communicate()
            samples += [float(line) for line in said.split() if line.replace(".", "").isdecimal()]


def stream(classifier: Classifier, count: int, budget: int, together: int) -> Figure:
    """Images one after the other, as many searched side by side as are given."""
    config = presets.smallest(budget).replace(together=min(together, count))
    evomask.precompile(classifier, np.stack([*pictures(classifier.image_shape, config.together)]), config=config)
    start = time.perf_counter()
    images = pictures(classifier.image_shape, count)
    done = sum(1 for _ in evomask.explain_stream(classifier, images, key=KEY, config=config))
    pace = (time.perf_counter() - start) / done
    return {"images": done, "seconds_per_image": pace, f"seconds_for_{TEST_SET}": pace * TEST_SET}


def same_bits(classifier: Classifier, budget: int) -> Figure:
    """Whether the same key gives the same twice, bit for bit."""
    images = np.stack([*pictures(classifier.image_shape, 2)])
    run = functools.partial(evomask.explain, classifier, images, key=KEY, config=presets.smallest(budget))
    first, second = run(), run()
    same = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"), first, second)
    return {"same": all(jax.tree.leaves(same)), "same_masks": bool((first.mask == second.mask).all())}


def torch_module(budget: int) -> Figure:
    """A module on the device that JAX uses, its tensors by DLPack, beside the same module through NumPy."""
    try:
        import torch
    except ModuleNotFoundError:
        return {"left_out": "torch is not installed"}
    where = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.manual_seed(KEY)
    layers = [torch.nn.Conv2d(3, 32, 7, 4), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 5, 4), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10))
    module = module.to(where).eval()

    def through_numpy(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(where)
            return module(tensor).cpu().numpy()

    shape, config = (224, 224, 3), presets.smallest(budget)
    images = np.stack([*pictures(shape, 1)])
    boxes = {
        "by_dlpack": evomask.from_torch(module, image_shape=shape),
        "through_numpy": evomask.BlackBox(through_numpy, num_classes=10, image_shape=shape),
    }
    told: Figure = {"on": where}
    for name, box in boxes.items():
        told[f"seconds_{name}"], found = _second(lambda box=box: evomask.explain(box, images, key=KEY, config=config))
        told[f"area_{name}"] = float(found.mask.mean())
    return told


if __name__ == "__main__":
    sys.exit(main())
