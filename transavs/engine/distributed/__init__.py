"""Several processes on one or several machines: who they are, their start, and their end.

A job whose process dies ends as a whole, on every machine, with that process's own error.
"""

from transavs.engine.distributed.failure import Failure, JobFailed
from transavs.engine.distributed.job import Job, add_job_arguments, job_of
from transavs.engine.distributed.launch import launch

__all__ = ["Failure", "Job", "JobFailed", "add_job_arguments", "job_of", "launch"]
