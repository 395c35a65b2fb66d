"""Recordings of instruments, played by fluidsynth from a General MIDI soundfont.

Phrases are drawn: runs over a scale, chords with arpeggios, or beats. A soundfont for training and
another one for the held-out part keep both apart, for they were sampled from other instruments.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

_PHRASE_SECONDS = 5.0
_SLOT_SECONDS = 8.0  # from phrase to phrase, so that the last note dies away
_TICKS = 480  # a second, at 120 beats a minute of 240 ticks
_RATE = 16000
_MELODY, _CHORDS, _BEAT = "melody", "chords", "beat"
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_DRUM_CHANNEL = 9
_TIMEOUT_SECONDS = 600

Note = tuple[float, float, int, int]
"""Start and length in seconds, pitch, velocity."""


@dataclass(frozen=True)
class Instrument:
    """Programs (0-based) of General MIDI, lowest and highest pitch, and how it is played.

    A beat has no program; ``low`` and ``high`` then bound the keys of the drum map.
    """

    programs: tuple[int, ...]
    low: int
    high: int
    style: str


INSTRUMENTS: dict[str, Instrument] = {
    "accordion": Instrument((21, 23), 53, 86, _CHORDS),
    "acoustic_guitar": Instrument((24, 25), 40, 74, _CHORDS),
    "bagpipes": Instrument((109,), 62, 84, _MELODY),
    "banjo": Instrument((105,), 50, 80, _CHORDS),
    "bongo": Instrument((), 60, 64, _BEAT),
    "cello": Instrument((42,), 36, 64, _MELODY),
    "clarinet": Instrument((71,), 50, 86, _MELODY),
    "cymbal": Instrument((), 49, 53, _BEAT),
    "double_bass": Instrument((43, 32), 28, 52, _MELODY),
    "drum": Instrument((), 35, 51, _BEAT),
    "electric_guitar": Instrument((26, 27, 28, 29, 30), 40, 76, _CHORDS),
    "flute": Instrument((73,), 60, 93, _MELODY),
    "harmonica": Instrument((22,), 60, 86, _MELODY),
    "harp": Instrument((46,), 40, 88, _CHORDS),
    "piano": Instrument((0, 1, 2, 3), 33, 92, _CHORDS),
    "saxophone": Instrument((64, 65, 66, 67), 46, 78, _MELODY),
    "singing": Instrument((52, 53), 50, 76, _MELODY),
    "sitar": Instrument((104,), 48, 76, _MELODY),
    "steel_drum": Instrument((114,), 55, 84, _MELODY),
    "tambourine": Instrument((), 54, 54, _BEAT),
    "trombone": Instrument((57,), 40, 70, _MELODY),
    "trumpet": Instrument((56, 59), 55, 84, _MELODY),
    "tuba": Instrument((58,), 29, 55, _MELODY),
    "violin": Instrument((40, 110), 55, 91, _MELODY),
    "xylophone": Instrument((11, 12, 13), 60, 96, _MELODY),
}
"""By the name of the folder that its recordings get."""


def render_phrases(
    instrument: Instrument, soundfont: Path, count: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Returns ``count`` phrases of about five seconds, float32 ``[L]`` at 16 kHz.

    Raises:
        FileNotFoundError: fluidsynth or the soundfont is not there.
        RuntimeError: fluidsynth failed.
    """
    program = shutil.which("fluidsynth")
    if program is None or not soundfont.is_file():
        missing = "the program fluidsynth" if program is None else f"the soundfont {soundfont}"
        raise FileNotFoundError(
            f"{missing} is not there: on Debian, apt-get install fluidsynth fluid-soundfont-gm "
            "timgm6mb-soundfont"
        )
    phrases = [_draw_phrase(instrument, rng) for _ in range(count)]
    programs = [int(rng.choice(instrument.programs or (0,))) for _ in phrases]
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "phrases.mid"), Path(folder, "phrases.wav")
        midi.write_bytes(_midi_file(phrases, programs, instrument.style == _BEAT))
        command = [program, "-ni", "-q", "-r", str(_RATE), "-F", str(wav)]
        command += [str(soundfont), str(midi)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
        if done.returncode or not wav.is_file():
            raise RuntimeError(f"fluidsynth cannot play {soundfont}: {done.stderr.strip()[-200:]}")
        samples, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    step = int(_SLOT_SECONDS * _RATE)
    cut = [mono[i * step : i * step + int((_PHRASE_SECONDS + 1) * _RATE)] for i in range(count)]
    return [phrase / max(float(np.abs(phrase).max(initial=0)), 1e-3) * 0.7 for phrase in cut]


def _draw_phrase(instrument: Instrument, rng: np.random.Generator) -> list[Note]:
    beat = rng.uniform(0.18, 0.6)
    if instrument.style == _BEAT:
        return _draw_beat(instrument, beat, rng)
    scale = _SCALES[int(rng.integers(len(_SCALES)))]
    root = int(rng.integers(12))
    pitches = [p for p in range(instrument.low, instrument.high + 1) if (p - root) % 12 in scale]
    reach = min(len(pitches), 12)
    start = int(rng.integers(len(pitches) - reach + 1))
    pitches = pitches[start : start + reach]
    place, time = int(rng.integers(reach)), 0.0
    notes: list[Note] = []
    while time < _PHRASE_SECONDS - 0.1:
        length = beat * float(rng.choice((0.5, 1, 1, 2, 3)))
        length = min(length, _PHRASE_SECONDS - time)
        velocity = int(rng.integers(60, 120))
        place = int(np.clip(place + rng.integers(-3, 4), 0, reach - 1))
        notes.append((time, length * rng.uniform(0.7, 1.0), pitches[place], velocity))
        if instrument.style == _CHORDS and rng.random() < 0.5:
            spread = rng.uniform(0, 0.12)
            for step in (2, 4):
                pitch = pitches[(place + step) % reach]
                notes.append((time + spread * step / 2, length, pitch, velocity - 10))
        time += length
    return notes


def _draw_beat(instrument: Instrument, beat: float, rng: np.random.Generator) -> list[Note]:
    """A pattern of up to four keys that repeats."""
    keys = rng.integers(instrument.low, instrument.high + 1, 4)
    if instrument is INSTRUMENTS["drum"]:  # bass drum, snare, hi-hat, and something else
        keys = np.array([35 + rng.integers(2), 38 + 2 * rng.integers(2), 42, keys[3]])
    pattern = rng.random((4, 8)) < np.array([[0.4], [0.35], [0.7], [0.15]])
    pattern[0, 0] = True
    return [
        (step * beat / 2, 0.1, int(key), int(rng.integers(70, 120)))
        for step in range(int(_PHRASE_SECONDS / (beat / 2)))
        for key, row in zip(keys, pattern, strict=True)
        if row[step % 8]
    ]


def _midi_file(phrases: Sequence[Sequence[Note]], programs: Sequence[int], drums: bool) -> bytes:
    """A standard MIDI file (format 0) with one phrase every eight seconds."""
    channel = _DRUM_CHANNEL if drums else 0
    events: list[tuple[int, int, bytes]] = []
    for number, (phrase, program) in enumerate(zip(phrases, programs, strict=True)):
        begin = number * _SLOT_SECONDS
        events.append((round(begin * _TICKS), 0, bytes((0xC0 | channel, program))))
        for start, length, pitch, velocity in phrase:
            on, off = round((begin + start) * _TICKS), round((begin + start + length) * _TICKS)
            events.append((on, 2, bytes((0x90 | channel, pitch, velocity))))
            events.append((max(off, on + 1), 1, bytes((0x80 | channel, pitch, 0))))
    end = round(len(phrases) * _SLOT_SECONDS * _TICKS)
    events.append((end, 3, b"\xff\x2f\x00"))
    track, last = bytearray(), 0
    for time, _, message in sorted(events):
        track += _variable_length(time - last) + message
        last = time
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, _TICKS // 2)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def _variable_length(number: int) -> bytes:
    parts = [number & 127]
    while number := number >> 7:
        parts.append(number & 127 | 128)
    return bytes(reversed(parts))
