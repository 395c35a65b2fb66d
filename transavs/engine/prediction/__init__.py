"""Prediction of whole manifests of films and clips, on one machine or on many.

Modules, lowest first: `manifest` lists the items, `settings` says how they are predicted, `rows`
predicts one, `worker` and `guarded_worker` do it in a process that may die, `local` and `on_ray`
have many of them, `parquet_files`, `set_aside` and `store` keep what comes back, `run` joins all
of it, and `reader` reads the results.

Needs the extras ``predict`` and ``video``.
"""

from transavs.engine.prediction.manifest import Item, read_manifest
from transavs.engine.prediction.reader import PredictedFrame, read_predictions
from transavs.engine.prediction.run import Execution, Summary, predict_manifest
from transavs.engine.prediction.settings import Settings

__all__ = [
    "Execution",
    "Item",
    "PredictedFrame",
    "Settings",
    "Summary",
    "predict_manifest",
    "read_manifest",
    "read_predictions",
]
