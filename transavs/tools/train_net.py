"""Train and evaluate: ``python tools/train_net.py --config-file configs/s4_R101.yaml``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing.spawn import ProcessException

from transavs.config_checks import unread_keys
from transavs.data import load_records
from transavs.data.clip_audio import build_clip_audio
from transavs.engine import SafeCheckpointer, Trainer, check_precision
from transavs.engine.checkpoint import newest_checkpoint
from transavs.engine.distributed import Job, add_job_arguments, is_left_alone, job_of, launch
from transavs.engine.resuming import unchanged_if_refused
from transavs.engine.robustness import check_conditions
from transavs.engine.trained_model import check_device, load_trained_model
from transavs.modeling.compiling import check_backend, compile_parts
from transavs.tools.command_line import (
    OUR_ERROR,
    add_debug_option,
    check_folder_to_be,
    check_names,
    command,
    read_cfg,
    user_message,
)
from transavs.utils.folder_lock import lock_folder
from transavs.utils.package_files import find_config

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Trains, or with ``--eval-only`` evaluates, in each of the processes."""
    cfg = read_cfg(args.config_file, args.opts)
    if args.eval_only:
        return _evaluate(cfg, args)
    asked, cfg = cfg, Trainer.auto_scale_workers(cfg, comm.get_world_size())
    with ExitStack() as held:
        _work_alone(cfg.OUTPUT_DIR, held)
        with unchanged_if_refused(cfg.OUTPUT_DIR):
            _set_up(cfg, args)
            if cfg is not asked:
                logger.info(
                    "scaled from SOLVER.REFERENCE_WORLD_SIZE %d to the %d processes: %d clips a "
                    "step, learning rate %g, %d iterations",
                    asked.SOLVER.REFERENCE_WORLD_SIZE,
                    cfg.SOLVER.REFERENCE_WORLD_SIZE,
                    cfg.SOLVER.IMS_PER_BATCH,
                    cfg.SOLVER.BASE_LR,
                    cfg.SOLVER.MAX_ITER,
                )
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


def _work_alone(folder: str, held: ExitStack) -> None:
    """Lets the main process lock the folder; raises ValueError or OSError in all of them if not.

    None of them has written anything by then.
    """
    refused: Exception | None = None
    if comm.is_main_process():
        try:
            held.enter_context(lock_folder(folder))
        except (ValueError, OSError) as error:
            refused = error
    reason = comm.all_gather(str(refused or ""))[0]
    if reason:
        raise refused or ValueError(reason)


def _evaluate(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates on DATASETS.TEST; what it logs lies beside the training's files, not over them."""
    quiet = cfg.clone()
    quiet.defrost()
    quiet.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "evaluation")
    quiet.freeze()
    with unchanged_if_refused(quiet.OUTPUT_DIR):
        _set_up(quiet, args)
        newest = newest_checkpoint(cfg.OUTPUT_DIR) if args.resume else None
        model = load_trained_model(cfg, newest or cfg.MODEL.WEIGHTS)
    if cfg.MODEL.COMPILE:
        compile_parts(model, cfg.MODEL.COMPILE)
    return Trainer.test(cfg, model)


def _set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    default_setup(cfg, args)
    # detectron2 sets up its own messages alone.
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="transavs")
    unread = unread_keys(cfg)
    if unread:
        logger.warning(
            "keys of detectron2 that nothing here reads are set, and change nothing: %s. Take them "
            "out; configs/README.md has the keys that count",
            ", ".join(f"{key} {value!r}" for key, value in unread.items()),
        )
    logging.getLogger("detectron2.engine.train_loop").addFilter(_in_a_line)


def _in_a_line(record: logging.LogRecord) -> bool:
    """Lets detectron2 tell that training failed without a traceback that says nothing more."""
    error = record.exc_info[1] if record.exc_info else None
    mistake = user_message(error) if error is not None else None
    if isinstance(error, FloatingPointError):
        mistake = str(error)
    elif error is not None and is_left_alone(error):
        mistake = "another process ended, and left this one waiting"
    if mistake is not None:
        record.msg, record.args, record.exc_info = "Training failed: %s", (mistake,), None
    return True


def check_before_work(cfg: CfgNode, args: argparse.Namespace, job: Job) -> None:
    """Raises ValueError or OSError for what would otherwise end the work, perhaps after hours.

    Looks at the names in the configuration, the device, the batch, what compiles, the folders that
    are written to, whether all files of all data sets are there (not into them), the file of
    precomputed embeddings, and whether the test sets can be heard under ``TEST.ROBUSTNESS``.
    """
    check_names(cfg)
    check_device(cfg)
    build_clip_audio(cfg)
    if not args.eval_only:
        check_precision(cfg)
        cfg = Trainer.auto_scale_workers(cfg, job.world_size)
    if not args.eval_only and cfg.SOLVER.IMS_PER_BATCH % job.world_size:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH ({cfg.SOLVER.IMS_PER_BATCH}) must be a multiple of the "
            f"{job.world_size} processes: it counts the clips of all of them"
        )
    if cfg.MODEL.COMPILE:
        check_backend(cfg.MODEL.COMPILE, cfg.MODEL.DEVICE == "cpu")
    check_folder_to_be("OUTPUT_DIR", cfg.OUTPUT_DIR)
    if cfg.MODEL.BACKBONE.CACHE:
        check_folder_to_be("MODEL.BACKBONE.CACHE", cfg.MODEL.BACKBONE.CACHE)
    names = list(cfg.DATASETS.TEST)
    if not args.eval_only:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.VAL, *names]
    for name in dict.fromkeys(names):
        records = load_records(name)
        if name in cfg.DATASETS.TEST:
            check_conditions(cfg, records, cfg.TEST.ROBUSTNESS)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line: detectron2's, with more on several processes, and ``--debug``."""
    parser: argparse.ArgumentParser = default_argument_parser()
    add_job_arguments(parser)
    add_debug_option(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Command line of detectron2's training tools; see ``--help``."""
    args = build_parser().parse_args(argv)
    args.config_file = find_config(args.config_file)
    cfg = read_cfg(args.config_file, args.opts)
    job = job_of(args)
    if not job.local_rank:
        # Once a machine: of the processes that torchrun started, the first one looks.
        check_before_work(cfg, args, job)
    if cfg.MODEL.DEVICE == "cpu":
        # NCCL is taken wherever a GPU is visible; on the CPU it must be gloo.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        launch(run, job, (args,))
    except ProcessException as error:
        if user_message(error) is not None:
            raise
        print(f"train_net: {error}\nA training goes on with --resume.", file=sys.stderr)
        return OUR_ERROR
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
