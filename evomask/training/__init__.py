"""Training a small network, or the head and trunk of a large one, on an image set.

`recipe` says which numbers decide the weights, `networks` what can be trained, `augmentation` what is done to the
images, `loop` how it is done, `checkpoints` what is kept of it, and `cards` what is said of the result.
"""

from evomask.classifiers.trained import load_lite0, save_lite0
from evomask.training.augmentation import augment, mix, mixup_shares, random_crop, random_erase
from evomask.training.cards import calibration_error, card, finished, measure
from evomask.training.checkpoints import RECIPE_FILE, open_checkpoints, saved_recipe
from evomask.training.loop import (
    Diverged,
    Interrupted,
    TrainState,
    check_sets,
    epoch_order,
    evaluate_epoch,
    fit,
    make_step,
    predict,
    start,
    start_from,
)
from evomask.training.networks import Trainable, compute_dtype, efficientnet_lite0, residual_cnn, vision_transformer
from evomask.training.recipe import Recipe, any_dtypes, make_optimizer, norm_biases

__all__ = [
    "Diverged",
    "Interrupted",
    "RECIPE_FILE",
    "Recipe",
    "TrainState",
    "Trainable",
    "any_dtypes",
    "augment",
    "calibration_error",
    "card",
    "check_sets",
    "compute_dtype",
    "efficientnet_lite0",
    "epoch_order",
    "evaluate_epoch",
    "finished",
    "fit",
    "load_lite0",
    "make_optimizer",
    "make_step",
    "measure",
    "mix",
    "mixup_shares",
    "norm_biases",
    "open_checkpoints",
    "predict",
    "random_crop",
    "random_erase",
    "residual_cnn",
    "save_lite0",
    "saved_recipe",
    "start",
    "start_from",
    "vision_transformer",
]
