#!/usr/bin/env python3
"""Writes the references of crates/tweedie/tests/unet.rs: ScoreFlow's DDPM++ with random weights, images and outputs.

    python3 -m venv peers && peers/bin/pip install torch==2.11.0 safetensors
    peers/bin/python tests/reference/ddpmpp.py

The network is written here anew from what score_sde_pytorch (`models/ncsnpp.py`, `models/layerspp.py`,
`models/up_or_down_sampling.py`) and score_flow (`models/ncsnpp.py`) define under `resblock_type = 'biggan'`,
`progressive = progressive_input = 'none'`, `embedding_type = 'positional'`, `skip_rescale = True`: modules have the numbers and
parameters the names of score_sde's `all_modules`. `rename` maps them to those of `tweedie`.

tests/reference/ddpmpp/NAME.safetensors holds the parameters under `tweedie`'s names, images `x`, times `t` and the output
`noise`: the network at 999 t, what score_sde's `get_score_fn` gives it under a continuous VP SDE. Prints the number of parameters of the
configurations `cifar10_ddpmpp_continuous` (4 blocks) and `cifar10_ddpmpp_deep_continuous` (8), on the meta device.
"""

import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent / "ddpmpp"
SQRT2 = math.sqrt(2.0)


def norm(channels):
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def upfirdn(x, kernel, up, down, before, after):
    """Zeros after each pixel, padding, convolution, every `down`-th pixel: one axis after the other, by definition."""
    taps = torch.tensor(kernel, dtype=x.dtype).flip(0)
    for axis in (2, 3):
        x = x.movedim(axis, -1)
        spread = torch.zeros(*x.shape, up, dtype=x.dtype)
        spread[..., 0] = x
        padded = F.pad(spread.flatten(-2), (before, after))
        x = (padded.unfold(-1, len(taps), 1) * taps).sum(-1)[..., ::down].movedim(-1, axis)
    return x


def resample(x, way, fir):
    if way == "down":
        if fir:
            return upfirdn(x, [k / 8 for k in (1, 3, 3, 1)], 1, 2, 1, 1)
        b, c, h, w = x.shape
        return x.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))
    if way == "up":
        if fir:
            return upfirdn(x, [2 * k / 8 for k in (1, 3, 3, 1)], 2, 1, 2, 1)
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return x


class Block(nn.Module):
    """ResnetBlockBigGANpp."""

    def __init__(self, inputs, outputs, time, fir, way=None):
        super().__init__()
        self.way, self.fir = way, fir
        self.GroupNorm_0 = norm(inputs)
        self.Conv_0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.Dense_0 = nn.Linear(time, outputs)
        self.GroupNorm_1 = norm(outputs)
        self.Conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs or way:
            self.Conv_2 = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, temb):
        h = resample(F.silu(self.GroupNorm_0(x)), self.way, self.fir)
        x = resample(x, self.way, self.fir)
        h = self.Conv_0(h) + self.Dense_0(F.silu(temb))[:, :, None, None]
        h = self.Conv_1(F.silu(self.GroupNorm_1(h)))
        return ((self.Conv_2(x) if hasattr(self, "Conv_2") else x) + h) / SQRT2


class Nin(nn.Module):
    """A product of channels; its weight is [inputs, outputs]."""

    def __init__(self, channels):
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, channels))
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return torch.einsum("bchw,cd->bdhw", x, self.W) + self.b[:, None, None]


class Attention(nn.Module):
    """AttnBlockpp."""

    def __init__(self, channels):
        super().__init__()
        self.GroupNorm_0 = norm(channels)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (Nin(channels) for _ in range(4))

    def forward(self, x, _):
        b, c, h, w = x.shape
        n = self.GroupNorm_0(x)
        q, k, v = (layer(n).flatten(2) for layer in (self.NIN_0, self.NIN_1, self.NIN_2))
        weights = torch.softmax(torch.einsum("bcp,bcq->bpq", q, k) / math.sqrt(c), -1)
        mixed = torch.einsum("bpq,bcq->bcp", weights, v).reshape(b, c, h, w)
        return (x + self.NIN_3(mixed)) / SQRT2


class Network(nn.Module):
    """NCSNpp. `names` are those of `tweedie` for each of `all_modules`."""

    def __init__(self, channels, size, nf, multipliers, blocks, attention_at, fir):
        super().__init__()
        self.nf, self.names = nf, []
        self.all_modules = nn.ModuleList()
        time = 4 * nf

        def add(name, module):
            self.names.append(name)
            self.all_modules.append(module)

        add("time_embedding.linear_1", nn.Linear(nf, time))
        add("time_embedding.linear_2", nn.Linear(time, time))
        add("conv_in", nn.Conv2d(channels, nf, 3, padding=1))
        skips, width, last = [nf], nf, len(multipliers) - 1
        for i, multiplier in enumerate(multipliers):
            for j in range(blocks):
                add(f"down_blocks.{i}.resnets.{j}", Block(width, nf * multiplier, time, fir))
                width = nf * multiplier
                if size >> i in attention_at:
                    add(f"down_blocks.{i}.attentions.{j}", Attention(width))
                skips.append(width)
            if i < last:
                add(f"down_blocks.{i}.downsamplers.0", Block(width, width, time, fir, "down"))
                skips.append(width)
        add("mid_block.resnets.0", Block(width, width, time, fir))
        add("mid_block.attentions.0", Attention(width))
        add("mid_block.resnets.1", Block(width, width, time, fir))
        for i, multiplier in reversed(list(enumerate(multipliers))):
            name = f"up_blocks.{last - i}"
            for j in range(blocks + 1):
                add(f"{name}.resnets.{j}", Block(width + skips.pop(), nf * multiplier, time, fir))
                width = nf * multiplier
            if size >> i in attention_at:
                add(f"{name}.attentions.{blocks}", Attention(width))
            if i > 0:
                add(f"{name}.upsamplers.0", Block(width, width, time, fir, "up"))
        add("conv_norm_out", norm(width))
        add("conv_out", nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x, labels):
        half = self.nf // 2
        angles = labels[:, None] * torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        temb = torch.cat([angles.sin(), angles.cos()], 1)
        parts = dict(zip(self.names, self.all_modules))
        temb = parts["time_embedding.linear_1"](temb)
        temb = parts["time_embedding.linear_2"](F.silu(temb))
        h, skips = None, []
        for name, module in list(parts.items())[2:-2]:
            if name == "conv_in":
                h = module(x)
            elif name.startswith("up_blocks") and ".resnets." in name:
                h = module(torch.cat([h, skips.pop()], 1), temb)
            else:
                h = module(h, temb)
            if name == "conv_in" or name.startswith("down_blocks"):
                # attention takes the place of the block before it
                if ".attentions." in name:
                    skips.pop()
                skips.append(h)
        assert not skips
        return parts["conv_out"](F.silu(parts["conv_norm_out"](h)))


IN_A_BLOCK = {
    "GroupNorm_0": "norm1", "Conv_0": "conv1", "Dense_0": "time_emb_proj", "GroupNorm_1": "norm2", "Conv_1": "conv2",
    "Conv_2": "conv_shortcut",
}
IN_ATTENTION = {"GroupNorm_0": "group_norm", "NIN_0": "to_q", "NIN_1": "to_k", "NIN_2": "to_v", "NIN_3": "to_out.0"}


def rename(network):
    """score_sde's parameters under `tweedie`'s names and in its shapes."""
    renamed = {}
    for key, value in network.state_dict().items():
        _, number, *rest = key.split(".")
        name = network.names[int(number)]
        inner = IN_ATTENTION if ".attentions." in name else IN_A_BLOCK
        parts = [inner.get(part, {"W": "weight", "b": "bias"}.get(part, part)) for part in rest]
        renamed[".".join([name, *parts])] = value.T.contiguous() if rest[-1] == "W" else value
    return renamed


def write(name, **options):
    network = Network(**options)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                draw = torch.randn(parameter.shape, generator=generator)
                fan = parameter[0].numel() if parameter.dim() > 1 else 25
                start = 1.0 if isinstance(module, nn.GroupNorm) and parameter is module.weight else 0.0
                parameter.copy_(start + draw / math.sqrt(fan))
        x = torch.randn(3, options["channels"], options["size"], options["size"], generator=generator)
        t = torch.tensor([1e-5, 0.3141, 1.0], dtype=torch.float64)
        # in f64, so that the reference has no rounding of its own
        noise = network.double()(x.double(), 999 * t).float()
    tensors = {key: value.float() for key, value in rename(network).items()}
    save_file({**tensors, "x": x, "t": t, "noise": noise}, HERE / f"{name}.safetensors")


def main():
    small = dict(channels=3, nf=8, blocks=1)
    write("naive", **small, size=16, multipliers=(1, 1, 1), attention_at=(8,), fir=False)
    write("fir", **small, size=8, multipliers=(1, 1), attention_at=(8,), fir=True)
    for blocks in (4, 8):
        with torch.device("meta"):
            network = Network(3, 32, 128, (1, 2, 2, 2), blocks, (16,), False)
        print(blocks, "blocks:", sum(p.numel() for p in network.parameters()), "parameters")


main()
