"""torch.compile of a model's parts."""

from __future__ import annotations

from torch import nn


def compile_parts(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles the network's parts in place; names of weights stay as they are.

    Left out are a criterion, whose matching happens in scipy, and what stands between the parts:
    checks, and batches of clips of any size and length.

    Args:
        model: a ClipModel.
        backend: of ``torch.compile``.

    Raises:
        ValueError: there is no such backend.
    """
    from torch._dynamo import list_backends

    if backend not in list_backends(exclude_tags=()):
        raise ValueError(
            f"MODEL.COMPILE must be a backend of torch.compile such as 'inductor', or '', got "
            f"{backend!r}"
        )
    for name, part in model.named_children():
        if name != "criterion":
            part.compile(backend=backend)
