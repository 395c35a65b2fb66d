"""The sound of a clip: recordings laid on a track second by second, mixed to 16-bit stereo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from transavs.audio.waveform import resample_waveform

SAMPLE_RATE = 16000
"""Hz, that of the official archives."""

RAMP_SECONDS = 0.01
GAP_SECONDS = (0.05, 0.28)
"""Shortest and longest pause between two repeats of a recording."""

_FRAME_SECONDS = 0.02
_SILENCE_DB = -30.0  # below the loudest frame of the recording
_LONGEST_PAUSE_SECONDS = 0.25
_KEPT_PAUSE_SECONDS = 0.2
_LONG_RECORDING_SECONDS = 2.5
_WEAKEST_SECOND_DB = -12.0  # below the loudest second of the recording
_OBJECT_PEAK = 0.5

# Limits of what `vary_recording` draws.
_SPEED = 1.4
_EQUALIZER_HZ = (60, 150, 300, 600, 1200, 2400, 4800, 8000)
_EQUALIZER_DB = 8.0
_ROOM_SHARE = 0.5
_ROOM_SECONDS = 0.25
_ROOM_DECAY_SECONDS = (0.02, 0.08)
_ROOM_LEVEL = (0.02, 0.15)
_FULL_SCALE = 0.98


@dataclass(frozen=True)
class Recording:
    """A recording without silence at its ends and without long pauses, peak 1.

    Attributes:
        reference: name of the file, see `catalogue`.
        samples: float32 [L], 16 kHz mono in [-1, 1].
    """

    reference: str
    samples: np.ndarray

    @cached_property
    def loudest_second(self) -> tuple[int, float]:
        """First sample of the loudest second, and its root mean square over that second.

        A recording shorter than a second counts as followed by silence.
        """
        energy = np.concatenate([[0.0], np.cumsum(self.samples.astype(np.float64) ** 2)])
        if len(self.samples) <= SAMPLE_RATE:
            return 0, math.sqrt(energy[-1] / SAMPLE_RATE)
        windows = energy[SAMPLE_RATE:] - energy[:-SAMPLE_RATE]
        start = int(windows.argmax())
        return start, math.sqrt(windows[start] / SAMPLE_RATE)


def prepare_recording(reference: str, samples: np.ndarray, sample_rate: int) -> Recording:
    """Resample to 16 kHz, cut silence away, and normalise the peak to 1.

    Levels of the files differ by 30 dB and Vorbis decodes above 1, hence the normalisation. Pauses
    longer than a quarter of a second are shortened, so that any second of a sounding object holds
    sound.

    Args:
        reference: name of the file.
        samples: float32 [L], mono, at ``sample_rate`` Hz.
        sample_rate: Hz.

    Raises:
        ValueError: the recording is empty, silent or not finite.
    """
    if not samples.size or not np.isfinite(samples).all() or not np.abs(samples).max() > 1e-4:
        raise ValueError(f"{reference}: expected an audible recording, got silence or no numbers")
    waveform = torch.from_numpy(np.ascontiguousarray(samples))
    samples = resample_waveform(waveform, sample_rate, SAMPLE_RATE).numpy()
    samples = _close_pauses(samples)
    return Recording(reference, (samples / np.abs(samples).max()).astype(np.float32))


def _close_pauses(samples: np.ndarray) -> np.ndarray:
    length = int(_FRAME_SECONDS * SAMPLE_RATE)
    padded = np.pad(samples, (0, -len(samples) % length))
    energy = (padded.reshape(-1, length).astype(np.float64) ** 2).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (_SILENCE_DB / 10))
    half_pause = int(_KEPT_PAUSE_SECONDS / 2 / _FRAME_SECONDS)
    keep = np.zeros(len(energy), dtype=bool)
    keep[loud] = True
    for before, after in zip(loud[:-1], loud[1:], strict=True):
        pause = after - before - 1
        if pause * _FRAME_SECONDS <= _LONGEST_PAUSE_SECONDS:
            keep[before:after] = True
        else:
            keep[before : before + half_pause + 1] = True
            keep[after - half_pause : after] = True
    return padded.reshape(-1, length)[keep].reshape(-1)


def vary_recording(recording: Recording, rng: np.random.Generator) -> Recording:
    """Return the recording as another animal, instrument, microphone or room might sound.

    One to three recordings of a class teach those recordings; what is common to a class shows only
    once they differ. Speed and pitch change together by a factor of up to 1.4, an equaliser of
    eight bands by up to 8 dB each, and in half of the cases a small room reverberates. The level
    stays at a peak of 1.

    Args:
        recording: not changed.
        rng: draws it all.
    """
    speed = _SPEED ** rng.uniform(-1, 1)
    length = max(int(len(recording.samples) / speed), 1)
    places = np.arange(length) * speed
    samples = np.interp(places, np.arange(len(recording.samples)), recording.samples)

    # Room for the reverberation, so that the product of spectra does not wrap around.
    padded = length + int(_ROOM_SECONDS * SAMPLE_RATE)
    frequencies = np.fft.rfftfreq(padded, 1 / SAMPLE_RATE)
    decibels = rng.uniform(-_EQUALIZER_DB, _EQUALIZER_DB, len(_EQUALIZER_HZ))
    hertz = np.log(np.maximum(frequencies, _EQUALIZER_HZ[0]))
    response = 10 ** (np.interp(hertz, np.log(_EQUALIZER_HZ), decibels) / 20)
    spectrum = np.fft.rfft(samples, padded) * response
    if rng.random() < _ROOM_SHARE:
        time = np.arange(int(_ROOM_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
        echo = rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(*_ROOM_DECAY_SECONDS))
        echo *= rng.uniform(*_ROOM_LEVEL)
        echo[0] = 1
        spectrum *= np.fft.rfft(echo, padded)
    varied = np.fft.irfft(spectrum, padded)[:length]
    return Recording(recording.reference, (varied / np.abs(varied).max()).astype(np.float32))


def object_track(
    recording: Recording, sounding: Sequence[bool], rng: np.random.Generator
) -> np.ndarray:
    """What one object lets hear: its recording, repeated, in the seconds in which it sounds.

    A run of sounding seconds starts exactly at the first one's begin and ends with the last one;
    the seconds in between hold digital silence. No sounding second is more than 12 dB weaker than
    the loudest second of the recording: where a fading or pausing recording would be, it starts
    anew.

    Args:
        recording: what to repeat.
        sounding: one flag a second.
        rng: draws offsets and gaps.

    Returns:
        float32 [seconds * 16000] in [-1, 1].
    """
    track = np.zeros(len(sounding) * SAMPLE_RATE, dtype=np.float32)
    second = 0
    while second < len(sounding):
        if not sounding[second]:
            second += 1
            continue
        stop = second
        while stop < len(sounding) and sounding[stop]:
            stop += 1
        _fill_run(track[second * SAMPLE_RATE : stop * SAMPLE_RATE], recording, rng)
        second = stop
    return track


def _fill_run(run: np.ndarray, recording: Recording, rng: np.random.Generator) -> None:
    """Fill ``run``, a whole number of seconds, in place."""
    loudest_start, loudest_level = recording.loudest_second
    weakest = loudest_level * 10 ** (_WEAKEST_SECOND_DB / 20)
    offset = 0
    spare = len(recording.samples) - SAMPLE_RATE
    if spare > (_LONG_RECORDING_SECONDS - 1) * SAMPLE_RATE and rng.random() < 0.5:
        offset = int(rng.integers(spare))
    _repeat(run, recording, offset, rng)
    for start in range(0, len(run), SAMPLE_RATE):
        second = run[start : start + SAMPLE_RATE]
        if math.sqrt((second.astype(np.float64) ** 2).mean()) < weakest:
            _fade_out(run[:start])
            _repeat(run[start:], recording, loudest_start, rng)


def _repeat(run: np.ndarray, recording: Recording, offset: int, rng: np.random.Generator) -> None:
    run[:] = 0
    position = 0
    while position < len(run):
        take = recording.samples[offset : offset + len(run) - position].copy()
        _fade_out(take)
        _fade_out(take[::-1])
        run[position : position + len(take)] = take
        position += len(take) + int(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE)
        offset = 0


def _fade_out(samples: np.ndarray) -> None:
    count = min(int(RAMP_SECONDS * SAMPLE_RATE), len(samples))
    if count:
        samples[-count:] *= np.linspace(1, 0, count, dtype=np.float32)


@dataclass(frozen=True)
class Voice:
    """One object in the mix: track, gain in dB (at most 0) and place, 0 left to 1 right."""

    track: np.ndarray
    gain_db: float
    pan: float


def mix(voices: Sequence[Voice], seconds: int, noise_db: float | None, seed: int) -> np.ndarray:
    """Stereo sum of all voices.

    The mean of the two channels is the plain sum of the voices, whatever their place. A sum that
    exceeds full scale is turned down as a whole, never clipped or wrapped.

    Args:
        voices: the objects that sound; may be empty.
        seconds: length of the clip.
        noise_db: level of a faint noise floor re full scale; None = digital silence.
        seed: seed of the noise.

    Returns:
        int16 [seconds * 16000, 2].
    """
    stereo = np.zeros((seconds * SAMPLE_RATE, 2), dtype=np.float32)
    for voice in voices:
        level = _OBJECT_PEAK * 10 ** (voice.gain_db / 20)
        balance = np.array([2 * (1 - voice.pan), 2 * voice.pan], dtype=np.float32)
        stereo += level * voice.track[:, None] * balance
    if noise_db is not None:
        noise = np.random.default_rng(seed).standard_normal(stereo.shape, dtype=np.float32)
        stereo += noise * np.float32(10 ** (noise_db / 20))
    peak = float(np.abs(stereo).max(initial=0))
    if peak > _FULL_SCALE:
        stereo *= _FULL_SCALE / peak
    return np.rint(stereo * 32767).astype(np.int16)
