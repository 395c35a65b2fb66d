"""The evaluator of audio-visual segmentation: AVSBench's S4, MS3 and AVSS, and the demo set."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import Tensor

from transavs.evaluation.by_class import scores_by_class
from transavs.evaluation.clip_scores import ClipScores, score_clip
from transavs.evaluation.summary import EmptyBatchF, check_f_protocol, summarize

logger = logging.getLogger(__name__)


class AVSEvaluator(DatasetEvaluator):
    """Collects the scores of clips and reports them once, under the task name ``avs``.

    :meth:`process` keeps a few numbers a frame. :meth:`evaluate` gathers those of all processes,
    puts the clips into one order, drops clips that two processes saw, and only then divides. Batch
    size, order of the loader and number of processes therefore cannot change any result.
    """

    def __init__(
        self,
        dataset_name: str | None = None,
        *,
        clip_order: Sequence[str] | None = None,
        f_threshold_batch: int = 4,
        empty_batch_f: EmptyBatchF = "zero",
        negative: bool = False,
        output_dir: str | os.PathLike[str] | None = None,
        heard: Mapping[str, Sequence[Sequence[str]]] | None = None,
        num_classes: int = 0,
        longest_clip: int = 0,
    ) -> None:
        """Initialises an evaluator without any clip.

        Args:
            dataset_name: a data set registered with detectron2's ``DatasetCatalog``. The order of
                its clips decides which of them share a threshold in ``M_F``. Its metadata
                ``pixel_classes`` and ``clip_seconds`` say the two last arguments, unless given.
            clip_order: the clip ids of all clips in order, in place of a registered name. Without
                either the order is alphabetical.
            f_threshold_batch: number of consecutive clips that share a threshold in ``M_F``; the
                benchmark's test scripts use 4 (key ``TEST.F_THRESHOLD_BATCH``). ``M_F_group_1`` and
                ``M_F_group_4`` are given whatever it is.
            empty_batch_f: ``"zero"`` or ``"skip"``, see :func:`transavs.evaluation.summarize`.
            negative: the sound of every clip was replaced by one that nothing in the picture makes
                (silence, noise, off-screen). Then ``FPR`` and ``frames_with_false_pixels`` count
                every predicted pixel, while ``M_J`` and ``M_F`` still compare with the original
                masks.
            heard: clip id -> names of the classes heard in each second; adds the entry
                ``J_by_class``, see :func:`transavs.evaluation.scores_by_class`.
            num_classes: classes of the data set's masks, with the background; 0 for binary masks.
                Adds the scores of :func:`transavs.evaluation.class_scores`, if the model tells
                classes as well.
            longest_clip: seconds of the data set's longest clip, which the official AVSS script
                pads all others to; read with ``num_classes``.
            output_dir: folder for ``frame_scores.json`` with the scores of every frame, written by
                the main process. None: nothing is written.
        """
        check_f_protocol(f_threshold_batch, empty_batch_f)
        if dataset_name is not None:
            if clip_order is not None:
                raise ValueError("expected dataset_name or clip_order, got both")
            clip_order = [record["clip_id"] for record in DatasetCatalog.get(dataset_name)]
            metadata = MetadataCatalog.get(dataset_name)
            num_classes = num_classes or len(metadata.get("pixel_classes", ()))
            longest_clip = longest_clip or metadata.get("clip_seconds", 0)
        self._order: dict[str, int] | None = None
        if clip_order is not None:
            self._order = {clip_id: index for index, clip_id in enumerate(clip_order)}
        self._f_threshold_batch = f_threshold_batch
        self._empty_batch_f = empty_batch_f
        self._negative = negative
        self._heard = heard
        self._num_classes = num_classes
        self._longest_clip = longest_clip
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._clips: list[ClipScores] = []

    def reset(self) -> None:
        """Forgets all clips."""
        self._clips = []

    def process(
        self, inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Tensor]]
    ) -> None:
        """Adds clips to the evaluation.

        Args:
            inputs: clip dicts of the evaluation mapper, with ``clip_id``, ``union_masks``,
                ``labelled`` and perhaps ``class_maps``.
            outputs: for each of them ``{"masks", "scores"}`` and perhaps ``class_maps``; see
                :func:`transavs.evaluation.score_clip`.

        Raises:
            ValueError: outputs that do not fit their clips, or a clip that is not in the data set.
        """
        for clip, output in zip(inputs, outputs, strict=True):
            scores = score_clip(clip, output, self._negative, self._num_classes, self._longest_clip)
            if self._order is not None and scores.clip_id not in self._order:
                raise ValueError(
                    f"expected one of the {len(self._order)} clips of the data set, got "
                    f"{scores.clip_id!r}; is the evaluator built for the loader's data set?"
                )
            self._clips.append(scores)

    def evaluate(self) -> OrderedDict[str, dict[str, Any]] | None:
        """Returns the scores over the clips of all processes.

        Returns:
            ``{"avs": {...}}`` with the entries described in
            :func:`transavs.evaluation.summarize`; an empty dict if no clip was processed. None on
            every process but the main one, as detectron2's own evaluators do.
        """
        comm.synchronize()
        gathered = comm.gather(self._clips, dst=0)
        if not comm.is_main_process():
            return None
        clips = self._in_order(clip for shard in gathered for clip in shard)
        if not clips:
            logger.warning("no clip was evaluated: the loader was empty")
            return OrderedDict()
        if self._order is not None and len(clips) < len(self._order):
            logger.warning(
                "only %d of the %d clips of the data set were evaluated",
                len(clips),
                len(self._order),
            )
        summary = summarize(clips, self._f_threshold_batch, self._empty_batch_f)
        if self._output_dir is not None:
            self._write_frame_scores(clips, summary)
        if self._heard is None:
            return OrderedDict(avs=summary)
        by_class = scores_by_class(clips, self._heard)
        return OrderedDict(avs={**summary, "J_by_class": by_class})

    def _in_order(self, clips: Iterable[ClipScores]) -> list[ClipScores]:
        """Returns every clip once, in the order of the data set.

        Samplers that pad shards to equal length hand a clip to two processes; the first one wins.
        """
        unique: dict[str, ClipScores] = {}
        for clip in clips:
            unique.setdefault(clip.clip_id, clip)
        order = self._order
        if order is None:
            return sorted(unique.values(), key=lambda clip: clip.clip_id)
        return sorted(unique.values(), key=lambda clip: order[clip.clip_id])

    def _write_frame_scores(self, clips: Sequence[ClipScores], summary: dict[str, float]) -> None:
        assert self._output_dir is not None
        self._output_dir.mkdir(parents=True, exist_ok=True)
        path = self._output_dir / "frame_scores.json"
        content = {
            # JSON has no NaN.
            "summary": {k: None if math.isnan(v) else v for k, v in summary.items()},
            "f_threshold_batch": self._f_threshold_batch,
            "empty_batch_f": self._empty_batch_f,
            "negative": self._negative,
            "clips": {clip.clip_id: _frame_rows(clip) for clip in clips},
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        logger.info("scores of every frame written to %s", path)


def _frame_rows(clip: ClipScores) -> list[dict[str, float | int | bool]]:
    """Returns one dict of plain numbers a frame; shares and scores in [0, 1]."""
    columns = ("frame_index", "jaccard", "best_f", "is_empty", "predicted_share", "false_share")
    values = zip(*(getattr(clip, column).tolist() for column in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]
