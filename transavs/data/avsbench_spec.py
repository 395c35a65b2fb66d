"""Facts of each AVSBench subset as one frozen object: no code branches on a data set's name.

Layout and counts are those of the official archives: AVSBench-object, which is single-source (S4)
and multi-sources (MS3), and AVSBench-semantic (AVSS). The composed demo set copies the layout of
the first two and adds what only a composed set can know: the visible pixels of every object and the
seconds in which each one sounds.

Templates take ``{split}``, ``{name}``, ``{number}`` (of a frame), ``{category}`` (S4 only) and
``{part}`` (AVSS only).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from transavs.data.avsbench_classes import (
    AVSS_CLASSES,
    AVSS_GROUPS,
    DISTANT_GROUPS,
    S4_CATEGORIES,
    S4_GROUPS,
)

# Categories of S4 that no clip of the MS3 test split is known to show or sound.
_NOT_IN_MS3 = (
    "horse_clip-clop",
    "coyote_howling",
    "helicopter",
    "race_car",
    "driving_buses",
    "ambulance_siren",
    "chainsawing_trees",
)

DEMO_FOLDER = "transavs_demo"
OBJECTS_FILE_NAME = "objects.json"
# Beside it: the class names, in the order of their labels, each with its super-category.
CLASSES_FILE_NAME = "classes.json"


@dataclass(frozen=True)
class SplitSpec:
    """Facts of one split.

    Attributes:
        name: value of the csv's split column, and folder name.
        labelled_seconds: 0-based seconds whose frame has a mask; not read where the subset has
            parts, which say it themselves.
        published_clips: number of clips that the release announces; None where nothing is
            published (a set composed by the user).
    """

    name: str
    labelled_seconds: tuple[int, ...] = ()
    published_clips: int | None = None


@dataclass(frozen=True)
class PartSpec:
    """Facts of one part of a subset that is made of several.

    Attributes:
        name: value of the csv's part column, and folder name.
        clip_seconds: seconds of its clips, which is also their number of frames.
        labelled_seconds: split -> 0-based seconds whose frame has a mask; in the splits that are
            not named every second has one.
    """

    name: str
    clip_seconds: int
    labelled_seconds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class OffscreenRule:
    """Where a clip's off-screen sound comes from: one of a class that its picture does not show.

    Attributes:
        lender: short name of the subset, of the same family, whose clips lend their sounds; its
            clips must tell which classes are heard.
        distant: super-category -> the super-categories whose sounds are distant from it.
        groups: class -> super-category; sets with an objects file name theirs in ``classes.json``.
        lent_classes: only sounds of these are lent; () lends all. Needed where nothing tells what
            a picture shows.
        lender_splits: split -> the lender's split; those that are not named borrow of their own.
    """

    lender: str
    distant: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str] = field(default_factory=dict)
    lent_classes: tuple[str, ...] = ()
    lender_splits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SubsetSpec:
    """Everything the reader needs to know about a subset.

    Attributes:
        name: short name, the middle of the registered names ("s4" in ``avsbench_s4_train``).
        title: what messages and tables call it.
        root_folder: folder between the root of all data sets and ``folder``; "" for none.
        folder: folder of the subset.
        data_folder: folder of the media files, inside ``folder``.
        csv_name: the metadata file, inside ``folder``. The official csv is read by position,
            except for the split, whose header is known to be ``split_header``.
        columns: titles of the official csv's first columns, in order, where they are known. One
            that stands elsewhere in a csv's header is a mistake.
        name_column: 0-based position of the clip's name.
        category_column: 0-based position of the category; None where clips have none.
        part_column: 0-based position of the part; None for a subset without parts.
        heard_column: 0-based position of the classes heard in the clip, joined by "_"; None where
            the csv does not tell.
        split_header: header of the column that names the split.
        clip_id_template: the clip's identity in records, results and objects files.
        frame_template, mask_template, wav_template, log_mel_template: media files, relative to
            ``data_folder``. No log-mel template: the release has no log-mel examples.
        mask_form: what a mask file holds: "binary" (0 and 255), "class_ids" (the class of each
            pixel) or "class_colors" (its colour in the palette of PASCAL VOC).
        pixel_classes: names of the classes in the masks, background first; () for binary masks.
        class_index_name: JSON file inside ``folder`` whose keys are ``pixel_classes`` in order;
            None where there is none.
        object_mask_template: label maps of the visible pixels of each object (0 background), for
            every frame; None where the data have none.
        objects_name: JSON file, inside ``data_folder``, that says which object sounds in which
            second; None where the data have none.
        first_frame_number: ``{number}`` of the frame that shows second 0.
        clip_seconds: seconds of a clip, which is also its number of frames (T); of the longest
            where the parts differ.
        splits: facts of each split.
        parts: facts of each part; () where the subset is one.
        sound_classes: what can be heard; () where the subset does not say. Sets with an objects
            file name theirs in ``classes.json`` beside it.
        offscreen: how off-screen sounds are found; None for a subset without them.
    """

    name: str
    title: str
    folder: str
    data_folder: str
    csv_name: str
    clip_id_template: str
    frame_template: str
    mask_template: str
    wav_template: str
    log_mel_template: str | None
    splits: tuple[SplitSpec, ...]
    parts: tuple[PartSpec, ...] = ()
    root_folder: str = ""
    columns: tuple[str, ...] = ()
    name_column: int = 0
    category_column: int | None = None
    part_column: int | None = None
    heard_column: int | None = None
    mask_form: str = "binary"
    pixel_classes: tuple[str, ...] = ()
    class_index_name: str | None = None
    split_header: str = "split"
    object_mask_template: str | None = None
    objects_name: str | None = None
    first_frame_number: int = 1
    clip_seconds: int = 5
    sound_classes: tuple[str, ...] = ()
    offscreen: OffscreenRule | None = None

    @property
    def split_names(self) -> tuple[str, ...]:
        return tuple(split.name for split in self.splits)

    def split(self, name: str) -> SplitSpec:
        """Returns the facts of a split; ValueError for a name that the subset does not have."""
        for split in self.splits:
            if split.name == name:
                return split
        raise ValueError(f"{self.title} has the splits {', '.join(self.split_names)}, got {name!r}")

    def seconds(self, part: str | None = None) -> int:
        """Returns the seconds of a clip, T; of one of the part where the subset has parts."""
        return self.clip_seconds if part is None else self._part(part).clip_seconds

    def labelled_seconds(self, split: str, part: str | None = None) -> tuple[int, ...]:
        """Returns the 0-based seconds whose frame has a mask."""
        if part is None:
            return self.split(split).labelled_seconds
        found = self._part(part)
        return found.labelled_seconds.get(split, tuple(range(found.clip_seconds)))

    @property
    def part_names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    def _part(self, name: str) -> PartSpec:
        return self.parts[self.part_names.index(name)]


_EVERY_SECOND = (0, 1, 2, 3, 4)

S4 = SubsetSpec(
    name="s4",
    title="AVSBench single-source (S4)",
    folder="Single-source",
    data_folder="s4_data",
    csv_name="s4_meta_data.csv",
    category_column=2,
    clip_id_template="{category}/{name}",
    frame_template="visual_frames/{split}/{category}/{name}/{name}_{number}.png",
    mask_template="gt_masks/{split}/{category}/{name}/{name}_{number}.png",
    wav_template="audio_wav/{split}/{category}/{name}.wav",
    log_mel_template="audio_log_mel/{split}/{category}/{name}.pkl",
    splits=(
        # Training clips are annotated in their first frame alone.
        SplitSpec("train", labelled_seconds=(0,), published_clips=3452),
        SplitSpec("val", labelled_seconds=_EVERY_SECOND, published_clips=740),
        SplitSpec("test", labelled_seconds=_EVERY_SECOND, published_clips=740),
    ),
    sound_classes=S4_CATEGORIES,
    offscreen=OffscreenRule("s4", DISTANT_GROUPS, S4_GROUPS),
)

MS3 = SubsetSpec(
    name="ms3",
    title="AVSBench multi-sources (MS3)",
    folder="Multi-sources",
    data_folder="ms3_data",
    csv_name="ms3_meta_data.csv",
    clip_id_template="{name}",
    # The release keeps the video's extension in the name of its frames, but not of its masks, and
    # has no split folder for frames.
    frame_template="visual_frames/{name}/{name}.mp4_{number}.png",
    mask_template="gt_masks/{split}/{name}/{name}_{number}.png",
    wav_template="audio_wav/{split}/{name}.wav",
    log_mel_template="audio_log_mel/{split}/{name}.pkl",
    splits=(
        SplitSpec("train", labelled_seconds=_EVERY_SECOND, published_clips=296),
        SplitSpec("val", labelled_seconds=_EVERY_SECOND, published_clips=64),
        SplitSpec("test", labelled_seconds=_EVERY_SECOND, published_clips=64),
    ),
    # Nothing in the release tells what a clip of MS3 shows.
    offscreen=OffscreenRule("s4", DISTANT_GROUPS, S4_GROUPS, lent_classes=_NOT_IN_MS3),
)

AVSS = SubsetSpec(
    name="avss",
    title="AVSBench-semantic (AVSS)",
    folder="AVSBench_semantic",
    data_folder="",
    csv_name="metadata.csv",
    columns=("vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"),
    name_column=1,
    heard_column=4,
    part_column=6,
    clip_id_template="{part}/{name}",
    frame_template="{part}/{name}/frames/{number}.jpg",
    mask_template="{part}/{name}/labels_semantic/{number}.png",
    wav_template="{part}/{name}/audio.wav",
    log_mel_template=None,
    first_frame_number=0,
    clip_seconds=10,
    splits=(
        SplitSpec("train", published_clips=8498),
        SplitSpec("val", published_clips=1304),
        SplitSpec("test", published_clips=1554),
    ),
    parts=(
        # The clips of S4 and of MS3, labelled anew, and clips of ten seconds.
        PartSpec("v1s", clip_seconds=5, labelled_seconds={"train": (0,)}),
        PartSpec("v1m", clip_seconds=5),
        PartSpec("v2", clip_seconds=10),
    ),
    mask_form="class_ids",
    pixel_classes=AVSS_CLASSES,
    class_index_name="label2idx.json",
    sound_classes=AVSS_CLASSES[1:],
    offscreen=OffscreenRule("avss", DISTANT_GROUPS, AVSS_GROUPS),
)
# The same clips with the classes read from the colour-coded maps.
AVSS_RGB = replace(
    AVSS,
    name="avss_rgb",
    title="AVSBench-semantic (AVSS), colour-coded maps",
    mask_template="{part}/{name}/labels_rgb/{number}.png",
    mask_form="class_colors",
    offscreen=OffscreenRule("avss_rgb", DISTANT_GROUPS, AVSS_GROUPS),
)


def _demo_variant(spec: SubsetSpec, title: str) -> SubsetSpec:
    """Returns the composed demo set in the layout of ``spec``, with its extra split and files."""
    splits = tuple(replace(split, published_clips=None) for split in spec.splits)
    return replace(
        spec,
        title=title,
        root_folder=DEMO_FOLDER,
        object_mask_template=spec.mask_template.replace("gt_masks/", "object_masks/", 1),
        objects_name=OBJECTS_FILE_NAME,
        splits=(*splits, SplitSpec("unseen", labelled_seconds=_EVERY_SECOND)),
        sound_classes=(),
        # The unseen split has few classes, all animals; some of its pictures show every one.
        offscreen=OffscreenRule("s4", DISTANT_GROUPS, lender_splits={"unseen": "test"}),
    )


DEMO_S4 = _demo_variant(S4, "TransAVS demo, single-source (S4)")
DEMO_MS3 = _demo_variant(MS3, "TransAVS demo, multi-sources (MS3)")

# Clips composed of photographs with masks and any recordings (datasets/compose_scenes.py). What the
# splits share is the plan of transavs/synthetic/plan.py.
SCENES_FOLDER = "transavs_scenes"
SCENES_MS3 = replace(
    DEMO_MS3,
    title="Composed scenes (MS3)",
    root_folder=SCENES_FOLDER,
    frame_template=DEMO_MS3.frame_template.replace(".png", ".jpg"),
    splits=(*DEMO_MS3.splits[:3], SplitSpec("wild", labelled_seconds=_EVERY_SECOND)),
    offscreen=OffscreenRule("ms3", DISTANT_GROUPS),
)

# First part of the registered names -> subsets: ``avsbench_s4_train``, ``demo_ms3_unseen``, ...
REGISTERED_SUBSETS: dict[str, tuple[SubsetSpec, ...]] = {
    "avsbench": (S4, MS3, AVSS, AVSS_RGB),
    "demo": (DEMO_S4, DEMO_MS3),
    "scenes": (SCENES_MS3,),
}
