"""Mixtures for pretraining: what is heard when, which recordings they may use, and repeats."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from transavs.audio import SILENCE_LOG_MEL
from transavs.data.demo import DemoAssets, Settings, compose_set
from transavs.data.demo.casting import SPLITS, SUBSETS
from transavs.data.demo.mixtures import Mixtures, read_recordings
from transavs.data.demo.sounds import Recording

TONES = {
    name: [Recording(name, np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32))]
    for name, hertz in (("low", 300.0), ("high", 3000.0))
}


def test_labels_tell_what_is_heard() -> None:
    """Two tones that stay in their half of the spectrum at any speed within the limits."""
    mixtures = Mixtures(TONES, 40, seed=0)
    assert len(mixtures) == 40
    heard = []
    for index in range(40):
        examples, labels = mixtures[index]
        assert examples.shape == (5, 1, 96, 64) and labels.shape == (5, 2)
        # Examples are 0.96 s long: their first windows lie in the second before.
        loud = examples[:, 0, 20:].exp().mean(1) > 0.5
        assert not loud[~labels.any(1)].any()
        found = torch.stack([loud[:, :30].any(1), loud[:, 35:].any(1)], 1)
        assert found[:, 0][labels[:, 0]].all() and found[:, 1][labels[:, 1]].all()
        heard.append(labels)
    counts = torch.cat(heard).sum(1)
    assert {0, 1, 2} == set(counts.tolist())


def test_items_depend_on_seed_and_index_alone() -> None:
    first, again = Mixtures(TONES, 5, seed=3), Mixtures(TONES, 9, seed=3)
    for one, other in zip(first[4], again[4], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[4][0], first[3][0])
    assert not torch.equal(first[4][0], Mixtures(TONES, 5, seed=4)[4][0])
    assert first[4][0].min() >= SILENCE_LOG_MEL - 1e-4


def test_recordings_of_a_composed_set(tmp_path: Path, drawn_assets: DemoAssets) -> None:
    counts = {subset: dict.fromkeys(SPLITS, 0) for subset in SUBSETS}
    compose_set(drawn_assets, tmp_path, Settings(0, counts), progress=False)
    recordings = read_recordings(tmp_path)
    assert list(recordings) == sorted(each.name for each in drawn_assets.classes)
    for each in drawn_assets.classes:
        assert each.held_out is not None
        found = recordings[each.name]
        # All but the held-out one, as they are.
        assert len(found) == len(each.recordings)
        for one, other in zip(found, each.recordings, strict=True):
            np.testing.assert_allclose(one.samples, other.samples, atol=2 / 32768)
        assert all(len(one.samples) != len(each.held_out.samples) for one in found)


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"compose the set \(again\)"):
        read_recordings(tmp_path)
    table = tmp_path / "transavs_demo/recordings/recordings.json"
    table.parent.mkdir(parents=True)
    for content in ("{", "[1]", '{"dog": 3}'):
        table.write_text(content)
        with pytest.raises(ValueError, match=r"recordings.json: expected JSON"):
            read_recordings(tmp_path)
    # A name cannot lead out of the folder.
    table.write_text(json.dumps({"dog": ["../../../etc/passwd"]}))
    with pytest.raises(Exception, match="passwd") as caught:
        read_recordings(tmp_path)
    assert "etc" not in str(caught.value).replace(str(tmp_path), "")
