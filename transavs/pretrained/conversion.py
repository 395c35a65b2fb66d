"""Foreign weights become tensors of our model by a table of names, and every tensor is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transavs.pretrained.bundled_models import CONVERTED_FORMAT, FRESH

_LISTED_NAMES = 8
_COUNTER = "num_batches_tracked"
_COUNTS = "a counter of training steps"


@dataclass(frozen=True)
class Skipped:
    """A tensor of a file that is not used, and the reason, for people."""

    reason: str


#: By patterns of names in a file: the name in our model; or why the tensor is skipped; or the name
#: with a function that makes several tensors of one, which puts their own names in the place of
#: ``*``; or the name with 0, 1 or 2, where three tensors one below the other make one of ours.
Rules = Mapping[str, str | Skipped | tuple[str, Callable[[Tensor], Mapping[str, Tensor]] | int]]


@dataclass(frozen=True, eq=False)
class WeightsFormat:
    """A kind of published file: how its tensors are called, and where they belong.

    Attributes:
        name: for the command line.
        description: a line for people.
        marks: a file is of this format if, for one of these alternatives, a tensor matches each of
            its patterns.
        parts: prefixes of our model's names that such a file fills.
        rules: the first whose pattern matches a whole name holds; see ``formats``.
        needs: pattern of our names -> a tensor that a model must have to use them, and the reason
            to tell where it has not.
        lacks: pattern of our names -> why such files may lack them, all of the pattern or none.
        may_differ: pattern of our names -> why their shape may be another one.
        settings: configuration keys with the values that these weights were trained for.
        foreign: whether such files come from elsewhere, so that MODEL.WEIGHTS converts them itself.
        read_by: the key that takes such a file as it is.
        remedy: what to do about a file that does not fit.
    """

    name: str
    rules: Rules
    description: str = ""
    marks: tuple[tuple[str, ...], ...] = ()
    parts: tuple[str, ...] = ("",)
    needs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    may_differ: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    foreign: bool = True
    read_by: str = "MODEL.WEIGHTS"
    remedy: str = "Check that the file and the configuration belong together"

    def recognises(self, names: Iterable[str]) -> bool:
        """Returns whether a file with tensors of these names is of this format."""
        names = list(names)
        return any(all(_any(pattern, names) for pattern in patterns) for patterns in self.marks)

    def settings_for(self, expected: Mapping[str, Tensor]) -> dict[str, Any]:
        """Returns those of ``settings`` that matter to a model with these tensors."""
        resnet = "backbone.stem.conv1.weight" in expected
        return {k: v for k, v in self.settings.items() if resnet or "RESNETS" not in k}


@dataclass
class Conversion:
    """What became of a file.

    Attributes:
        kind: the format of the file.
        tensors: name in our model -> tensor.
        sources: name in our model -> name in the file.
        skipped: name in the file -> why it was not used.
        fresh: names in our model, within the parts that the file fills -> why it keeps what the
            model was built with.
        problems: what is wrong -> names. A conversion with problems must not be used.
    """

    kind: WeightsFormat
    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def check(self, source: str, model: str = "the model of this configuration") -> None:
        """Raises ValueError where a tensor of the file or of the model is unaccounted for."""
        found = "; ".join(f"{what}: {listed(names)}" for what, names in self.problems.items())
        if found:
            name, remedy = self.kind.name, self.kind.remedy
            raise ValueError(f"{source} ({name}) does not fit {model}; {found}. {remedy}")

    def report(self) -> str:
        """Returns what was mapped, what was left and why, and what starts fresh, for people."""
        parts: dict[str, int] = {}
        for name in self.tensors:
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + 1
        counts = ", ".join(f"{part} {count}" for part, count in parts.items())
        mapped = len(set(self.sources.values()))
        lines = [f"{self.kind.name}: {mapped} tensors mapped to {len(self.tensors)} ({counts})"]
        for title, entries in (("left", self.skipped), ("fresh in the model", self.fresh)):
            for reason in dict.fromkeys(entries.values()):
                names = [name for name in entries if entries[name] == reason]
                lines.append(f"  {len(names)} {title}, {reason}: {listed(names)}")
        for what, names in self.problems.items():
            lines.append(f"  {len(names)} {what.upper()}: {listed(names)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns every name, for a report that a program reads."""
        return {
            "format": self.kind.name,
            "mapped": self.sources,
            "left": self.skipped,
            "fresh": self.fresh,
            "problems": self.problems,
        }

    def metadata(self) -> dict[str, str]:
        """Returns the notes of a converted ``.safetensors`` file."""
        fresh = json.dumps(sorted(self.fresh))
        return {"format": CONVERTED_FORMAT, "source_format": self.kind.name, FRESH: fresh}


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
    result = Conversion(kind)
    settled: dict[str, str] = {}  # refused ones of another shape, type or value: no reason to tell

    def refuse(problem: str, name: str) -> None:
        result.problems.setdefault(f"tensors {problem}", []).append(name)

    for name, target, value in _placed(tensors, kind.rules, result.skipped):
        own = expected.get(target)
        if not target:
            refuse("of the file without a place", name)
        elif unused := _unused(target, kind, expected):
            result.skipped[name] = unused
        elif own is None:
            refuse("of the file without a place", f"{name} (the model has no {target})")
        elif target in result.tensors:
            refuse("that mean the same", f"{name} and {result.sources[target]}")
        elif value.shape != own.shape:
            sizes = f"file {list(value.shape)}, model {list(own.shape)}"
            settled[target] = ""
            if reason := _first(kind.may_differ, target):
                result.skipped[name] = settled[target] = f"{reason} ({sizes})"
            else:
                refuse("of another shape", f"{target} ({sizes})")
        elif value.is_floating_point() != own.is_floating_point():
            settled[target] = ""
            refuse("of another type", f"{target} (file {value.dtype}, model {own.dtype})")
        elif not value.isfinite().all():
            settled[target] = ""
            refuse("that are not finite", name)
        else:
            result.tensors[target] = value
            result.sources[target] = name
    filled = {pattern for pattern in kind.lacks if _any(pattern, result.tensors)}
    lacks = {pattern: why for pattern, why in kind.lacks.items() if pattern not in filled}
    for target in expected:
        if target in result.tensors or not target.startswith(kind.parts):
            continue
        reason = settled.get(target) or _unused(target, kind, expected) or _first(lacks, target)
        if not reason and target.endswith(_COUNTER):
            reason = _COUNTS
        if reason:
            result.fresh[target] = reason
        elif target not in settled:
            refuse("of the model that the file lacks", target)
    return result


def _placed(
    tensors: Mapping[str, Tensor], rules: Rules, skipped: dict[str, str]
) -> list[tuple[str, str, Tensor]]:
    """Returns (name in the file, name in our model or "", tensor), and notes what is skipped."""
    placed: list[tuple[str, str, Tensor]] = []
    pieces: dict[str, dict[int, str]] = {}
    for name, tensor in tensors.items():
        matches = ((match, rules[rule]) for rule in rules if (match := re.fullmatch(rule, name)))
        match, rule = next(matches, (None, ""))
        if isinstance(rule, Skipped):
            skipped[name] = rule.reason
            continue
        template, how = rule if isinstance(rule, tuple) else (rule, None)
        target = match.expand(template) if match else ""
        target = re.sub(r"<(\d+)\+1>", lambda number: str(int(number[1]) + 1), target)
        if how is None:
            placed.append((name, target, tensor))
        elif isinstance(how, int):
            pieces.setdefault(target, {})[how] = name
        else:
            several = how(tensor)
            placed += [(name, target.replace("*", own), several[own]) for own in several]
            placed += [] if several else [(name, "", tensor)]
    for target, names in pieces.items():
        found = [tensors[names[number]] for number in sorted(names)]
        if len(found) == 3 and len({piece.shape for piece in found}) == 1 and found[0].dim():
            placed.append((" + ".join(names.values()), target, torch.cat(found)))
        else:
            placed += [(name, "", tensors[name]) for name in names.values()]
    return placed


def _unused(target: str, kind: WeightsFormat, expected: Mapping[str, Tensor]) -> str | None:
    """Returns why a model with the tensors ``expected`` has no use for ``target``, if so."""
    for pattern, (needed, reason) in kind.needs.items():
        match = re.fullmatch(pattern, target)
        if match and match.expand(needed) not in expected:
            return reason
    return _COUNTS if target.endswith(_COUNTER) and target not in expected else None


def _first(table: Mapping[str, str], target: str) -> str | None:
    return next((table[pattern] for pattern in table if re.fullmatch(pattern, target)), None)


def _any(pattern: str, names: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for name in names)


def listed(names: Iterable[str]) -> str:
    """Returns the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more
