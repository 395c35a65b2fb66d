"""Runs an exported model on NumPy arrays: needs onnxruntime and NumPy, and nothing of TransAVS.

The file may be copied into another project as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Of the facts that ``tools/export.py`` writes, under ``METADATA_KEY``.
FORMAT = "transavs-onnx-1"
METADATA_KEY = "transavs"
#: Waveforms lie in [-1, 1]; loud recordings overshoot that, samples of 16 bits by far. The limit is
#: that of ``transavs.audio.waveform``.
LOUDEST = 8.0


class ExportedModel:
    """A model that ``tools/export.py`` wrote.

    Args:
        source: path of the ``.onnx`` file, or its content.
        threads: of one operator; 0 leaves it to onnxruntime.
        providers: of onnxruntime, one or several: the first that is there does the work.

    Attributes:
        facts: what the file says about itself (inputs, outputs, sampling rate, classes ...).
        sound: "waveform", "examples" or "embeddings": what the second input is.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: onnxruntime is not installed.
        ValueError: not a file of ``tools/export.py``, no provider that onnxruntime has here, or
            less than no threads.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        threads: int = 0,
        providers: str | Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if threads < 0:
            raise ValueError(f"threads must be 0 (onnxruntime chooses) or more, got {threads}")
        if isinstance(providers, str):
            providers = (providers,)
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                'exported models run in onnxruntime: pip install "transavs[export]", or '
                "onnxruntime alone",
                name="onnxruntime",
            ) from error
        name = "the given bytes"
        if not isinstance(source, bytes):
            name = os.fspath(source)
            if not os.path.isfile(name):
                raise FileNotFoundError(f"no exported model {name}: write it with tools/export.py")
        there = onnxruntime.get_available_providers()
        usable = [provider for provider in providers if provider in there]
        unknown = set(providers) - set(onnxruntime.get_all_providers())
        if unknown or not usable:
            raise ValueError(
                f"onnxruntime has here the providers {', '.join(there)}, not "
                f"{', '.join(sorted(unknown) or providers) or 'none'}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its warnings are about its own optimisations.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else name, options, providers=usable
            )
        except Exception as error:  # onnxruntime has exceptions of its own
            raise ValueError(
                f"cannot read {name} as an ONNX model ({error}): export it again with "
                "tools/export.py"
            ) from error
        self.facts = self._read_facts(name)
        self.sound: str = self.facts["sound"]
        self._outputs = list(self.facts["outputs"])

    def _read_facts(self, name: str) -> dict[str, Any]:
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")
        try:
            facts = json.loads(text)
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ValueError(
                f"{name} is an ONNX model, but not one that tools/export.py wrote (no metadata "
                f"{METADATA_KEY!r} of format {FORMAT}): export it with this version"
            )
        return facts

    def __call__(
        self, frames: NDArray[np.uint8], sound: NDArray[np.float32], *names: str
    ) -> dict[str, NDArray[Any]]:
        """Segments what sounds in B clips of T frames, one frame a second.

        Args:
            frames: uint8 ``[B, T, 3, H, W]``, RGB, of the size that ``facts`` states.
            sound: float32; by ``sound`` a mono waveform ``[B, L]`` at ``facts["sample_rate_hz"]``
                in [-1, 1], of which T seconds are heard (silence where it is shorter), examples
                ``[B, T, ...]`` or embeddings ``[B, T, D]``.
            names: of the outputs that are wanted; none means all.

        Returns:
            ``scores`` float32 ``[B, T, H, W]`` in [0, 1], ``masks`` bool likewise (foreground),
            of a model that tells several classes ``class_maps`` int64 likewise (0, or 1 + the
            class), and of a model with queries ``class_logits`` float32 ``[B, T, Q, K + 1]`` and
            ``mask_logits`` float32 ``[B, T, Q, h, w]``.

        Raises:
            ValueError: arrays of another type or shape, an unknown name, or a sound that is not
                finite or, as a waveform, lies far outside of [-1, 1].
        """
        unknown = [name for name in names if name not in self._outputs]
        if unknown:
            raise ValueError(f"the outputs are {', '.join(self._outputs)}, not {unknown[0]!r}")
        self._check(frames, sound)
        wanted = list(names) or self._outputs
        found = self._session.run(wanted, {"frames": frames, self.sound: sound})
        return dict(zip(wanted, found, strict=True))

    def _check(self, frames: Any, sound: Any) -> None:
        for name, array in (("frames", frames), (self.sound, sound)):
            stated = self.facts["inputs"][name]
            if not isinstance(array, np.ndarray) or array.dtype != stated["dtype"]:
                kind = getattr(array, "dtype", type(array).__name__)
                raise ValueError(f"{name}: expected an array of {stated['dtype']}, got {kind}")
            shape = stated["shape"]
            fits = array.ndim == len(shape) and all(
                isinstance(axis, str) or size == axis
                for size, axis in zip(array.shape, shape, strict=True)
            )
            if not fits or 0 in array.shape:
                raise ValueError(
                    f"{name}: expected shape [{', '.join(map(str, shape))}], got "
                    f"{list(array.shape)}"
                )
        clips, seconds = frames.shape[:2]
        if len(sound) != clips:
            raise ValueError(f"{clips} clips of frames, but {len(sound)} of {self.sound}")
        if self.sound != "waveform" and sound.shape[1] != seconds:
            raise ValueError(
                f"{seconds} frames a clip, but {sound.shape[1]} {self.sound}: one a frame is needed"
            )
        most = self.facts["most_frames"]
        if most is not None and seconds > most:
            raise ValueError(f"the model was built for at most {most} frames a clip, got {seconds}")
        if not np.isfinite(sound).all():
            raise ValueError(f"{self.sound}: the values must be finite, got NaN or infinity")
        loudest = float(np.abs(sound).max())
        if self.sound == "waveform" and loudest > LOUDEST:
            raise ValueError(
                f"waveform: expected samples in [-1, 1], got {loudest:g}: divide those of 16 bits "
                "by 32768"
            )
