"""The model zoo page: what trainings scored and cost, beside what others published."""

from transavs.engine.zoo.page import fill_page, generated_parts
from transavs.engine.zoo.published import PUBLISHED_FILE, Family, Group, read_published
from transavs.engine.zoo.runs import find_runs, format_entries, read_entries, read_entry_file

__all__ = [
    "PUBLISHED_FILE",
    "Family",
    "Group",
    "fill_page",
    "find_runs",
    "format_entries",
    "generated_parts",
    "read_entries",
    "read_entry_file",
    "read_published",
]
