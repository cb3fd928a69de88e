"""The columns of rows.parquet and cuts.parquet, and the arrays of a chunk; a metric of heat maps adds its own, see
`measured.METRICS`.
"""

from __future__ import annotations

from . import trust
from .measured import METRICS

# What one mask does; confidences are softmax probabilities of `label`, labels are class indices predicted.
_MASK = {
    "rule": "string",  # where the mask comes from, see `experiments.benchmarks.protocol.RULES`
    "area": "float32",  # fraction of pixels kept
    "masked_confidence": "float32",
    "masked_label": "int32",
    "inverse_confidence": "float32",
    "inverse_label": "int32",
    "cp": "float32",  # inf for an empty mask
    "cp_floored": "float32",
    "sufficient": "bool",
    "necessary": "bool",
    "complete": "bool",
    "complete_area": "float32",  # the area of a complete mask, NaN of another: a failure
    "status": "string",  # `evomask.types.Status`, lower case
    "reason": "string",  # `evomask.measures.thresholding.Reason`, lower case: found, not_found, constant, not_finite
    "cut_evaluations": "int32",  # spent on cutting the mask from the heat map, beside the budget
    "iou": "float32",  # these three NaN without a ground truth
    "precision": "float32",
    "recall": "float32",
}
_WHICH = {"image": "string", "index": "int32", "seed": "int64"}
ROWS = {
    **_WHICH,
    "method": "string",
    "label": "int32",  # the class explained
    "label_name": "string",
    "predicted": "int32",  # for the whole image
    "predicted_name": "string",
    "confidence": "float32",  # of the whole image
    "blank_confidence": "float32",
    "blank_label": "int32",
    **_MASK,  # of the headline rule
    "evaluations": "int32",  # forward + backward, within the budget
    "forward": "int32",
    "backward": "int32",
    **dict.fromkeys(METRICS, "float32"),  # of the heat map; NaN where there is nothing to measure
    **dict.fromkeys(trust.COLUMNS, "float32"),  # whether masks hold; NaN where that is not asked, see `trust`
}
CUTS = {**_WHICH, **_MASK}

# Per seed and image, as the rows. T prefixes of the heat map, S stages, E generations.
ARRAYS = {
    "score": "f16[H, W], the heat map",
    "mask": "bool[H, W], the headline mask",
    "offered": "bool[H, W], the mask that is said to hold, see `trust`; the headline mask where that is not asked",
    "prefix_area": "f32[T], of the prefixes in the order of the score",
    "prefix_confidence": "f32[T], for the image masked by each prefix",
    "prefix_inverse_confidence": "f32[T]",
    "prefix_keeps": "bool[T], the masked image has the label",
    "prefix_loses": "bool[T], the inverse-masked image has it no more",
    "stage_masks": "bool[S, H, W], of an evolution, as the following",
    "history_evaluations": "int32[E], spent until then",
    "history_area": "f32[E], of the best individual",
    "history_confidence": "f32[E]",
    "history_feasible": "bool[E]",
}
PACKED = ("mask", "offered", "stage_masks")  # eight pixels in a byte on disk
