#!/usr/bin/env python3
"""Writes the references of tests/image_metrics.rs and tests/weights.rs into tests/reference/metrics.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0 torchvision==0.26.0 safetensors scipy==1.17.1 \
        scikit-learn==1.9.1 pytorch-fid==0.3.0 prdc==0.2 efficientnet-lite-pytorch==0.1.0
    peers/bin/python tests/reference/metrics.py [efficientnet-lite0-57934424.pth]

The networks are the packages' own. Their weights are made by the rule of `number` in sequence.py, there and in the test: those of
Inception are 95 MB. With the file of EfficientNet-Lite0's real weights, their features are written too (`real`).
"""

import collections
import pathlib
import sys

import numpy as np
import prdc
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from pytorch_fid import fid_score, inception
from safetensors.torch import save_file
from sequence import number

HERE = pathlib.Path(__file__).parent / "metrics"


def fill(model):
    """Weights of variance 2 / fan-in, normalisations near the identity."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        u = number(name, tensor.numel())
        if tensor.dim() > 1:
            values = u * np.sqrt(6 / np.prod(tensor.shape[1:]))
        elif name.endswith((".running_var", "bn.weight")) or (name.endswith(".weight") and "_bn" in name):
            values = 1 + 0.5 * u
        else:
            values = 0.2 * u
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))


def images(name, channels, side):
    """Two images of levels."""
    u = torch.from_numpy(number(name, 2 * channels * side * side)).view(2, channels, side, side)
    # smooth, so that the resampling matters
    u = F.interpolate(u[:, :, ::4, ::4], size=(side, side), mode="bicubic", align_corners=False)
    return (127.5 + 127.5 * u).round().clamp(0, 255).to(torch.uint8)


def inception_features(levels):
    """Features, and logits without the bias, as the Inception score's own code has them."""
    # the weights that the package would fetch come from `fill`
    inception.load_state_dict_from_url = lambda *_, **__: WEIGHTS
    network = inception._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    fill(network)
    global WEIGHTS
    WEIGHTS = network.state_dict()
    model = inception.InceptionV3([3]).eval()
    matrix = WEIGHTS["fc.weight"]
    with torch.no_grad():
        pooled = model(levels.expand(-1, 3, -1, -1) / 255)[0].flatten(1)
    return pooled, pooled @ matrix.T


def efficientnet_features(levels, path=None):
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    if path is None:
        with torch.no_grad():
            fill(model)
    else:
        model.load_state_dict(torch.load(path, weights_only=True))
    x = F.interpolate(levels.expand(-1, 3, -1, -1).float(), size=(224, 224), mode="bilinear", align_corners=False)
    with torch.no_grad():
        x = (x - 127) / 128
        return model.extract_features(x).mean((2, 3)), model(x)


def main():
    HERE.mkdir(exist_ok=True)
    torch.manual_seed(0)
    grey, colour = images("grey", 1, 28), images("colour", 3, 40)
    with torch.no_grad():
        tensors = {"grey": grey, "colour": colour}
        tensors["inception.pooled"], tensors["inception.logits"] = inception_features(colour[:1])
        tensors["efficientnet.pooled"], tensors["efficientnet.logits"] = efficientnet_features(grey)
        if len(sys.argv) > 1:
            tensors["real.pooled"], tensors["real.logits"] = efficientnet_features(grey, sys.argv[1])
    save_file({name: t.contiguous() for name, t in tensors.items()}, HERE / "features.safetensors")

    # 60 and 50 rows of 12 correlated features, so that covariances are regular; 40 and 30 of 64, where they are not
    rng = np.random.default_rng(0)
    tensors = {}
    for name, dim, counts in [("regular", 12, (60, 50)), ("singular", 64, (40, 30))]:
        mix = rng.normal(size=(dim, dim)) / np.sqrt(dim)
        a = (rng.normal(size=(counts[0], dim)) @ mix).astype(np.float32)
        b = (rng.normal(size=(counts[1], dim)) @ mix * 1.3 + 0.2).astype(np.float32)
        tensors[f"{name}.a"], tensors[f"{name}.b"] = torch.from_numpy(a), torch.from_numpy(b)
        # in f64, as pytorch-fid holds features
        wide = [x.astype(np.float64) for x in (a, b)]
        moments = [f(x) for x in wide for f in (lambda x: np.mean(x, axis=0), lambda x: np.cov(x, rowvar=False))]
        distance = fid_score.calculate_frechet_distance(*moments)
        tensors[f"{name}.frechet"] = torch.tensor([distance], dtype=torch.float64)
        found = prdc.compute_prdc(a, b, nearest_k=3)
        order = ["precision", "recall", "density", "coverage"]
        tensors[f"{name}.prdc"] = torch.tensor([found[key] for key in order], dtype=torch.float64)
        if name == "regular":
            # pytorch-fid's layout, EDM's is the same
            np.savez_compressed(HERE / "statistics.npz", mu=moments[0], sigma=moments[1])
        print(name, distance, found)
    save_file(tensors, HERE / "distances.safetensors")

    # a state dict in both layouts: two views of one storage, a transposed parameter, a counter, half precision
    shared = torch.arange(12, dtype=torch.float32)
    state = collections.OrderedDict(
        first=shared[:6].view(2, 3), second=shared[4:], turned=torch.nn.Parameter(torch.arange(6.0).view(2, 3).t()),
        count=torch.tensor(7), half=torch.tensor([0.5, -2.0], dtype=torch.float16), none=torch.zeros(0, 3),
    )
    torch.save(state, HERE / "state.pth")
    torch.save(state, HERE / "state-legacy.pth", _use_new_zipfile_serialization=False)


main()
