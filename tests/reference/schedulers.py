#!/usr/bin/env python3
"""Writes the reference of tests/schedulers.rs: chains of diffusers' schedulers, tests/reference/schedulers.safetensors.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0 diffusers==0.42.1 numpy==2.4.6 safetensors
    peers/bin/python tests/reference/schedulers.py

The schedulers are diffusers' own. Their tables, which they keep in f32, are put in their place in f64 from the same betas, so that what is
compared is their steps; DPMSolverMultistepScheduler rounds each of its steps to f32 still. The noise is what tweedie draws,
tests/reference/schedulers/noise.safetensors (`start` [2, 2], `noise` [1000, 2, 2]), written by `cargo test --test schedulers -- --ignored`.

The network is a formula: with w = (timestep + 1)/1000 it says

    eps = w x + (1 - w) tanh(x + w),    v = tanh(w - x)  (the second half of the output, for learned_range).

For each beta schedule, spacing and K in 10, 50, 1000 the file has

    timesteps/SCHEDULER/SPACING/K   as the scheduler chose them, int16, SCHEDULER ddpm, ddim or dpm
    BETAS/SPACING/K                 x after the steps of `kept`, [methods, kept, 2, 2], methods in the order of METHODS
    kept/K                          which steps' results are kept, int16

DDIMScheduler goes from t to t - 1000 // K, whatever its next timestep is; with linspace that is another. DPMSolverMultistepScheduler with
linspace and K = 1000 repeats a timestep and gives NaN (0.42.1): NaN is what the file has.
"""

import math
import pathlib

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent / "schedulers"

METHODS = {
    "ddpm fixed_small": (DDPMScheduler, dict(variance_type="fixed_small", clip_sample=False), {}),
    "ddpm fixed_small clip_sample": (DDPMScheduler, dict(variance_type="fixed_small", clip_sample=True), {}),
    "ddpm fixed_large": (DDPMScheduler, dict(variance_type="fixed_large", clip_sample=False), {}),
    "ddpm learned_range": (DDPMScheduler, dict(variance_type="learned_range", clip_sample=False), {}),
    "ddim 0": (DDIMScheduler, dict(clip_sample=False), dict(eta=0.0)),
    "ddim 0.5": (DDIMScheduler, dict(clip_sample=False), dict(eta=0.5)),
    "ddim 1": (DDIMScheduler, dict(clip_sample=False), dict(eta=1.0)),
    "ddim 0.5 clip_sample": (DDIMScheduler, dict(clip_sample=True), dict(eta=0.5, use_clipped_model_output=True)),
    "dpm": (DPMSolverMultistepScheduler, {}, {}),
}
NAMES = {DDPMScheduler: "ddpm", DDIMScheduler: "ddim", DPMSolverMultistepScheduler: "dpm"}


def betas(schedule):
    if schedule == "linear":
        return torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    kept = lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.tensor([min(1 - kept((i + 1) / 1000) / kept(i / 1000), 0.999) for i in range(1000)], dtype=torch.float64)


def in_f64(scheduler, schedule):
    exact = betas(schedule)
    assert torch.allclose(scheduler.betas.double(), exact, rtol=1e-5, atol=1e-9)
    scheduler.betas, scheduler.alphas = exact, 1 - exact
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)


def steps_in_f64(scheduler):
    """After set_timesteps: the table of DPM-Solver, whose sigma is sigma/alpha."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        kept = scheduler.alphas_cumprod[scheduler.timesteps]
        scheduler.sigmas = torch.cat([((1 - kept) / kept).sqrt(), torch.zeros(1, dtype=torch.float64)])


def chain(method, schedule, spacing, count, exact, start, noise):
    kind, options, arguments = METHODS[method]
    scheduler = kind(beta_schedule=schedule, timestep_spacing=spacing, **options)
    if exact:
        in_f64(scheduler, schedule)
    scheduler.set_timesteps(count)
    if exact:
        steps_in_f64(scheduler)
    x, all = start, []
    for k, t in enumerate(scheduler.timesteps):
        w = (int(t) + 1) / 1000
        output = w * x + (1 - w) * torch.tanh(x + w)
        if options.get("variance_type") == "learned_range":
            output = torch.cat([output, torch.tanh(w - x)], dim=1)
        more = dict(arguments)
        if kind is DDIMScheduler and more["eta"] > 0:
            more["variance_noise"] = noise[k]
        scheduling_ddpm.randn_tensor = lambda *_, **__: noise[k]
        x = scheduler.step(output, int(t), x, **more).prev_sample
        all.append(x)
    return scheduler.timesteps, torch.stack(all)


def main():
    given = load_file(HERE / "noise.safetensors")
    start, noise = given["start"], given["noise"]
    tensors, largest = {}, {}
    for schedule in ["linear", "squaredcos_cap_v2"]:
        for spacing in ["trailing", "linspace"]:
            for count in [10, 50, 1000]:
                stride = max(count // 10, 1)
                kept = [0, *range(stride - 1, count, stride)] if stride > 1 else list(range(count))
                tensors[f"kept/{count}"] = torch.tensor(kept, dtype=torch.int16)
                of_methods = []
                for method, (kind, _, _) in METHODS.items():
                    steps, exact = chain(method, schedule, spacing, count, True, start, noise)
                    _, plain = chain(method, schedule, spacing, count, False, start.float(), noise.float())
                    tensors[f"timesteps/{NAMES[kind]}/{spacing}/{count}"] = steps.to(torch.int16)
                    of_methods.append(exact[kept])
                    gap = ((plain - exact).abs().amax((1, 2)) / exact.abs().amax((1, 2))).max().item()
                    largest[method, schedule] = max(largest.get((method, schedule), 0.0), gap)
                tensors[f"{schedule}/{spacing}/{count}"] = torch.stack(of_methods)
    for (method, schedule), gap in largest.items():
        print(f"{method}, {schedule}: as delivered, in f32, differs by up to {gap:.1e}")
    save_file(tensors, HERE / "reference.safetensors")


if __name__ == "__main__":
    main()
