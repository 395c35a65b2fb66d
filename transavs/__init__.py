"""TransAVS: audio-visual segmentation with audio queries, as a Detectron2 project.

Importing the package registers, with detectron2, the data sets ``avsbench_*`` and ``demo_*``
(transavs.data) and the meta-architecture, backbones and pixel decoders (transavs.modeling), so
that ``build_model(cfg)`` and ``DatasetCatalog.get(name)`` find them.
"""

import importlib.util

from transavs.version import __version__

# `python -m transavs.env` must be able to say that detectron2 is missing.
if importlib.util.find_spec("detectron2") is not None:
    import transavs.data
    import transavs.modeling  # noqa: F401

__all__ = ["__version__"]
