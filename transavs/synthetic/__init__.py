"""Composes audio-visual clips of masked photographs and recordings.

Modules, lowest first: `sources` lists the files, `plan` decides what a clip contains, `scene`
renders it, `compose` writes a whole set, and `instruments` makes recordings that are missing.
"""

from transavs.synthetic.compose import SceneSettings, compose_scenes
from transavs.synthetic.plan import SPLITS
from transavs.synthetic.sources import CLASSES, read_sources

__all__ = ["CLASSES", "SPLITS", "SceneSettings", "compose_scenes", "read_sources"]
