"""Training and evaluation: trainer, optimizer, hooks, checkpoints."""

from transavs.engine.checkpoint import SafeCheckpointer
from transavs.engine.optimizer import build_lr_scheduler, build_optimizer
from transavs.engine.steps import check_precision
from transavs.engine.trainer import Trainer

__all__ = [
    "SafeCheckpointer",
    "Trainer",
    "build_lr_scheduler",
    "build_optimizer",
    "check_precision",
]
