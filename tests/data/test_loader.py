"""The stream of samples: exact whatever the workers, processes and restarts."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.utils import comm

from transavs.data.loader import (
    PositionDataset,
    StreamSampler,
    build_clip_test_loader,
    build_clip_train_loader,
    shard_bounds,
)

RECORDS = [{"clip_id": f"clip{i}"} for i in range(7)]


def draw_mapper(record: dict, rng: np.random.Generator | None = None) -> dict:
    """Maps a record to itself and a random number, like an augmentation."""
    draw = None if rng is None else int(rng.integers(1 << 60))
    return {"clip_id": record["clip_id"], "draw": draw}


def make_cfg(batch_size: int = 6, workers: int = 0, seed: int = 5) -> CfgNode:
    cfg = get_cfg()
    cfg.SEED = seed
    cfg.SOLVER.IMS_PER_BATCH = batch_size
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.TEST.IMS_PER_BATCH = 2
    return cfg


def stream(count: int, cfg: CfgNode | None = None, start_iter: int = 0) -> list[list[tuple]]:
    """The first ``count`` batches, as (clip, draw) pairs."""
    loader = build_clip_train_loader(cfg or make_cfg(), RECORDS, draw_mapper, start_iter)
    return [
        [(clip["clip_id"], clip["draw"]) for clip in batch]
        for batch in itertools.islice(loader, count)
    ]


def be_process(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def test_every_epoch_shows_every_clip_once_in_an_order_of_its_own() -> None:
    dataset = PositionDataset(RECORDS, draw_mapper, seed=0)
    epochs = [[dataset.record_index(7 * e + i) for i in range(7)] for e in range(20)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 15


def test_sample_is_a_function_of_seed_and_position() -> None:
    dataset = PositionDataset(RECORDS, draw_mapper, seed=0)
    forwards = [dataset[p] for p in range(50)]
    backwards = [PositionDataset(RECORDS, draw_mapper, seed=0)[p] for p in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert len({sample["draw"] for sample in forwards}) == 50
    other = [PositionDataset(RECORDS, draw_mapper, seed=1)[p] for p in range(50)]
    assert other != forwards


def test_permutations_are_computed_once() -> None:
    dataset = PositionDataset(RECORDS, draw_mapper, seed=0)
    first = dataset._permutation(3)
    assert dataset._permutation(3) is first
    assert dataset._permutation(4) is not first
    assert dataset._permutation(3) is first, "a batch across two epochs needs both"
    for epoch in range(10):
        dataset._permutation(epoch)
    assert len(dataset._permutations) == 2


def test_sampler_slices_global_batches() -> None:
    # B = 6 on 3 processes: batch b holds 6 b .. 6 b + 5, process r the pair 6 b + 2 r, + 1.
    sampler = StreamSampler(batch_size=6, rank=1, world_size=3, start_iter=2)
    assert list(itertools.islice(sampler, 6)) == [14, 15, 20, 21, 26, 27]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_processes_share_the_same_global_batches(
    monkeypatch: pytest.MonkeyPatch, world_size: int
) -> None:
    single = stream(8)
    shares = []
    for rank in range(world_size):
        be_process(monkeypatch, rank, world_size)
        shares.append(stream(8))
    assert [sum(parts, []) for parts in zip(*shares, strict=True)] == single


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_stream(workers: int) -> None:
    assert stream(8, make_cfg(workers=workers)) == stream(8)


@pytest.mark.parametrize("start_iter", [1, 4, 7])
def test_resume_goes_on_exactly(start_iter: int) -> None:
    assert stream(8 - start_iter, start_iter=start_iter) == stream(8)[start_iter:]


def test_resume_with_other_workers_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream(8)
    be_process(monkeypatch, 1, 2)
    resumed = stream(3, make_cfg(workers=2), start_iter=5)
    assert resumed == [batch[3:] for batch in whole[5:]]


def test_seed_changes_the_stream() -> None:
    assert stream(3, make_cfg(seed=6)) != stream(3)


def test_making_a_loader_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    stream(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_negative_seed_warns_that_resume_is_not_exact(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        stream(1, make_cfg(seed=-1))
    assert "exact resume" in caplog.text


def thread_mapper(record: dict, rng: np.random.Generator) -> dict:
    return {"threads": torch.get_num_threads()}


def test_workers_use_one_thread() -> None:
    loader = build_clip_train_loader(make_cfg(workers=1), RECORDS, thread_mapper)
    assert next(iter(loader))[0] == {"threads": 1}


def test_impossible_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    be_process(monkeypatch, 0, 4)
    with pytest.raises(ValueError, match="multiple of the 4 processes, got 6"):
        stream(1)
    with pytest.raises(ValueError, match="training set is empty"):
        build_clip_train_loader(make_cfg(batch_size=4), [], draw_mapper)


@pytest.mark.parametrize("count", [0, 1, 3, 7, 64])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shards_cover_everything_once(count: int, world_size: int) -> None:
    bounds = [shard_bounds(count, rank, world_size) for rank in range(world_size)]
    seen = [item for first, last in bounds for item in range(first, last)]
    assert seen == list(range(count))
    sizes = Counter(last - first for first, last in bounds)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_test_loader_shows_every_clip_once(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    seen = []
    for rank in range(3):
        be_process(monkeypatch, rank, 3)
        loader = build_clip_test_loader(make_cfg(workers=workers), RECORDS, draw_mapper)
        batches = list(loader)
        assert all(len(batch) <= 2 for batch in batches)
        assert len(loader) == len(batches)
        seen += [clip["clip_id"] for batch in batches for clip in batch]
    assert seen == [record["clip_id"] for record in RECORDS]


def test_empty_share_gives_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    be_process(monkeypatch, 0, 9)
    assert list(build_clip_test_loader(make_cfg(), RECORDS, draw_mapper)) == []
