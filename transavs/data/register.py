"""Registers the data sets with detectron2: ``avsbench_{s4,ms3,avss}_*``, ``demo_{s4,ms3}_*``,
``scenes_ms3_*``.

Nothing is read at import. A data set is read when it is asked for, from the root that
``DETECTRON2_DATASETS`` names at that moment.
"""

from __future__ import annotations

import logging
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from transavs.data.avsbench import Record, dataset_root, load_avsbench, load_sound_groups
from transavs.data.avsbench_spec import REGISTERED_SUBSETS, SubsetSpec
from transavs.data.metadata_csv import ROOT_VARIABLE

logger = logging.getLogger(__name__)

# Where the masks tell no classes there is one class of object.
THING_CLASSES = ("sounding object",)


def register_subset(prefix: str, spec: SubsetSpec, root: str | None = None) -> list[str]:
    """Registers every split of a subset as ``{prefix}_{spec.name}_{split}`` and returns the names.

    A name that is registered already is replaced, with a warning where it was another data set: a
    second call with the same arguments (a notebook cell run again) is harmless.

    Args:
        prefix: first part of the names.
        spec: facts of the subset; of your own data too, if they keep AVSBench's layout.
        root: folder of all data sets, ``~`` is the home folder; None asks ``DETECTRON2_DATASETS``
            at the time of reading.
    """
    root = None if root is None else os.path.expanduser(root)
    names = []
    for split in spec.split_names:
        name = f"{prefix}_{spec.name}_{split}"
        names.append(name)
        if name in DatasetCatalog:
            before = MetadataCatalog.get(name)
            if (before.get("spec"), before.get("root")) == (spec, root):
                continue
            logger.warning(
                "%s was registered already, as another data set (root %s), which this one (root "
                "%s) replaces",
                name,
                before.get("root") or ROOT_VARIABLE,
                root or ROOT_VARIABLE,
            )
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda name=name, split=split: _load(name, spec, root, split))
        MetadataCatalog.get(name).set(
            spec=spec,
            root=root,
            split=split,
            clip_seconds=spec.clip_seconds,
            thing_classes=list(spec.pixel_classes[1:] or THING_CLASSES),
            pixel_classes=list(spec.pixel_classes),
            sound_classes=list(spec.sound_classes),
            offscreen_lender=_lender(prefix, spec, split),
            evaluator_type="avs",
        )
    return names


def _lender(prefix: str, spec: SubsetSpec, split: str) -> str:
    """Registered name of the data set that lends off-screen sounds; "" where there is none."""
    rule = spec.offscreen
    if rule is None:
        return ""
    return f"{prefix}_{rule.lender}_{rule.lender_splits.get(split, split)}"


def _load(name: str, spec: SubsetSpec, root: str | None, split: str) -> list[Record]:
    root = dataset_root() if root is None else root
    records = load_avsbench(spec, root, split)
    # A composed set names its classes in its own files, so they are known only now, and another
    # root may have others: Metadata's attributes refuse a second value, its dict does not.
    groups = load_sound_groups(spec, root)
    vars(MetadataCatalog.get(name)).update(sound_classes=list(groups), sound_groups=groups)
    for record in records:
        record["dataset"] = name
    return records


def load_records(name: str) -> list[Record]:
    """Returns the clip records of a registered data set; ValueError for an unknown name."""
    if name not in DatasetCatalog:
        prefixes = tuple(f"{prefix}_" for prefix in REGISTERED_SUBSETS)
        ours = [known for known in DatasetCatalog.list() if known.startswith(prefixes)]
        raise ValueError(f"no data set is called {name!r}; known: {', '.join(ours)}")
    records: list[Record] = DatasetCatalog.get(name)
    return records


def register_all() -> None:
    """Registers every subset that the library knows."""
    for prefix, specs in REGISTERED_SUBSETS.items():
        for spec in specs:
            register_subset(prefix, spec)


register_all()
