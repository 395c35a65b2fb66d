"""Pretraining of an audio encoder on the sound classes of a data set.

A frozen VGGish knows sounds from AudioSet. Where no such weights can be had, a small encoder
learns, before TransAVS is trained, to name the classes heard in each second of the training
mixtures (several at once: one logistic output a class), and is then frozen as VGGish would be.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from transavs.audio import AudioEncoder, clip_log_mel, load_waveform
from transavs.utils.progress import progress_bar

logger = logging.getLogger(__name__)

# What the logarithm of the front-end adds to a mel magnitude (transavs.audio.log_mel).
_LOG_OFFSET = 0.01


@dataclass(frozen=True)
class LabelledExamples:
    """Log-mel examples with the classes heard in each.

    Attributes:
        examples: float32 ``[S, 1, 96, 64]``; or what an encoder's ``fixed_features`` makes of them,
            half precision.
        labels: bool ``[S, classes]``.
    """

    examples: Tensor
    labels: Tensor

    def __add__(self, other: LabelledExamples) -> LabelledExamples:
        """Both, one after the other."""
        return LabelledExamples(
            torch.cat([self.examples, other.examples]), torch.cat([self.labels, other.labels])
        )


class _ClipExamples(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, records: Sequence[dict[str, Any]], num_classes: int) -> None:
        self._records = records
        self._num_classes = num_classes

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        record = self._records[index]
        heard = record["sound_labels"]
        examples = clip_log_mel(load_waveform(record["audio_file"]), len(heard))
        labels = torch.zeros(len(heard), self._num_classes, dtype=torch.bool)
        for second, classes in enumerate(heard):
            labels[second, list(classes)] = True
        return examples, labels


def read_labelled_examples(
    records: Sequence[dict[str, Any]], num_classes: int, workers: int = 0
) -> LabelledExamples:
    """Returns the examples of all clips, second by second, with progress on screen.

    Args:
        records: clip records that hold ``sound_labels``.
        num_classes: of the data set.
        workers: processes that read ahead.

    Raises:
        ValueError: a record does not tell what is heard.
    """
    for record in records:
        if "sound_labels" not in record:
            raise ValueError(
                f"clip {record['clip_id']} does not tell which classes are heard in each second "
                "(`sound_labels`): pretraining needs a data set that does, such as demo_ms3_train"
            )
    return collect_examples(_ClipExamples(records, num_classes), workers, "log-mel")


def collect_examples(
    clips: Dataset[tuple[Tensor, Tensor]],
    workers: int = 0,
    task: str = "clips",
    change: Callable[[Tensor], Tensor] | None = None,
) -> LabelledExamples:
    """Returns all items of a data set as one block, with progress on screen.

    Args:
        clips: its items are ``(examples [S, 1, 96, 64], labels [S, classes])``.
        workers: processes that read ahead.
        task: what the progress bar says.
        change: of the examples of each item.
    """
    loader = DataLoader(clips, batch_size=None, num_workers=workers)
    pairs = [
        (examples if change is None else change(examples), labels)
        for examples, labels in progress_bar(loader, task, "clip", total=len(loader))
    ]
    return LabelledExamples(
        torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    )


def collect_features(
    encoder: AudioEncoder,
    clips: Dataset[tuple[Tensor, Tensor]],
    workers: int = 0,
    vary: ExampleAugmentation | None = None,
) -> LabelledExamples:
    """Returns all items of a data set as the encoder's ``fixed_features``, in half precision.

    Args:
        encoder: asked once for each example.
        clips: see ``collect_examples``; their examples are mixtures already.
        workers: processes that read ahead.
        vary: changes each example once before, without mixing; from torch's random numbers.
    """

    def change(examples: Tensor) -> Tensor:
        if vary is not None:
            examples = vary.vary(examples)
        return encoder.fixed_features(examples).half()

    return collect_examples(clips, workers, "listening", change)


class ExampleAugmentation:
    """Makes new mixtures out of a batch of log-mel examples, in the domain of mel magnitudes.

    Random gain and spectral tilt, a shift by up to two mel bands, circular shift in time, a noise
    floor, the sum with another example of the batch (their classes united), and SpecAugment's
    masks. Deterministic given torch's generator.
    """

    mix_probability = 0.5
    band_shift = 2

    def __call__(self, examples: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns augmented ``[S, 1, 96, 64]`` and labels float ``[S, classes]``."""
        return self._augment(examples, labels, self.mix_probability)

    def vary(self, examples: Tensor) -> Tensor:
        """Returns augmented ``[S, 1, 96, 64]``, each out of one example."""
        return self._augment(examples, torch.zeros(len(examples), 0, dtype=torch.bool), 0.0)[0]

    def _augment(
        self, examples: Tensor, labels: Tensor, mix_probability: float
    ) -> tuple[Tensor, Tensor]:
        count, _, windows, bands = examples.shape
        mel = (examples.exp() - _LOG_OFFSET).clamp(min=0)[:, 0]
        mel = self._shift(mel)
        decibels = torch.empty(count, 1, 1).uniform_(-15, 6)
        tilt = torch.empty(count, 1, 1).uniform_(-6, 6) * torch.linspace(-1, 1, bands)
        mel = mel * 10 ** ((decibels + tilt) / 20)

        partner = torch.randperm(count)
        mixed = torch.rand(count) < mix_probability
        mel = mel + mel[partner] * mixed[:, None, None]
        labels = labels | (labels[partner] & mixed[:, None])

        floor = 10 ** torch.empty(count, 1, 1).uniform_(-4, -1.5)
        mel = mel + floor * torch.rand(mel.shape) * torch.rand(count, 1, bands)
        augmented = (mel + _LOG_OFFSET).log()
        augmented = self._mask(augmented, axis=1, longest=16)
        augmented = self._mask(augmented, axis=2, longest=8)
        return augmented[:, None], labels.float()

    def _shift(self, mel: Tensor) -> Tensor:
        count, windows, bands = mel.shape
        steps = torch.randint(0, windows, (count, 1))
        rows = (torch.arange(windows) + steps) % windows
        mel = mel.gather(1, rows[:, :, None].expand(-1, -1, bands))
        offsets = torch.randint(-self.band_shift, self.band_shift + 1, (count, 1))
        columns = (torch.arange(bands) + offsets).clamp(0, bands - 1)
        return mel.gather(2, columns[:, None].expand(-1, windows, -1))

    @staticmethod
    def _mask(values: Tensor, axis: int, longest: int) -> Tensor:
        size = values.shape[axis]
        start = torch.randint(0, size, (len(values), 1))
        length = torch.randint(0, longest + 1, (len(values), 1))
        places = torch.arange(size)
        hidden = (places >= start) & (places < start + length)
        hidden = hidden[:, :, None] if axis == 1 else hidden[:, None]
        return values.masked_fill(hidden, _LOG_SILENCE)


_LOG_SILENCE = float(torch.tensor(_LOG_OFFSET).log())


def pretrain_encoder(
    encoder: AudioEncoder,
    train: LabelledExamples,
    validation: LabelledExamples,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    seed: int = 0,
    on_features: bool = False,
) -> dict[str, float]:
    """Trains ``encoder`` in place to name the classes of its examples.

    Args:
        encoder: maps ``[S, 1, 96, 64]`` to ``[S, embedding_dim]``; must be trainable.
        train: examples to learn from.
        validation: examples to report on.
        steps: optimizer steps; one-cycle learning rate.
        batch_size: examples a step.
        learning_rate: the cycle's highest.
        seed: of initial classifier, batches and augmentation.
        on_features: the examples are the encoder's ``fixed_features``, and stay as they are.

    Returns:
        ``loss`` (mean of the last tenth of training), the ``classification_scores`` of the
        validation examples, and ``seconds``.
    """
    torch.manual_seed(seed)
    embed = encoder.embed_features if on_features else encoder
    head = nn.Sequential(
        nn.ReLU(),
        nn.Linear(encoder.embedding_dim, train.labels.shape[1]),
    )
    trained = [values for values in encoder.parameters() if values.requires_grad]
    parameters = [*trained, *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    augment = ExampleAugmentation()
    encoder.train()
    started = time.perf_counter()
    losses: list[float] = []
    progress = progress_bar(range(steps), "pretraining", "step")
    for _ in progress:
        rows = torch.randint(0, len(train.examples), (batch_size,))
        examples, labels = train.examples[rows].float(), train.labels[rows]
        if not on_features:
            examples, labels = augment(examples, labels)
        loss = F.binary_cross_entropy_with_logits(head(embed(examples)), labels.float())
        if not torch.isfinite(loss):
            raise FloatingPointError("the pretraining loss is not finite: lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    tail = losses[-max(steps // 10, 1) :]
    scores = classification_scores(encoder, head, validation, on_features)
    return {
        "loss": sum(tail) / len(tail),
        **scores,
        "seconds": round(time.perf_counter() - started, 1),
    }


@torch.no_grad()
def classification_scores(
    encoder: AudioEncoder,
    head: nn.Module,
    examples: LabelledExamples,
    on_features: bool = False,
) -> dict[str, float]:
    """Returns scores of multi-label classification in percent.

    ``precision``, ``recall`` and ``f1`` are micro-averaged at threshold 0.5; ``map`` is the mean
    average precision over the classes that are heard in some of the examples.
    """
    encoder.eval()
    embed = encoder.embed_features if on_features else encoder
    logits = torch.cat([head(embed(part.float())) for part in examples.examples.split(256)])
    predicted = logits > 0
    hits = float((predicted & examples.labels).sum())
    precision = hits / max(float(predicted.sum()), 1.0)
    recall = hits / max(float(examples.labels.sum()), 1.0)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    scores = {"precision": precision, "recall": recall, "f1": f1}
    scores["map"] = mean_average_precision(logits, examples.labels)
    return {name: round(100 * value, 2) for name, value in scores.items()}


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Returns the mean over the classes with a true example of the average precision, in [0, 1].

    Args:
        scores: float ``[S, classes]``, higher where a class is heard.
        labels: bool ``[S, classes]``.
    """
    order = scores.argsort(dim=0, descending=True, stable=True)
    true = labels.gather(0, order).double()
    ranks = torch.arange(1, len(true) + 1, dtype=torch.float64)[:, None]
    count = true.sum(0)
    precision = ((true.cumsum(0) / ranks) * true).sum(0) / count.clamp(min=1)
    return float(precision[count > 0].mean()) if (count > 0).any() else 0.0
