"""Other people's explainers and controls: `(classifier, images, labels, *, key, budget)` -> score f32[B, H, W].

>>> import jax
>>> import jax.numpy as jnp
>>> from evomask.classifiers import as_classifier
>>> classifier = as_classifier(lambda images: jnp.stack([images[:, :, :2].sum((1, 2, 3)), jnp.zeros(len(images))], 1))
>>> score = BASELINES["occlusion"](window=2)(classifier, jnp.ones((1, 4, 4, 1)), [0], key=jax.random.key(0), budget=5)
>>> score[0].round(2)
Array([[0.02, 0.02, 0.  , 0.  ],
       [0.02, 0.02, 0.  , 0.  ],
       [0.02, 0.02, 0.  , 0.  ],
       [0.02, 0.02, 0.  , 0.  ]], dtype=float32)
"""

from __future__ import annotations

from evomask.baselines.controls import CentredSquare, RandomPatches, RandomPixels
from evomask.baselines.drise import DRISE
from evomask.baselines.gradcam import GradCAM, GradCAMPlusPlus
from evomask.baselines.gradients import IntegratedGradients, SmoothGrad
from evomask.baselines.greedy import GreedyRegions
from evomask.baselines.heatmaps import HeatMaps
from evomask.baselines.hsic import HSIC
from evomask.baselines.kernelshap import KernelSHAP
from evomask.baselines.lima import LiMA
from evomask.baselines.lime import LIME
from evomask.baselines.occlusion import Occlusion
from evomask.baselines.phasewin import PhaseWin
from evomask.baselines.rex import ReX
from evomask.baselines.rise import RISE
from evomask.baselines.shap import SHAP
from evomask.baselines.sobol import Sobol

BASELINES = {
    "gradcam": GradCAM,
    "gradcam_plus_plus": GradCAMPlusPlus,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "occlusion": Occlusion,
    "rise": RISE,
    "hsic": HSIC,
    "sobol": Sobol,
    "greedy_regions": GreedyRegions,
    "lima": LiMA,
    "phasewin": PhaseWin,
    "lime": LIME,
    "shap": SHAP,
    "kernelshap": KernelSHAP,
    "random_patches": RandomPatches,
    "random_pixels": RandomPixels,
    "centred_square": CentredSquare,
}

# Those that need what not everybody has: an environment of its own, a file, a detector.
OUTSIDE = {"rex": ReX, "heatmaps": HeatMaps, "drise": DRISE}
