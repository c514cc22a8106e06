"""A small diffusers model of Fashion-MNIST at 14x14 (averages of 2x2 pixels), and the images that it is of.

    python ddpm_fashion14.py FASHION_MNIST OUT SECONDS

FASHION_MNIST holds train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz. Writes OUT/ddpm-fashion14, a DDPMPipeline of 0.7 M
parameters (linear schedule, 1000 steps), and OUT/{train,t10k}14-images-idx3-ubyte. One thread, batches of 64, Adam 1e-3.
"""
import gzip
import struct
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

source, out, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)


def halved(name):
    raw = gzip.open(source / f"{name}-images-idx3-ubyte.gz").read()
    n, height, width = struct.unpack(">III", raw[4:16])
    x = np.frombuffer(raw, np.uint8, offset=16).reshape(n, height // 2, 2, width // 2, 2).astype(np.float64)
    return np.floor(x.mean((2, 4)) + 0.5).astype(np.uint8)


out.mkdir(parents=True, exist_ok=True)
for name in ["train", "t10k"]:
    x = halved(name)
    (out / f"{name}14-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, *x.shape) + x.tobytes())
x = torch.from_numpy(halved("train")).float()[:, None] / 127.5 - 1
net = UNet2DModel(
    sample_size=14, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
)
scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
ema = [p.detach().clone() for p in net.parameters()]
adam = torch.optim.Adam(net.parameters(), lr=1e-3)
start, step = time.time(), 0
while (used := time.time() - start) < seconds:
    for group in adam.param_groups:
        group["lr"] = 1e-3 * min(1, (step + 1) / 200) * 0.5 * (1 + np.cos(np.pi * used / seconds))
    x0 = x[torch.randint(len(x), (64,))]
    noise, t = torch.randn_like(x0), torch.randint(1000, (64,))
    loss = torch.nn.functional.mse_loss(net(scheduler.add_noise(x0, noise, t), t).sample, noise)
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    adam.step()
    for average, p in zip(ema, net.parameters()):
        average.lerp_(p.detach(), 0.002)
    step += 1
for average, p in zip(ema, net.parameters()):
    p.data.copy_(average)
DDPMPipeline(net, scheduler).save_pretrained(out / "ddpm-fashion14")
print(f"{step} steps, {sum(p.numel() for p in net.parameters())} parameters")
