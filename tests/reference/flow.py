#!/usr/bin/env python3
"""Writes the references of tests/probability_flow.rs: likelihoods by the probability-flow ODE, in PyTorch and torchdiffeq.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0 torchdiffeq==0.2.5 diffusers==0.42.1 safetensors==0.8.0
    peers/bin/python tests/reference/flow.py

Folders tests/reference/flow/NAME hold a small run of `tweedie train`, made once by

    tweedie train --config tests/reference/flow/NAME/config.toml --out RUN

(config.toml, data.json, base.json and ema.safetensors of it), and reference.safetensors, which this script writes:

    rows         x_0, [b, d], f32, in the network's units
    latent       x_T / sigma_T, [b, d]
    log_density  ln p(x_0), nats, [b] by the exact divergence, or [b, probes] by one probe each

Everything of the model and of the process is written here again, from the formulas and in f64: nothing of tweedie is run. The
equation is the one of Song et al. 2021 in the time t, dx/dt = f x - g^2 s / 2 with d ln p(x)/dt = -div, from x at t =
epsilon to T by dopri5 at rtol = atol = 1e-10, of images 1e-8. Below epsilon the score is not trained. As tweedie does, the script goes from x_0 to

    x = alpha (x_0 + r eps^(alpha x_0)/2),   ln p(x_0) = ln p(x) + d ln alpha + r alpha div eps^(alpha x_0)/2,   r = sigma/alpha,

all at epsilon. The probes of images are the signs that tweedie draws, tests/reference/flow/probes.safetensors, written by
`cargo test --test probability_flow -- --ignored`.

benches/peers/flow.py takes the models from here, in f32.
"""

import json
import math
import pathlib
import tomllib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchdiffeq import odeint

HERE = pathlib.Path(__file__).parent / "flow"


class Schedule:
    """VP and subVP with linear beta; t: a tensor without dimensions."""

    def __init__(self, config):
        self.sub, self.low, self.high = config["kind"] == "sub-vp", config["beta_min"], config["beta_max"]
        self.epsilon = 1e-2 if self.sub else 1e-5
        if config["kind"] not in ("vp", "sub-vp"):
            raise SystemExit(f"flow: schedule {config['kind']} is not written here")

    def integral(self, t):
        return self.low * t + (self.high - self.low) * t * t / 2

    def alpha(self, t):
        return torch.exp(-self.integral(t) / 2)

    def sigma(self, t):
        variance = -torch.expm1(-self.integral(t))
        return variance if self.sub else variance.sqrt()

    def drift(self, t):
        return -(self.low + (self.high - self.low) * t) / 2

    def diffusion2(self, t):
        beta = self.low + (self.high - self.low) * t
        return -beta * torch.expm1(-2 * self.integral(t)) if self.sub else beta

    def log_snr(self, t):
        return 2 * (self.alpha(t) / self.sigma(t)).log()


class Base:
    """eps^ = -sigma grad ln b_t(x) of the base distribution, by inverse covariances."""

    def __init__(self, parameters, like):
        tensor = lambda values: torch.tensor(values, dtype=torch.float64)
        if "variance" in parameters:
            self.mean, self.variance = tensor(parameters["mean"]), parameters["variance"]
            self.second_moment = self.mean.square().mean().item() + self.variance
        else:
            self.log_weights, self.means = tensor(parameters["weights"]).log(), tensor(parameters["means"])
            d = self.means.shape[1]
            self.covariances = tensor(parameters["covariances"]).view(-1, d, d)
            self.variance = None
            second = self.covariances.diagonal(dim1=1, dim2=2) + self.means.square()
            self.second_moment = (self.log_weights.exp() @ second).mean().item()
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value.to(like))

    def noise(self, x, alpha, sigma):
        if self.variance is not None:
            return sigma * (x - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        identity = torch.eye(x.shape[1], dtype=x.dtype)
        inverses = torch.linalg.inv(alpha**2 * self.covariances + sigma**2 * identity)
        centred = x.unsqueeze(1) - alpha * self.means
        pulled = torch.einsum("nkd,kde->nke", centred, inverses)
        joint = self.log_weights + (inverses.logdet() - (centred * pulled).sum(2)) / 2
        return sigma * (joint.softmax(1).unsqueeze(2) * pulled).sum(1)


class Mlp:
    """The residual network for rows, with the log signal-to-noise ratio, scaled to [-1, 1], as its time."""

    def __init__(self, config, weights, schedule):
        self.depth, self.frequencies = config["depth"], config["frequencies"]
        if config["form"] != "residual":
            raise SystemExit("flow: only the residual form is written here")
        self.weights = {name: value.squeeze(0) for name, value in weights.items()}
        ends = [schedule.log_snr(torch.tensor(t, dtype=torch.float64)).item() for t in (1.0, schedule.epsilon)]
        self.schedule, self.middle, self.half = schedule, sum(ends) / 2, (ends[1] - ends[0]) / 2

    def __call__(self, x, t):
        layer = lambda name, x: x @ self.weights[f"score.{name}.weight"] + self.weights[f"score.{name}.bias"]
        tau = (self.schedule.log_snr(t) - self.middle) / self.half
        angles = math.pi / 2 * tau * 2.0 ** torch.arange(self.frequencies, dtype=x.dtype)
        features = torch.cat([tau.view(1), torch.stack([angles.sin(), angles.cos()], 1).flatten()]).unsqueeze(0)
        time = F.silu(layer("time", features))
        h = layer("input", x) + time
        for i in range(self.depth):
            h = h + layer(f"{i}.second", F.silu(layer(f"{i}.first", F.silu(h)) + layer(f"{i}.time", time)))
        return layer("output", F.silu(h))


class Positions(torch.nn.Module):
    """Cosines and sines of positions. diffusers computes them in f32, where an angle of 1000 has four digits."""

    def __init__(self, size):
        super().__init__()
        self.frequencies = torch.exp(-math.log(10_000) * torch.arange(size // 2, dtype=torch.float64) / (size // 2))

    def forward(self, position):
        angles = position.double().unsqueeze(1) * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], 1)


class UNet:
    """diffusers' UNet2DModel with the run's weights; its time is the position among the steps of a discrete process."""

    def __init__(self, config, weights, dtype):
        from diffusers import UNet2DModel

        plain = dict(
            middle_attention=True, rescale=False, classes=0, cosine_first=True, frequency_shift=0.0, scale_shift=False, head_dim=0
        )
        if any(config[name] != value for name, value in plain.items()):
            raise SystemExit("flow: this kind of U-Net is not written here")
        channels, height, width = config["shape"]
        kinds = ["Attn" if attends else "" for attends in config["attention"]]
        self.net = UNet2DModel(
            sample_size=(height, width), in_channels=channels, out_channels=channels,
            block_out_channels=config["widths"], layers_per_block=config["blocks"],
            down_block_types=[f"{kind}DownBlock2D" for kind in kinds],
            up_block_types=[f"{kind}UpBlock2D" for kind in reversed(kinds)],
            norm_num_groups=config["groups"], norm_eps=config["norm_epsilon"], attention_head_dim=None,
            downsample_padding=0 if config["pad_end"] else 1,
        )
        self.net.load_state_dict({name: value for name, value in weights.items() if not name.startswith("head.")})
        self.net.to(dtype).eval().requires_grad_(False)
        self.net.time_proj = Positions(config["widths"][0])
        self.shape, self.steps = config["shape"], config["steps"]

    def __call__(self, x, t):
        return self.net(x.view(-1, *self.shape), self.steps * t.double() - 1).sample.flatten(1)


class Model:
    """eps^ = eps^_base + a(t) F, F the network's output for x of unit scale."""

    def __init__(self, run, dtype=torch.float64):
        run = pathlib.Path(run)
        config = tomllib.loads((run / "config.toml").read_text())
        if config["model"]["prediction"] != "correction":
            raise SystemExit("flow: only corrections of a base are written here")
        self.dtype, self.finest = dtype, config["model"]["finest_scale"]
        self.schedule = Schedule(config["schedule"])
        self.base = Base(json.loads((run / "base.json").read_text()), torch.empty(0, dtype=dtype))
        weights = {name: value.to(dtype) for name, value in load_file(run / "ema.safetensors").items()}
        network = config["model"]["network"]
        self.network = Mlp(network, weights, self.schedule) if network["kind"] == "mlp" else UNet(network, weights, dtype)

    def noise(self, x, t):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        signal = alpha**2 * self.base.second_moment
        fade = sigma**2 / (sigma**2 + signal * self.finest**2)
        scale = (signal / (signal + sigma**2) * fade).sqrt()
        return self.base.noise(x, alpha, sigma) + scale * self.network(x / (signal + sigma**2).sqrt(), t)


def products(outputs, x, directions):
    """e' (d outputs / d x) e of every row, [b, m], for directions e [b, m, d]."""
    columns = []
    for i in range(directions.shape[1]):
        e, more = directions[:, i], i + 1 < directions.shape[1]
        (gradient,) = torch.autograd.grad(outputs, x, e, retain_graph=more)
        columns.append((gradient * e).sum(1))
    return torch.stack(columns, 1)


class Flow(torch.nn.Module):
    """dx/dt and d ln p/dt along it; without probes by the exact divergence."""

    def __init__(self, model, probes, like):
        super().__init__()
        d = like.shape[1]
        self.model, self.exact = model, probes is None
        self.directions = torch.eye(d, dtype=like.dtype).expand(len(like), d, d) if self.exact else probes.to(like)
        self.evaluations = 0

    def divergence(self, outputs, x):
        each = products(outputs, x, self.directions)
        return each.sum(1, keepdim=True) if self.exact else each

    def noise(self, x, t):
        """eps^ and its divergence, [b, d] and [b, columns]."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            noise = self.model.noise(x, t)
            return noise.detach(), self.divergence(noise, x)

    def forward(self, t, state):
        self.evaluations += 1
        schedule = self.model.schedule
        pull = schedule.diffusion2(t) / schedule.sigma(t) / 2
        noise, divergence = self.noise(state[0], t)
        squares = self.directions.square().sum(2)
        trace = squares.sum(1, keepdim=True) if self.exact else squares
        drift = schedule.drift(t)
        return drift * state[0] + pull * noise, -(drift * trace + pull * divergence)


def log_density(model, rows, probes, tolerance):
    """ln p [b, columns], x_T/sigma_T [b, d] and the evaluations of eps^; rows in the model's dtype."""
    d, schedule = rows.shape[1], model.schedule
    flow = Flow(model, probes, rows)
    with torch.no_grad():
        ends = torch.tensor([schedule.epsilon, 1.0], dtype=rows.dtype)
        alpha, ratio = schedule.alpha(ends[0]), schedule.sigma(ends[0]) / schedule.alpha(ends[0])
        noise, divergence = flow.noise(alpha * rows, ends[0])
        start = alpha * (rows + ratio / 2 * noise)
        below = d * alpha.log() + ratio / 2 * alpha * divergence
        # the second part of the state is what ln p has lost since
        x, lost = odeint(flow, (start, torch.zeros_like(below)), ends, rtol=tolerance, atol=tolerance, method="dopri5")
        latent = x[1] / schedule.sigma(ends[1])
        prior = -latent.square().sum(1) / 2 - d * (math.log(2 * math.pi) / 2 + schedule.sigma(ends[1]).log())
        return prior.unsqueeze(1) - lost[1] + below, latent, flow.evaluations + 1


def main():
    all_probes = load_file(HERE / "probes.safetensors")["probes"]
    for number, name in enumerate(["table-vp", "table-sub-vp", "images-vp", "images-sub-vp"]):
        torch.manual_seed(number)
        model = Model(HERE / name)
        if name.startswith("table"):
            rows, probes = torch.randn(12, 3), None
        else:
            rows, probes = model.base.mean.float() + model.base.variance**0.5 * torch.randn(4, 64), all_probes
        rows = rows.float()
        tolerance = 1e-10 if probes is None else 1e-8
        values, latent, evaluations = log_density(model, rows.double(), probes, tolerance)
        values = values.squeeze(1) if probes is None else values
        model.network = lambda x, t: torch.zeros_like(x)
        alone = log_density(model, rows.double(), probes, 1e-6)[0].view_as(values)
        part = (values - alone).abs().mean()
        print(f"{name}: ln p {values.flatten().tolist()[:2]}, {evaluations} evaluations; the network's part {part:.2f} nats")
        tensors = dict(rows=rows, latent=latent.contiguous(), log_density=values.contiguous())
        save_file(tensors, HERE / name / "reference.safetensors")


if __name__ == "__main__":
    main()
