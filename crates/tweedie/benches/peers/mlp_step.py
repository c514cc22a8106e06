#!/usr/bin/env python3
"""Training steps in PyTorch eager mode, written the way a good PyTorch user would; one JSON line per timing.

    python benches/peers/mlp_step.py --threads 2 --repeats 15

mlp      3 -> 128 -> 128 -> 2, SiLU, batch 512, squared error: forward, backward, Adam
dsm, lm  tweedie's default network and objectives, on d = 2, 10, 64 columns: a residual MLP (width 128, 3 blocks,
         SiLU, 8 time frequencies, time into every block), VP schedule, t uniform in the log signal-to-noise ratio.
         A step draws t and the noise, evaluates the network at 512 points (x_t, t) and takes an Adam step, so
         that dsm and lm stand at equal network evaluations.
           dsm   |eps^ - eps|^2, 512 rows, one t each
           lm    likelihood matching, marginal form, 128 rows, a path of N = 4 transitions each; the score learns by
                 dsm on the same draws, the head G = diag(exp u) + V V', V of rank r = 0, 4, 16, by the
                 quasi-likelihood, with Woodbury and an r x r Cholesky
         tweedie clips the gradient and keeps a moving average as well; the peer does not.
trial    one training of the mixture experiment: (x, t) -> 64 -> 1, one hidden layer, n = 1000, full batch,
         500 Adam steps, dsm; 100 trainings one after another take 100 times as long

Each timing is the median over --repeats of the mean over a bout of steps, after a bout of warm-up, in
milliseconds per step (trial: seconds per training; --trainings of them). Both of PyTorch's Adams are timed:
`default` (what torch.optim.Adam(parameters) does on a CPU) and `fused` (fused=True).
"""

import argparse
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

BETA_0, BETA_1, EPSILON, TRANSITIONS = 0.1, 20.0, 1e-5, 4


def integral_beta(t):
    return BETA_0 * t + 0.5 * (BETA_1 - BETA_0) * t * t


def noised(x0, t):
    """x_t = alpha x_0 + sigma eps, with the noise; t: [batch, 1]."""
    b = integral_beta(t)
    eps = torch.randn_like(x0)
    return torch.exp(-0.5 * b) * x0 + torch.sqrt(-torch.expm1(-b)) * eps, eps


def log_snr(t):
    return -torch.log(torch.expm1(integral_beta(t)))


LOG_SNR = [float(log_snr(torch.tensor(t, dtype=torch.float64))) for t in (EPSILON, 1.0)]


def time_at(u):
    """The time at quantile u of the law uniform in the log signal-to-noise ratio on [EPSILON, 1]."""
    b = torch.log1p(torch.exp(-(LOG_SNR[0] + (LOG_SNR[1] - LOG_SNR[0]) * u)))
    return 2 * b / (BETA_0 + torch.sqrt(BETA_0**2 + 2 * (BETA_1 - BETA_0) * b))


class ResidualMlp(nn.Module):
    """eps^ [batch, d], and with a rank also ln u [batch, d] and V [batch, d, r], on one trunk."""

    def __init__(self, d, rank=None, width=128, blocks=3, frequencies=8):
        super().__init__()
        self.d, self.rank = d, rank
        self.register_buffer("frequencies", math.pi / 2 * 2.0 ** torch.arange(frequencies))
        self.input = nn.Linear(d, width)
        self.time = nn.Linear(2 * frequencies + 1, width)
        layers = lambda: nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.first, self.of_time, self.second = layers(), layers(), layers()
        self.noise = nn.Linear(width, d)
        self.head = nn.Linear(width, d * (1 + rank)) if rank is not None else None

    def forward(self, x, t):
        tau = (2 * log_snr(t) - LOG_SNR[0] - LOG_SNR[1]) / (LOG_SNR[0] - LOG_SNR[1])
        angles = tau * self.frequencies
        time = F.silu(self.time(torch.cat([tau, angles.sin(), angles.cos()], 1)))
        h = self.input(x) + time
        for first, of_time, second in zip(self.first, self.of_time, self.second):
            h = h + second(F.silu(first(F.silu(h)) + of_time(time)))
        h = F.silu(h)
        if self.head is None:
            return self.noise(h)
        u, v = self.head(h).split([self.d, self.d * self.rank], 1)
        return self.noise(h), u.exp(), v.view(len(x), self.d, self.rank)


def dsm(model, x0):
    t = time_at(torch.rand(len(x0), 1))
    x, eps = noised(x0, t)
    return (model(x, t) - eps).square().sum(1).mean()


def transitions(n):
    """s < t of the transitions of n paths, each over a grid with TRANSITIONS - 1 sorted random times between its ends."""
    inner = time_at(1 - torch.rand(n, TRANSITIONS - 1)).sort(1).values
    grid = torch.cat([torch.full((n, 1), EPSILON), inner, torch.ones(n, 1)], 1)
    return grid[:, :-1].reshape(-1, 1), grid[:, 1:].reshape(-1, 1)


def likelihood_matching(model, x0):
    """1/2 log det B + 1/2 [(1 - rho) tr B^-1 + rho e' B^-1 e], e = eps - eps^, B = (1 - rho) I + rho G, and dsm."""
    s, t = transitions(len(x0))
    x, eps = noised(x0.repeat_interleave(TRANSITIONS, 0), t)
    noise, u, v = model(x, t)
    rho = torch.expm1(integral_beta(s) - integral_beta(t)) / torch.expm1(-integral_beta(t))
    score_loss = 0.5 * (eps - noise).square().sum(1)
    e = eps - noise.detach()
    diag = 1 - rho + rho * u
    inverse = 1 / diag
    log_det = diag.log().sum(1)
    trace = inverse.sum(1)
    quad = (e * e * inverse).sum(1)
    if model.rank:
        v = rho.sqrt().unsqueeze(2) * v
        scaled = inverse.unsqueeze(2) * v  # D^-1 V
        capacitance = torch.eye(model.rank) + v.mT @ scaled
        factor = torch.linalg.cholesky(capacitance)
        log_det = log_det + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        # tr M^-1 (V' D^-2 V) and |L^-1 V' D^-1 e|^2 by one triangular solve
        right = torch.cat([scaled.mT, scaled.mT @ e.unsqueeze(2)], 2)
        solved = torch.linalg.solve_triangular(factor, right, upper=False).square()
        trace = trace - solved[:, :, :-1].sum((1, 2))
        quad = quad - solved[:, :, -1].sum(1)
    return (0.5 * (log_det + (1 - rho.squeeze(1)) * trace + rho.squeeze(1) * quad) + score_loss).mean()


def check_woodbury():
    """The loss above against dense algebra in double precision."""

    class Fixed:
        rank = 4

        def __call__(self, x, t):
            torch.manual_seed(2)
            return torch.randn(64, 6), torch.rand(64, 6) + 0.1, torch.randn(64, 6, 4)

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    loss = likelihood_matching(Fixed(), torch.zeros(16, 6))
    torch.manual_seed(1)
    s, t = transitions(16)
    eps = torch.randn(64, 6)
    noise, u, v = Fixed()(None, None)
    rho = torch.expm1(integral_beta(s) - integral_beta(t)) / torch.expm1(-integral_beta(t))
    b = torch.diag_embed(1 - rho + rho * u) + rho.unsqueeze(2) * v @ v.mT
    e = eps - noise
    quad = (e * torch.linalg.solve(b, e)).sum(1)
    trace = b.inverse().diagonal(dim1=1, dim2=2).sum(1)
    dense = 0.5 * (b.logdet() + (1 - rho[:, 0]) * trace + rho[:, 0] * quad).mean() + 0.5 * e.square().sum(1).mean()
    torch.set_default_dtype(torch.float32)
    if not torch.isclose(loss, dense, rtol=1e-9):
        sys.exit(f"mlp_step: Woodbury gives {loss.item()}, dense algebra {dense.item()}")


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def adam(model, kind):
    return torch.optim.Adam(model.parameters(), lr=1e-3, **({"fused": True} if kind == "fused" else {}))


def step_time(loss, optimizer, options):
    """Milliseconds per training step: one figure per repeat."""

    def bout(steps):
        start = CLOCKS[options.clock]()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()
        return 1e3 * (CLOCKS[options.clock]() - start) / steps

    bout(options.steps)
    return [bout(options.steps) for _ in range(options.repeats)]


def mlp(kind, options):
    model = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
    x, y = torch.randn(512, 3), torch.randn(512, 2)
    return step_time(lambda: F.mse_loss(model(x), y), adam(model, kind), options)


def diffusion(d, rank, kind, options):
    model = ResidualMlp(d, rank)
    x0 = torch.randn(512 if rank is None else 512 // TRANSITIONS, d)
    loss = dsm if rank is None else likelihood_matching
    return step_time(lambda: loss(model, x0), adam(model, kind), options)


def trial(kind, options):
    """Seconds per training, one figure per training, after one of warm-up."""
    seconds = []
    for _ in range(options.trainings + 1):
        start = CLOCKS[options.clock]()
        x0 = torch.randn(1000, 1) + 10 * (2 * torch.randint(2, (1000, 1)) - 1)
        net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 1))
        model = lambda x, t: net(torch.cat([x, t], 1))
        optimizer = adam(net, kind)
        for _ in range(500):
            optimizer.zero_grad(set_to_none=True)
            dsm(model, x0).backward()
            optimizer.step()
        seconds.append(CLOCKS[options.clock]() - start)
    return seconds[1:]


def main():
    kinds = lambda text: text.split(",")
    integers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", type=kinds, default=["mlp", "dsm", "lm", "trial"], help="of mlp,dsm,lm,trial (default: all)")
    parser.add_argument("--adam", type=kinds, default=["default", "fused"], help="of default,fused (default: both)")
    parser.add_argument("--dims", type=integers, default=[2, 10, 64], help="of dsm and lm")
    parser.add_argument("--ranks", type=integers, default=[0, 4, 16], help="of lm")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--repeats", type=int, default=15, help="bouts per figure")
    parser.add_argument("--steps", type=int, default=50, help="training steps per bout")
    parser.add_argument("--trainings", type=int, default=5, help="trainings of trial")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    check_woodbury()

    def put(what, unit, times, **fields):
        record = {"what": what, **fields, unit: round(statistics.median(times), 4), "fastest": round(min(times), 4), "repeats": len(times)}
        print(json.dumps({**record, "threads": options.threads, "torch": torch.__version__}), flush=True)

    for kind in options.adam:
        torch.manual_seed(options.seed)
        if "mlp" in options.what:
            put("mlp", "ms_per_step", mlp(kind, options), adam=kind, batch=512)
        for d in options.dims:
            if "dsm" in options.what:
                put("dsm", "ms_per_step", diffusion(d, None, kind, options), adam=kind, batch=512, d=d)
            if "lm" in options.what:
                for rank in options.ranks:
                    put("lm", "ms_per_step", diffusion(d, rank, kind, options), adam=kind, batch=512, d=d, rank=rank)
        if "trial" in options.what:
            put("trial", "s_per_training", trial(kind, options), adam=kind, n=1000, steps=500)


if __name__ == "__main__":
    main()
