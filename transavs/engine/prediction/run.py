"""Predicts a manifest: what is left of it, on this machine or on Ray, into a folder of results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from transavs.engine.prediction import on_ray
from transavs.engine.prediction.guarded_worker import GuardedWorker
from transavs.engine.prediction.local import run_locally
from transavs.engine.prediction.manifest import Item, read_manifest
from transavs.engine.prediction.outcome import Outcome
from transavs.engine.prediction.rows import predict_item
from transavs.engine.prediction.settings import Settings
from transavs.engine.prediction.store import ResultStore
from transavs.engine.predictor import VideoPredictor
from transavs.utils.folder_lock import FolderLock


@dataclass(frozen=True)
class Execution:
    """Where items are predicted, and what is done about those that cannot be.

    None of it changes a prediction.

    Attributes:
        workers: processes, or actors on Ray; None takes one, on Ray one for each device. 0
            predicts in this process, which an item may then end.
        ray: address of a cluster ("local" starts one here); None stays on this machine.
        attempts: an item is set aside when so many workers died over it.
        timeout_seconds: an item is set aside when it takes longer; None waits for ever.
        retry_failed: whether items that were set aside before are tried again.
    """

    workers: int | None = None
    ray: str | None = None
    attempts: int = 2
    timeout_seconds: float | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        least = 0 if self.ray is None else 1
        if self.workers is not None and self.workers < least:
            raise ValueError(f"expected at least {least} workers, got {self.workers}")
        if self.attempts < 1:
            raise ValueError(f"expected at least 1 attempt, got {self.attempts}")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise ValueError(f"the time for an item must be above 0, got {self.timeout_seconds:g}")
        if self.timeout_seconds is not None and self.workers == 0:
            raise ValueError("without workers nothing can end an item that takes too long")


@dataclass(frozen=True)
class Summary:
    """How far a manifest is.

    Attributes:
        items: in the manifest.
        finished: of them, in this run and before.
        now: finished in this run.
        set_aside: (id, reason) of each item that was set aside, in this run and before.
        stopped: whether it was stopped before all items were tried.
    """

    items: int
    finished: int
    now: int
    set_aside: list[tuple[str, str]]
    stopped: bool


def predict_manifest(
    manifest: str | Path,
    output: str | Path,
    settings: Settings,
    execution: Execution | None = None,
    *,
    shard_items: int = 1000,
    should_stop: Callable[[], bool] = lambda: False,
    begin: Callable[[int, int], None] = lambda left, finished: None,
    step: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Predicts the items of a manifest that the folder ``output`` does not have yet.

    Args:
        manifest: see :func:`read_manifest`.
        output: a folder; see ``transavs.engine.prediction.store``.
        settings: how; must be those of the runs before into the same folder.
        execution: where.
        shard_items: items a Parquet file.
        should_stop: asked several times a second; True ends the run in good order.
        begin: told how many items are left and how many are finished before the first.
        step: told what became of each item.

    Raises:
        FileNotFoundError: no manifest, configuration or checkpoint.
        ValueError: a mistake in the manifest, settings that are not those of the folder, or another
            run at work in it.
        RuntimeError: workers die before they do anything.
    """
    execution = execution or Execution()
    items = read_manifest(manifest)
    if execution.ray is not None:
        on_ray.import_ray()
        on_ray.check_address(execution.ray)
    predictor = settings.load()
    description = settings.describe(predictor)
    with FolderLock(output):
        store = ResultStore(output, items, description, shard_items)
        if execution.retry_failed:
            store.set_aside.clear()
        store.complete()
        left = store.left
        begin(len(left), len(store.finished))
        before = len(store.finished)
        if left:
            if execution.workers == 0:
                outcomes = _run_here(left, predictor, settings, should_stop)
            else:
                # The workers have their own; its memory is theirs.
                del predictor
                outcomes = _run_elsewhere(left, settings, description, execution, should_stop)
            with closing(outcomes):
                for outcome in outcomes:
                    if store.add(outcome):
                        step(outcome)
        store.set_aside.sort()
        return Summary(
            items=len(items),
            finished=len(store.finished),
            now=len(store.finished) - before,
            set_aside=[store.set_aside.errors[index] for index in sorted(store.set_aside.errors)],
            stopped=bool(store.left),
        )


def _run_here(
    items: Sequence[Item],
    predictor: VideoPredictor,
    settings: Settings,
    should_stop: Callable[[], bool],
) -> Generator[Outcome, None, None]:
    for item in items:
        if should_stop():
            return
        try:
            outcome = Outcome(item.index, predict_item(predictor, item, settings))
        except (OSError, ValueError) as error:
            outcome = Outcome(item.index, error=str(error))
        yield outcome


def _run_elsewhere(
    items: Sequence[Item],
    settings: Settings,
    description: Any,
    execution: Execution,
    should_stop: Callable[[], bool],
) -> Generator[Outcome, None, None]:
    if execution.ray is not None:
        return on_ray.run_on_ray(
            items,
            settings,
            description,
            address=execution.ray,
            count=execution.workers,
            attempts=execution.attempts,
            timeout_seconds=execution.timeout_seconds,
            should_stop=should_stop,
        )
    gpus = torch.cuda.device_count() if settings.device is None else 0

    def make_worker(number: int) -> GuardedWorker:
        own = replace(settings, device=f"cuda:{number % gpus}") if gpus else settings
        return GuardedWorker(own, description, execution.attempts, execution.timeout_seconds)

    return run_locally(items, make_worker, execution.workers or 1, should_stop)
