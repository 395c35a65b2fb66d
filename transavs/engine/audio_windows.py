"""Which part of a film's sound a model hears with a frame: as much as it was built for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from transavs.audio import VGGISH_LOG_MEL, FrontEnd
from transavs.video import Sound


@dataclass(frozen=True)
class HeardWindow:
    """What a model hears with one frame.

    Attributes:
        audio: float32 ``[T, *example_shape]``, examples of the front-end; VGGish's are
            ``[1, 96, 64]``.
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
        front_end: of the model's audio encoder; sounds must have its sample rate.

    The frame's own example has the frame's moment in the middle of its 0.975 s, or of its second
    where the front-end is HTS-AT's (AVSBench pairs VGGish's example from 0.96 t s on with a frame
    0.92 s into second t; a film has no seconds to belong to).
    """

    length: int
    context: str
    front_end: FrontEnd = VGGISH_LOG_MEL

    @classmethod
    def of_model(cls, model: nn.Module, front_end: FrontEnd = VGGISH_LOG_MEL) -> AudioWindows:
        """Returns the rule of a model; one without query generator (TPAVI) is asked frame by frame,
        with the frame's own second, as it is trained where one frame of a clip has labels."""
        generator = getattr(model, "query_generator", None)
        if generator is None:
            return cls(1, "second", front_end)
        return cls(int(generator.length), str(generator.context), front_end)

    def hear(self, sound: Sound, seconds: float, duration: float | None) -> HeardWindow:
        """Returns what is heard with a frame.

        Args:
            sound: of the film, at the front-end's sample rate.
            seconds: moment of the frame.
            duration: of the film, in seconds; None where nobody knows.
        """
        hop, example = self.front_end.hop_samples, self.front_end.example_samples
        rate = self.front_end.sample_rate_hz
        own = self.length // 2
        middle = seconds * rate
        start = round(middle - example / 2) - own * hop
        length = self.length
        ends = None if duration is None else round(duration * rate)
        if self.context == "clip":
            if ends is not None:
                start = min(start, ends - self.front_end.samples_of(length))
            start = max(start, 0)
        elif self.context == "window":
            before = min(own, max(0, math.ceil(-start / hop)))
            start, own, length = start + before * hop, own - before, length - before
            if ends is not None:
                inside = math.floor((ends - start) / hop)
                length = max(own + 1, min(length, inside))
        samples = sound.window(start, self.front_end.samples_of(length))
        if self.context == "clip":
            own = min(max(round((middle - start - example / 2) / hop), 0), length - 1)
        return HeardWindow(self.front_end.clip_examples(samples, length), own, start / rate)
