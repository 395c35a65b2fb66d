"""Checkpoints: written so that none is ever half there, read without running foreign code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.utils import comm

from transavs.engine.checkpoint_files import (
    NOTE,
    has_checkpoints,
    newest_whole_checkpoint,
    save_atomically,
    write_note,
)
from transavs.pretrained import convert, recognise
from transavs.pretrained.bundled_models import (
    BACKBONE,
    FRESH,
    TRAINING_ONLY,
    add_own_backbone,
    read_safetensors,
)
from transavs.pretrained.files import as_tensors, load_tensors, refusal
from transavs.pretrained.restricted_pickle import load_checkpoint_pickle

_LISTED_NAMES = 8


class SafeCheckpointer(DetectionCheckpointer):  # type: ignore[misc]
    """detectron2's checkpointer with these differences.

    - Files are written beside their place, synced and renamed, so that an interrupted write leaves
      the former checkpoint as it was. A damaged one is noticed, and the one before it is taken.
    - Files are read by readers that know tensors, arrays and plain containers only: a downloaded
      ``.pkl`` or ``.pth`` cannot run code.
    - A checkpoint of this network must fit it exactly (but for what the losses hold). detectron2
      logs a warning and leaves random what does not fit, which in ``--eval-only`` gives a score of
      a network that nobody trained. Files with weights for the image backbone alone, as one
      starts training from, may lack the rest, and bundled models (``transavs.pretrained``)
      the backbone.
    - Published weights (``transavs.pretrained``) are known by the names of their
      tensors. Each of these is mapped, or the log says why not; any other is an error.

    Attributes:
        resumed_from: path of the checkpoint that ``resume_or_load`` went on from; None if there
            was none, or none was wanted.
    """

    resumed_from: str | None = None

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
        save_atomically(data, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes which checkpoint is the newest, in one step."""
        write_note(self.save_dir, last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from, or was."""
        return bool(self.save_dir) and has_checkpoints(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Loads the newest whole checkpoint of the folder with all that it holds, or a start.

        The main process looks which one that is, and all processes load it.

        Args:
            path: weights to start from, where there is no checkpoint or none is wanted.
            resume: whether to look for checkpoints.

        Raises:
            ValueError: there are checkpoints, but none can be read.
        """
        self.resumed_from = newest_checkpoint(self.save_dir) if resume and self.save_dir else None
        if self.resumed_from is None:
            return self.load(path, checkpointables=[])
        return self.load(self.resumed_from)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a file or URL, as detectron2 does; "" loads nothing.

        Args:
            path: ``.pth``, ``.safetensors`` or ``.pkl``. ``?matching_heuristics=True`` behind it
                matches the names of public backbone weights by their ends.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a checkpoint, or one that does not fit the model.
        """
        file = urlparse(path)._replace(query="").geturl()
        if file and "://" not in file and not os.path.isfile(file):
            raise FileNotFoundError(
                f"no checkpoint at {file}: mend MODEL.WEIGHTS (empty: start from random weights), "
                "or with --resume the name in OUTPUT_DIR/last_checkpoint"
            )
        try:
            return super().load(path, *args, **kwargs)  # type: ignore[no-any-return]
        finally:
            # detectron2 leaves it set after an error, and then refuses every further file.
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pyth"):
            raise ValueError(
                f"{filename}: files of pycls (.pyth) are not read; save their tensors as .pth"
            )
        if filename.endswith(".pkl"):
            data = load_checkpoint_pickle(filename)
            if isinstance(data.get("model"), dict):
                self.logger.info("Reading a file from '%s'", data.get("__author__", "unknown"))
                return data
            blobs = data.get("blobs", data)
            blobs = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
            return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
        return super()._load_file(filename)  # type: ignore[no-any-return]

    def _torch_load(self, f: str) -> dict[str, Any]:
        try:
            if f.endswith(".safetensors"):
                return read_safetensors(f)
            data = load_tensors(f)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{f}: not a checkpoint of tensors: {refusal(error)}") from None
        except Exception as error:
            note = os.path.join(os.path.dirname(f), NOTE)
            way_out = (
                "If training was interrupted while it was written, resume from an older one: put "
                f"its name into {note}"
                if os.path.isfile(note)
                else "Name a file that a training wrote, or load it anew"
            )
            raise ValueError(
                f"{f}: not a checkpoint of tensors and plain values "
                f"({type(error).__name__}: {error}). {way_out}"
            ) from error
        if not isinstance(data, dict) or not isinstance(data.get("model", {}), dict):
            raise ValueError(f"{f}: expected a dictionary of tensors, got {type(data).__name__}")
        return data

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        names = self.model.state_dict()
        add_own_backbone(checkpoint, self.model, self._source())
        fresh = checkpoint.pop(FRESH, None)
        kind = recognise(checkpoint["model"])
        if kind is not None and kind.foreign:
            tensors = as_tensors(checkpoint["model"], self._source())
            conversion = convert(tensors, kind, names)
            conversion.check(self._source())
            self.logger.info(conversion.report())
            checkpoint["model"] = conversion.tensors
            checkpoint["matching_heuristics"] = False
            fresh = list(conversion.fresh)
        if checkpoint.pop("matching_heuristics", False):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            # By their ends, "norm.weight" of a backbone would also be one of the queries' norms.
            checkpoint["model"] = align_and_update_state_dicts(
                {name: tensor for name, tensor in names.items() if name.startswith(BACKBONE)},
                checkpoint["model"],
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        # detectron2 drops the prefix of models that were saved inside their wrapper.
        known = {name.removeprefix("module.") for name in checkpoint["model"]} & set(names)
        incompatible = super()._load_model(checkpoint)
        if fresh is None:
            self._check_fit(known, incompatible)
        else:
            self._check_start(known, set(fresh), incompatible)
        return incompatible

    def _check_fit(self, known: set[str], incompatible: Any) -> None:
        """Raises ValueError where a file would leave parts of the network random unnoticed."""
        shapes = incompatible.incorrect_shapes
        misshapen = {name for name, *_ in shapes}
        # fvcore counts tensors of another shape as missing, too.
        missing = set(incompatible.missing_keys) - misshapen
        if not known and not incompatible.unexpected_keys:
            raise ValueError(
                f"{self._source()} holds no tensors at all: name the checkpoint of a trained model "
                "with --weights or MODEL.WEIGHTS"
            )
        if not known:
            raise ValueError(
                f"{self._source()} holds no tensor of this network, but "
                f"{_listed(incompatible.unexpected_keys)}. If they belong to the backbone "
                "MODEL.BACKBONE.NAME, append ?matching_heuristics=True to MODEL.WEIGHTS to start "
                "a training from them"
            )
        problems = {
            "of another shape": [
                f"{name} (file {list(found)}, model {list(own)})" for name, found, own in shapes
            ]
        }
        if any(not name.startswith(BACKBONE) for name in known):
            problems["missing"] = _unless_training_only(missing)
            problems["unexpected"] = _unless_training_only(incompatible.unexpected_keys)
        found = [f"{what}: {_listed(listed)}" for what, listed in problems.items() if listed]
        if found:
            raise ValueError(
                f"{self._source()} does not fit the model of this configuration; tensors "
                + "; ".join(found)
                + ". Use the configuration that it was trained with (config.yaml beside it: "
                "MODEL.TRANSAVS.NUM_QUERIES, the backbone ...). To start from its image backbone "
                "alone, save the tensors named backbone.* as a file of their own"
            )

    def _check_start(self, known: set[str], fresh: set[str], incompatible: Any) -> None:
        """Raises ValueError where a converted file is for another configuration than this one."""
        parts = {name.partition(".")[0] for name in known}
        problems = {
            "of another shape": [name for name, *_ in incompatible.incorrect_shapes],
            "missing": [
                name
                for name in sorted(incompatible.missing_keys)
                if name.partition(".")[0] in parts and name not in fresh
            ],
            "unexpected": sorted(incompatible.unexpected_keys),
        }
        found = [f"{what}: {_listed(listed)}" for what, listed in problems.items() if listed]
        if found:
            raise ValueError(
                f"{self._source()} was converted for another configuration; tensors "
                + "; ".join(found)
                + ". Convert it again with this one: tools/convert_checkpoint.py"
            )

    def _source(self) -> str:
        url = self._parsed_url_during_load
        return url.geturl() if url else "the checkpoint"


def newest_checkpoint(folder: str) -> str | None:
    """Returns what the main process finds to be the newest whole checkpoint, in all processes.

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    found: str | None = None
    problem = ""
    if comm.is_main_process():
        try:
            found = newest_whole_checkpoint(folder)
        except ValueError as error:
            problem = str(error)
    found, problem = comm.all_gather((found, problem))[0]
    if problem:
        raise ValueError(problem)
    return found


def _unless_training_only(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(TRAINING_ONLY))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more
