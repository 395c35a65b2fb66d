"""The generated parts of the model zoo page, and how they get into it."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from transavs.engine.zoo.published import SUBSETS, Family, Group, PublishedRow
from transavs.engine.zoo.runs import Entry
from transavs.evaluation.summary import F_GROUPS

_PART = re.compile(
    r"^<!-- generated: (?P<name>[\w ]+) -->\n(?P<body>.*?)^<!-- end of generated -->$",
    re.MULTILINE | re.DOTALL,
)
_DASH = "-"
_NOT_STATED = "that are not stated, and may differ from row to row"
# Columns of our own measurements, in percent, and their keys.
_MEASURED = {
    "M_J": "M_J",
    "M_J non-empty": "M_J_nonempty",
    "M_F of 1 clip": "M_F_group_1",
    "M_F of 4 clips": "M_F_group_4",
    "G-mIoU non-empty": "G_mIoU",
    "G-mIoU all frames": "G_mIoU_all_frames",
    "G-F of 4 clips": "G_F_group_4",
}


def generated_parts(published: Mapping[str, Group], entries: Sequence[Entry]) -> dict[str, str]:
    """Returns the text of each generated part, by its name.

    Parts are "published NAME" for each table of published numbers, and "measured". Our own rows on
    AVSBench stand in the tables of their family as well, so that they can be compared. A table
    holds one size of the groups of clips that share a threshold in M_F.
    """
    parts = {
        f"published {name}": _published_tables(group, entries) for name, group in published.items()
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


def _published_tables(group: Group, entries: Sequence[Entry]) -> str:
    """The tables of a group: one for each number of clips that share a threshold in M_F."""
    if not group.family.has_f_clips:
        return _published_table(group, group.rows, [], None)
    subsets = _subsets(group)
    tables = []
    for f_clips in sorted({*F_GROUPS, *(row.f_clips for row in group.rows)}, key=_known_first):
        published = [row for row in group.rows if row.f_clips == f_clips]
        ours = []
        # A table of rows that do not say is none to compare with.
        for entry in entries if f_clips else ():
            m_f = f"M_F_group_{f_clips}"
            if any(m_f in scores for scores in _of_family(group.family, subsets, entry)):
                ours.append((entry, _cells_of_ours(group.family, subsets, entry, m_f)))
        if published or ours:
            tables.append(_published_table(group, published, ours, f_clips))
    return "\n\n".join(tables)


def _published_table(
    group: Group,
    published: Sequence[PublishedRow],
    ours: Sequence[tuple[Entry, Sequence[str]]],
    f_clips: int | None,
) -> str:
    """One table: published rows, and below them entries of ours with their cells."""
    family, subsets = group.family, _subsets(group)
    title = f"{group.title} ({family.title})"
    columns = ["method", "backbone", "pixels"]
    own = [_text(f_clips) if f_clips else "not stated"] if family.has_f_clips else []
    if family.has_f_clips:
        columns.insert(2, "M_F group")
        size = f"of {f_clips} clip{'s' if f_clips > 1 else ''}" if f_clips else _NOT_STATED
        title += f", M_F at groups {size}"
    rows = []
    for row in published:
        cells: list[float | None] = []
        for subset in subsets:
            cells += row.cells.get(subset, (None,) * len(family.values))
        links = ", ".join(f"[{subset}]({path})" for subset, path in row.configs.items())
        status = "published" if row.read == "primary" else "published, read second-hand"
        notes = "; ".join(note for note in (row.note, links and f"config here: {links}") if note)
        rows.append(
            [row.method, row.backbone, *own, _text(row.pixels), *map(_text, cells), status, notes]
        )
    for entry, cells_of_ours in ours:
        name, pixels = f"**{_linked(entry)}**", str(entry["pixels"])
        rows.append([name, entry["backbone"], *own, pixels, *cells_of_ours, _status(entry), ""])
    columns += [f"{s} {title}" for s in subsets for title in family.columns(s)]
    return f"{title}:\n\n{_markdown([*columns, 'status', 'notes'], rows)}"


def _subsets(group: Group) -> list[str]:
    return [s for s in SUBSETS if any(s in row.cells for row in group.rows)]


def _known_first(f_clips: int | None) -> tuple[bool, int]:
    return f_clips is None, f_clips or 0


def _of_family(family: Family, subsets: Sequence[str], entry: Entry) -> list[Mapping[str, float]]:
    """Scores of an entry's seeds on the data sets of a family."""
    names = [family.data_sets.get(subset, "") for subset in subsets]
    return [scores for name in names for scores in entry["scores"].get(name, {}).values()]


def _cells_of_ours(family: Family, subsets: Sequence[str], entry: Entry, m_f: str) -> list[str]:
    """Scores of an entry in a family's columns; ``m_f`` is the key of M_F at the table's groups."""
    return [
        _mean_and_spread(entry, family.data_sets.get(subset, ""), m_f if key == "M_F" else key)
        for subset in subsets
        for key in family.columns(subset).values()
    ]


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
                    *(_mean_and_spread(entry, name, key) for key in _MEASURED.values()),
                    _mean_and_spread(entry, name, "FPR", factor=100, digits=2),
                    _scaled(size.get("parameters"), 1e6),
                    _scaled(size.get("macs"), 1e9),
                    _text(entry["speed_ratio"], 2),
                    "measured",
                ]
            )
        columns = ["model", "backbone", "pixels", "seeds", *_MEASURED]
        columns += ["false pixels %", "parameters, M", "MACs, G", "x encoders", "status"]
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
