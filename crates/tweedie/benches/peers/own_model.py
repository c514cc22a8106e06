"""tweedie.likelihood against torchdiffeq on the same module of torch: seconds, memory, gap to the truth.

The module is the exact noise of a mixture of Gaussians, so that ln p is known; both solve the probability
flow at rtol = atol = 1e-5 with the exact divergence, or with the same number of probes. Each measurement is a
process of its own, in turn.

    $PEERS/bin/python benches/peers/own_model.py --rows 500 --dim 8 --rounds 3
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rows", type=int, default=500)
parser.add_argument("--dim", type=int, default=8)
parser.add_argument("--probes", type=int, default=0, help="0: the exact divergence")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--side", choices=("tweedie", "torchdiffeq"), help="one measurement, in this process")

BETA = (0.1, 50.0)


def problem(dim, rows):
    import torch

    torch.manual_seed(0)
    means = 2.0 * torch.randn(16, dim)

    class Noise(torch.nn.Module):
        def forward(self, x, t):
            log_alpha = -0.25 * t**2 * (BETA[1] - BETA[0]) - 0.5 * t * BETA[0]
            alpha, sigma2 = log_alpha.exp()[:, None], -torch.expm1(2 * log_alpha)[:, None]
            variance = (alpha**2 * 0.25 + sigma2)[:, :, None]
            apart = x[:, None] - means.to(x) * alpha[:, :, None]
            weights = torch.softmax(-0.5 * (apart**2 / variance).sum(-1), dim=1)
            return sigma2.sqrt() * (weights[..., None] * apart / variance).sum(1)

    x = means[torch.randint(16, (rows,))] + 0.5 * torch.randn(rows, dim)
    apart = ((x[:, None] - means) / 0.5).square().sum(-1)
    exact = torch.logsumexp(-0.5 * apart, 1) - math.log(16) - dim * math.log(0.5 * math.sqrt(2 * math.pi))
    return Noise(), x, exact


def by_tweedie(model, x, probes):
    import tweedie

    schedule = {"kind": "vp", "beta_min": BETA[0], "beta_max": BETA[1]}
    divergence = {"divergence": "rademacher", "probes": probes} if probes else {"divergence": "exact"}
    return tweedie.likelihood(model, x, schedule=schedule, batch_size=len(x), **divergence).values


def by_torchdiffeq(model, x, probes):
    import torch
    from torchdiffeq import odeint

    signs = torch.randint(0, 2, (max(probes, 1), *x.shape)).to(x) * 2 - 1

    def field(t, state):
        with torch.enable_grad():
            rows = state[0].detach().requires_grad_()
            times = t.expand(len(rows))
            beta = BETA[0] + t * (BETA[1] - BETA[0])
            log_alpha = -0.25 * t**2 * (BETA[1] - BETA[0]) - 0.5 * t * BETA[0]
            sigma = (-torch.expm1(2 * log_alpha)).sqrt()
            drift = -0.5 * beta * (rows - model(rows, times) / sigma)
            product = lambda v: torch.autograd.grad(drift, rows, v, retain_graph=True)[0]  # noqa: E731
            if probes:
                divergence = sum((product(v) * v).sum(1) for v in signs) / probes
            else:
                unit = torch.eye(x.shape[1]).to(x)
                divergence = sum(product(e.expand_as(rows))[:, k] for k, e in enumerate(unit))
        return drift.detach(), divergence.detach()

    start = (x, torch.zeros(len(x)))
    times = torch.tensor([1e-5, 1.0])
    end, change = odeint(field, start, times, rtol=1e-5, atol=1e-5, method="dopri5")
    prior = -0.5 * end[-1].square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    return (prior + change[-1]).numpy()


def measure(options):
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    model, x, exact = problem(options.dim, options.rows)
    solve = by_tweedie if options.side == "tweedie" else by_torchdiffeq
    solve(model, x[:4], options.probes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    values = solve(model, x, options.probes)
    seconds = time.monotonic() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    gap = np.abs(values - exact.numpy())
    found = {"seconds": seconds, "grown_mb": grown, "median_gap": float(np.median(gap)), "worst_gap": float(gap.max())}
    print(json.dumps(found))


def main():
    options = parser.parse_args()
    if options.side:
        return measure(options)
    found = {"tweedie": [], "torchdiffeq": []}
    for _ in range(options.rounds):
        for side, of_side in found.items():
            command = [sys.executable, __file__, "--side", side]
            for name in ("rows", "dim", "probes", "threads"):
                command += [f"--{name}", str(getattr(options, name))]
            of_side.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    middle = {side: {k: statistics.median(run[k] for run in runs) for k in runs[0]} for side, runs in found.items()}
    for side, of_side in middle.items():
        print(side, {name: round(value, 5) for name, value in of_side.items()})
    print("ratio of medians", round(middle["torchdiffeq"]["seconds"] / middle["tweedie"]["seconds"], 2))


if __name__ == "__main__":
    main()
