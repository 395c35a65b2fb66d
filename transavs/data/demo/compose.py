"""Compose the whole demo set: many processes, resumable, the same bytes whatever happens."""

from __future__ import annotations

import csv
import io
import json
import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import soundfile

from transavs.data.demo import manifest as manifests
from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.casting import SPLITS, SUBSETS
from transavs.data.demo.clip_writer import (
    cast_of_clip,
    describe,
    files_of_clip,
    write_clip,
    write_file,
)
from transavs.data.demo.credits import credits_text
from transavs.data.demo.layout import (
    SET_FOLDER,
    classes_file,
    metadata_file,
    objects_file,
    recording_name,
    recordings_file,
)
from transavs.data.demo.manifest import Settings
from transavs.data.demo.sounds import SAMPLE_RATE
from transavs.utils.progress import progress_bar

logger = logging.getLogger(__name__)

_CLIPS_PER_TASK = 4
_HEADERS = {"s4": ("name", "start", "category", "split"), "ms3": ("vid", "split")}


def compose_set(
    assets: DemoAssets,
    data_root: Path,
    settings: Settings,
    workers: int = 1,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Compose the demo set below ``data_root``, or complete one that was interrupted.

    A clip whose files all exist is left alone. The csv files, the object descriptions and the
    manifest are written last, so that a set with a manifest is complete.

    Args:
        assets: what to compose from.
        data_root: folder that holds (or gets) ``transavs_demo``.
        settings: seed and sizes.
        workers: number of processes; 1 composes in this one. Does not change a byte.
        force: delete a set that was made with other settings instead of refusing.
        progress: show a bar on stderr.

    Returns:
        The folder of the set.

    Raises:
        ValueError: the folder holds a set with other settings, or something else.
        RuntimeError: a worker process died.
    """
    if workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    root = data_root / SET_FOLDER
    manifest = manifests.make_manifest(assets.source, assets.origin, assets.classes, settings)
    manifests.claim(root, manifest, force)
    missing = manifests.missing_clips(root, assets.classes, settings)
    total = len(list(settings.clips()))
    whole = manifests.read_manifest(root) is not None and manifests.tables_exist(root)
    if whole and not missing:
        logger.info("%s is there already: %d clips", root, total)
        return root
    if len(missing) < total:
        logger.info("%d of %d clips are there already", total - len(missing), total)
        manifests.delete_leftovers(root)
    write_in_processes(partial(write_clip, assets, root, settings.seed), missing, workers, progress)
    _write_tables(assets, root, settings)
    _write_recordings(assets, root)
    write_file(root / manifests.CREDITS, credits_text(assets).encode())
    manifests.write_manifest(root, manifest)
    logger.info("Composed %s: %d clips", root, total)
    return root


def _write_tables(assets: DemoAssets, root: Path, settings: Settings) -> None:
    """Write the csv file and the object descriptions of both subsets."""
    for subset in SUBSETS:
        rows: list[tuple[str, ...]] = []
        objects: dict[str, Any] = {}
        for split in SPLITS:
            for index in range(settings.counts[subset][split]):
                files = files_of_clip(assets.classes, subset, split, index)
                category, _, name = files.clip_id.rpartition("/")
                rows.append((name, "0", category, split) if subset == "s4" else (name, split))
                cast = cast_of_clip(assets, settings.seed, subset, split, index)
                objects[files.clip_id] = describe(cast, split)
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(
            ("name", "start", "category", "split") if subset == "s4" else ("vid", "split")
        )
        writer.writerows(rows)
        write_file(root / metadata_file(subset), table.getvalue().encode())
        write_file(root / objects_file(subset), json.dumps(objects).encode())
        groups = dict(sorted((each.name, each.group) for each in assets.classes))
        write_file(root / classes_file(subset), json.dumps(groups).encode())


def _write_recordings(assets: DemoAssets, root: Path) -> None:
    """Write the recordings that pretraining may mix anew; held-out ones are not among them."""
    table: dict[str, list[str]] = {}
    for each in assets.classes:
        table[each.name] = []
        for number, recording in enumerate(each.recordings):
            table[each.name].append(recording_name(each.name, number))
            wav = io.BytesIO()
            soundfile.write(wav, recording.samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
            write_file(root / recordings_file().parent / table[each.name][-1], wav.getvalue())
    write_file(root / recordings_file(), json.dumps(dict(sorted(table.items()))).encode())


def write_in_processes(
    write: Callable[..., None], clips: Sequence[Any], workers: int, progress: bool
) -> None:
    """Calls ``write(*clip)`` for every clip, with a bar on stderr.

    Args:
        write: writes one clip; it is copied into every process.
        clips: its arguments.
        workers: number of processes; 1 calls it in this one.
        progress: whether the bar is shown.

    Raises:
        RuntimeError: a process died.
    """
    with progress_bar(None, "Composing", "clip", len(clips), disable=not progress) as bar:
        if workers == 1 or len(clips) <= _CLIPS_PER_TASK:
            for clip in clips:
                write(*clip)
                bar.update()
            return
        try:
            with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(write,)) as pool:
                for _ in pool.map(_work, clips, chunksize=_CLIPS_PER_TASK):
                    bar.update()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process died, maybe for want of memory; the same command with fewer "
                "--workers goes on where this one stopped"
            ) from error


_write: Callable[..., None] | None = None


def _start_worker(write: Callable[..., None]) -> None:
    global _write
    _write = write
    # Ctrl-C goes to the whole group of processes: the workers finish the clips in their hands, and
    # the main process hands out no more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(clip: Sequence[Any]) -> None:
    assert _write is not None, "worker was not started by _start_worker"
    _write(*clip)
