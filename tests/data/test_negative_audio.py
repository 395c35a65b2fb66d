"""Negative audio: how often, which kinds, and what the mapper makes of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from transavs.audio import SILENCE_LOG_MEL
from transavs.config import setup_cfg
from transavs.data import AVSDatasetMapper, load_records
from transavs.data.negative_audio import NegativeAudio, build_negative_audio

NODE = "INPUT.NEGATIVE_AUDIO"


def read_cfg(*opts: object, train: str = "avsbench_s4_train"):
    return setup_cfg("s4_R50.yaml", ["DATASETS.TRAIN", f"('{train}',)", *map(str, opts)])


def test_share_and_kinds() -> None:
    negative = NegativeAudio(0.3, ("silence", "noise"), {})
    record = {"clip_id": "a", "audio_file": "a.wav", "sound_labels": [[0]] * 5}
    drawn = [negative.draw(record, np.random.default_rng(seed)) for seed in range(2000)]
    kinds = Counter(each and each["audio_condition"] for each in drawn)
    # Binomial: a standard deviation is 20 of the 2000 clips.
    assert abs(kinds["silence"] + kinds["noise"] - 600) < 80
    assert abs(kinds["silence"] - kinds["noise"]) < 100
    assert record == {"clip_id": "a", "audio_file": "a.wav", "sound_labels": [[0]] * 5}
    seeds = {each["audio_seed"] for each in drawn if each and "audio_seed" in each}
    assert len(seeds) == kinds["noise"]
    assert all(each["sound_labels"] == [[]] * 5 for each in drawn if each)


def test_off_in_the_papers_configs() -> None:
    assert build_negative_audio(setup_cfg("s4_R101.yaml")) is None


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("kind", ["silence", "noise", "offscreen"])
def test_mapper_empties_the_targets(datasets_env: Path, kind: str, background: bool) -> None:
    opts = [f"{NODE}.SHARE", 1.0, f"{NODE}.KINDS", f"('{kind}',)"]
    cfg = read_cfg(*opts, "MODEL.TRANSAVS.BACKGROUND_TARGET", background)
    plain = AVSDatasetMapper(read_cfg(), is_train=True)
    record = load_records("avsbench_s4_train")[0]
    clip = AVSDatasetMapper(cfg, is_train=True)(record, rng=np.random.default_rng(3))
    own = plain(record, rng=np.random.default_rng(3))
    # The same geometry, so the same frames; another sound; nothing to find.
    assert torch.equal(clip["frames"], own["frames"])
    assert not torch.equal(clip["audio"], own["audio"])
    assert (clip["audio"] == SILENCE_LOG_MEL).all() == (kind == "silence")
    assert [classes.tolist() for classes in clip["target_classes"]] == [[1] if background else []]
    assert len(own["target_masks"][0]) == 1
    # Evaluation never replaces a sound by itself.
    evaluated = AVSDatasetMapper(cfg, is_train=False)(record)
    assert torch.equal(evaluated["audio"], AVSDatasetMapper(read_cfg(), False)(record)["audio"])


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ((f"{NODE}.SHARE", 1.5), r"SHARE must lie in \[0, 1\], got 1.5"),
        ((f"{NODE}.KINDS", "('whisper',)"), "KINDS must be some of silence, noise, offscreen"),
        ((f"{NODE}.KINDS", "()"), "KINDS must be some of"),
        # Pickles of another program beside noise of ours: told apart by the recipe.
        ((f"{NODE}.SHARE", 0.1, "INPUT.AUDIO_SOURCE", "log_mel"), "silence, noise are computed"),
    ],
)
def test_wrong_values(opts, words) -> None:
    with pytest.raises(ValueError, match=words):
        read_cfg(*opts)
