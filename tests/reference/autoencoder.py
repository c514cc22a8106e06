#!/usr/bin/env python3
"""Writes the references of tests/autoencoder.rs: diffusers' AutoencoderKL and AutoencoderTiny with random weights.

    python3 -m venv peers && peers/bin/pip install torch==2.15.0 diffusers==0.42.1 safetensors
    peers/bin/python tests/reference/autoencoder.py

Folders tests/reference/autoencoder/NAME hold what `save_pretrained` writes (config.json, the weights; of `kl-plain` in
parts) and reference.safetensors: `levels`, images of bytes; `mean` and `std` of their latents, or `latents` of
AutoencoderTiny, before scale and shift; `decoded`, of `mean` or `latents`, in [-1, 1]; `latents_large` with `whole` and
`tiled`, decoded at once and in tiles of 4 latents that overlap by 1. `tiny-halves` holds the state dicts of the same
network's `nn.Sequential`s in TAESD's own layout, with the pooling of its variant for FLUX.2 in the last encoder blocks
and the first decoder blocks, and what they make of images in [0, 1].
"""

import pathlib
import shutil

import torch
import torch.nn as nn
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "autoencoder"

KL = {
    "kl": dict(
        block_out_channels=(4, 8), layers_per_block=1, latent_channels=2, norm_num_groups=2, sample_size=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.18215,
    ),
    "kl-plain": dict(
        block_out_channels=(4, 6, 8), layers_per_block=1, latent_channels=3, norm_num_groups=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.3611,
        shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False,
    ),
}
TINY = dict(
    encoder_block_out_channels=(6, 6), decoder_block_out_channels=(6, 6), num_encoder_blocks=(1, 2),
    num_decoder_blocks=(2, 1), latent_channels=3, scaling_factor=0.5, shift_factor=0.25,
)
# the sizes of TAESD's own files follow from the weights; the widths are those of a toy
WIDTH, LATENTS = 4, 3


def shaken(model):
    """Weights that are nowhere zero or one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def images(channels, side):
    levels = torch.randint(0, 256, (2, channels, side, side), dtype=torch.uint8)
    return levels, levels.float() / 127.5 - 1


def kl(name, config):
    model = shaken(AutoencoderKL(**config))
    levels, x = images(3, 16)
    distribution = model.encode(x).latent_dist
    decoded = model.decode(distribution.mean).sample
    large = torch.randn(1, config["latent_channels"], 10, 7)
    whole = model.decode(large).sample
    model.enable_tiling()
    model.tile_latent_min_size, model.tile_overlap_factor = 4, 0.25
    model.tile_sample_min_size = 4 * 2 ** (len(config["block_out_channels"]) - 1)
    tiled = model.decode(large).sample
    model.save_pretrained(HERE / name, max_shard_size="20KB" if name == "kl-plain" else "10GB")
    save(name, levels=levels, mean=distribution.mean, std=distribution.std, decoded=decoded,
         latents_large=large, whole=whole, tiled=tiled)


def tiny(name, config):
    model = shaken(AutoencoderTiny(**config))
    levels, x = images(3, 16)
    latents = model.encode(x).latents
    large = torch.randn(1, config["latent_channels"], 24, 6)
    model.save_pretrained(HERE / name)
    save(name, levels=levels, latents=latents, decoded=model.decode(latents).sample,
         latents_large=large, whole=model.decode(large).sample)


class Clamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """TAESD's block (github.com/madebyollin/taesd, taesd.py)."""

    def __init__(self, width, pool=False):
        super().__init__()
        conv = lambda: nn.Conv2d(width, width, 3, padding=1)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
        self.pool = None
        if pool:
            self.pool = nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False), nn.GroupNorm(4, 4 * width), nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )

    def forward(self, x):
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def halves(name):
    conv = lambda i, o, **more: nn.Conv2d(i, o, 3, padding=1, **more)
    down = lambda: conv(WIDTH, WIDTH, stride=2, bias=False)
    up = lambda: [nn.Upsample(scale_factor=2), conv(WIDTH, WIDTH, bias=False)]
    encoder = nn.Sequential(
        conv(3, WIDTH), Block(WIDTH), down(), Block(WIDTH, True), Block(WIDTH, True), conv(WIDTH, LATENTS),
    )
    decoder = nn.Sequential(
        Clamp(), conv(LATENTS, WIDTH), nn.ReLU(), Block(WIDTH, True), Block(WIDTH, True), *up(), Block(WIDTH),
        conv(WIDTH, 3),
    )
    levels, x = images(3, 16)
    latents = shaken(encoder)((x + 1) / 2)
    decoded = 2 * shaken(decoder)(latents) - 1
    (HERE / name).mkdir(parents=True)
    for part, half in [("encoder", encoder), ("decoder", decoder)]:
        torch.save(half.state_dict(), HERE / name / f"tiny_{part}.pth")
    save(name, levels=levels, latents=latents, decoded=decoded)


def save(name, **tensors):
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    save_file(tensors, HERE / name / "reference.safetensors")


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for number, (name, config) in enumerate(KL.items()):
        torch.manual_seed(number)
        kl(name, config)
    torch.manual_seed(10)
    tiny("tiny", TINY)
    torch.manual_seed(11)
    halves("tiny-halves")


with torch.no_grad():
    main()
