"""Foreign weights become tensors of our model, and every tensor is accounted for."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transavs.engine.shipped import CONVERTED_FORMAT, FRESH
from transavs.utils.plain_tensors import is_plain, is_same_kind

_LISTED_NAMES = 8
_SOURCE_FORMAT = "source_format"


@dataclass(frozen=True)
class Left:
    """A tensor of a file that is not used.

    Attributes:
        reason: why; a sentence for people.
    """

    reason: str


@dataclass
class Conversion:
    """What became of a file.

    Attributes:
        format_name: of the :class:`WeightsFormat`.
        tensors: name in our model -> tensor.
        sources: name in our model -> name in the file.
        left: name in the file -> why it was not used.
        fresh: names in our model, within the parts that the file fills -> why it keeps what the
            model was built with.
        problems: what is wrong -> names. A conversion with problems must not be used.
        mend: what a user can do about the problems.
    """

    format_name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    mend: str = ""

    def check(self, source: str) -> None:
        """Raises ValueError where a tensor of the file or of the model is unaccounted for."""
        found = [f"{what}: {listed(names)}" for what, names in self.problems.items() if names]
        if found:
            raise ValueError(
                f"{source} ({self.format_name}) does not fit the model of this configuration; "
                + "; ".join(found)
                + f". {self.mend}"
            )

    def report(self) -> str:
        """Returns what was mapped, what was left and why, and what starts fresh, for people."""
        parts: dict[str, int] = {}
        for name in self.tensors:
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + 1
        counts = ", ".join(f"{part} {count}" for part, count in parts.items())
        mapped = len(set(self.sources.values()))
        lines = [f"{self.format_name}: {mapped} tensors mapped to {len(self.tensors)} ({counts})"]
        for title, entries in (("left", self.left), ("fresh in the model", self.fresh)):
            for reason, names in _by_reason(entries).items():
                lines.append(f"  {len(names)} {title}, {reason}: {listed(names)}")
        for what, names in self.problems.items():
            if names:
                lines.append(f"  {len(names)} {what.upper()}: {listed(names)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns every name, for a report that a program reads."""
        return {
            "format": self.format_name,
            "mapped": self.sources,
            "left": self.left,
            "fresh": self.fresh,
            "problems": {what: names for what, names in self.problems.items() if names},
        }

    def metadata(self) -> dict[str, str]:
        """Returns the notes of a converted ``.safetensors`` file."""
        return {
            "format": CONVERTED_FORMAT,
            _SOURCE_FORMAT: self.format_name,
            FRESH: json.dumps(sorted(self.fresh)),
        }


class WeightsFormat(ABC):
    """A kind of published file: how its tensors are called, and where they belong.

    Attributes:
        name: for the command line.
        description: a line for people.
        parts: prefixes of our model's names that such a file fills.
        settings: configuration keys with the values that these weights were trained for.
        foreign: whether such files come from elsewhere, so that MODEL.WEIGHTS converts them itself.
        read_by: the key that takes such a file as it is.
        mend: what to do about a file that does not fit.
    """

    name: str
    description: str
    parts: tuple[str, ...]
    settings: Mapping[str, Any] = {}
    foreign: bool = True
    read_by: str = "MODEL.WEIGHTS"
    mend: str = "Check that the file and the configuration belong together"

    @abstractmethod
    def recognises(self, names: set[str]) -> bool:
        """Returns whether a file with tensors of these names is of this format."""

    @abstractmethod
    def place(
        self, name: str, tensor: Tensor, expected: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | Left | None:
        """Returns where a tensor belongs.

        Args:
            name: in the file.
            tensor: its value.
            expected: our model's tensors by name.

        Returns:
            name in our model -> tensor, without regard to whether the model has that name; or why
            it is not used; None for a name that this format does not have.
        """

    def prepare(self, tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], dict[str, str]]:
        """Returns the tensors to place, and those left with the reasons.

        For formats that spread over several tensors what is one here.

        Raises:
            ValueError: a file that cannot be used.
        """
        return tensors, {}

    def lacks(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        """Returns why a model may lack ``target``; None where that is a mistake."""
        return None

    def may_differ(self, target: str) -> str | None:
        """Returns why ``target`` may have another shape in the model; None: it must not."""
        return None

    def absent(self, target: str, expected: Mapping[str, Tensor]) -> str | None:
        """Returns why files of this format lack the model's tensor; None: they must have it."""
        return None

    def settings_for(self, expected: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Returns those of ``settings`` that matter to a model."""
        return self.settings


def convert(
    tensors: Mapping[str, Tensor], kind: WeightsFormat, expected: Mapping[str, Tensor]
) -> Conversion:
    """Returns what becomes of the tensors of a file in a model.

    Args:
        tensors: of the file, by its names.
        kind: its format.
        expected: ``state_dict()`` of the model.

    The result may have problems: see :meth:`Conversion.check`.
    """
    result = Conversion(kind.name, mend=kind.mend)
    unexplained: list[str] = []
    misshapen: list[str] = []
    mistyped: list[str] = []
    refused: set[str] = set()
    not_finite: list[str] = []
    twice: list[str] = []
    differing: dict[str, str] = {}
    tensors, left = kind.prepare(tensors)
    result.left |= left
    for name, tensor in tensors.items():
        placed = kind.place(name, tensor, expected)
        if placed is None:
            unexplained.append(name)
            continue
        if isinstance(placed, Left):
            result.left[name] = placed.reason
            continue
        for target, value in placed.items():
            if target not in expected:
                reason = kind.lacks(target, expected)
                if reason is None:
                    unexplained.append(f"{name} (the model has no {target})")
                else:
                    result.left[name] = reason
            elif value.shape != expected[target].shape:
                reason = kind.may_differ(target)
                sizes = f"file {list(value.shape)}, model {list(expected[target].shape)}"
                if reason is None:
                    misshapen.append(f"{target} ({sizes})")
                    refused.add(target)
                else:
                    result.left[name] = differing[target] = f"{reason} ({sizes})"
            elif not is_same_kind(value, expected[target]):
                types = f"file {value.dtype}, model {expected[target].dtype}"
                mistyped.append(f"{target} ({types})")
                refused.add(target)
            elif not value.isfinite().all():
                not_finite.append(name)
                refused.add(target)
            elif target in result.tensors:
                twice.append(f"{name} and {result.sources[target]}")
            else:
                result.tensors[target] = value
                result.sources[target] = name
    missing = []
    for target in expected:
        if target in result.tensors or not target.startswith(kind.parts):
            continue
        reason = differing.get(target) or kind.absent(target, expected)
        if reason is not None:
            result.fresh[target] = reason
        elif target not in refused:
            missing.append(target)
    result.problems = {
        "tensors of the file without a place": unexplained,
        "tensors of another shape": misshapen,
        "tensors of another type": mistyped,
        "tensors that are not finite": not_finite,
        "tensors that mean the same": twice,
        "tensors of the model that the file lacks": missing,
    }
    return result


def as_tensors(entries: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """Returns the tensors of a flat dictionary of tensors or NumPy arrays.

    The prefix of models that were saved inside the wrapper of several processes is dropped.

    Raises:
        ValueError: an entry that is neither or not plain (``transavs.utils.plain_tensors``), or no
            entry.
    """
    tensors = {}
    odd = []
    for name, value in entries.items():
        if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, Tensor):
            with contextlib.suppress(TypeError):  # a type that torch does not have
                value = torch.as_tensor(value)
        if is_plain(value):
            tensors[str(name)] = value
        else:
            odd.append(str(name))
    if odd:
        raise ValueError(
            f"expected a dictionary of dense tensors of numbers in {source}, but these entries are "
            f"none: {listed(odd)}; save the model's state_dict() alone, neither quantised nor "
            "sparse"
        )
    if not tensors:
        raise ValueError(f"{source} holds no tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def listed(names: Iterable[str]) -> str:
    """Returns the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more


def _by_reason(entries: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in entries.items():
        found.setdefault(reason, []).append(name)
    return found
