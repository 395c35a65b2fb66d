"""Grids of trainings: an ablation with several seeds, run, resumed, evaluated and reported.

``spec`` reads the file that says which trainings, ``run_folder`` knows how far each of them is,
``runner`` starts what is left to do, ``scores`` and ``report`` make tables and a plot of it.
"""

from transavs.engine.grid.commands import Commands, shown_command
from transavs.engine.grid.reader import read_grid
from transavs.engine.grid.report import write_report
from transavs.engine.grid.run_folder import RunFolder, State
from transavs.engine.grid.runner import GridRunner, Outcome
from transavs.engine.grid.spec import Grid, Row, Run

__all__ = [
    "Commands",
    "Grid",
    "GridRunner",
    "Outcome",
    "Row",
    "Run",
    "RunFolder",
    "State",
    "read_grid",
    "shown_command",
    "write_report",
]
