"""The audio room: sound files -> waveform -> log-mel examples -> embeddings."""

from transavs.audio.embedding_store import EmbeddingStore
from transavs.audio.encoder_base import AudioEncoder
from transavs.audio.encoders import (
    AUDIO_ENCODER_REGISTRY,
    build_audio_encoder,
    build_front_end,
)
from transavs.audio.front_end import VGGISH_LOG_MEL, FrontEnd
from transavs.audio.hts_at import CLAPHTSAT, HTSAT
from transavs.audio.io import load_waveform, save_waveform
from transavs.audio.log_mel import (
    EXAMPLE_SECONDS,
    EXAMPLE_WINDOWS,
    MEL_BANDS,
    SILENCE_LOG_MEL,
    clip_log_mel,
    fit_examples,
    log_mel_examples,
    samples_of_examples,
)
from transavs.audio.perturb import (
    add_white_noise,
    replace_with_white_noise,
    silence,
    white_noise,
)
from transavs.audio.small_vggish import SmallVGGish
from transavs.audio.vggish import VGGish
from transavs.audio.waveform import SAMPLE_RATE_HZ
from transavs.audio.yamnet import YAMNet
from transavs.pretrained.audio_encoders import load_encoder_weights

__all__ = [
    "AUDIO_ENCODER_REGISTRY",
    "CLAPHTSAT",
    "EXAMPLE_SECONDS",
    "EXAMPLE_WINDOWS",
    "HTSAT",
    "MEL_BANDS",
    "SAMPLE_RATE_HZ",
    "SILENCE_LOG_MEL",
    "VGGISH_LOG_MEL",
    "AudioEncoder",
    "EmbeddingStore",
    "FrontEnd",
    "SmallVGGish",
    "VGGish",
    "YAMNet",
    "add_white_noise",
    "build_audio_encoder",
    "build_front_end",
    "clip_log_mel",
    "fit_examples",
    "load_encoder_weights",
    "load_waveform",
    "log_mel_examples",
    "replace_with_white_noise",
    "samples_of_examples",
    "save_waveform",
    "silence",
    "white_noise",
]
