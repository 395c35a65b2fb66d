"""Audio queries against Eq. (1) in loops, for each audio context."""

import numpy as np
import pytest
import torch

from transavs.modeling import AudioQueryGenerator
from transavs.structures import ClipAudio

QUERIES, AUDIO, CHANNELS = 4, 6, 8


def make(context: str = "clip", layers: int = 0, **options) -> AudioQueryGenerator:
    return AudioQueryGenerator(QUERIES, AUDIO, CHANNELS, 2, 16, layers, context=context, **options)


def run(generator, clips, seconds):
    """Queries and positions for clips of any length."""
    audio = ClipAudio.pack(clips, seconds)
    return generator(audio.embeddings, audio.clip, audio.second)


def naive(generator, clip: torch.Tensor, second: int) -> np.ndarray:
    """A_q = W F_a by loops over the seconds, then the projection and its norm: ``[Q, C]``."""
    mixture = generator.time_mixture.detach().double().numpy()
    clip = clip.double().numpy()
    if generator.context == "clip":
        heard = list(range(len(clip)))
    elif generator.context == "window":
        heard = list(range(second - generator.length // 2, second + generator.length // 2 + 1))
    else:
        heard = [second]
    queries = np.zeros((QUERIES, AUDIO))
    for query in range(QUERIES):
        for column, moment in enumerate(heard):
            if 0 <= moment < len(clip):  # nothing is heard beyond the clip
                queries[query] += mixture[query, column] * clip[moment]
    weight, bias = (p.detach().double().numpy() for p in generator.channel_proj.parameters())
    projected = queries @ weight.T + bias
    spread = np.sqrt(projected.var(-1, keepdims=True) + 1e-5)
    return (projected - projected.mean(-1, keepdims=True)) / spread


@pytest.mark.parametrize("context", ["clip", "window", "second"])
@pytest.mark.parametrize("lengths", [(5, 5), (5, 3)], ids=["equal", "a shorter clip"])
def test_queries_are_mixtures_of_the_seconds(context, lengths):
    generator = make(context, window=3)
    clips = [torch.randn(length, AUDIO) for length in lengths]
    # Frames in any order, and not all of them, as in training on S4.
    seconds = [torch.tensor([4, 0, 2]), torch.tensor([2, 1])]
    queries, position = run(generator, clips, seconds)
    assert queries.shape == (5, QUERIES, CHANNELS)
    assert position.shape == (QUERIES, CHANNELS)
    frame = 0
    for clip, moments in zip(clips, seconds, strict=True):
        for moment in moments.tolist():
            expected = naive(generator, clip, moment)
            np.testing.assert_allclose(queries[frame].detach(), expected, atol=2e-5)
            frame += 1


def test_shapes_of_the_mixture_are_those_of_eq_1():
    # N x T in the paper: queries by seconds.
    assert make("clip", clip_seconds=5).time_mixture.shape == (QUERIES, 5)
    assert make("window", window=3).time_mixture.shape == (QUERIES, 3)
    assert make("second").time_mixture.shape == (QUERIES, 1)


def test_clip_of_more_seconds_than_the_model_was_built_for():
    generator = make("clip", clip_seconds=5)
    with pytest.raises(ValueError, match="6 seconds of audio.*at most 5: raise INPUT.CLIP_SECONDS"):
        run(generator, [torch.randn(6, AUDIO)], [torch.arange(6)])
    # The other contexts do not care how long a clip is.
    for context in ("window", "second"):
        queries, _ = run(make(context), [torch.randn(6, AUDIO)], [torch.arange(6)])
        assert queries.shape[0] == 6


def test_all_frames_of_a_clip_share_its_queries_and_other_clips_do_not_matter():
    generator = make("clip", layers=2).eval()
    first, second = torch.randn(5, AUDIO), torch.randn(5, AUDIO)
    together, _ = run(generator, [first, second], [torch.arange(5), torch.arange(2)])
    assert torch.equal(together[0], together[4]) and torch.equal(together[5], together[6])
    alone, _ = run(generator, [second], [torch.arange(2)])
    torch.testing.assert_close(together[5:], alone)


def test_window_hears_its_own_seconds_only():
    generator = make("window", layers=1, window=3).eval()
    clip = torch.randn(5, AUDIO)
    changed = clip.clone()
    changed[4] += 1
    plain, _ = run(generator, [clip], [torch.arange(5)])
    other, _ = run(generator, [changed], [torch.arange(5)])
    same = (plain - other).abs().amax((1, 2)) == 0
    assert same.tolist() == [True, True, True, False, False]


def test_without_positions_queries_span_no_more_than_the_seconds():
    """The homogeneity that the paper's query losses are there to fight."""
    generator = make("clip", learned_position=False, clip_seconds=2)
    queries, position = run(generator, [torch.randn(2, AUDIO)], [torch.arange(1)])
    assert position is None
    mixed = generator._mix(torch.randn(1, 2, AUDIO))[0]
    assert torch.linalg.matrix_rank(mixed) == 2


def test_unknown_context_is_refused():
    with pytest.raises(ValueError, match="one of clip, window, second, got 'frame'"):
        make("frame")


@pytest.mark.parametrize("context", ["clip", "window", "second"])
def test_whole_clips_are_clips_with_a_frame_a_second(context):
    generator = make(context, layers=1).eval()
    clips = torch.randn(2, 4, AUDIO)
    whole = ClipAudio.of_whole_clips(clips)
    found, _ = generator(whole.embeddings, whole.clip, whole.second)
    expected, _ = run(generator, list(clips), [torch.arange(4)] * 2)
    assert torch.equal(found, expected)
    assert torch.equal(whole.of_frames(), clips.flatten(0, 1))
