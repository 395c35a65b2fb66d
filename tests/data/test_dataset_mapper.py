"""The mapper on whole clips: what is read, what comes out, and what the configuration says."""

from pathlib import Path

import avsbench_trees as trees
import cv2
import pytest
import torch
from mapped_clips import make_cfg, map_clip

from transavs.audio import EmbeddingStore
from transavs.audio.embedding_store import write_store
from transavs.data.avsbench import load_avsbench
from transavs.data.avsbench_spec import DEMO_MS3
from transavs.data.clip_audio import ClipAudio
from transavs.data.dataset_mapper import AVSDatasetMapper, build_augmentation
from transavs.data.transforms import ClipAugmentation

HEIGHT, WIDTH = trees.SIZE


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


def test_embeddings_of_an_older_front_end_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "a.safetensors", {}, "SmallVGGish; vggish log-mel 1; abc")
    with pytest.raises(ValueError, match=r"a\.safetensors .*log-mel 1.*takes vggish log-mel 2: "):
        ClipAudio(embeddings=EmbeddingStore(tmp_path / "a.safetensors"))


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
