"""Checkpoints every so often, of which the newest few are kept, also over several attempts."""

from __future__ import annotations

import os
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from transavs.engine.checkpoint import SafeCheckpointer
from transavs.engine.checkpoint_files import FINAL, numbered_checkpoints


class PeriodicCheckpoints(HookBase):  # type: ignore[misc]
    """Saves ``model_<iteration>.pth`` every few iterations, and ``model_final.pth`` at the end.

    It stands in front of evaluation and log, so that an evaluation that fails costs no training. A
    checkpoint notes that these were still to come, and a resumed run makes up for them: see
    ``transavs.engine.resuming``.

    Unlike detectron2's hook it also removes what earlier attempts of the same run have left.

    Args:
        checkpointer: for the folder and what is saved; writes in the main process alone.
        period: in iterations; 0 for the end alone.
        keep: how many numbered ones stay.

    Attributes:
        unfinished: hooks behind this one have not seen the iteration that is saved.
    """

    def __init__(self, checkpointer: SafeCheckpointer, period: int, keep: int = 3) -> None:
        assert keep > 0, keep
        self.unfinished = False
        self._checkpointer = checkpointer
        self._period = period
        self._keep = keep
        self._saved: dict[int, str] = {}

    def before_train(self) -> None:
        if not comm.is_main_process() or not self.trainer.start_iter:
            return
        # Later ones are not ours yet: they are written again, or belong to another run.
        self._saved = {
            iteration: path
            for iteration, path in numbered_checkpoints(self._checkpointer.save_dir).items()
            if iteration < self.trainer.start_iter
        }
        self._remove_oldest()

    def after_step(self) -> None:
        iteration: int = self.trainer.iter
        self.unfinished = True
        if self._period > 0 and (iteration + 1) % self._period == 0:
            name = f"model_{iteration:07d}"
            self._checkpointer.save(name, iteration=iteration)
            self._saved[iteration] = os.path.join(self._checkpointer.save_dir, f"{name}.pth")
            self._remove_oldest()
        if iteration + 1 >= self.trainer.max_iter:
            self._checkpointer.save(FINAL, iteration=iteration)
        self.unfinished = False

    def state_dict(self) -> dict[str, Any]:
        return {"unfinished": self.unfinished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.unfinished = bool(state_dict["unfinished"])

    def _remove_oldest(self) -> None:
        if not comm.is_main_process():
            return
        for iteration in sorted(self._saved)[: -self._keep]:
            path = self._saved.pop(iteration)
            if os.path.exists(path):
                os.unlink(path)
