"""Tasks on several processes, of this machine or of a Dask cluster, through joblib.

A task is a function of a module and a value; neither knows where it runs. Results come back whole or not at all: what a
killed process had begun is begun again elsewhere, and work that cannot go on ends with one line.
"""

from edgevit.cluster.pool import Pool, Work, opened
from edgevit.cluster.workers import Workers, workers_of

__all__ = ["Pool", "Work", "Workers", "opened", "workers_of"]
