"""A device that no machine has: tensors on it are kept apart from the CPU's as a GPU's would be.

Within ``PretendedDevice()`` tensors may be moved to ``"pretended"``, where the CPU computes with
them. What a GPU refuses is refused: tensors of two devices in one operation (scalars and indices
of the CPU are allowed), ``numpy()`` without ``cpu()``. What makes a program wait for a GPU is
counted. So a machine without a GPU can tell whether code would run on one, but not how fast.

Registering the device is for the whole process: ``on_pretended_device.py`` is one of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretended"
#: How often each operation that waits for the device was called; may be cleared.
WAITS: Counter[str] = Counter()

_LIBRARY = torch.library.Library("_", "IMPL")  # noqa: TOR901
_aten = torch.ops.aten
# May take tensors of both: copies, and indices, which a GPU's tensor takes from the CPU.
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default,
    _aten._index_put_impl_.default,
}  # fmt: skip
# Their result's shape, or value, must be known to go on.
_WAITS = {
    _aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default,
    _aten.equal.default, _aten.is_nonzero.default, _aten.repeat_interleave.Tensor,
    _aten._unique2.default, _aten.unique_dim.default, _aten.bincount.default,
}  # fmt: skip


class Event:
    """Of a device that has always done already what it was told to."""

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Module(_DummyBackendModule):
    """What stands in the place of ``torch.cuda``."""

    Event = Event

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def register() -> None:
    """Makes the device's name known to PyTorch, for the rest of the process.

    To be called before the first backward pass, which starts a thread for each device there is.
    """
    _setup_privateuseone_for_python_backend(NAME, _Module())
    # Autocast changes nothing there; a loss scale works as on a GPU.
    _LIBRARY.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")


class PretendedTensor(Tensor):
    """Says that it is on the pretended device; ``inner`` holds the values, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendedTensor:
        tensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=f"{NAME}:0",
        )
        tensor.inner = inner
        return tensor

    def tolist(self) -> Any:
        """As of any tensor; PyTorch has none for subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # Without the mode, as in the threads of the backward pass.
        return _run(func, args, kwargs or {})


class PretendedDevice(TorchDispatchMode):
    """Moves tensors to the device and back, and checks what is done with them."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    ours = [value for value in tensors if isinstance(value, PretendedTensor)]
    _check(func, args, kwargs, tensors, ours)
    target = kwargs.get("device")
    result_is_ours = bool(ours)
    if func is _aten.copy_.default:
        result_is_ours = isinstance(args[0], PretendedTensor)
    elif target is not None:
        result_is_ours = torch.device(target).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if ours and (_waits(func, args) or not (result_is_ours or _is_sent(func, args, kwargs))):
        WAITS[str(func)] += 1
    found = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if not result_is_ours:
        return args[0] if func is _aten.copy_.default else found
    found = tree_map(lambda x: PretendedTensor(x) if isinstance(x, Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, found)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendedTensor) else value


def _is_sent(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether it is a copy that nobody waits for."""
    if func is _aten.copy_.default:
        return len(args) > 2 and bool(args[2])
    return func in _COPIES and bool(kwargs.get("non_blocking"))


def _waits(func: Any, args: tuple[Any, ...]) -> bool:
    by_bool = func in _INDEXING and any(
        value is not None and value.dtype in (torch.bool, torch.uint8) for value in args[1]
    )
    return by_bool or func in _WAITS


def _check(
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tensors: list[Tensor],
    ours: list[PretendedTensor],
) -> None:
    """Raises RuntimeError where a GPU would."""
    if not ours or func in _COPIES:
        return
    if func in _INDEXING:
        # Places of the CPU may be asked of the device, not the other way round.
        values = [args[0], *args[2:3]]
        if isinstance(args[0], PretendedTensor):
            tensors = values
    foreign = [x for x in tensors if not isinstance(x, PretendedTensor) and x.dim() > 0]
    if foreign:
        shapes = [tuple(value.shape) for value in foreign]
        raise RuntimeError(f"{func}: tensors {shapes} are on the CPU, others on {NAME}:0")
