"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform

import torch


def describe_machine(device: str) -> dict[str, str]:
    """Returns the names of the processor (the GPU where it does the work), torch and Python."""
    processor = platform.processor() or platform.machine()
    if device.startswith("cuda") and torch.cuda.is_available():
        processor = torch.cuda.get_device_name(torch.device(device))
    elif os.path.isfile("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2] for line in file if line.startswith("model name")]
        processor = names[0].strip() if names else processor
    return {"processor": processor, "torch": torch.__version__, "python": platform.python_version()}
