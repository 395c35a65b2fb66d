"""Off-screen sounds: a sound of a class that the picture does not show, for each clip.

AVSBench-Robust (arXiv 2502.00358) pairs a video with the sound of a distant super-category. Which
super-categories are distant, and which clips lend their sound, are facts of a subset
(:class:`transavs.data.avsbench_spec.OffscreenRule`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data import MetadataCatalog

from transavs.data.avsbench import Record
from transavs.data.avsbench_spec import OffscreenRule
from transavs.data.register import load_records


class OffscreenSounds:
    """Finds clips whose sound nothing in a given picture makes.

    Args:
        lenders: clip records with ``heard_classes``.
        rule: which classes are lent, and which super-categories are distant.
        groups: super-category of each class; classes that it lacks are distant from none.

    Raises:
        ValueError: no lender has a sound that the rule lets it lend.
    """

    def __init__(
        self, lenders: Sequence[Record], rule: OffscreenRule, groups: Mapping[str, str]
    ) -> None:
        self._rule = rule
        self._groups = groups
        self._lenders: dict[frozenset[str], list[Record]] = {}
        for record in lenders:
            heard = frozenset(record.get("heard_classes", ()))
            if heard and (not rule.lent_classes or heard <= set(rule.lent_classes)):
                self._lenders.setdefault(heard, []).append(record)
        if not self._lenders:
            raise ValueError(
                "no clip to take off-screen sounds from: expected clips that tell which classes "
                f"are heard (`heard_classes`), got {len(lenders)} clips without"
            )

    def choose(self, record: Record, rng: np.random.Generator) -> tuple[Record, bool]:
        """Returns a clip that lends its sound, and whether that sound is of distant groups.

        Sounds of super-categories distant from all that the clip itself lets hear come first.
        Where there is none, as in a clip that lets hear all super-categories, it is a sound of any
        class that the picture does not show. Clips that are shorter than the record lend only where
        no other can, since nothing is heard behind their end.

        Args:
            record: a clip record; ``visible_classes`` and ``heard_classes``, where known.
            rng: draws the class, then the clip.

        Raises:
            ValueError: every class that can be lent is in the picture.
        """
        visible = {*record.get("visible_classes", ()), *record.get("heard_classes", ())}
        lenders = self._long_enough(record, visible) or self._lenders
        absent = [heard for heard in lenders if not heard & visible]
        own_groups = {self._groups.get(name) for name in record.get("heard_classes", ())}
        distant = [heard for heard in absent if self._is_distant(heard, own_groups)]
        options = sorted(distant or absent, key=sorted)
        if not options:
            raise ValueError(
                f"clip {record['clip_id']!r} shows every class whose sound could be lent "
                f"({', '.join(sorted(visible))}): it has no off-screen sound"
            )
        chosen = lenders[options[int(rng.integers(len(options)))]]
        return chosen[int(rng.integers(len(chosen)))], bool(distant)

    def _long_enough(self, record: Record, visible: set[str]) -> dict[frozenset[str], list[Record]]:
        """The lenders of absent classes whose sound does not end before the record's last frame."""
        seconds = len(record.get("file_names", ()))
        found = {
            heard: [each for each in lenders if len(each.get("file_names", ())) >= seconds]
            for heard, lenders in self._lenders.items()
            if not heard & visible
        }
        return {heard: lenders for heard, lenders in found.items() if lenders}

    def _is_distant(self, heard: frozenset[str], own_groups: set[str | None]) -> bool:
        groups = {self._groups.get(name) for name in heard}
        return all(
            theirs in self._rule.distant.get(own or "", ())
            for own in own_groups
            for theirs in groups
        )


def offscreen_sounds(dataset: str) -> OffscreenSounds:
    """Returns the off-screen sounds of a registered data set.

    Raises:
        FileNotFoundError: the data set that lends the sounds is not on this machine.
        ValueError: the data set has no rule for them, or its lender lets nothing be heard.
    """
    metadata = MetadataCatalog.get(dataset)
    rule: OffscreenRule | None = metadata.spec.offscreen
    if rule is None:
        raise ValueError(
            f"{dataset} has no off-screen sounds: its SubsetSpec needs an OffscreenRule"
        )
    try:
        lenders = load_records(metadata.offscreen_lender)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the off-screen sounds of {dataset} are those of {metadata.offscreen_lender}: {error}"
        ) from error
    groups = MetadataCatalog.get(metadata.offscreen_lender).sound_groups
    return OffscreenSounds(lenders, rule, {**rule.groups, **groups})
