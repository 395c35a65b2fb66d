"""Hooks: seeds that survive resuming, the best model, a stop that saves first, sample pictures."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import signal
from contextlib import ExitStack
from types import FrameType
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from transavs.data import AVSDatasetMapper, load_records
from transavs.engine.checkpoint import SafeCheckpointer
from transavs.engine.checkpoint_files import damage, save_atomically, write_json
from transavs.utils.signal_handlers import SignalHandlers
from transavs.visualization import draw_clip

logger = logging.getLogger(__name__)


class SeedEachIteration(HookBase):  # type: ignore[misc]
    """Seeds all generators from (seed, iteration, rank) before each step.

    Dropout and stochastic depth thus draw the same numbers at iteration i whether the run came
    there in one piece or was resumed. A negative seed leaves the generators alone.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        if self.seed < 0:
            return
        entropy = (self.seed, self.trainer.iter, comm.get_rank())
        value = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(value)
        np.random.seed(value)
        random.seed(value)


class BestModel(HookBase):  # type: ignore[misc]
    """Keeps ``model_best.pth``: the weights with the highest validation metric so far.

    ``model_best.json`` beside it holds metric, value and iteration. A checkpoint holds the value to
    beat; a resumed run goes on comparing with it. Unlike detectron2's BestCheckpointer it does not
    become the checkpoint that ``--resume`` continues from.

    Args:
        checkpointer: for the folder and the model.
        metric: such as "avs/M_J"; higher is better.
        period: of the evaluation, in iterations.
    """

    def __init__(self, checkpointer: SafeCheckpointer, metric: str, period: int) -> None:
        self.checkpointer = checkpointer
        self.metric = metric
        self.period = period
        self.best = -math.inf
        self._restored: dict[str, Any] | None = None

    @property
    def kept(self) -> str | None:
        """The file with the best model of this run; None while there is none."""
        return None if self.best == -math.inf else self._model_path()

    def before_train(self) -> None:
        restored, self._restored = self._restored, None
        self.best = -math.inf
        start: int = self.trainer.start_iter
        if not start:
            return
        if restored is not None and restored["metric"] == self.metric:
            self.best = restored["value"]
        note = self._read_note()
        # Without a value in the checkpoint (one of an older version), or behind the last evaluation
        # of a finished run that is made longer, the note knows more.
        if note and (
            (restored is None and note["iteration"] <= start)
            or (note["iteration"] == start < self.trainer.max_iter)
        ):
            self.best = max(self.best, note["value"])
        problem = damage(self._model_path()) if self.kept else None
        if problem:
            logger.warning(
                "%s cannot be read (%s): the next evaluation writes it anew",
                self._model_path(),
                problem,
            )
            self.best = -math.inf

    def state_dict(self) -> dict[str, Any]:
        return self._restored or {"metric": self.metric, "value": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict

    def after_step(self) -> None:
        following = self.trainer.iter + 1
        if self.period > 0 and following % self.period == 0 and following != self.trainer.max_iter:
            self._compare()

    def after_train(self) -> None:
        if self.period > 0 and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._compare()

    def _read_note(self) -> dict[str, Any] | None:
        """The best so far of the run that is resumed, None if there was none."""
        try:
            with open(self._note_path(), encoding="utf-8") as file:
                note: dict[str, Any] = json.load(file)
            known = note["metric"] == self.metric and os.path.isfile(self._model_path())
            return note if known and {"value", "iteration"} <= note.keys() else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            logger.warning("%s is no note of a best model: it counts for none", self._note_path())
            return None

    def _compare(self) -> None:
        value, iteration = self._latest()
        if value is None or not value > self.best:
            return
        self.best = value
        # Never a note beside another model than its own, in whatever moment this is interrupted.
        if os.path.exists(self._note_path()):
            os.unlink(self._note_path())
        save_atomically({"model": self.checkpointer.model.state_dict()}, self._model_path())
        write_json(
            {"metric": self.metric, "value": value, "iteration": iteration}, self._note_path()
        )
        logger.info("Best %s so far: %.2f at iteration %d", self.metric, value, iteration)

    def _latest(self) -> tuple[float | None, int]:
        latest = self.trainer.storage.latest()
        # With several validation sets the metric carries the set's name; the first one counts.
        names = [name for name in latest if name == self.metric or name.endswith(f"/{self.metric}")]
        if not names:
            logger.warning("no metric %s among the evaluation's: no best model kept", self.metric)
            return None, -1
        return latest[names[0]]  # type: ignore[no-any-return]

    def _model_path(self) -> str:
        return os.path.join(self.checkpointer.save_dir, "model_best.pth")

    def _note_path(self) -> str:
        return os.path.join(self.checkpointer.save_dir, "model_best.json")


class GracefulStop(HookBase):  # type: ignore[misc]
    """On the first Ctrl-C (or SIGTERM) finishes the step, saves a checkpoint and exits with 130.

    A second Ctrl-C stops at once. With several processes they agree every few steps on stopping.
    """

    AGREE_PERIOD = 10

    def __init__(self, checkpointer: SafeCheckpointer) -> None:
        self.checkpointer = checkpointer
        self._asked = False
        self._until_end = ExitStack()

    def before_train(self) -> None:
        handlers = SignalHandlers(self._ask, (signal.SIGINT, signal.SIGTERM))
        self._until_end.enter_context(handlers)

    def after_train(self) -> None:
        self._until_end.close()

    def after_step(self) -> None:
        stop = self._asked
        if comm.get_world_size() > 1:
            if (self.trainer.iter + 1) % self.AGREE_PERIOD:
                return
            stop = any(comm.all_gather(self._asked))
        if not stop or self.trainer.iter + 1 >= self.trainer.max_iter:
            return
        self.checkpointer.save(f"model_{self.trainer.iter:07d}", iteration=self.trainer.iter)
        logger.warning(
            "Stopped after iteration %d. The same command with --resume continues from here.",
            self.trainer.iter,
        )
        raise SystemExit(130)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        logger.warning("Stopping after this step (once more Ctrl-C: at once, without saving)")


class SamplePictures(HookBase):  # type: ignore[misc]
    """Shows one validation clip with its true and predicted masks in TensorBoard.

    Args:
        cfg: for the first validation set and the mapper.
        period: in iterations; each time another clip is shown.
    """

    def __init__(self, cfg: CfgNode, period: int) -> None:
        self.cfg = cfg
        self.period = period

    def after_step(self) -> None:
        following = self.trainer.iter + 1
        if following % self.period or not self.cfg.DATASETS.VAL or not comm.is_main_process():
            return
        records = load_records(self.cfg.DATASETS.VAL[0])
        clip = AVSDatasetMapper(self.cfg, is_train=False)(
            records[following // self.period % len(records)]
        )
        model = self.trainer.model
        # Without the wrapper of several processes: only this one draws.
        model = getattr(model, "module", model)
        model.eval()
        with torch.no_grad():
            prediction = model([clip])[0]
        model.train()
        picture = draw_clip(clip, prediction, self.cfg.INPUT.FORMAT)
        self.trainer.storage.put_image("sample", picture.transpose(2, 0, 1))
