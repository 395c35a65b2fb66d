"""The film room: pictures and sound of films by their timestamps, in and out.

Decoding, encoding and containers are FFmpeg's, through PyAV, which the extra ``video`` installs.
"""

try:
    import av  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'reading films needs PyAV, which is not installed: pip install "transavs[video]", or pip '
        "install av",
        name="av",
    ) from error

from transavs.video.film import Film, FilmFrame, fitted_size
from transavs.video.film_file import FilmFile
from transavs.video.frames import ArrayFilm, FrameFiles, FrameFolder, open_film
from transavs.video.mask_files import MaskFiles, PngMasks, RleMasks, open_mask_files
from transavs.video.sound import FileSound, Sound, WaveformSound
from transavs.video.sound_track import SoundTrack, copied_track, encoded_track
from transavs.video.writer import FilmWriter

__all__ = [
    "ArrayFilm",
    "FileSound",
    "Film",
    "FilmFile",
    "FilmFrame",
    "FilmWriter",
    "FrameFiles",
    "FrameFolder",
    "MaskFiles",
    "PngMasks",
    "RleMasks",
    "Sound",
    "SoundTrack",
    "WaveformSound",
    "copied_track",
    "encoded_track",
    "fitted_size",
    "open_film",
    "open_mask_files",
]
