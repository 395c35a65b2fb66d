"""What losses need to know of the other processes of a training."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import Tensor


def mean_over_processes(value: int | Tensor, device: torch.device) -> Tensor:
    """Mean of a count over all processes, where a sum of 0 counts as 1.

    As a divisor it makes the gradient of several processes, averaged, equal that of one process
    with the whole batch.
    """
    # A copy, for the sum is taken in place; not torch.tensor, which waits for a GPU.
    total = torch.zeros((), device=device) + value
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return total.clamp(min=1) / comm.get_world_size()
