#!/usr/bin/env python3
"""Likelihoods by the probability-flow ODE in PyTorch and torchdiffeq; one JSON line.

    python benches/peers/flow.py RUN values.safetensors --tolerance 1e-5 --threads 2

RUN is a run of tweedie; values.safetensors, which `cargo bench --bench flow -- --out` wrote, has the rows, the probes (none:
the exact divergence) and tweedie's values. The model, written for tests/reference/flow.py, computes in f32 and eagerly, as
does the solver: dopri5 in the time t, from epsilon to T, for all rows at once under torchdiffeq's own error norm (the root
mean square over rows). The divergence is by a vector-Jacobian product per probe, or per column; --batched takes all in one
call (vmap). `evaluations` counts products, as tweedie does; `gap` is |ours - theirs| over rows: median and largest.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "reference"))
import flow  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def products_at_once(outputs, x, directions):
    e = directions.transpose(0, 1)
    (gradients,) = torch.autograd.grad(outputs, x, e, is_grads_batched=True)
    return (gradients * e).sum(2).transpose(0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("values", help="what tweedie computed")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="rtol and atol")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--batched", action="store_true", help="all products of a divergence in one call")
    parser.add_argument("--double", action="store_true", help="compute in f64")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    if options.batched:
        flow.products = products_at_once
    dtype = torch.float64 if options.double else torch.float32
    model = flow.Model(options.run, dtype)
    given = load_file(options.values)
    rows, probes = given["rows"].to(dtype), given["probes"]
    probes = probes if probes.shape[1] else None
    seconds = []
    for _ in range(options.repeats):
        start = CLOCKS[options.clock]()
        values, _, evaluations = flow.log_density(model, rows, probes, options.tolerance)
        seconds.append(CLOCKS[options.clock]() - start)
    gaps = (values.double().mean(1) - given["log_density"]).abs()
    products = rows.shape[1] if probes is None else probes.shape[1]
    record = dict(
        what="flow", rows=len(rows), d=rows.shape[1], seconds=statistics.median(seconds), fastest=min(seconds),
        evaluations=evaluations * (1 + products), mean=values.mean().item(), ours=given["log_density"].mean().item(),
        gap=dict(median=gaps.nanquantile(0.5).item(), largest=gaps.nan_to_num(0).max().item()),
        threads=options.threads, torch=torch.__version__,
    )
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
