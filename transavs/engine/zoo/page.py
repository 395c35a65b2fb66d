"""The generated parts of the model zoo page, and how they get into it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from transavs.engine.zoo.published import SUBSETS, Group
from transavs.engine.zoo.runs import Entry

_PART = re.compile(
    r"^<!-- generated: (?P<name>[\w ]+) -->\n(?P<body>.*?)^<!-- end of generated -->$",
    re.MULTILINE | re.DOTALL,
)
_DASH = "-"


def generated_parts(published: Mapping[str, Group], entries: Sequence[Entry]) -> dict[str, str]:
    """Returns the text of each generated part, by its name.

    Parts are "published NAME" for each table of published numbers, and "measured". Our own rows on
    AVSBench stand in each table of their family as well, so that they can be compared.
    """
    parts = {
        f"published {name}": _published_table(group, entries) for name, group in published.items()
    }
    return parts | {"measured": _measured_tables(entries)}


def fill_page(page: str, parts: Mapping[str, str]) -> str:
    """Returns a page with its generated parts written anew; the rest stays as it is.

    A part stands between ``<!-- generated: NAME -->`` and ``<!-- end of generated -->``, each on a
    line of its own.

    Raises:
        ValueError: the page asks for a part that there is none of, or for none at all.
    """
    names = [match["name"] for match in _PART.finditer(page)]
    if page.count("<!-- generated:") != len(names):
        raise ValueError(
            "a part of the page has no end: expected <!-- end of generated --> on a line of its "
            "own behind each <!-- generated: NAME -->"
        )
    unknown = [name for name in names if name not in parts]
    if unknown or not names:
        raise ValueError(
            f"the page asks for {', '.join(unknown) or 'no generated part'}; there are: "
            f"{', '.join(parts)}"
        )
    return _PART.sub(
        lambda match: (
            f"<!-- generated: {match['name']} -->\n\n{parts[match['name']].strip()}\n\n"
            "<!-- end of generated -->"
        ),
        page,
    )


def _published_table(group: Group, entries: Sequence[Entry]) -> str:
    subsets = [s for s in SUBSETS if any(s in row.cells for row in group.rows)]
    heads = [f"{subset} {value}" for subset in subsets for value in group.family.values]
    rows = []
    for row in group.rows:
        cells: list[float | None] = []
        for subset in subsets:
            cells += row.cells.get(subset, (None,) * len(group.family.values))
        links = ", ".join(f"[{subset}]({path})" for subset, path in row.configs.items())
        status = "published" if row.read == "primary" else "published, read second-hand"
        notes = "; ".join(note for note in (row.note, links and f"config here: {links}") if note)
        rows.append(
            [row.method, row.backbone, _text(row.pixels), *map(_text, cells), status, notes]
        )
    for entry in entries:
        cells_of_ours = [
            _mean_and_spread(entry, group.family.data_sets.get(subset, ""), value)
            for subset in subsets
            for value in group.family.values
        ]
        if any(cell != _DASH for cell in cells_of_ours):
            name = f"**{_linked(entry)}**"
            pixels = str(entry["pixels"])
            rows.append([name, entry["backbone"], pixels, *cells_of_ours, _status(entry), ""])
    columns = ["method", "backbone", "pixels", *heads, "status", "notes"]
    return f"{group.title} ({group.family.title}):\n\n{_markdown(columns, rows)}"


def _measured_tables(entries: Sequence[Entry]) -> str:
    names = sorted({name for entry in entries for name in entry["scores"]})
    if not names:
        return "None yet."
    parts = []
    for name in names:
        rows = []
        for entry in entries:
            if name not in entry["scores"]:
                continue
            size = entry["size"] or {}
            rows.append(
                [
                    _linked(entry),
                    entry["backbone"],
                    str(entry["pixels"]),
                    ", ".join(sorted(entry["scores"][name], key=int)),
                    *(_mean_and_spread(entry, name, key) for key in ("M_J", "M_J_nonempty", "M_F")),
                    *(_mean_and_spread(entry, name, key) for key in ("G_mIoU", "G_F")),
                    _mean_and_spread(entry, name, "FPR", factor=100, digits=2),
                    _scaled(size.get("parameters"), 1e6),
                    _scaled(size.get("macs"), 1e9),
                    _text(entry["speed_ratio"], 2),
                    "measured",
                ]
            )
        columns = ["model", "backbone", "pixels", "seeds", "M_J", "M_J non-empty", "M_F", "G-mIoU"]
        columns += ["G-F", "false pixels %", "parameters, M", "MACs, G", "x encoders", "status"]
        parts.append(f"`{name}`:\n\n{_markdown(columns, rows)}")
    return "\n\n".join(parts)


def _linked(entry: Entry) -> str:
    return f"[{entry['title']}]({entry['config']})" if entry["config"] else str(entry["title"])


def _status(entry: Entry) -> str:
    seeds = {seed for by_seed in entry["scores"].values() for seed in by_seed}
    return f"measured, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _mean_and_spread(
    entry: Entry, data_set: str, key: str, factor: float = 1.0, digits: int = 1
) -> str:
    """Mean over the seeds, with their sample standard deviation where there are several."""
    found = entry["scores"].get(data_set, {}).values()
    values = [factor * scores[key] for scores in found if scores.get(key) is not None]
    if not values:
        return _DASH
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _scaled(value: float | None, unit: float) -> str:
    return _DASH if value is None else f"{value / unit:.1f}"


def _text(value: float | int | None, digits: int = 1) -> str:
    if value is None:
        return _DASH
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
