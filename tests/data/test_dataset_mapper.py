"""The mapper on whole clips: what is read, what comes out, and which files are refused."""

import pickle
from pathlib import Path

import avsbench_trees as trees
import cv2
import numpy as np
import pytest
import soundfile
import torch
from detectron2.config import CfgNode, get_cfg

from transavs.audio import SAMPLE_RATE_HZ, SILENCE_LOG_MEL, clip_log_mel, white_noise
from transavs.config import add_transavs_config
from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import DEMO_MS3, DEMO_S4, MS3, S4
from transavs.data.clip_audio import ClipAudio
from transavs.data.conditions import with_condition
from transavs.data.dataset_mapper import AVSDatasetMapper, build_augmentation
from transavs.data.transforms import ClipAugmentation

HEIGHT, WIDTH = trees.SIZE


def make_cfg(**overrides: object) -> CfgNode:
    """The configuration with frames left as they are, then ``KEY__PART=value`` overrides."""
    cfg = get_cfg()
    add_transavs_config(cfg)
    cfg.merge_from_list(
        ["INPUT.MIN_SIZE_TRAIN", (0,), "INPUT.MIN_SIZE_TEST", 0, "INPUT.RANDOM_FLIP", "none"]
    )
    for key, value in overrides.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def map_clip(record: dict, is_train: bool = True, seed: int = 0, **overrides: object) -> dict:
    mapper = AVSDatasetMapper(make_cfg(**overrides), is_train)
    return mapper(record, rng=np.random.default_rng(seed))


@pytest.fixture
def ms3(avsbench_root: Path) -> dict:
    return load_avsbench(MS3, str(avsbench_root), "train")[0]


@pytest.fixture
def s4(avsbench_root: Path) -> dict:
    return load_avsbench(S4, str(avsbench_root), "train")[0]


def test_training_clip(ms3: dict) -> None:
    clip = map_clip(ms3)
    assert clip["frames"].dtype == torch.uint8
    assert clip["frames"].shape == (5, 3, HEIGHT, WIDTH)
    assert clip["frames"].is_contiguous()
    assert clip["frame_index"].tolist() == [0, 1, 2, 3, 4]
    assert clip["frame_index"].dtype == torch.int64
    assert clip["audio"].shape == (5, 1, 96, 64)
    assert clip["audio"].dtype == torch.float32
    assert (clip["height"], clip["width"]) == trees.SIZE
    assert clip["clip_id"] == ms3["clip_id"]
    assert clip["file_names"] == ms3["file_names"]
    assert [mask.shape for mask in clip["target_masks"]] == [(1, HEIGHT, WIDTH)] * 5
    assert all(
        (mask[0].numpy() == (trees.binary_mask() > 0)).all() for mask in clip["target_masks"]
    )
    assert [classes.tolist() for classes in clip["target_classes"]] == [[0]] * 5
    assert clip["target_classes"][0].dtype == torch.int64
    assert "union_masks" not in clip


def test_some_frames_of_a_training_clip(ms3: dict, s4: dict) -> None:
    whole = map_clip(ms3)
    drawn = set()
    for seed in range(30):
        clip = map_clip(ms3, seed=seed, INPUT__TRAIN_FRAMES=2)
        first, second = seconds = clip["frame_index"].tolist()
        assert 0 <= first < second < 5
        # The rest of the sound stays: a frame may hear other seconds than its own.
        assert torch.equal(clip["audio"], whole["audio"])
        assert torch.equal(clip["frames"], whole["frames"][seconds])
        assert clip["file_names"] == [ms3["file_names"][i] for i in seconds]
        assert len(clip["target_masks"]) == len(clip["target_classes"]) == 2
        drawn.add((first, second))
    assert len(drawn) >= 9
    # No more than there are, and all of them in evaluation.
    assert map_clip(s4, INPUT__TRAIN_FRAMES=2)["frame_index"].tolist() == [0]
    assert len(map_clip(ms3, is_train=False, INPUT__TRAIN_FRAMES=2)["frames"]) == 5


def test_frames_have_the_configured_channel_order(ms3: dict) -> None:
    bgr = trees.picture(ms3["clip_id"], 3).transpose(2, 0, 1)  # the helper writes BGR
    assert (map_clip(ms3, INPUT__FORMAT="BGR")["frames"][2].numpy() == bgr).all()
    assert (map_clip(ms3, INPUT__FORMAT="RGB")["frames"][2].numpy() == bgr[::-1]).all()


def test_s4_training_reads_the_labelled_frame_alone(s4: dict) -> None:
    for name in s4["file_names"][1:]:
        Path(name).unlink()
    clip = map_clip(s4)
    assert clip["frames"].shape == (1, 3, HEIGHT, WIDTH)
    assert clip["frame_index"].tolist() == [0]
    assert clip["file_names"] == s4["file_names"][:1]
    assert clip["audio"].shape == (5, 1, 96, 64), "the sound is that of the whole clip"
    assert len(clip["target_masks"]) == len(clip["target_classes"]) == 1


def test_frame_index_names_the_labelled_seconds(ms3: dict) -> None:
    ms3["mask_file_names"] = [
        None,
        ms3["mask_file_names"][1],
        None,
        ms3["mask_file_names"][3],
        None,
    ]
    clip = map_clip(ms3)
    assert clip["frame_index"].tolist() == [1, 3]
    expected = trees.picture(ms3["clip_id"], 4)[..., ::-1].transpose(2, 0, 1)
    assert (map_clip(ms3, INPUT__FORMAT="RGB")["frames"][1].numpy() == expected).all()


def test_evaluation_clip(s4: dict, ms3: dict) -> None:
    clip = map_clip(s4, is_train=False)
    assert clip["frames"].shape == (5, 3, HEIGHT, WIDTH)
    assert clip["labelled"].tolist() == [True, False, False, False, False]
    assert clip["union_masks"].shape == (5, HEIGHT, WIDTH)
    assert clip["union_masks"].dtype == clip["labelled"].dtype == torch.bool
    assert (clip["union_masks"][0].numpy() == (trees.binary_mask() > 0)).all()
    assert not clip["union_masks"][1:].any()
    assert "target_masks" not in clip
    assert map_clip(ms3, is_train=False)["labelled"].all()


def test_evaluation_resizes_frames_but_not_the_truth(ms3: dict) -> None:
    clip = map_clip(ms3, is_train=False, INPUT__MIN_SIZE_TEST=48)
    assert clip["frames"].shape == (5, 3, 48, 64)
    assert clip["union_masks"].shape == (5, HEIGHT, WIDTH)
    assert (clip["height"], clip["width"]) == trees.SIZE
    limited = map_clip(ms3, is_train=False, INPUT__MIN_SIZE_TEST=48, INPUT__MAX_SIZE_TEST=40)
    assert limited["frames"].shape == (5, 3, 30, 40)


def test_evaluation_draws_nothing(ms3: dict) -> None:
    mapper = AVSDatasetMapper(make_cfg(INPUT__COLOR_JITTER=0.5), is_train=False)
    assert torch.equal(mapper(ms3)["frames"], mapper(ms3)["frames"])


def test_training_draw_is_shared_by_frames_masks_and_repeatable(ms3: dict) -> None:
    """Frames that show their own mask must still agree with it after any draw."""
    mask = cv2.cvtColor(trees.binary_mask(), cv2.COLOR_GRAY2BGR)
    for name in ms3["file_names"]:
        trees.write_image(Path(name), mask)
    settings = {
        "INPUT__MIN_SIZE_TRAIN": (24, 48),
        "INPUT__CROP__ENABLED": True,
        "INPUT__CROP__TYPE": "absolute",
        "INPUT__CROP__SIZE": (30, 30),
        "INPUT__RANDOM_FLIP": "horizontal",
    }
    seen = set()
    for seed in range(12):
        clip = map_clip(ms3, seed=seed, MODEL__PIXEL_MEAN=[0.0, 0.0, 0.0], **settings)
        again = map_clip(ms3, seed=seed, MODEL__PIXEL_MEAN=[0.0, 0.0, 0.0], **settings)
        assert clip["frames"].shape == (5, 3, 30, 30)
        assert torch.equal(clip["frames"], again["frames"])
        for frame, target in zip(clip["frames"], clip["target_masks"], strict=True):
            assert torch.equal(frame, clip["frames"][0])
            assert torch.equal(target, clip["target_masks"][0])
            union = target.any(0)
            assert ((frame[0] > 127) == union).float().mean() > 0.97
        seen.add(clip["frames"].numpy().tobytes())
    assert len(seen) > 8


def test_pad_color_is_the_pixel_mean() -> None:
    augmentation = build_augmentation(make_cfg(MODEL__PIXEL_MEAN=[1.0, 2.0, 3.0]), is_train=True)
    assert augmentation.pad_color == (1.0, 2.0, 3.0)


def test_without_a_generator_draws_differ(ms3: dict) -> None:
    mapper = AVSDatasetMapper(make_cfg(INPUT__COLOR_JITTER=0.5), is_train=True)
    assert not torch.equal(mapper(ms3)["frames"], mapper(ms3)["frames"])


# ---------------------------------------------------------------------------------------- targets


def test_object_targets_follow_the_sound(demo_root: Path) -> None:
    record = load_avsbench(DEMO_MS3, str(demo_root), "train")[0]
    clip = map_clip(record, MODEL__TRANSAVS__TARGETS="objects")
    # The dog sounds in seconds 0 to 2, the cow in 2 and 3, nothing in 4.
    assert [len(mask) for mask in clip["target_masks"]] == [1, 1, 2, 1, 0]
    assert [len(classes) for classes in clip["target_classes"]] == [1, 1, 2, 1, 0]
    labels = trees.object_map()
    assert (clip["target_masks"][0][0].numpy() == (labels == 1)).all()
    assert (clip["target_masks"][3][0].numpy() == (labels == 2)).all()


def test_target_forms_have_one_union(demo_root: Path) -> None:
    record = load_avsbench(DEMO_MS3, str(demo_root), "train")[0]
    unions = []
    for form in ("union", "components", "objects"):
        clip = map_clip(record, MODEL__TRANSAVS__TARGETS=form)
        unions.append(torch.stack([mask.any(0) for mask in clip["target_masks"]]))
        if form != "objects":  # the two objects touch
            assert [len(mask) for mask in clip["target_masks"]] == [1, 1, 1, 1, 0]
    assert torch.equal(unions[0], unions[1])
    assert torch.equal(unions[0], unions[2])


def test_objects_cropped_out_are_dropped(demo_root: Path) -> None:
    record = load_avsbench(DEMO_MS3, str(demo_root), "train")[0]
    record["sounding_objects"] = [[1, 2]] * 5
    counts = set()
    for seed in range(20):
        clip = map_clip(
            record,
            seed=seed,
            MODEL__TRANSAVS__TARGETS="objects",
            INPUT__CROP__ENABLED=True,
            INPUT__CROP__TYPE="absolute",
            INPUT__CROP__SIZE=(HEIGHT, 10),
        )
        assert all(mask.flatten(1).any(1).all() for mask in clip["target_masks"])
        counts.add(len(clip["target_masks"][0]))
    assert counts == {1, 2}


def test_component_area_is_read_from_the_config(ms3: dict) -> None:
    mask = trees.binary_mask()
    mask[0, :3] = 255
    trees.write_image(Path(ms3["mask_file_names"][0]), mask)
    settings = {"MODEL__TRANSAVS__TARGETS": "components"}
    few = map_clip(ms3, MODEL__TRANSAVS__COMPONENT_MIN_AREA=4, **settings)
    many = map_clip(ms3, MODEL__TRANSAVS__COMPONENT_MIN_AREA=3, **settings)
    assert (len(few["target_masks"][0]), len(many["target_masks"][0])) == (1, 2)


def test_object_targets_need_object_maps(ms3: dict) -> None:
    with pytest.raises(ValueError, match="0WxgIKuetYI_0.*set MODEL.TRANSAVS.TARGETS"):
        map_clip(ms3, MODEL__TRANSAVS__TARGETS="objects")


# ------------------------------------------------------------------------------------------ sound


def test_stereo_44_khz_sounds_like_mono_16_khz(ms3: dict) -> None:
    expected = map_clip(ms3)["audio"]
    tone = trees.waveform(ms3["clip_id"], rate=44100)
    # Two channels whose mean is the tone.
    trees.write_wav(Path(ms3["audio_file"]), np.stack([1.5 * tone, 0.5 * tone], axis=1), rate=44100)
    actual = map_clip(ms3)["audio"]
    loud = expected > 0  # away from the noise floor of 16-bit samples
    assert loud.any(dim=-1).all()
    assert (actual - expected)[loud].abs().max() < 0.02


def test_short_sound_is_silent_from_its_end(ms3: dict) -> None:
    trees.write_wav(Path(ms3["audio_file"]), trees.waveform("short", seconds=0.4))
    audio = map_clip(ms3)["audio"]
    assert audio.shape == (5, 1, 96, 64)
    assert audio[0, 0, :38].max() > 0, "it sounds for 0.4 s, 40 windows of 10 ms"
    silence = torch.full((), SILENCE_LOG_MEL)
    assert torch.allclose(audio[0, 0, 41:], silence)
    assert torch.allclose(audio[1:], silence)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sound_that_is_not_finite_is_refused(ms3: dict, value: float) -> None:
    samples = trees.waveform("broken").astype(np.float32)
    samples[1000] = value
    soundfile.write(ms3["audio_file"], samples, trees.SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(ValueError) as raised:
        map_clip(ms3)
    assert ms3["audio_file"] in str(raised.value)


def test_missing_sound(ms3: dict) -> None:
    map_clip(ms3)
    Path(ms3["audio_file"]).unlink()
    with pytest.raises(FileNotFoundError, match="restore it") as raised:
        map_clip(ms3)
    assert ms3["audio_file"] in str(raised.value)


def test_remembered_examples_cannot_be_changed_from_outside(ms3: dict) -> None:
    clip = map_clip(ms3)
    expected = clip["audio"].clone()
    clip["audio"].zero_()
    assert torch.equal(map_clip(ms3)["audio"], expected)


def test_silence_and_shuffled_sound(avsbench_root: Path) -> None:
    records = load_avsbench(MS3, str(avsbench_root), "train")
    own = [map_clip(record)["audio"] for record in records]
    swapped = [map_clip(r)["audio"] for r in with_condition(records, "shuffled")]
    assert torch.equal(swapped[0], own[1]) and torch.equal(swapped[1], own[0])
    for record in with_condition(records, "silence"):
        assert torch.equal(map_clip(record)["audio"], clip_log_mel(torch.zeros(80000), 5))


def test_noise_has_one_front_end_with_all_sounds(ms3: dict) -> None:
    clip = map_clip({**ms3, "audio_condition": "noise", "audio_seed": 7})
    noise = white_noise(5 * SAMPLE_RATE_HZ, 7)
    assert torch.equal(clip["audio"], clip_log_mel(noise, 5))


def test_unknown_audio_condition(ms3: dict) -> None:
    with pytest.raises(ValueError, match="'silence' or 'noise', got 'whispers'"):
        map_clip({**ms3, "audio_condition": "whispers"})


def test_log_mel_pickles(ms3: dict, tmp_path: Path) -> None:
    path = tmp_path / "clip.pkl"
    examples = torch.randn(5, 1, 96, 64)
    path.write_bytes(pickle.dumps(examples.requires_grad_()))
    record = {**ms3, "log_mel_file": str(path)}
    audio = map_clip(record, INPUT__AUDIO_SOURCE="log_mel")["audio"]
    assert torch.equal(audio, examples)
    assert not audio.requires_grad
    (silent,) = with_condition([record], "silence")
    silent_audio = map_clip(silent, INPUT__AUDIO_SOURCE="log_mel")["audio"]
    assert torch.allclose(silent_audio, torch.full((), SILENCE_LOG_MEL))
    path.write_bytes(pickle.dumps(torch.zeros(4, 1, 96, 64)))
    with pytest.raises(ValueError, match="expected 5 log-mel examples, one a second, got 4"):
        map_clip(record, INPUT__AUDIO_SOURCE="log_mel")
    with pytest.raises(FileNotFoundError, match="set it to 'wav'"):
        map_clip(ms3, INPUT__AUDIO_SOURCE="log_mel")


# ----------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize("is_train", [True, False])
def test_truncated_frame(ms3: dict, is_train: bool) -> None:
    path = Path(ms3["file_names"][2])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="is truncated .*restore the file") as raised:
        map_clip(ms3, is_train)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_mask_of_another_size_than_its_frame(ms3: dict, is_train: bool) -> None:
    name = ms3["mask_file_names"][3]
    trees.write_image(Path(name), trees.binary_mask((12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but its frame") as raised:
        map_clip(ms3, is_train)
    assert name in str(raised.value) and ms3["file_names"][3] in str(raised.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_mask_of_zeros_and_ones(ms3: dict, is_train: bool) -> None:
    trees.write_image(Path(ms3["mask_file_names"][3]), trees.binary_mask() // 255)
    with pytest.raises(ValueError, match="largest value here is 1"):
        map_clip(ms3, is_train)


def test_frames_of_two_sizes(ms3: dict) -> None:
    trees.write_image(Path(ms3["file_names"][4]), trees.picture("x", 1, (12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but the frame .* is 32 x 24"):
        map_clip(ms3)


def test_object_map_of_another_size(demo_root: Path) -> None:
    record = load_avsbench(DEMO_S4, str(demo_root), "train")[0]
    trees.write_image(Path(record["object_mask_file_names"][0]), trees.object_map((12, 16)))
    with pytest.raises(ValueError, match="16 x 12 pixels, but its frame"):
        map_clip(record, MODEL__TRANSAVS__TARGETS="objects")


def test_clip_of_another_length(ms3: dict) -> None:
    with pytest.raises(ValueError, match="has 5 seconds, but INPUT.CLIP_SECONDS is 4"):
        map_clip(ms3, INPUT__CLIP_SECONDS=4)
    longest = map_clip(ms3, INPUT__CLIP_SECONDS=10)
    assert len(longest["frames"]) == len(longest["audio"]) == 5


def test_training_needs_a_label(ms3: dict) -> None:
    record = {**ms3, "mask_file_names": [None] * 5}
    with pytest.raises(ValueError, match="no labelled frame"):
        map_clip(record)
    assert not map_clip(record, is_train=False)["labelled"].any()


# --------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"INPUT__CROP__ENABLED": True}, "INPUT.CROP.TYPE must be 'absolute'"),
        ({"INPUT__RANDOM_FLIP": "vertical"}, "INPUT.RANDOM_FLIP must be one of horizontal, none"),
        ({"INPUT__MIN_SIZE_TRAIN_SAMPLING": "all"}, "'choice' or 'range', got 'all'"),
    ],
)
def test_impossible_configurations(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AVSDatasetMapper(make_cfg(**overrides), is_train=True)


def test_impossible_arguments() -> None:
    arguments = {"is_train": True, "clip_seconds": 5, "augmentation": ClipAugmentation()}
    with pytest.raises(ValueError, match="union, components, objects, classes, got 'boxes'"):
        AVSDatasetMapper(**arguments, targets="boxes")
    with pytest.raises(ValueError, match="wav, log_mel, got 'mp3'"):
        ClipAudio("mp3")


def test_config_reaches_the_augmentation() -> None:
    cfg = make_cfg(
        INPUT__MIN_SIZE_TRAIN=(20, 40),
        INPUT__MIN_SIZE_TRAIN_SAMPLING="range",
        INPUT__MAX_SIZE_TRAIN=99,
        INPUT__CROP__ENABLED=True,
        INPUT__CROP__TYPE="absolute",
        INPUT__CROP__SIZE=(16, 18),
        INPUT__RANDOM_FLIP="horizontal",
        INPUT__COLOR_JITTER=0.3,
        INPUT__FORMAT="RGB",
    )
    assert build_augmentation(cfg, is_train=True) == ClipAugmentation(
        min_sizes=(20, 40),
        max_size=99,
        sample_range=True,
        crop_size=(16, 18),
        flip_probability=0.5,
        color_strength=0.3,
        pad_color=tuple(cfg.MODEL.PIXEL_MEAN),
        image_format="RGB",
    )
