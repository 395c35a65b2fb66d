"""torch.compile of a model's parts."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig

from torch import nn


def compile_parts(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles the network's parts in place; names of weights stay as they are.

    Left out are a criterion, whose matching happens in scipy, and what stands between the parts:
    checks, and batches of clips of any size and length.

    Args:
        model: a ClipModel.
        backend: of ``torch.compile``.

    Raises:
        ValueError: there is no such backend, or inductor finds no C++ compiler for the CPU.
    """
    check_backend(backend, all(value.device.type == "cpu" for value in model.parameters()))
    for name, part in model.named_children():
        if name != "criterion":
            part.compile(backend=backend)


def check_backend(backend: str, on_cpu: bool) -> None:
    """Raises ValueError for a backend that is unknown, or that cannot work on this machine.

    Args:
        backend: of ``torch.compile``.
        on_cpu: the model is there, where inductor needs a C++ compiler.
    """
    from torch._dynamo import list_backends

    if backend not in list_backends(exclude_tags=()):
        raise ValueError(
            f"MODEL.COMPILE must be a backend of torch.compile such as 'inductor', or '', got "
            f"{backend!r}"
        )
    if backend == "inductor" and on_cpu:
        _check_compiler()


def _check_compiler() -> None:
    """Raises ValueError where inductor, which writes C++ for the CPU, could not compile it."""
    if sys.platform == "win32":
        return  # where compilers are found in another way
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX") or usual
    if shutil.which(compiler) is None:
        raise ValueError(
            f"torch.compile with the backend inductor needs a C++ compiler, and {compiler} is not "
            "there: install one (on Debian: apt-get install g++), name yours in the environment "
            "variable CXX, or do not compile"
        )
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.isfile(header):
        raise ValueError(
            f"torch.compile with the backend inductor needs the headers of Python, and {header} is "
            "not there: install them (on Debian: apt-get install python3-dev), or do not compile"
        )
