"""Data sets of clips: readers, mapper, loaders. Importing this package registers their names."""

from transavs.data import register as _register  # noqa: F401  (fills detectron2's catalogs)
from transavs.data.avsbench import dataset_root, load_avsbench
from transavs.data.avsbench_spec import SplitSpec, SubsetSpec
from transavs.data.conditions import CONDITIONS, NEGATIVE_CONDITIONS, with_condition
from transavs.data.dataset_mapper import AVSDatasetMapper, build_augmentation
from transavs.data.loader import build_clip_test_loader, build_clip_train_loader
from transavs.data.register import load_records, register_subset

__all__ = [
    "CONDITIONS",
    "NEGATIVE_CONDITIONS",
    "AVSDatasetMapper",
    "SplitSpec",
    "SubsetSpec",
    "build_augmentation",
    "build_clip_test_loader",
    "build_clip_train_loader",
    "dataset_root",
    "load_avsbench",
    "load_records",
    "register_subset",
    "with_condition",
]
