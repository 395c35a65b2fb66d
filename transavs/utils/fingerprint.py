"""Hashes of weights: whether two networks hold the same numbers."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Returns a hash of a module's weights that depends neither on names nor on their order.

    Libraries rename their layers; the numbers stay. Counters of batches are left out.
    """
    hashes = []
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        tensor = tensor.detach().cpu().to(torch.float32).contiguous()
        digest = hashlib.sha256(str(list(tensor.shape)).encode())
        digest.update(tensor.numpy().tobytes())
        hashes.append(digest.hexdigest())
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
