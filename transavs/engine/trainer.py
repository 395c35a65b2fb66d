"""Trainer(DefaultTrainer): what to build, and the hooks that watch over training."""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from collections import OrderedDict
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import DatasetEvaluator, print_csv_format
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from detectron2.utils.logger import setup_logger
from torch import nn, optim

from transavs.config_checks import check_cfg
from transavs.data import (
    AVSDatasetMapper,
    build_clip_test_loader,
    build_clip_train_loader,
    load_records,
)
from transavs.engine import resuming
from transavs.engine.checkpoint import SafeCheckpointer
from transavs.engine.hooks import BestModel, GracefulStop, SamplePictures, SeedEachIteration
from transavs.engine.optimizer import build_lr_scheduler, build_optimizer
from transavs.engine.periodic_checkpoints import PeriodicCheckpoints
from transavs.engine.robustness import evaluate_loader, evaluate_robustness
from transavs.engine.run_log import FlushedTensorboard, MetricsFile, RunLog
from transavs.engine.steps import build_steps, check_precision
from transavs.evaluation import AVSEvaluator
from transavs.evaluation.results_file import Results
from transavs.modeling.compiling import compile_parts

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):  # type: ignore[misc]
    """Trains and evaluates any meta-architecture that takes clips.

    Differences from detectron2's DefaultTrainer: several processes also on the CPU, a sample
    stream that resuming continues exactly, checkpoints that are never half written, periodic
    evaluation on ``DATASETS.VAL`` with the best model kept, and a stop on Ctrl-C that saves first.

    Args:
        cfg: a frozen configuration.

    Attributes:
        LOG_PERIOD: numbers are written every so many iterations.
    """

    LOG_PERIOD = 20

    def __init__(self, cfg: CfgNode) -> None:
        check_precision(cfg)
        on_cpu = cfg.MODEL.DEVICE == "cpu"
        # DefaultTrainer.__init__ fixes the DDP arguments for GPUs; its grandparent does not.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        devices = {"device_ids": None} if on_cpu else {}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        # The loader comes after the checkpoint is read: it starts at the iteration to continue.
        self._trainer = build_steps(cfg, model, _NoLoader(), optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._evaluation: tuple[int, OrderedDict[str, Any]] | None = None
        self.register_hooks(self.build_hooks())

    def train(self) -> OrderedDict[str, Any] | None:
        """Trains to the end; returns the results of the last evaluation, if there was one."""
        self._trainer.data_loader = self.build_train_loader(self.cfg, self.start_iter)
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        finally:
            # Ends the loader's workers. Left to the garbage collector, as after Ctrl-C, they are
            # waited for in vain, five seconds each.
            self._trainer.reset_data_loader(_NoLoader)
        return self._evaluation[1] if self._evaluation else None

    def resume_or_load(self, resume: bool = True) -> None:
        resuming.resume_or_load(self, resume)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), resuming.STREAM: resuming.stream_of(self.cfg)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        resuming.check_stream(self.cfg, state_dict)
        super().load_state_dict(state_dict)

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Returns the configuration for a number of processes, see ``SOLVER.REFERENCE_WORLD_SIZE``.

        Beside what detectron2's method scales, all other periods in iterations are scaled, and none
        becomes 0.

        Raises:
            ValueError: the batch cannot be shared among the processes that the key names.
        """
        reference, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
        if reference in (0, num_workers):
            return cfg
        if reference < 0 or batch % reference:
            raise ValueError(
                f"SOLVER.REFERENCE_WORLD_SIZE must be a number of processes that the "
                f"SOLVER.IMS_PER_BATCH ({batch}) clips can be shared among, or 0, got {reference}"
            )
        scaled = DefaultTrainer.auto_scale_workers(cfg, num_workers)
        scaled.defrost()
        for before, after, key in (
            (cfg.SOLVER, scaled.SOLVER, "CHECKPOINT_PERIOD"),
            (cfg.TEST, scaled.TEST, "EVAL_PERIOD"),
            (cfg.TEST, scaled.TEST, "PICTURE_PERIOD"),
            (cfg.MODEL.TRANSAVS, scaled.MODEL.TRANSAVS, "THRESHOLD_PERIOD"),
        ):
            after[key] = before[key] and max(1, round(before[key] * reference / num_workers))
        check_cfg(scaled)
        scaled.freeze()
        return scaled

    def before_train(self) -> None:
        super().before_train()
        resuming.finish_step(self)

    def after_train(self) -> None:
        # A finished run that is resumed has no step to do, and is counted one too far.
        self.iter: int = min(self.iter, self.max_iter)
        super().after_train()

    def best_checkpoint(self) -> str | None:
        """The file with the best model by validation that this run (or the one that it resumed)
        kept, the same in all processes; None if there was no validation."""
        kept = [hook.kept for hook in self._hooks if isinstance(hook, BestModel)]
        path: str | None = comm.all_gather(kept[0] if kept else None)[0]
        return path

    def build_hooks(self) -> list[hooks.HookBase]:
        cfg = self.cfg
        found: list[hooks.HookBase | None] = [
            SeedEachIteration(cfg.SEED),
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            PeriodicCheckpoints(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
        ]
        if cfg.DATASETS.VAL:
            found.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
            if comm.is_main_process():
                found.append(
                    BestModel(self.checkpointer, cfg.TEST.BEST_METRIC, cfg.TEST.EVAL_PERIOD)
                )
        if cfg.TEST.PICTURE_PERIOD:
            found.append(SamplePictures(cfg, cfg.TEST.PICTURE_PERIOD))
        if comm.is_main_process():
            found.append(RunLog(self.build_writers(), self.LOG_PERIOD))
        # Last: it ends the chain.
        found.append(GracefulStop(self.checkpointer))
        return [hook for hook in found if hook is not None]

    def build_writers(self) -> list[EventWriter]:
        return [
            CommonMetricPrinter(self.max_iter),
            MetricsFile(os.path.join(self.cfg.OUTPUT_DIR, "metrics.json")),
            FlushedTensorboard(self.cfg.OUTPUT_DIR),
        ]

    def _evaluate(self) -> OrderedDict[str, Any]:
        results = self.test(self.cfg, self.model, datasets=self.cfg.DATASETS.VAL)
        self._evaluation = (self.iter, results)
        return results

    @classmethod
    def test(  # type: ignore[override]
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
        datasets: tuple[str, ...] = (),
    ) -> OrderedDict[str, Any]:
        """Evaluates ``model`` on ``datasets``, by default those of ``DATASETS.TEST``.

        On the latter it also tells how alike the queries are, and evaluates under the conditions
        ``TEST.ROBUSTNESS``, unless ``evaluators`` replace ours: the results get a task
        ``robustness``, and ``robustness.json`` in the output folder all scores.

        Returns:
            The metrics by task, {} on every process but the main one; for several data sets a
            dict of them by name.
        """
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        names = tuple(datasets) or tuple(cfg.DATASETS.TEST)
        assert evaluators is None or len(evaluators) == len(names), (len(evaluators), names)
        final = not datasets and evaluators is None
        by_condition: Results = {}
        results: OrderedDict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            loader = cls.build_test_loader(cfg, name)
            found = evaluate_loader(cfg, model, loader, evaluator, watch_queries=final)
            if final and cfg.TEST.ROBUSTNESS:
                found |= evaluate_robustness(cfg, model, name, found, by_condition)
            results[name] = found
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(found)
        return results[names[0]] if len(names) == 1 else results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model: nn.Module = super().build_model(cfg)
        if cfg.MODEL.COMPILE:
            compile_parts(model, cfg.MODEL.COMPILE)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: optim.Optimizer) -> Any:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0) -> Any:
        records = list(
            itertools.chain.from_iterable(load_records(name) for name in cfg.DATASETS.TRAIN)
        )
        return build_clip_train_loader(
            cfg, records, AVSDatasetMapper(cfg, is_train=True), start_iter
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        records = load_records(dataset_name)
        return build_clip_test_loader(cfg, records, AVSDatasetMapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return AVSEvaluator(dataset_name, f_threshold_batch=cfg.TEST.F_THRESHOLD_BATCH)


class _NoLoader:
    """Stands in for the loader until training starts."""

    def __iter__(self) -> Any:
        raise AssertionError("Trainer.train() builds the loader before the first step")
