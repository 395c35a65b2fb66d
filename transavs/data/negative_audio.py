"""Negative audio in training: a clip hears what nothing in its picture makes, and has no target.

The sound is replaced before the front-end, so that a model cannot tell true from false sound by
how it was prepared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.config import CfgNode

from transavs.data.avsbench import Record
from transavs.data.conditions import replace_audio
from transavs.data.offscreen import OffscreenSounds, offscreen_sounds


class NegativeAudio:
    """Replaces the sound of a share of the training clips.

    Args:
        share: of the clips, in [0, 1].
        kinds: out of "silence", "noise" and "offscreen"; each is as likely as the others.
        sounds: data set name -> its off-screen sounds; read with the kind "offscreen".
    """

    def __init__(
        self, share: float, kinds: Sequence[str], sounds: Mapping[str, OffscreenSounds]
    ) -> None:
        self._share = share
        self._kinds = tuple(kinds)
        self._sounds = sounds

    def draw(self, record: Record, rng: np.random.Generator) -> Record | None:
        """Returns the record with a sound that its picture does not make, or None: left as it is.

        Args:
            record: a clip record; it is not changed.
            rng: decides, and draws the kind and the sound.
        """
        if rng.random() >= self._share:
            return None
        kind = self._kinds[int(rng.integers(len(self._kinds)))]
        if kind == "noise":
            return replace_audio(record, {}, "noise", audio_seed=int(rng.integers(2**32)))
        if kind == "silence":
            return replace_audio(record, {}, "silence")
        lender, _ = self._sounds[record["dataset"]].choose(record, rng)
        return replace_audio(record, lender)


def build_negative_audio(cfg: CfgNode) -> NegativeAudio | None:
    """Returns what ``INPUT.NEGATIVE_AUDIO`` asks for; None where its share is 0.

    Raises:
        FileNotFoundError, ValueError: off-screen sounds are asked for, and there are none.
    """
    node = cfg.INPUT.NEGATIVE_AUDIO
    if not node.SHARE:
        return None
    sounds = {}
    if "offscreen" in node.KINDS:
        sounds = {name: offscreen_sounds(name) for name in cfg.DATASETS.TRAIN}
    return NegativeAudio(node.SHARE, node.KINDS, sounds)
