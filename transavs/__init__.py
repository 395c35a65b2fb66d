"""TransAVS: audio-visual segmentation with audio queries, as a Detectron2 project.

Importing the package registers, with detectron2, the data sets ``avsbench_*`` and ``demo_*``
(transavs.data) and the meta-architecture, backbones and pixel decoders (transavs.modeling), so
that ``build_model(cfg)`` and ``DatasetCatalog.get(name)`` find them.
"""

import logging
import sys
import warnings

from transavs.utils.quiet_interrupt import exit_quietly_on_interrupt
from transavs.version import __version__

# What Python says until it has found the module of `python -m transavs.tools.NAME`: the imports
# below take seconds, and nobody else looks after Ctrl-C meanwhile.
if sys.argv[:1] == ["-m"]:
    sys.excepthook = exit_quietly_on_interrupt

# detectron2 still marks functions for TorchScript, of which PyTorch warns at every import.
warnings.filterwarnings(
    "ignore", message=".*torch.jit.script.* is deprecated", category=FutureWarning
)

# What detectron2's imports say where CUDA's compiler is installed without a GPU; nothing here needs
# either.
logging.getLogger("torch.utils.cpp_extension").addFilter(
    lambda record: not record.getMessage().startswith("No CUDA runtime is found")
)

try:
    import transavs.data
    import transavs.modeling  # noqa: F401
except ModuleNotFoundError as error:
    # `python -m transavs.env` must still be able to say what is missing.
    if (error.name or "").startswith("transavs"):
        raise
    warnings.warn(
        f"{error.name} is not installed, so nothing of TransAVS is registered with detectron2: "
        "`python -m transavs.env` tells what is missing",
        stacklevel=2,
    )

__all__ = ["__version__"]
