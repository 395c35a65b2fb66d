"""Train and evaluate: ``python tools/train_net.py --config-file configs/s4_R101.yaml``."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from transavs.engine import SafeCheckpointer, Trainer
from transavs.tools.command_line import command, read_cfg
from transavs.utils.package_files import find_config

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Trains, or with ``--eval-only`` evaluates, in each of the processes."""
    cfg = read_cfg(args.config_file, args.opts)
    if args.eval_only:
        return _evaluate(cfg, args)
    _set_up(cfg, args)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if not cfg.DATASETS.TEST:
        return None
    # The score to report: the best model by validation, or the last, on the test sets.
    best = trainer.best_checkpoint()
    if best:
        SafeCheckpointer(trainer.model).load(best)
    return Trainer.test(cfg, trainer.model)


def _evaluate(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates on DATASETS.TEST; what it logs lies beside the training's files, not over them."""
    quiet = cfg.clone()
    quiet.defrost()
    quiet.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "evaluation")
    quiet.freeze()
    _set_up(quiet, args)
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
    if not cfg.MODEL.WEIGHTS and not (args.resume and checkpointer.has_checkpoint()):
        logger.warning(
            "MODEL.WEIGHTS is empty: the scores below are those of a RANDOM network. Name a "
            "checkpoint such as %s",
            os.path.join(cfg.OUTPUT_DIR, "model_best.pth"),
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    return Trainer.test(cfg, model)


def _set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    default_setup(cfg, args)
    # detectron2 sets up its own messages alone.
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="transavs")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Command line of detectron2's training tools; see ``--help``."""
    args = default_argument_parser().parse_args(argv)
    args.config_file = find_config(args.config_file)
    cfg = read_cfg(args.config_file, args.opts)
    if cfg.MODEL.DEVICE == "cpu":
        # detectron2 chooses NCCL wherever a GPU is visible; on the CPU it must be gloo.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    launch(
        run,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
