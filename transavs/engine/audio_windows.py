"""Which part of a film's sound a model hears with a frame: as much as it was built for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from transavs.audio import SAMPLE_RATE_HZ, log_mel_examples, samples_of_examples
from transavs.video import Sound

_EXAMPLE_SAMPLES = samples_of_examples(2) - samples_of_examples(1)


@dataclass(frozen=True)
class HeardWindow:
    """What a model hears with one frame.

    Attributes:
        audio: float32 ``[T, 1, 96, 64]``, log-mel examples.
        own: which of them is the frame's own.
        start: second of the film at which the first begins.
    """

    audio: Tensor
    own: int
    start: float


@dataclass(frozen=True)
class AudioWindows:
    """The rule of one model.

    Attributes:
        length: T, examples in a window.
        context: ``MODEL.TRANSAVS.AUDIO_CONTEXT``. "second": the frame's own example, alone.
            "window": T examples, the frame's own in the middle; those that would lie outside the
            film are left out, and the model takes its zero embeddings there. "clip": T examples,
            the frame's own in the middle, and moved into the film where they would reach beyond
            its ends: a film as long as a training clip is heard whole with each of its frames. In
            a shorter one there is silence behind its end, as in a recording that stops early.

    The frame's own example has the frame's moment in the middle of its 0.975 s (AVSBench pairs the
    example from 0.96 t s on with a frame 0.92 s into second t; a film has no seconds to belong to).
    """

    length: int
    context: str

    @classmethod
    def of_model(cls, model: nn.Module) -> AudioWindows:
        """Returns the rule of a model; one without query generator (TPAVI) is asked frame by frame,
        with the frame's own second, as it is trained where one frame of a clip has labels."""
        generator = getattr(model, "query_generator", None)
        if generator is None:
            return cls(1, "second")
        return cls(int(generator.length), str(generator.context))

    def hear(self, sound: Sound, seconds: float, duration: float | None) -> HeardWindow:
        """Returns what is heard with a frame.

        Args:
            sound: of the film.
            seconds: moment of the frame.
            duration: of the film, in seconds; None where nobody knows.
        """
        own = self.length // 2
        middle = seconds * SAMPLE_RATE_HZ
        start = round(middle - samples_of_examples(1) / 2) - own * _EXAMPLE_SAMPLES
        length = self.length
        ends = None if duration is None else round(duration * SAMPLE_RATE_HZ)
        if self.context == "clip":
            if ends is not None:
                start = min(start, ends - samples_of_examples(length))
            start = max(start, 0)
        elif self.context == "window":
            before = min(own, max(0, math.ceil(-start / _EXAMPLE_SAMPLES)))
            start, own, length = start + before * _EXAMPLE_SAMPLES, own - before, length - before
            if ends is not None:
                inside = math.floor((ends - start) / _EXAMPLE_SAMPLES)
                length = max(own + 1, min(length, inside))
        samples = sound.window(start, samples_of_examples(length))
        if self.context == "clip":
            own = _nearest_example(middle - start, length)
        return HeardWindow(log_mel_examples(samples), own, start / SAMPLE_RATE_HZ)


def _nearest_example(sample: float, length: int) -> int:
    number = round((sample - samples_of_examples(1) / 2) / _EXAMPLE_SAMPLES)
    return min(max(number, 0), length - 1)
