"""Predicts a manifest: what is left of it, on this machine or on Ray, into a folder of results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from transavs.apps.predict.manifest import read_manifest
from transavs.apps.predict.model import ItemPredictor, Outcome, Settings
from transavs.apps.predict.results import ResultStore
from transavs.apps.predict.workers import (
    LocalWorker,
    Worker,
    check_address,
    import_ray,
    ray_workers,
    run_workers,
)
from transavs.utils.folder_lock import lock_folder
from transavs.utils.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """How far a manifest is.

    Attributes:
        items: in the manifest.
        finished: of them, in this run and before.
        now: finished in this run.
        failed_items: (id, reason) of each item that failed, in this run and before.
        stopped: whether it was stopped before all items were tried.
    """

    items: int
    finished: int
    now: int
    failed_items: list[tuple[str, str]]
    stopped: bool


def predict_manifest(
    manifest: str | Path,
    output: str | Path,
    settings: Settings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    progress: bool = False,
) -> Summary:
    """Predicts the items of a manifest that the folder ``output`` does not have yet.

    Workers on this machine import the main module again: a script that calls this does so under
    ``if __name__ == "__main__":``.

    Args:
        manifest: see :func:`read_manifest`.
        output: a folder; see ``transavs.apps.predict.results``.
        settings: how and where; what decides results must be as in the runs before into the folder.
        should_stop: asked several times a second; True ends the run in good order.
        progress: whether a bar on stderr shows it.

    Raises:
        FileNotFoundError: no manifest, configuration or checkpoint.
        ValueError: a mistake in the manifest, settings that are not those of the folder, or another
            run at work in it.
        RuntimeError: workers die before they do anything.
    """
    items = read_manifest(manifest)
    if settings.ray is not None:
        import_ray()
        check_address(settings.ray)
    predict = ItemPredictor(settings)
    description = predict.description
    with lock_folder(output):
        store = ResultStore(output, items, description)
        if settings.retry_failed:
            store.retry_failed()
        store.complete()
        left, before = store.left, len(store.finished)
        logger.info("%d items finished before, %d left", before, len(left))
        outcomes: Generator[Outcome, None, None]
        if settings.workers == 0 or not left:
            outcomes = (predict(item) for item in left if not should_stop())
        else:
            # The workers have their own; its memory is theirs.
            del predict
            workers = _workers(settings, description, len(left))
            limits = (settings.attempts, settings.item_timeout)
            outcomes = run_workers(left, workers, *limits, should_stop)
        # No bar before the work: an empty one would stand above the error that forbids it.
        hidden = not (progress and left)
        bar = progress_bar(None, "predicting", "item", len(left), disable=hidden)
        with closing(outcomes), bar:
            for outcome in outcomes:
                store.add(outcome)
                bar.update()
        store.complete()
        return Summary(
            items=len(items),
            finished=len(store.finished),
            now=len(store.finished) - before,
            failed_items=[
                (entry["id"], entry["error"]) for _, entry in sorted(store.failed.items())
            ],
            stopped=bool(store.left),
        )


def _workers(settings: Settings, description: dict[str, Any], most: int) -> Sequence[Worker]:
    load = partial(ItemPredictor, settings, description)
    if settings.ray is not None:
        on_gpus = settings.device != "cpu"
        return ray_workers(load, settings.ray, settings.workers, on_gpus)[:most]
    gpus = torch.cuda.device_count() if settings.device is None else 0
    return [
        LocalWorker(
            partial(ItemPredictor, replace(settings, device=f"cuda:{number % gpus}"), description)
            if gpus
            else load
        )
        for number in range(min(settings.workers or 1, most))
    ]
