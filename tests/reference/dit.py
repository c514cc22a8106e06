#!/usr/bin/env python3
"""Writes the references of tests/dit.rs: diffusion transformers with random weights, an input and its output.

    python3 -m venv peers && peers/bin/pip install torch diffusers==0.42.1 safetensors
    peers/bin/python tests/reference/dit.py

Folders tests/reference/dit/NAME are of diffusers' DiTTransformer2DModel: what `save_pretrained` writes, one of them in several
files, and reference.safetensors: `sample`, `timestep`, `class_labels` (of which the number of classes is the null class) and
`output`. Its blocks each have an embedding of the time and the classes; as in every published model all are one.

The folder `original` is of the published DiT (Peebles & Xie 2023), computed here from its formulas, with the names of its state
dict: checkpoint.pt is what its training saves, `model`, `ema`, `opt` and `args`, and reference.safetensors is of `ema`.

guided.safetensors is of a DiTPipeline with the transformer patch-2 under classifier-free guidance at scale 4: `noise` and
`class_labels`, and `latents` after 4 steps of DDIM. diffusers guides all channels; `of_three` is what the published sampler gives,
which guides three. `mean` and `variance` are of one of its ancestral steps, with the learned variances of the class.

    peers/bin/python tests/reference/dit.py --read FOLDER

compares with the references what `tweedie export` wrote at FOLDER of a run imported from one of them.
"""

import argparse
import math
import pathlib
import sys

import numpy
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DiTPipeline, DiTTransformer2DModel
from diffusers.pipelines.dit import pipeline_dit
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent / "dit"
TIMESTEPS = torch.tensor([3, 871])

CONFIGS = {
    "patch-2": dict(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2,
        num_embeds_ada_norm=5,
    ),
    "patch-4": dict(
        num_attention_heads=3, attention_head_dim=4, in_channels=3, num_layers=1, sample_size=16, patch_size=4, norm_eps=1e-6,
        num_embeds_ada_norm=2,
    ),
}


def of_diffusers(name, config):
    model = DiTTransformer2DModel(**config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start at zero or one
            parameter.add_(0.1 * torch.randn_like(parameter))
        first = model.transformer_blocks[0].norm1.emb.state_dict()
        for block in model.transformer_blocks:
            block.norm1.emb.load_state_dict(first)
        size, classes = config["sample_size"], config["num_embeds_ada_norm"]
        sample = torch.randn(2, config["in_channels"], size, size)
        labels = torch.tensor([classes - 1, classes])
        output = model(sample, TIMESTEPS, class_labels=labels).sample.contiguous()
    model.save_pretrained(HERE / name, max_shard_size="40KB" if name == "patch-2" else "1GB")
    tensors = dict(sample=sample, timestep=TIMESTEPS, class_labels=labels, output=output)
    save_file(tensors, HERE / name / "reference.safetensors")


# The published network: width, blocks, heads, patch, channels, height, classes; variances are learned.
ORIGINAL = dict(width=8, blocks=2, heads=2, patch=2, channels=2, size=6, classes=3)


def waves(positions, features):
    """Angles position * 10^4^(-i / (features / 2)), in f64."""
    frequencies = 1e4 ** (-numpy.arange(features // 2) / (features / 2))
    return numpy.asarray(positions, dtype=numpy.float64)[:, None] * frequencies


def places(side, width):
    """Fixed features of patches, row by row: sines and cosines of the column, then of the row."""
    rows, columns = numpy.divmod(numpy.arange(side * side), side)
    angles = [waves(at, width // 2) for at in (columns, rows)]
    return torch.tensor(numpy.concatenate([f(a) for a in angles for f in (numpy.sin, numpy.cos)], axis=1)).float()[None]


def parameters(width, blocks, heads, patch, channels, size, classes):
    """Random weights by the names and in the shapes of the published state dict."""
    def layer(name, *shape):
        return {f"{name}.weight": torch.randn(shape) / math.sqrt(math.prod(shape[1:])), f"{name}.bias": 0.2 * torch.randn(shape[0])}

    state = dict(pos_embed=places(size // patch, width))
    state |= layer("x_embedder.proj", width, channels, patch, patch)
    state |= layer("t_embedder.mlp.0", width, 256) | layer("t_embedder.mlp.2", width, width)
    state["y_embedder.embedding_table.weight"] = torch.randn(classes + 1, width)
    for i in range(blocks):
        state |= layer(f"blocks.{i}.attn.qkv", 3 * width, width) | layer(f"blocks.{i}.attn.proj", width, width)
        state |= layer(f"blocks.{i}.mlp.fc1", 4 * width, width) | layer(f"blocks.{i}.mlp.fc2", width, 4 * width)
        state |= layer(f"blocks.{i}.adaLN_modulation.1", 6 * width, width)
    state |= layer("final_layer.linear", patch**2 * 2 * channels, width)
    return state | layer("final_layer.adaLN_modulation.1", 2 * width, width)


def forward(state, x, t, y, width, blocks, heads, patch, channels, size, classes):
    """x += g1 Attn((1 + s1) LN(x) + b1); x += g2 MLP((1 + s2) LN(x) + b2); each set of six is Linear(SiLU(c))."""
    def apply(name, h):
        return F.linear(h, state[f"{name}.weight"].flatten(1), state[f"{name}.bias"])

    def modulated(h, shift, scale):
        return F.layer_norm(h, (width,), eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    side = size // patch
    angles = torch.tensor(waves(t, 256))
    time = torch.cat([angles.cos(), angles.sin()], 1).float()
    c = apply("t_embedder.mlp.2", F.silu(apply("t_embedder.mlp.0", time))) + state["y_embedder.embedding_table.weight"][y]
    c = F.silu(c)
    # [b, C, rows, p, columns, p]: each patch's channels, rows and columns are the inputs of one token
    patches = x.reshape(-1, channels, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5).reshape(-1, side**2, channels * patch**2)
    h = apply("x_embedder.proj", patches) + state["pos_embed"]
    for i in range(blocks):
        b1, s1, g1, b2, s2, g2 = apply(f"blocks.{i}.adaLN_modulation.1", c).chunk(6, 1)
        query, key, value = (
            part.reshape(len(x), -1, heads, width // heads).transpose(1, 2)
            for part in apply(f"blocks.{i}.attn.qkv", modulated(h, b1, s1)).chunk(3, 2)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(width // heads)).softmax(3)
        mixed = (weights @ value).transpose(1, 2).reshape(len(x), -1, width)
        h = h + g1[:, None] * apply(f"blocks.{i}.attn.proj", mixed)
        hidden = F.gelu(apply(f"blocks.{i}.mlp.fc1", modulated(h, b2, s2)), approximate="tanh")
        h = h + g2[:, None] * apply(f"blocks.{i}.mlp.fc2", hidden)
    shift, scale = apply("final_layer.adaLN_modulation.1", c).chunk(2, 1)
    out = apply("final_layer.linear", modulated(h, shift, scale)).reshape(-1, side, side, patch, patch, 2 * channels)
    return out.permute(0, 5, 1, 3, 2, 4).reshape(-1, 2 * channels, size, size).contiguous()


def original():
    torch.manual_seed(9)
    model, ema = parameters(**ORIGINAL), parameters(**ORIGINAL)
    trained = [torch.nn.Parameter(model[f"final_layer.linear.{part}"]) for part in ("weight", "bias")]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0)
    sum(x.square().sum() for x in trained).backward()
    optimizer.step()
    sample, labels = torch.randn(2, ORIGINAL["channels"], ORIGINAL["size"], ORIGINAL["size"]), torch.tensor([1, 3])
    tensors = dict(sample=sample, timestep=TIMESTEPS, class_labels=labels)
    tensors["output"] = forward(ema, sample, TIMESTEPS, labels, **ORIGINAL)
    (HERE / "original").mkdir(exist_ok=True)
    arguments = argparse.Namespace(model="DiT-XL/2", image_size=256, num_classes=3, vae="ema", global_seed=0)
    saved = dict(model=model, ema=ema, opt=optimizer.state_dict(), args=arguments)
    torch.save(saved, HERE / "original" / "checkpoint.pt")
    save_file(tensors, HERE / "original" / "reference.safetensors")


SCALE, STEPS, GUIDED = 4.0, 4, 3


def of_three(model, x, labels, t):
    """The published network under guidance: outputs of the first rows, under their classes; the others are theirs under none."""
    n, null = len(x), torch.full_like(labels, model.config.num_embeds_ada_norm)
    outputs = model(torch.cat([x, x]), t.expand(2 * n), class_labels=torch.cat([labels, null])).sample
    class_, none = outputs.split(n)
    return torch.cat([none[:, :GUIDED] + SCALE * (class_ - none)[:, :GUIDED], class_[:, GUIDED:]], 1)


def guided():
    transformer = DiTTransformer2DModel.from_pretrained(HERE / "patch-2").eval()
    options = dict(clip_sample=False, num_train_timesteps=1000, beta_schedule="linear")
    scheduler = DDIMScheduler(**options)
    torch.manual_seed(5)
    vae = AutoencoderKL(latent_channels=4, block_out_channels=(4,), norm_num_groups=2)
    pipeline = DiTPipeline(transformer, vae, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    noise, labels, seen = torch.randn(2, 4, 8, 8), torch.tensor([1, 4]), []
    pipeline_dit.randn_tensor = lambda *_, **__: noise
    decode, vae.decode = vae.decode, lambda latents: (seen.append(latents), decode(latents))[1]
    # the pipeline's null class is 1000, whatever the number of classes
    forward, null = transformer.forward, transformer.config.num_embeds_ada_norm
    transformer.forward = lambda x, timestep, class_labels: forward(x, timestep=timestep, class_labels=class_labels.clamp(max=null))
    pipeline(labels.tolist(), guidance_scale=SCALE, num_inference_steps=STEPS, output_type="np")
    tensors = dict(noise=noise, class_labels=labels, latents=seen[0] * vae.config.scaling_factor)
    transformer.forward = forward
    with torch.no_grad():
        x = noise
        for t in scheduler.timesteps:
            x = scheduler.step(of_three(transformer, x, labels, t)[:, :4], t, x).prev_sample
        tensors["of_three"] = x
        ancestral = DDPMScheduler(**options, variance_type="learned_range", timestep_spacing="leading")
        ancestral.set_timesteps(STEPS)
        t, outputs = ancestral.timesteps[1], of_three(transformer, noise, labels, ancestral.timesteps[1])
        steps = []
        for constant in (0.0, 1.0):
            scheduling_ddpm.randn_tensor = lambda shape, **_: torch.full(shape, constant)
            steps.append(ancestral.step(outputs, t, noise).prev_sample)
        tensors |= dict(mean=steps[0], variance=(steps[1] - steps[0]).square())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "guided.safetensors")


def read(folder):
    model = DiTTransformer2DModel.from_pretrained(folder / "transformer").eval()
    for name in CONFIGS:
        of = load_file(HERE / name / "reference.safetensors")
        channels = model.config.in_channels
        if of["sample"].shape[1] != channels:
            continue
        with torch.no_grad():
            output = model(of["sample"], of["timestep"], class_labels=of["class_labels"]).sample
        known = of["output"][:, : output.shape[1]]
        print(name, output.shape[1], "channels:", ((output - known).norm() / known.norm()).item())


def main():
    HERE.mkdir(exist_ok=True)
    if sys.argv[1:2] == ["--read"]:
        return read(pathlib.Path(sys.argv[2]))
    for number, (name, config) in enumerate(CONFIGS.items()):
        torch.manual_seed(number)
        of_diffusers(name, config)
    original()
    guided()


main()
