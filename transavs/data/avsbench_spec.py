"""Facts of each AVSBench subset as one frozen object: no code branches on a data set's name.

Layout and counts are those of the official archives of AVSBench-object: single-source (S4) and
multi-sources (MS3). The composed demo set copies that layout and adds what only a composed set can
know: the visible pixels of every object and the seconds in which each one sounds.

Templates take ``{split}``, ``{name}``, ``{category}`` (S4 only) and ``{number}`` (of a frame).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

# The raw category strings of S4, which are its folder names, in the official order.
S4_CATEGORIES = (
    "baby_laughter",
    "female_singing",
    "male_speech",
    "dog_barking",
    "cat_meowing",
    "lions_roaring",
    "horse_clip-clop",
    "coyote_howling",
    "mynah_bird_singing",
    "playing_acoustic_guitar",
    "playing_tabla",
    "playing_violin",
    "playing_piano",
    "playing_ukulele",
    "playing_glockenspiel",
    "helicopter",
    "race_car",
    "driving_buses",
    "ambulance_siren",
    "typing_on_computer_keyboard",
    "chainsawing_trees",
    "cap_gun_shooting",
    "lawn_mowing",
)

# Super-categories of S4, and those whose sounds are distant from each (AVSBench-Robust, arXiv
# 2502.00358: the same kind and the weak contrasts music - human, animal - human and device - music
# or vehicle are left out).
S4_GROUPS = {
    name: group
    for group, names in {
        "human": S4_CATEGORIES[0:3],
        "animal": S4_CATEGORIES[3:9],
        "music": S4_CATEGORIES[9:15],
        "vehicle": S4_CATEGORIES[15:19],
        "device": S4_CATEGORIES[19:23],
    }.items()
    for name in names
}
DISTANT_GROUPS = {
    "human": ("animal", "vehicle", "device"),
    "animal": ("music", "vehicle", "device"),
    "music": ("animal", "vehicle", "device"),
    "vehicle": ("human", "animal", "music"),
    "device": ("human", "animal"),
}
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
        labelled_seconds: 0-based seconds whose frame has a mask.
        published_clips: number of clips that the release announces; None where nothing is
            published (a set composed by the user).
    """

    name: str
    labelled_seconds: tuple[int, ...]
    published_clips: int | None = None


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
        name_column: 0-based position of the clip's name.
        category_column: 0-based position of the category; None where clips have none.
        split_header: header of the column that names the split.
        clip_id_template: the clip's identity in records, results and objects files.
        frame_template, mask_template, wav_template, log_mel_template: media files, relative to
            ``data_folder``.
        object_mask_template: label maps of the visible pixels of each object (0 background), for
            every frame; None where the data have none.
        objects_name: JSON file, inside ``data_folder``, that says which object sounds in which
            second; None where the data have none.
        first_frame_number: ``{number}`` of the frame that shows second 0.
        clip_seconds: seconds of a clip, which is also its number of frames (T).
        splits: facts of each split.
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
    log_mel_template: str
    splits: tuple[SplitSpec, ...]
    root_folder: str = ""
    name_column: int = 0
    category_column: int | None = None
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

# First part of the registered names -> subsets: ``avsbench_s4_train``, ``demo_ms3_unseen``, ...
REGISTERED_SUBSETS: dict[str, tuple[SubsetSpec, ...]] = {
    "avsbench": (S4, MS3),
    "demo": (DEMO_S4, DEMO_MS3),
}
