"""Composer of the demo data set: AVSBench-like clips with exact masks, made on the user's machine.

Modules, lowest first: `qrc` and `packages` reach the files, `catalogue` names them, `pictures` and
`sounds` prepare them, `assets` and `drawn` hold them in memory, `casting` decides what a clip
contains, `scene` renders it, `layout` names its files, `clip_writer` writes it, `manifest` keeps
the settings, and `compose` makes the whole set.
"""

from transavs.data.demo.assets import DemoAssets, load_real_assets
from transavs.data.demo.casting import SPLITS
from transavs.data.demo.catalogue import classes_named
from transavs.data.demo.compose import compose_set
from transavs.data.demo.drawn import make_drawn_assets
from transavs.data.demo.layout import SET_FOLDER
from transavs.data.demo.manifest import (
    Settings,
    find_complete_set,
    find_covering_set,
    read_manifest,
    scaled_counts,
)
from transavs.data.demo.packages import AssetsUnavailable, provide_packages

__all__ = [
    "SET_FOLDER",
    "SPLITS",
    "AssetsUnavailable",
    "DemoAssets",
    "Settings",
    "classes_named",
    "compose_set",
    "find_complete_set",
    "find_covering_set",
    "load_real_assets",
    "make_drawn_assets",
    "provide_packages",
    "read_manifest",
    "scaled_counts",
]
