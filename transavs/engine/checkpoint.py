"""Checkpoints: written so that none is ever half there, read without running foreign code."""

from __future__ import annotations

import os
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from transavs.utils.safe_pickle import load_checkpoint_pickle


class SafeCheckpointer(DetectionCheckpointer):  # type: ignore[misc]
    """detectron2's checkpointer with two differences.

    Files are written beside their place, synced and renamed, so that an interrupted write leaves
    the former checkpoint as it was. Files are read by unpicklers that know tensors, arrays and
    plain containers only: a downloaded ``.pkl`` or ``.pth`` cannot run code.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Saves model and checkpointables as ``<name>.pth`` in the output folder."""
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        for key, checkpointable in self.checkpointables.items():
            data[key] = checkpointable.state_dict()
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        temporary = f"{path}.tmp"
        with open(temporary, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes which checkpoint is the newest, in one step."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        with open(f"{path}.tmp", "w") as file:
            file.write(last_filename_basename)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.tmp", path)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            data = load_checkpoint_pickle(filename)
            if "model" in data and "__author__" in data:
                self.logger.info("Reading a file from '%s'", data["__author__"])
                return data
            blobs = data.get("blobs", data)
            blobs = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        return super()._load_file(filename)  # type: ignore[no-any-return]

    def _torch_load(self, f: str) -> dict[str, Any]:
        if f.endswith(".safetensors"):
            from safetensors.torch import load_file

            return dict(load_file(f))
        try:
            return torch.load(f, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        except Exception as error:
            raise ValueError(
                f"{f}: not a checkpoint of tensors and plain values ({error}). If training was "
                "interrupted while it was written, resume from an older one: put its name into "
                f"{os.path.join(os.path.dirname(f), 'last_checkpoint')}"
            ) from error
