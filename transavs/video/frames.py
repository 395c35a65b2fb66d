"""Films that are no film files: folders of pictures with a sound beside them, and arrays."""

from __future__ import annotations

import logging
import math
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from transavs.audio import SAMPLE_RATE_HZ
from transavs.utils.image_files import check_same_size, read_frame
from transavs.video.decoding import holds_samples, read_clock
from transavs.video.film import LONGEST_SIDE, Film, FilmFrame, Image, check_span, fitted_size
from transavs.video.film_file import FilmFile
from transavs.video.sound import FileSound, Sound, WaveformSound

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
# AVSBench's folders hold a picture a second.
FOLDER_FRAME_RATE = 1.0
# Pictures and sound may differ by so much of the longer one, and by a second, without a warning.
_USUAL_DIFFERENCE = 0.2

logger = logging.getLogger(__name__)


def open_film(
    path: str | Path,
    audio_track: int | None = None,
    longest_side: int = LONGEST_SIDE,
    folder_rate: float = FOLDER_FRAME_RATE,
) -> Film:
    """Returns the film at a path: a file (:class:`FilmFile`) or a folder (:class:`FrameFolder`).

    Args:
        path: of it; ``~`` at its start is the home folder.
        audio_track: of a file, from 1 on; None takes the first.
        longest_side: larger pictures are scaled down to it, in pixels; 0 for no limit.
        folder_rate: pictures a second of a folder; a file has its own.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return FrameFolder(path, frame_rate=folder_rate, longest_side=longest_side)
    return FilmFile(path, audio_track, longest_side)


class _Pictures(Film):
    """Pictures at a fixed rate."""

    count: int

    @abstractmethod
    def _read(self, number: int) -> Image:
        """Returns picture ``number`` of ``count``, uint8 ``[H, W, 3]``, RGB."""

    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[FilmFrame]:
        check_span(start, end, self.duration, self.name)
        # A hair's breadth: 0.3 / 0.1 must not count as before frame 3.
        for number in range(int(start * self.frame_rate + 1e-6), self.count):
            seconds = max(start, number / self.frame_rate)
            if end is not None and seconds >= end:
                return
            until = (number + 1) / self.frame_rate
            duration = (until if end is None else min(until, end)) - seconds
            yield FilmFrame(seconds, duration, self._fitted(self._read(number)))

    def _fit(self, first: Image, longest_side: int) -> None:
        self.height, self.width = fitted_size(first.shape[0], first.shape[1], longest_side)
        self._own_size = first.shape

    def _fitted(self, picture: Image) -> Image:
        if picture.shape != self._own_size:
            raise ValueError(
                f"{self.name}: expected pictures of one size, {list(self._own_size)}, got "
                f"{list(picture.shape)}"
            )
        if picture.shape[:2] == (self.height, self.width):
            return picture
        return cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)


class FrameFiles(_Pictures):
    """Pictures in files of their own, in a given order, upright as their EXIF says.

    A warning tells of a sound that is much longer or shorter than the pictures.

    Args:
        files: one or more, of one size.
        sound: the sound file; None is silence, and so is one that holds no samples.
        frame_rate: pictures a second, above 0.
        longest_side: as in :class:`FilmFile`.
        name: for messages; "" takes the first file's.

    Raises:
        FileNotFoundError: no such sound.
        ValueError: no picture, one that cannot be read, or no frame rate.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        sound: str | Path | None = None,
        frame_rate: float = FOLDER_FRAME_RATE,
        longest_side: int = LONGEST_SIDE,
        name: str = "",
    ) -> None:
        self._files = [Path(file) for file in files]
        if not self._files:
            raise ValueError("expected files of pictures, got none")
        if not 0 < frame_rate < math.inf:
            raise ValueError(f"expected pictures a second above 0, got {frame_rate:g}")
        self.name = name or str(self._files[0])
        self.sound_file = None if sound is None else Path(sound)
        self.count, self.frame_rate = len(self._files), frame_rate
        self.duration = self.count / frame_rate
        self._fit(self._read(0), longest_side)
        self.has_sound = self.sound_file is not None and holds_samples(self.sound_file)
        self._compare_lengths()

    def sound(self) -> Sound:
        if self.sound_file is None or not self.has_sound:
            return WaveformSound.silence()
        return FileSound(self.sound_file)

    def _read(self, number: int) -> Image:
        picture = read_frame(str(self._files[number]), "RGB")
        if number > 0:
            size, first = picture.shape[:2], str(self._files[0])
            check_same_size(str(self._files[number]), size, self._own_size[:2], first)
        return picture

    def _compare_lengths(self) -> None:
        if self.sound_file is None or not self.has_sound:
            return
        shown = self.count / self.frame_rate
        heard = read_clock(self.sound_file, "sound").duration or shown
        if abs(heard - shown) > max(1.0, _USUAL_DIFFERENCE * max(heard, shown)):
            logger.warning(
                "%s: %d pictures at %g a second last %.1f s, but the sound %s lasts %.1f s; were "
                "they taken at another rate, give it (--folder-fps %g, or frame_rate in Python)",
                self.name,
                self.count,
                self.frame_rate,
                shown,
                self.sound_file,
                heard,
                float(f"{self.count / heard:.3g}"),
            )


class FrameFolder(FrameFiles):
    """A folder of pictures, in the order of the numbers in their names.

    No two may differ in nothing but their ending or leading zeros: which comes first, and whether
    one is a copy of the other, would be a guess.

    Args:
        folder: its pictures have one size.
        sound: the sound file; None takes the one in the folder, if there is one.
        frame_rate: pictures a second.
        longest_side: as in :class:`FilmFile`.

    Raises:
        FileNotFoundError: no such folder, or no such sound.
        ValueError: no picture, two of one name, several sounds, a picture that cannot be read, or
            no frame rate.
    """

    def __init__(
        self,
        folder: str | Path,
        sound: str | Path | None = None,
        frame_rate: float = FOLDER_FRAME_RATE,
        longest_side: int = LONGEST_SIDE,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}: check the path")
        files = sorted(self.folder.iterdir(), key=_natural_key)
        pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
        if not pictures:
            raise ValueError(
                f"{folder} holds no pictures: expected some with one of the endings "
                f"{', '.join(PICTURE_SUFFIXES)}"
            )
        places: dict[tuple[tuple[int, str], ...], str] = {}
        for file in pictures:
            other = places.setdefault(tuple(_natural_key(Path(file.stem))), file.name)
            if other != file.name:
                raise ValueError(
                    f"{folder} holds two pictures for one place, {other} and {file.name}: take one "
                    "of them away"
                )
        sounds = [file for file in files if file.suffix.lower() in SOUND_SUFFIXES]
        if sound is None and len(sounds) > 1:
            names = ", ".join(file.name for file in sounds)
            raise ValueError(f"{folder} holds several sounds ({names}): say which is meant")
        if sound is None and sounds:
            sound = sounds[0]
        super().__init__(pictures, sound, frame_rate, longest_side, str(folder))


class ArrayFilm(_Pictures):
    """A film in memory.

    Args:
        frames: uint8 ``[F, H, W, 3]``, RGB, or a list of such pictures; F >= 1.
        waveform: float ``[L]`` in [-1, 1], mono; None is silence.
        sample_rate: of the waveform, in Hz.
        frame_rate: pictures a second.
        longest_side: as in :class:`FilmFile`.

    Raises:
        ValueError: no pictures, pictures of another shape or type, or a waveform that is none.
    """

    name = "the frames"

    def __init__(
        self,
        frames: Sequence[Image] | Image,
        waveform: Tensor | np.ndarray | None = None,
        sample_rate: int = SAMPLE_RATE_HZ,
        frame_rate: float = FOLDER_FRAME_RATE,
        longest_side: int = LONGEST_SIDE,
    ) -> None:
        first = np.asarray(frames[0]) if len(frames) else np.zeros(0)
        if first.ndim != 3 or first.shape[-1] != 3 or first.dtype != np.uint8:
            raise ValueError(
                f"expected frames uint8 [F, H, W, 3] with F >= 1, got {len(frames)} of "
                f"{first.dtype} {list(first.shape)}"
            )
        self._frames = frames
        self._sound = WaveformSound.silence()
        if waveform is not None:
            self._sound = WaveformSound(waveform, sample_rate)
        self.has_sound = waveform is not None
        self.count, self.frame_rate = len(frames), frame_rate
        self.duration = self.count / frame_rate
        self._fit(first, longest_side)

    def sound(self) -> Sound:
        return self._sound

    def _read(self, number: int) -> Image:
        return np.asarray(self._frames[number])


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Orders ``a_2`` before ``a_10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
