"""What a clip's sound becomes: examples for the audio encoder, or embeddings computed before."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from transavs.audio import VGGISH_LOG_MEL, FrontEnd, build_front_end
from transavs.audio.embedding_store import EmbeddingStore
from transavs.data.audio_files import (
    noise_examples,
    read_pickle_examples,
    read_wav_examples,
    silent_examples,
)
from transavs.data.avsbench import Record

AUDIO_SOURCES = ("wav", "log_mel")


class ClipAudio:
    """Reads the sound of a record under its audio condition.

    Args:
        source: "wav" computes examples from the waveform; "log_mel" reads the pickles of the
            official release, which are VGGish's.
        front_end: of the audio encoder.
        embeddings: where to look first; None: nowhere. Sounds that are no file (silence, noise) and
            files that it does not have are computed.

    Raises:
        ValueError: an unknown source, or one that contradicts the others.
    """

    def __init__(
        self,
        source: str = "wav",
        front_end: FrontEnd = VGGISH_LOG_MEL,
        embeddings: EmbeddingStore | None = None,
    ) -> None:
        if source not in AUDIO_SOURCES:
            raise ValueError(
                f"expected an audio source out of {', '.join(AUDIO_SOURCES)}, got {source!r}"
            )
        if source == "log_mel" and front_end.version != VGGISH_LOG_MEL.version:
            raise ValueError(
                "INPUT.AUDIO_SOURCE 'log_mel' reads pickles of VGGish's front-end, but the encoder "
                f"MODEL.AUDIO.NAME takes {front_end.version}; set it to 'wav'"
            )
        if embeddings is not None and front_end.version not in embeddings.identity.split("; "):
            raise ValueError(
                f"{embeddings.path} holds embeddings of another encoder ({embeddings.identity}), "
                f"this one takes {front_end.version}: compute them again with "
                "tools/precompute_audio.py, or leave INPUT.AUDIO_EMBEDDINGS empty"
            )
        self.source = source
        self.front_end = front_end
        self.embeddings = embeddings

    def read(self, record: Record) -> dict[str, Any]:
        """Returns the entries of a clip that tell its sound.

        Args:
            record: a clip record, whose own length T is that of the result.

        Returns:
            ``audio`` float32 ``[T, *example_shape]`` and ``audio_range``, the values of silence and
            of loud sound; or, where they were precomputed, ``audio_embeddings`` float32 ``[T, D]``
            and ``audio_embeddings_of``, the file and the encoder that they are of.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is broken, or an unknown audio condition.
        """
        seconds = len(record["file_names"])
        condition = record.get("audio_condition", "original")
        if condition == "silence":
            examples = silent_examples(seconds, self.front_end)
        elif condition == "noise":
            examples = noise_examples(seconds, record["audio_seed"], self.front_end)
        elif condition != "original":
            raise ValueError(
                f"clip {record['clip_id']!r}: expected the audio condition 'original', 'silence' "
                f"or 'noise', got {condition!r}"
            )
        elif self.source == "wav":
            if self.embeddings is not None:
                found = self.embeddings.find(record["audio_file"], seconds)
                if found is not None:
                    made_by = (self.embeddings.path, self.embeddings.identity)
                    return {"audio_embeddings": found, "audio_embeddings_of": made_by}
            examples = read_wav_examples(record["audio_file"], seconds, self.front_end)
        elif record["log_mel_file"] is None:
            raise FileNotFoundError(
                f"clip {record['clip_id']!r} has no log-mel pickle, which INPUT.AUDIO_SOURCE "
                "'log_mel' reads; set it to 'wav' to compute the examples from the waveform"
            )
        else:
            examples = read_pickle_examples(record["log_mel_file"], seconds)
        return {"audio": examples, "audio_range": self.front_end.value_range}


def build_clip_audio(cfg: CfgNode) -> ClipAudio:
    """Returns what ``INPUT.AUDIO_SOURCE``, ``INPUT.AUDIO_EMBEDDINGS`` and the encoder ask for."""
    path = cfg.INPUT.AUDIO_EMBEDDINGS
    embeddings = EmbeddingStore(path) if path else None
    return ClipAudio(cfg.INPUT.AUDIO_SOURCE, build_front_end(cfg), embeddings)
