#!/usr/bin/env python3
"""Training and sampling steps of a U-Net in PyTorch eager mode; one JSON line per timing.

    python benches/peers/unet_step.py --threads 2 --repeats 3 --steps 4

unet           diffusers' UNet2DModel with the layers of the benchmark's network (6.1 M parameters, grey images of 32x32,
               batch 32): t and noise drawn, squared error, backward, Adam (`default` and `fused`)
unet sampling  an ancestral step of DDPM with the forward posterior's variance, 32 images

Each timing is the median over --repeats of the mean over a bout of --steps, after a bout of warm-up, in milliseconds.
"""

import argparse
import json
import statistics
import time

import torch
from diffusers import DDPMScheduler, UNet2DModel

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BATCH, SIZE = 32, 32


def network():
    return UNet2DModel(
        sample_size=SIZE, in_channels=1, out_channels=1, block_out_channels=(64, 128, 128, 128), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"), attention_head_dim=None,
    )


def timed(step, options):
    times = []
    for _ in range(options.repeats + 1):
        start = CLOCKS[options.clock]()
        for _ in range(options.steps):
            step()
        times.append(1e3 * (CLOCKS[options.clock]() - start) / options.steps)
    return times[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--repeats", type=int, default=3, help="bouts per figure")
    parser.add_argument("--steps", type=int, default=4, help="steps per bout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    scheduler = DDPMScheduler()
    x0 = torch.randn(BATCH, 1, SIZE, SIZE)
    for kind in ("default", "fused"):
        net = network()
        adam = torch.optim.Adam(net.parameters(), lr=1e-4, **({"fused": True} if kind == "fused" else {}))

        def train():
            noise, t = torch.randn_like(x0), torch.randint(0, 1000, (BATCH,))
            loss = (net(scheduler.add_noise(x0, noise, t), t).sample - noise).square().sum((1, 2, 3)).mean()
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()

        @torch.no_grad()
        def sample():
            scheduler.step(net(x0, 500).sample, 500, x0)

        for what, step in (("unet", train), ("unet sampling", sample)):
            times = timed(step, options)
            record = {"what": what, "adam": kind, "ms_per_step": statistics.median(times), "fastest": min(times)}
            parameters = sum(p.numel() for p in net.parameters())
            print(json.dumps({**record, "parameters": parameters, "threads": options.threads, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
