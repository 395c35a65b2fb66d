"""Going on with a training from its last checkpoint, so that it ends as the undisturbed one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from transavs.config_checks import dotted_keys, value_of
from transavs.engine.checkpoint_files import (
    FINAL,
    copy_whole,
    has_checkpoints,
    remove_leftovers,
    write_note,
)
from transavs.engine.periodic_checkpoints import PeriodicCheckpoints
from transavs.engine.run_log import RunLog
from transavs.utils.whole_files import write_bytes

if TYPE_CHECKING:
    from transavs.engine.trainer import Trainer

logger = logging.getLogger(__name__)

#: Entry of a checkpoint with what :func:`stream_of` says.
STREAM = "sample_stream"
# Keys, and beginnings of keys, that decide on the samples of a training and their order.
_STREAM_KEYS = (
    "DATASETS.TRAIN",
    "INPUT.",
    "MODEL.TRANSAVS.BACKGROUND_TARGET",
    "MODEL.TRANSAVS.COMPONENT_MIN_AREA",
    "MODEL.TRANSAVS.TARGETS",
    "SEED",
    "SOLVER.IMS_PER_BATCH",
)
# Of these, what training does not read or what gives the same samples.
_NOT_OF_STREAM = ("_TEST", "AUDIO_EMBEDDINGS", "MASK_FORMAT")


def stream_of(cfg: CfgNode) -> dict[str, Any]:
    """Returns all that an undisturbed stream of samples and random numbers depends on, by key."""
    keys = [key for key in dotted_keys(cfg) if key.startswith(_STREAM_KEYS)]
    stream = {key: value_of(cfg, key) for key in keys if not key.endswith(_NOT_OF_STREAM)}
    return {**stream, "number of processes": comm.get_world_size()}


def check_stream(cfg: CfgNode, checkpoint: dict[str, Any]) -> None:
    """Warns of what has another value than when a checkpoint was saved.

    Args:
        cfg: of the training that goes on.
        checkpoint: state of a trainer; one without the entry ``STREAM`` tells nothing.
    """
    before = checkpoint.get(STREAM, {})
    changed = [
        f"{key} {before[key]!r} to {value!r}"
        for key, value in stream_of(cfg).items()
        if key in before and before[key] != value
    ]
    if changed:
        logger.warning(
            "the samples of this training and their order are not those that the checkpoint's "
            "training would have gone on with; what has changed: %s. Set the old values for the "
            "same result as without the interruption",
            ", ".join(changed),
        )


@contextmanager
def unchanged_if_refused(folder: str) -> Iterator[None]:
    """Puts ``config.yaml`` and the log of a folder back where the block ends with a user's mistake,
    and removes the folder again if it was not there.

    detectron2 writes both before anybody looks at a checkpoint; those of a training that is there
    must not tell of a run that never began.

    Args:
        folder: ``OUTPUT_DIR``; need not be there.

    Raises:
        ValueError, OSError: of the block, as anything else that it raises.
    """
    place = Path(folder).absolute()
    made = [path for path in (place, *place.parents) if not path.exists()]
    config = Path(folder, "config.yaml")
    rank = comm.get_rank()
    log = Path(folder, f"log.txt.rank{rank}" if rank else "log.txt")
    content = config.read_bytes() if config.is_file() else None
    size = log.stat().st_size if log.is_file() else None
    try:
        yield
    except (ValueError, OSError):
        for name in ("detectron2", "fvcore", "transavs"):
            for handler in logging.getLogger(name).handlers:
                handler.flush()
        if size is None:
            log.unlink(missing_ok=True)
        else:
            os.truncate(log, size)
        if comm.is_main_process():
            if content is None:
                config.unlink(missing_ok=True)
            else:
                write_bytes(config, content)
            with suppress(OSError):  # of another process's log
                for path in made:
                    path.rmdir()
        raise


def resume_or_load(trainer: Trainer, resume: bool) -> None:
    """Loads the last whole checkpoint of ``OUTPUT_DIR``, or ``MODEL.WEIGHTS`` to start from.

    Raises:
        ValueError: with ``resume``, there are checkpoints but none can be read, or the one that
            can is of another configuration or beyond ``SOLVER.MAX_ITER``.
    """
    folder = trainer.cfg.OUTPUT_DIR
    checkpointer = trainer.checkpointer
    rates = _rates(trainer)
    try:
        checkpointer.resume_or_load(trainer.cfg.MODEL.WEIGHTS, resume=resume)
    except ValueError as error:
        if "parameter group" not in str(error):
            raise
        # Of torch's optimizers, which know no names.
        raise ValueError(
            f"the newest checkpoint in {folder} was trained with other parameters than this "
            f"configuration trains ({error}): go on with its config.yaml (such as "
            "MODEL.BACKBONE.FREEZE), or start anew in another OUTPUT_DIR"
        ) from error
    found = checkpointer.resumed_from
    if found:
        # The checkpoint holds the iteration that had just been done.
        trainer.start_iter = trainer.iter + 1
        if trainer.start_iter > trainer.max_iter:
            raise ValueError(
                f"SOLVER.MAX_ITER is {trainer.max_iter}, but {found} has done {trainer.start_iter} "
                "iterations already: set at least that many, or start anew in another OUTPUT_DIR"
            )
        _go_on_with(trainer, rates)
    for hook in trainer._hooks:
        if isinstance(hook, RunLog):
            hook.resuming = resume
    if not comm.is_main_process() or not os.path.isdir(folder):
        return
    remove_leftovers(folder)
    if not resume and has_checkpoints(folder):
        logger.warning(
            "%s holds checkpoints of an earlier run: until this one saves its own, --resume would "
            "go on from those. Use a new OUTPUT_DIR for a new run",
            folder,
        )
    final = os.path.join(folder, f"{FINAL}.pth")
    if found and trainer.start_iter >= trainer.max_iter and found != final:
        # Killed between the last numbered checkpoint and this one, which hold the same.
        copy_whole(found, final)
        write_note(folder, os.path.basename(final))


def _rates(trainer: Trainer) -> list[dict[str, float]]:
    """Learning rate at the schedule's start, and weight decay, of each group of parameters."""
    groups = trainer._trainer.optimizer.param_groups
    return [{name: group[name] for name in ("initial_lr", "weight_decay")} for group in groups]


def _go_on_with(trainer: Trainer, rates: list[dict[str, float]]) -> None:
    """Lets the configuration's rates count, where the checkpoint has others; a line tells."""
    before = _rates(trainer)
    scheduler = trainer.scheduler
    scheduler.base_lrs = [own["initial_lr"] for own in rates]
    groups = trainer._trainer.optimizer.param_groups
    # By the schedule anew: SOLVER.MAX_ITER may have changed as well.
    for group, own, rate in zip(groups, rates, scheduler.get_lr(), strict=True):
        group.update(own, lr=rate)
    if before == rates:
        return
    changed = [
        f"{words} {_listed(before, name)} to {_listed(rates, name)}"
        for name, words in (("initial_lr", "learning rates"), ("weight_decay", "weight decays"))
        if [own[name] for own in before] != [own[name] for own in rates]
    ]
    logger.warning(
        "the configuration has changed since the checkpoint that is resumed was saved: %s. The "
        "training goes on with the configuration's",
        ", ".join(changed),
    )


def _listed(rates: list[dict[str, float]], name: str) -> str:
    return ", ".join(f"{value:g}" for value in sorted({own[name] for own in rates}))


def finish_step(trainer: Trainer) -> None:
    """Lets the hooks behind the checkpoint see the iteration that it was saved after.

    They evaluate, keep the best model and write the log; it is unknown how far they came before
    the run was interrupted. Done once more they do the same.
    """
    hooks = trainer._hooks
    saving = next((hook for hook in hooks if isinstance(hook, PeriodicCheckpoints)), None)
    if saving is None or not saving.unfinished or not trainer.start_iter:
        return
    saving.unfinished = False
    trainer.iter = trainer.storage.iter = trainer.start_iter - 1
    for hook in hooks[hooks.index(saving) + 1 :]:
        hook.after_step()
    trainer.iter = trainer.storage.iter = trainer.start_iter
