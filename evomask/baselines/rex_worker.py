"""The other end of `evomask.baselines.rex`: a script for the Python of ReX's own environment, where evomask is not
installed.

It reads requests from its standard input and writes masks, and in the end a heat map, to its standard output. A message
is the length of an .npz file (8 bytes, little-endian) and the file. Nothing but NumPy is imported before the script
runs.

    request   shape int[2], label, confidence, seed, budget, iterations, tree_depth, min_box_size
    -> masks  bool[N, H, W], True where the image is shown; answered by probabilities f32[N, K]
    -> score  f32[H, W], which ends the request
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np

MUTANTS = 14  # masks that ReX asks for at a time: the subsets of four boxes, but for none and all
Predict = Callable[[np.ndarray], np.ndarray]  # bool[N, H, W] -> f32[N, K]


def send(stream: IO[bytes], **arrays: Any) -> None:
    """One message.

    >>> pipe = io.BytesIO()
    >>> send(pipe, masks=np.ones((1, 2, 2), bool), seed=3)
    >>> _ = pipe.seek(0)
    >>> receive(pipe)["seed"].item()
    3
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    stream.write(struct.pack("<Q", buffer.tell()))
    stream.write(buffer.getvalue())
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, np.ndarray]:
    """The next message; EOFError where the other process has ended."""
    length = struct.unpack("<Q", _exactly(stream, 8))[0]
    with np.load(io.BytesIO(_exactly(stream, length)), allow_pickle=False) as found:
        return dict(found)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    found = stream.read(length)
    if len(found) < length:
        raise EOFError("the other process has ended")
    return found


def serve(explain: Callable[..., np.ndarray], incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Answers requests with `explain(predict, **request)` until there are no more."""

    def predict(masks: np.ndarray) -> np.ndarray:
        send(outgoing, masks=masks)
        return receive(incoming)["probabilities"]

    while True:
        try:
            request = receive(incoming)
        except EOFError:
            return
        send(outgoing, score=explain(predict, **request))


def responsibility(predict: Predict, *, shape, label, confidence, seed, budget, iterations, tree_depth, min_box_size):
    """ReX's responsibility of every pixel for the label, float32[H, W].

    `rex_xai.explanation.rex.calculate_responsibility`, with the package's settings, but for two things: it is repeated
    until `budget` masks were asked for (and at most `iterations` times, where that is not 0), and masks that are not in
    the budget any more are called failing, so that the search that was going on ends and what it found is kept.
    The image is one of ones that is hidden by zeros: ReX looks at no pixels, and evomask fills in the real ones.
    """
    import torch
    from rex_xai.explanation.rex import causal_explanation
    from rex_xai.input.config import CausalArgs
    from rex_xai.input.input_data import Data
    from rex_xai.responsibility.prediction import Prediction
    from rex_xai.responsibility.resp_maps import ResponsibilityMaps

    height, width = shape.tolist()
    args = CausalArgs()
    args.seed, args.tree_depth, args.min_box_size = int(seed), int(tree_depth), int(min_box_size)
    args.batch_size = MUTANTS  # anything but 1: all mutants of a box in one call
    data = Data(None, [1, 1, height, width], mode="RGB")
    data.data = torch.ones(data.model_shape)
    data.set_mask_value(0)
    data.target = Prediction(int(label), float(confidence))
    left = int(budget)

    def answer(mutants, target=None):
        nonlocal left
        if len(mutants) > left:
            return [Prediction(-1, 0.0) for _ in mutants]
        left -= len(mutants)
        return [Prediction(int(row.argmax()), float(row.max())) for row in predict(mutants[:, 0].numpy() > 0)]

    maps = ResponsibilityMaps(args.responsibility_style, height, width)
    for iteration in range(int(iterations) or left // MUTANTS):
        if left < MUTANTS:
            break
        found, *_ = causal_explanation(iteration + 1, data, args, answer, current_map=maps.get(int(label)))
        maps.merge(found)
    score = maps.get(int(label))  # none where no mask had the label
    return np.zeros((height, width), np.float32) if score is None else score


def main() -> None:
    """Says which ReX this is, then serves."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the packages print goes to the log

    from importlib.metadata import version

    import rex_xai.explanation.rex  # noqa: F401, so that it fails now if it must
    import torch

    torch.set_num_threads(1)  # there is nothing to compute but masks
    send(outgoing, rex=version("rex-xai"))
    serve(responsibility, sys.stdin.buffer, outgoing)


if __name__ == "__main__":
    main()
