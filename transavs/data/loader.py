"""Loaders whose stream of training samples does not depend on workers, processes or restarts.

Training is an endless stream of samples at positions 0, 1, 2, ... Position p lies in epoch
``p // n`` of n records, each epoch is a permutation of its own, and the sample at p is a pure
function of (seed, p). Global batch b holds the positions [b B, (b + 1) B), and each process takes a
contiguous part of it. To resume at iteration i is to start at position i B.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from transavs.data.avsbench import Record

Clip = dict[str, Any]
Mapper = Callable[..., Clip]

logger = logging.getLogger(__name__)

# The generators of the permutations and of the samples must never coincide: NumPy pads a seed
# sequence with zeros, so (seed, 1) and (seed, 1, 0) would be the same one.
_PERMUTATION_STREAM = 0
_SAMPLE_STREAM = 1


class PositionDataset(Dataset[Clip]):
    """Maps a position of the stream to its sample.

    Args:
        records: the n clip records of an epoch.
        mapper: called as ``mapper(record, rng=generator)``.
        seed: not negative.
    """

    def __init__(self, records: Sequence[Record], mapper: Mapper, seed: int) -> None:
        if not records:
            raise ValueError("the training set is empty: expected at least one clip record")
        self._records = records
        self._mapper = mapper
        self._seed = seed
        # A batch may lie across two epochs, so the last two permutations are kept.
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def record_index(self, position: int) -> int:
        """Returns which record the position shows."""
        epoch, offset = divmod(position, len(self._records))
        return int(self._permutation(epoch)[offset])

    def __getitem__(self, position: int) -> Clip:
        record = self._records[self.record_index(position)]
        rng = np.random.default_rng((self._seed, _SAMPLE_STREAM, position))
        return self._mapper(record, rng=rng)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._permutations:
            while len(self._permutations) > 1:
                del self._permutations[next(iter(self._permutations))]
            rng = np.random.default_rng((self._seed, _PERMUTATION_STREAM, epoch))
            self._permutations[epoch] = rng.permutation(len(self._records))
        return self._permutations[epoch]


class StreamSampler(Sampler[int]):
    """Yields the positions of one process, for ever.

    Args:
        batch_size: B, clips of a global batch; a multiple of ``world_size``.
        rank, world_size: which process of how many.
        start_iter: global batches that earlier runs have seen.
    """

    def __init__(
        self, batch_size: int, rank: int = 0, world_size: int = 1, start_iter: int = 0
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH (clips of all processes) must be a multiple of the "
                f"{world_size} processes, got {batch_size}"
            )
        assert 0 <= rank < world_size, (rank, world_size)
        self._batch_size = batch_size
        self._share = batch_size // world_size
        self._rank = rank
        self._start_iter = start_iter

    def __iter__(self) -> Iterator[int]:
        first = self._start_iter * self._batch_size + self._rank * self._share
        while True:
            yield from range(first, first + self._share)
            first += self._batch_size


class RecordDataset(Dataset[Clip]):
    """Maps an index to its mapped record, in order."""

    def __init__(self, records: Sequence[Record], mapper: Mapper) -> None:
        self._records = records
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Clip:
        return self._mapper(self._records[index])


def shard_bounds(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """Returns the half-open range of one process's share of ``count`` items.

    Shares are contiguous, differ by one item at most, and together hold every item once.
    """
    return count * rank // world_size, count * (rank + 1) // world_size


def collate_clips(clips: list[Clip]) -> list[Clip]:
    """Returns the clips as they are: their frames may differ in number and size."""
    return clips


def build_clip_train_loader(
    cfg: CfgNode, records: Sequence[Record], mapper: Mapper, start_iter: int = 0
) -> DataLoader[Clip]:
    """Returns an endless loader of this process's part of each global batch.

    Args:
        cfg: reads SOLVER.IMS_PER_BATCH (clips of all processes together), SEED and
            DATALOADER.NUM_WORKERS (of one process).
        records: clip records, the same in every process.
        mapper: called as ``mapper(record, rng=generator)``.
        start_iter: iterations already done; the loader goes on behind their samples.
    """
    seed = cfg.SEED
    if seed < 0:
        seed = comm.shared_random_seed()
        logger.warning(
            "SEED is negative: the order of samples is drawn with %d, which another run or a "
            "resumed one will not repeat; set SEED for exact resume",
            seed,
        )
    world_size = comm.get_world_size()
    sampler = StreamSampler(cfg.SOLVER.IMS_PER_BATCH, comm.get_rank(), world_size, start_iter)
    return DataLoader(
        PositionDataset(records, mapper, seed),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // world_size,
        sampler=sampler,
        **_worker_arguments(cfg, persistent=True),
    )


def build_clip_test_loader(
    cfg: CfgNode, records: Sequence[Record], mapper: Mapper
) -> DataLoader[Clip]:
    """Returns a loader that shows every record once, spread over the processes.

    Args:
        cfg: reads TEST.IMS_PER_BATCH (clips that one process is fed at once) and
            DATALOADER.NUM_WORKERS.
        records: clip records, the same in every process.
        mapper: called as ``mapper(record)``.

    A process's share is contiguous and may be a clip smaller than another's, or empty; nothing is
    dropped or doubled.
    """
    first, last = shard_bounds(len(records), comm.get_rank(), comm.get_world_size())
    return DataLoader(
        RecordDataset(records[first:last], mapper),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        shuffle=False,
        **_worker_arguments(cfg, persistent=False),
    )


def _worker_arguments(cfg: CfgNode, persistent: bool) -> dict[str, Any]:
    workers = cfg.DATALOADER.NUM_WORKERS
    return {
        "num_workers": workers,
        "persistent_workers": persistent and workers > 0,
        "collate_fn": collate_clips,
        "worker_init_fn": _start_worker,
        # Processes started by `launch` would spawn their workers, which import everything again.
        "multiprocessing_context": "fork" if workers and sys.platform == "linux" else None,
        # Without a generator of its own, making an iterator would advance torch's global one, and
        # a resumed run would drop out different units.
        "generator": torch.Generator().manual_seed(0),
    }


def _start_worker(worker_id: int) -> None:
    """Keeps workers from competing for cores, and from answering a Ctrl-C.

    The terminal sends it to the whole group; the training process finishes its step and saves,
    for which it needs them alive. It ends them itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
