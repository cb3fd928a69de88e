"""Compares evomask's baselines and metrics with the implementations that others use, on the same arrays.

Run once, in an environment of its own, when a baseline or a metric changes; the tests keep the values that it
prints:

    python3.11 -m venv /tmp/references
    /tmp/references/bin/pip install torch==2.13.0 captum==0.9.0 quantus==0.6.0 grad-cam==1.5.7 --editable .
    PYTHONPATH=tests /tmp/references/bin/python -m experiments.tools.check_references

Captum: Grad-CAM, integrated gradients, SmoothGrad, occlusion, max-sensitivity, infidelity. pytorch-grad-cam:
Grad-CAM++, ROAD.
Quantus: sparseness, pointing game, energy, precision, muFidelity, max-sensitivity. scikit-image: SSIM. SciPy: rank
correlation. RISE's masks and curves and the HSIC estimator are written out here from their definitions, with
PyTorch and NumPy.
"""

from __future__ import annotations

import warnings

import captum.attr
import captum.metrics
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import quantus
import scipy.stats
import skimage.metrics
import torch
from pytorch_grad_cam import GradCAMPlusPlus as ReferenceGradCAMPlusPlus
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from evomask import baselines
from evomask.baselines.hsic import hsic
from evomask.baselines.rise import smooth_masks
from evomask.measures import faithfulness, metrics, thresholding

TOLERANCE = 1e-5
LABELS = np.array([0, 2])
KEY = jax.random.key(3)


class TorchConv(torch.nn.Module):
    """`oracles.ConvOracle` in PyTorch: images [N, C, H, W] -> logits."""

    def __init__(self, oracle: oracles.ConvOracle):
        super().__init__()
        _, _, channels, width = oracle.first.shape
        self.first = torch.nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.second = torch.nn.Conv2d(width, oracle.second.shape[-1], 3, padding=1, stride=2, bias=False)
        self.relu1, self.relu2 = torch.nn.ReLU(), torch.nn.ReLU()
        self.head = torch.nn.Linear(*oracle.head.shape, bias=False)
        for layer, kernel in ((self.first, oracle.first), (self.second, oracle.second)):
            layer.weight.data = torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1).copy())
        self.head.weight.data = torch.tensor(np.asarray(oracle.head).T.copy())

    def forward(self, x):
        return self.head(self.relu2(self.second(self.relu1(self.first(x)))).mean((2, 3)))


def main() -> None:
    oracle, images = oracles.conv(), oracles.conv_images()
    model = TorchConv(oracle).eval()
    pixels, targets = torch.tensor(images.transpose(0, 3, 1, 2).copy()), torch.tensor(LABELS)
    scores, truth = oracles.heat_maps(), np.zeros((2, 16, 16), bool)
    truth[:, 8:15, 6:12] = True  # the greatest score of the first map is inside, of the second outside

    def explain(method, budget):
        return np.asarray(method(oracle, images, LABELS, key=KEY, budget=budget))

    def probabilities(x):
        with torch.no_grad():
            return model(x).softmax(-1)

    check("logits", oracle(jnp.asarray(images)), model(pixels).detach())

    cam = captum.attr.LayerGradCam(model, model.relu2).attribute(pixels, targets, relu_attributions=True)
    cam = captum.attr.LayerAttribution.interpolate(cam, (16, 16), "bilinear")[:, 0].detach()
    check("Grad-CAM", explain(baselines.GradCAM(), 3), cam)

    reference = ReferenceGradCAMPlusPlus(model, [model.relu2])
    ours = unit(explain(baselines.GradCAMPlusPlus(), 3))
    check("Grad-CAM++ (scaled to [0, 1])", ours, reference(pixels, [ClassifierOutputTarget(k) for k in LABELS]), 1e-4)

    ig = captum.attr.IntegratedGradients(model).attribute(pixels, 0.0, targets, n_steps=64, method="riemann_middle")
    check("integrated gradients", explain(baselines.IntegratedGradients(64), 128), ig.sum(1))

    noise = np.stack([jax.random.normal(jax.random.fold_in(KEY, n), images.shape[1:]) for n in range(10)])
    deviation = 0.15 * np.ptp(images, axis=(1, 2, 3))[:, None, None, None]
    noisy = [torch.tensor((images + deviation * e[None]).transpose(0, 3, 1, 2).astype(np.float32)) for e in noise]
    smooth = torch.stack([captum.attr.Saliency(model).attribute(x, targets, abs=False) for x in noisy]).mean(0)
    check("SmoothGrad", explain(baselines.SmoothGrad(10), 20), smooth.abs().amax(1))

    occlusion = captum.attr.Occlusion(probabilities).attribute(pixels, (3, 4, 4), (3, 2, 2), 0.0, targets)
    check("occlusion (window 4, stride 2)", explain(baselines.Occlusion(4), 60), occlusion[:, 0])

    by_definition = [rise(probabilities, pixels[b], k) for b, k in enumerate(LABELS)]
    check("RISE", explain(baselines.RISE(grid=4), 64), by_definition)

    shown = np.random.default_rng(5).uniform(size=(40, 9)) < 0.5
    outputs = np.random.default_rng(6).uniform(size=40).astype(np.float32)
    ours = hsic(jnp.asarray(shown), jnp.asarray(outputs), jnp.float32(0.3))
    check("HSIC", ours, hsic_by_matrices(shown, outputs, 0.3))

    blanks = np.zeros_like(images)
    found = [
        metrics.deletion_auc(oracle, images, LABELS, scores, blanks, steps=16),
        metrics.insertion_auc(oracle, images, LABELS, scores, blanks, steps=16),
    ]
    pairs = [(pixels, torch.zeros_like(pixels)), (torch.zeros_like(pixels), pixels)]
    for name, ours, (start, end) in zip(("deletion AUC", "insertion AUC"), found, pairs, strict=True):
        check(name, ours, [curve(probabilities, start[b], end[b], scores[b], LABELS[b]) for b in range(2)])

    ours = faithfulness.road(oracle, images, LABELS, scores, key=KEY, percentiles=(25, 50, 75), noise=0.0)
    check("ROAD", ours, [removed(probabilities, pixels[b], scores[b], LABELS[b]) for b in range(2)])
    subsets = np.asarray(metrics.random_subsets(jax.random.key(4), 30, (16, 16), 40))
    ours = faithfulness.infidelity(oracle, images, LABELS, scores, blanks, subsets)
    check(
        "infidelity", ours, [captum_infidelity(probabilities, pixels[b], scores[b], LABELS[b], subsets) for b in (0, 1)]
    )

    quiet = dict(disable_warnings=True, display_progressbar=False)
    nothing = dict(model=None, x_batch=images.transpose(0, 3, 1, 2), y_batch=LABELS, a_batch=scores[:, None])
    given = dict(nothing, a_batch=np.abs(scores)[:, None], s_batch=truth[:, None])
    raw = dict(abs=False, normalise=False, **quiet)
    sparseness = quantus.Sparseness(abs=True, normalise=False, **quiet)(**nothing)
    check("sparsity (Gini)", metrics.gini(jnp.asarray(scores)), sparseness)
    pointing = quantus.PointingGame(**raw)(**given)
    check("pointing game", metrics.pointing_game(jnp.abs(scores), jnp.asarray(truth)), pointing)
    check(
        "energy in object",
        metrics.energy_in_object(jnp.abs(scores), jnp.asarray(truth)),
        quantus.RelevanceMassAccuracy(**raw)(**given),
    )
    top = thresholding.fixed_area(jnp.abs(scores), 26 / 256).mask
    check(
        "precision of the best 26 pixels",
        metrics.precision(top, jnp.asarray(truth)),
        quantus.TopKIntersection(k=26, **raw)(**given),
    )

    grey, faint = oracles.conv(channels=1), oracles.conv_images(channels=1)
    for b in range(2):
        np.random.seed(7)  # noqa: NPY002
        order = np.stack([np.random.choice(256, 40, replace=False) for _ in range(50)])  # noqa: NPY002
        subsets = np.zeros((50, 256), bool)
        np.put_along_axis(subsets, order, True, axis=1)
        np.random.seed(7)  # noqa: NPY002
        reference = quantus.FaithfulnessCorrelation(
            nr_runs=50, subset_size=40, perturb_baseline=0.0, return_aggregate=False, **raw
        )
        theirs = reference(
            TorchConv(grey).eval(),
            faint[b : b + 1].transpose(0, 3, 1, 2),
            LABELS[b : b + 1],
            scores[b : b + 1, None],
            softmax=True,
            device="cpu",
        )
        ours = metrics.mu_fidelity(
            grey,
            faint[b : b + 1],
            LABELS[b : b + 1],
            scores[b : b + 1],
            np.zeros_like(faint[b : b + 1]),
            subsets.reshape(50, 16, 16),
        )
        check(f"muFidelity, image {b}", ours, theirs)

    moved = [scores + 0.1 * oracles.heat_maps(seed=seed) for seed in range(3, 8)]
    ours = metrics.sensitivity(jnp.asarray(scores), jnp.asarray(np.stack(moved)))
    check("max-sensitivity (Captum)", ours, captum_sensitivity(scores, moved))
    check("max-sensitivity (Quantus)", ours, quantus_sensitivity(model, images, scores, moved, quiet))

    one, two = unit(scores)
    check(
        "SSIM",
        metrics.ssim(jnp.asarray(one), jnp.asarray(two)),
        skimage.metrics.structural_similarity(
            one, two, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        ),
    )
    rough = np.round(scores)
    check(
        "rank correlation (with ties)",
        metrics.rank_correlation(jnp.asarray(rough[0]), jnp.asarray(rough[1])),
        scipy.stats.spearmanr(rough[0].ravel(), rough[1].ravel()).statistic,
    )


def check(name: str, ours, theirs, tolerance: float = TOLERANCE) -> None:
    """Prints the largest difference and what the tests keep of the reference; stops where the difference is too large.

    Of a heat map they keep the standard deviation and the score of pixel (5, 6), for each of the two images.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
    difference = np.abs(ours - theirs).max()
    kept = theirs.ravel() if theirs.size <= 16 else [theirs[b].std() for b in (0, 1)] + list(theirs[:2, 5, 6])
    print(f"{name:58s} {difference:.1e}   {np.round(kept, 6).tolist()}")
    assert difference <= tolerance, f"{name} differs by {difference}"


def unit(scores: np.ndarray) -> np.ndarray:
    low, high = scores.min((1, 2), keepdims=True), scores.max((1, 2), keepdims=True)
    return (scores - low) / (high - low)


def rise(probabilities, image: torch.Tensor, label: int) -> np.ndarray:
    """RISE by its definition, with PyTorch's enlargement, on the grids and shifts that evomask draws from KEY."""
    _, grid_key, shift_key = jax.random.split(KEY, 3)
    cells = np.asarray(jax.random.bernoulli(grid_key, 0.5, (64, 4, 4)), np.float32)
    shifts = np.asarray(jax.random.randint(shift_key, (64, 2), 0, jnp.asarray([4, 4])[None]))
    enlarge = torch.nn.functional.interpolate
    whole = enlarge(torch.tensor(cells)[:, None], (20, 20), mode="bilinear", align_corners=False)
    masks = torch.stack([m[:, r : r + 16, c : c + 16] for m, (r, c) in zip(whole, shifts, strict=True)])
    check("RISE masks", smooth_masks(jnp.asarray(cells), jnp.asarray(shifts), 16, 16), masks[:, 0])
    found = probabilities(masks * image[None])[:, label]
    return ((found[:, None, None] * masks[:, 0]).sum(0) / (64 * 0.5)).numpy()


def hsic_by_matrices(shown: np.ndarray, outputs: np.ndarray, width: float) -> list[float]:
    """tr(K H L H) / N with every matrix written out."""
    num = len(outputs)
    centre = np.eye(num) - np.ones((num, num)) / num
    gaussian = np.exp(-np.square(outputs[:, None] - outputs[None].astype(np.float64)) / (2 * width**2))
    binary = [0.5 - np.square(x[:, None].astype(np.float64) - x[None]) for x in shown.T]
    return [np.trace(kernel @ centre @ gaussian @ centre) / num for kernel in binary]


def curve(probabilities, start: torch.Tensor, end: torch.Tensor, score: np.ndarray, label: int) -> float:
    """Replaces 16 pixels after the other and averages the probability by trapezoids, as Petsiuk et al. 2018."""
    order = np.argsort(-score.ravel(), kind="stable")
    now, seen = start.clone().reshape(3, -1), []
    for t in range(17):
        seen.append(probabilities(now.reshape(1, 3, 16, 16))[0, label].item())
        chosen = order[t * 16 : (t + 1) * 16]
        now[:, chosen] = end.reshape(3, -1)[:, chosen]
    return np.trapezoid(seen, dx=1 / 16)


def removed(probabilities, image: torch.Tensor, score: np.ndarray, label: int) -> float:
    """(least relevant first - most relevant first) / 2, with pytorch-grad-cam's imputation without its noise."""
    order, impute, found = np.argsort(-score.ravel(), kind="stable"), NoisyLinearImputer(noise=0.0), []
    for num in (64, 128, 192):
        for sign, gone in ((1, order[-num:]), (-1, order[:num])):
            kept = torch.ones(256)
            kept[gone.copy()] = 0
            filled = impute(image, kept.reshape(16, 16)).float().clamp(0, 1)
            found.append(sign * probabilities(filled[None])[0, label].item())
    return sum(found) / len(found)


def captum_infidelity(probabilities, image: torch.Tensor, score: np.ndarray, label: int, subsets: np.ndarray) -> float:
    """Captum's own function: what is subtracted is 1 where a subset lies, and the picture is blanked there."""
    gone = torch.tensor(subsets, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1)
    return captum.metrics.infidelity(
        lambda x: probabilities(x)[:, label],
        lambda x: (gone, image[None] * (1 - gone)),
        image[None],
        torch.tensor(score)[None, None].repeat(1, 3, 1, 1) / 3,
        n_perturb_samples=len(subsets),
        normalize=True,
    ).item()


def captum_sensitivity(scores, moved) -> np.ndarray:
    """Captum's own function around an explainer that returns its input, which is perturbed into the given maps."""
    maps = iter(moved)
    found = captum.metrics.sensitivity_max(
        lambda x: x,
        torch.tensor(scores)[:, None],
        lambda _: torch.tensor(next(maps))[:, None],
        n_perturb_samples=len(moved),
        max_examples_per_batch=len(scores),
    )
    return found.numpy()


def quantus_sensitivity(model, images, scores, moved, quiet) -> list[float]:
    """Quantus' own class around an explainer that returns the given maps one after the other."""
    maps = iter(moved)
    reference = quantus.MaxSensitivity(
        nr_samples=len(moved),
        abs=False,
        normalise=False,
        return_aggregate=False,
        return_nan_when_prediction_changes=False,
        **quiet,
    )
    return reference(
        model,
        images.transpose(0, 3, 1, 2),
        LABELS,
        scores[:, None],
        device="cpu",
        explain_func=lambda **_: next(maps)[:, None],
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore")  # of the packages compared with
    main()
