"""Which sounds a model has learned: the classes of the data set that it was trained on."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from transavs.data.avsbench import dataset_root, load_sound_groups
from transavs.data.demo import classes_named
from transavs.utils.package_files import WEIGHTS_FOLDER, find_weights


def known_classes(cfg: CfgNode, weights: str) -> tuple[str, ...]:
    """Returns the names of the classes as people write them; () where nothing tells.

    Models that come with the package were trained on the demo set's usual classes. For others the
    first of ``DATASETS.TRAIN`` is asked, whose files may have to be there.

    Args:
        cfg: of the model.
        weights: its checkpoint.
    """
    if Path(find_weights(weights)).resolve().parent == WEIGHTS_FOLDER:
        return tuple(kind.name for kind in classes_named("default"))
    if not cfg.DATASETS.TRAIN:
        return ()
    spec = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("spec")
    if spec is None:
        return ()
    try:
        names = list(load_sound_groups(spec, dataset_root()))
    except (OSError, ValueError):
        # The classes of a composed set stand in its own files, which are elsewhere.
        names = list(spec.sound_classes)
    return tuple(name.replace("_", " ") for name in names)
