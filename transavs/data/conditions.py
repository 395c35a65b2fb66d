"""Audio conditions of an evaluation: the same clips heard with their own sound, none, or another's.

A model that listens must change its answer when the sound does. Conditions change records, never
files, and a seed fixes each of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from transavs.data.avsbench import Record
from transavs.data.offscreen import OffscreenSounds, offscreen_sounds

logger = logging.getLogger(__name__)


def _original(records: Sequence[Record], seed: int) -> list[Record]:
    return [dict(record) for record in records]


def _silence(records: Sequence[Record], seed: int) -> list[Record]:
    """Marks clips as silent; the mapper puts digital silence in the place of the waveform."""
    return [replace_audio(record, {}, audio_condition="silence") for record in records]


def _noise(records: Sequence[Record], seed: int) -> list[Record]:
    """Gives clips white noise, another one each; the mapper puts it in the waveform's place."""
    seeds = np.random.SeedSequence(seed).generate_state(len(records))
    return [
        replace_audio(record, {}, audio_condition="noise", audio_seed=int(own))
        for record, own in zip(records, seeds, strict=True)
    ]


def _shuffled(records: Sequence[Record], seed: int) -> list[Record]:
    """Gives every clip the sound of another clip; each sound is used once.

    Clips of one length exchange among themselves, so that no sound ends early. Only where one
    length has a single clip do all exchange.
    """
    if len(records) < 2:
        raise ValueError(
            "the audio condition 'shuffled' gives each clip the sound of another one: "
            f"expected at least 2 clips, got {len(records)}"
        )
    groups: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(len(record.get("file_names", ())), []).append(index)
    if min(map(len, groups.values())) < 2:
        groups = {0: list(range(len(records)))}
    rng = np.random.default_rng(seed)
    partner_of: dict[int, int] = {}
    for _, members in sorted(groups.items()):
        order = _derangement(len(members), rng)
        partner_of |= {own: members[other] for own, other in zip(members, order, strict=True)}
    return [
        replace_audio(record, records[partner_of[index]]) for index, record in enumerate(records)
    ]


def _offscreen(records: Sequence[Record], seed: int) -> list[Record]:
    """Gives every clip a sound of a class that its picture does not show, another each time."""
    sounds: dict[str, OffscreenSounds] = {}
    changed = []
    distant_clips = 0
    for index, record in enumerate(records):
        dataset = record.get("dataset")
        if dataset is None:
            raise ValueError(
                f"clip {record['clip_id']!r} names no registered data set (`dataset`), whose spec "
                "says where its off-screen sounds come from"
            )
        if dataset not in sounds:
            sounds[dataset] = offscreen_sounds(dataset)
        lender, distant = sounds[dataset].choose(record, np.random.default_rng((seed, index)))
        distant_clips += distant
        changed.append(replace_audio(record, lender))
    logger.info("off-screen sounds: %d of %d of a distant kind", distant_clips, len(records))
    return changed


# Name -> function of the records and a seed. A new condition is a function and a line.
CONDITIONS: dict[str, Callable[[Sequence[Record], int], list[Record]]] = {
    "original": _original,
    "silence": _silence,
    "noise": _noise,
    "offscreen": _offscreen,
    "shuffled": _shuffled,
}

# Under these nothing in the picture makes the sound: every predicted pixel is false.
NEGATIVE_CONDITIONS = ("silence", "noise", "offscreen")


def with_condition(records: Sequence[Record], condition: str, seed: int = 0) -> list[Record]:
    """Returns new records of the same clips, in the same order, under an audio condition.

    Frames, masks and ``sounding_objects`` (what the annotation is about) stay; the audio files and
    ``sound_labels`` (what is heard) follow the condition. Clips with another's sound name it in
    ``audio_clip_id``. ``heard_classes`` and ``visible_classes`` stay: they tell what the clip's own
    sound and picture hold.

    Args:
        records: clip records; they are not changed.
        condition: a key of ``CONDITIONS``.
        seed: fixes the condition; the same records and seed give the same result.

    Raises:
        ValueError: unknown condition, or one that these records cannot have.
    """
    if condition not in CONDITIONS:
        raise ValueError(
            f"expected an audio condition out of {', '.join(CONDITIONS)}, got {condition!r}"
        )
    return CONDITIONS[condition](records, seed)


def replace_audio(
    record: Record, source: Record, audio_condition: str = "original", **facts: int
) -> Record:
    """Returns a copy of a record that hears ``source``; {} holds no sound of an object.

    Args:
        record: of the picture; not changed.
        source: whose audio files to read, with ``audio_condition`` "original"; or {}.
        audio_condition: "original" reads the audio file, "silence" and "noise" replace it.
        facts: further entries of the record.
    """
    changed = {**record, **facts}
    changed["audio_condition"] = audio_condition
    if source:
        changed["audio_file"] = source["audio_file"]
        changed["log_mel_file"] = source["log_mel_file"]
        changed["audio_clip_id"] = source["clip_id"]
    if "sound_labels" in record:
        changed["sound_labels"] = source.get("sound_labels", [[] for _ in record["sound_labels"]])
    return changed


def _derangement(count: int, rng: np.random.Generator) -> list[int]:
    """Returns a random permutation of one single cycle (Sattolo), which leaves nothing in place."""
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(rng.integers(last))
        order[last], order[other] = order[other], order[last]
    return order
