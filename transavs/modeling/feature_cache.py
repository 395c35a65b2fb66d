"""Features of a frozen backbone, kept on disk: the same picture is never computed twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from transavs.utils.fingerprint import fingerprint
from transavs.utils.whole_files import write_bytes


class FeatureCache:
    """Answers for a frozen backbone from a folder, and fills the folder with what is not there.

    A file holds the features of one frame, computed in float32 even where autocast is on, so that
    trainings of any precision may share them. Its name is a hash of the frame's pixels as the
    backbone sees them (normalised and padded), its subfolder a fingerprint of the backbone's
    weights: whatever changes either is another file, so nothing stale is ever read. Several
    processes, and trainings one after the other, may share a folder.

    Args:
        folder: made when the first file is written.
        backbone: frozen, in evaluation mode: the features of a frame must not depend on others.
    """

    def __init__(self, folder: str | os.PathLike[str], backbone: nn.Module) -> None:
        self._folder = Path(folder)
        self._backbone = backbone
        self._subfolder: Path | None = None
        backbone.register_load_state_dict_post_hook(self._forget_weights)

    def __call__(
        self, images: Tensor, compute: Callable[[Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Returns what ``compute`` would, the features ``[N, C, h, w]`` by name.

        Args:
            images: float ``[N, 3, H, W]``.
            compute: called with the frames that have no file, if there are any.

        Raises:
            ValueError: a file of the folder is damaged.
        """
        paths = [self._path(image) for image in images]
        missing = [row for row, path in enumerate(paths) if not path.is_file()]
        if missing:
            rows = images if len(missing) == len(paths) else images[missing]
            with torch.autocast(images.device.type, enabled=False):
                computed = compute(rows)
        frames: list[dict[str, Tensor]] = [{} for _ in paths]
        for row, path in enumerate(paths):
            if row in missing:
                place = missing.index(row)
                frames[row] = {name: value[place] for name, value in computed.items()}
                _write(path, frames[row])
            else:
                frames[row] = _read(path, images.device)
        # The layout that ClipModel's backbone answers in.
        return {
            name: torch.stack([frame[name] for frame in frames]).contiguous(
                memory_format=torch.channels_last
            )
            for name in frames[0]
        }

    def _path(self, image: Tensor) -> Path:
        if self._subfolder is None:
            self._subfolder = self._folder / fingerprint(self._backbone)[:16]
        pixels = image.detach().float().cpu().contiguous().numpy()
        digest = hashlib.sha256(str(pixels.shape).encode())
        digest.update(pixels.data)
        name = digest.hexdigest()[:32]
        return self._subfolder / name[:2] / f"{name}.safetensors"

    def _forget_weights(self, *_: object) -> None:
        self._subfolder = None


def _write(path: Path, features: dict[str, Tensor]) -> None:
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in features.items()}
    write_bytes(path, safetensors.torch.save(tensors))


def _read(path: Path, device: torch.device) -> dict[str, Tensor]:
    try:
        features: dict[str, Tensor] = safetensors.torch.load_file(path, device=str(device))
    except Exception as error:  # safetensors and the file system have exceptions of their own
        raise ValueError(
            f"{path}: expected the features of a frame, cannot read them ({error}); delete the "
            "file, or the folder MODEL.BACKBONE.CACHE, and they are computed again"
        ) from error
    return features
