#!/usr/bin/env python3
"""Writes the tensors of a PyTorch checkpoint (a state dict) as safetensors.

    pip install torch safetensors
    python3 scripts/convert_weights.py pt_inception-2015-12-05-6726825d.pth inception.safetensors

For both feature networks of `tweedie evaluate`, whose .pth files the program reads as well.
"""

import sys

import torch
from safetensors.torch import save_file

source, target = sys.argv[1:]
state = torch.load(source, map_location="cpu", weights_only=True)
save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, target)
