#!/usr/bin/env python3
"""Writes the references of tests/unet.rs: diffusers' UNet2DModel with random weights, an input and its output.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0 diffusers==0.42.1 safetensors
    peers/bin/python tests/reference/unet.py

Folders tests/reference/unet/NAME hold what `save_pretrained` writes (config.json, diffusion_pytorch_model.safetensors)
and reference.safetensors: `sample`, `timestep`, `output` and, where there are classes, `class_labels`. Where the network has
variances (`learned_range`), also `noise` and what DDPMScheduler.step makes of it, unclipped: `next` of both rows one of 1000 steps
on, `far` of the last row 100 on.
"""

import pathlib

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "unet"

CONFIGS = {
    "plain": dict(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=None, add_attention=False,
    ),
    "attention": dict(
        sample_size=(8, 16), in_channels=3, out_channels=3, block_out_channels=(8, 8, 16), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=4, norm_eps=1e-6, dropout=0.1,
        flip_sin_to_cos=False, freq_shift=1, downsample_padding=0,
    ),
    "classes": dict(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("AttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "AttnUpBlock2D"),
        norm_num_groups=2, attention_head_dim=8, num_class_embeds=5,
    ),
    "odd-widths": dict(
        sample_size=4, in_channels=2, out_channels=2, block_out_channels=(6, 18, 12), layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=3, attention_head_dim=6, resnet_time_scale_shift="scale_shift", attn_norm_num_groups=3,
    ),
    "learned-range": dict(
        sample_size=8, in_channels=3, out_channels=6, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, attention_head_dim=8,
    ),
}


def step(output, timestep, sample, row, stride):
    """The row that follows, and the noise that went into it."""
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    time = int(timestep[row])
    scheduler.set_timesteps(timesteps=[time, time - stride])
    seeded = lambda: torch.Generator().manual_seed(row)
    made = scheduler.step(output[row][None], time, sample[row][None], generator=seeded())
    return made.prev_sample[0], torch.randn(1, *sample[row].shape, generator=seeded())[0]


def main():
    for number, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        model = UNet2DModel(**config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # also those that start at zero or one
                parameter.add_(0.1 * torch.randn_like(parameter))
            size = config["sample_size"]
            height, width = (size, size) if isinstance(size, int) else size
            sample = torch.randn(2, config["in_channels"], height, width)
            timestep = torch.tensor([3.0, 871.0])
            tensors = dict(sample=sample, timestep=timestep)
            labels = None
            if "num_class_embeds" in config:
                labels = tensors["class_labels"] = torch.tensor([4, 1])
            tensors["output"] = model(sample, timestep, class_labels=labels).sample.contiguous()
            if config["out_channels"] > config["in_channels"]:
                made = [step(tensors["output"], timestep, sample, row, 1) for row in range(2)]
                tensors["next"] = torch.stack([row for row, _ in made])
                tensors["noise"] = torch.stack([noise for _, noise in made])
                tensors["far"] = step(tensors["output"], timestep, sample, 1, 100)[0][None]
        model.save_pretrained(HERE / name)
        save_file(tensors, HERE / name / "reference.safetensors")


main()
