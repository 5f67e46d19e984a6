"""Where tasks run, as a person says it: so many processes here, or the address of a Dask scheduler."""

from __future__ import annotations

import re

import msgspec

from edgevit.errors import InputError

SCHEME = "dask"


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """The default is this process alone."""

    jobs: int | None = None
    """How many tasks at the same time: processes here, by default none beside this one; of a cluster at most so many of
    its workers, by default all."""
    cluster: str = ""
    """HOST:PORT of a Dask scheduler; empty for this machine."""

    @property
    def alone(self) -> bool:
        """Whether this process does all by itself."""
        return not self.cluster and self.jobs in (None, 1)


def workers_of(jobs: int | None, cluster: str | None) -> Workers:
    """From `--jobs` and `--cluster`. Raises InputError for fewer than one job and for another address."""
    if jobs is not None and jobs < 1:
        raise InputError(f"expected --jobs of at least 1, found {jobs}; correct the option")
    return Workers(jobs=jobs, cluster="" if cluster is None else _address(cluster))


def _address(text: str) -> str:
    """`dask://HOST:PORT` to HOST:PORT. A host may be a name, an IPv4 address, or an IPv6 address in brackets."""
    found = re.fullmatch(r"dask://(?P<host>[^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})/?", text)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise InputError(
            f"expected --cluster as {SCHEME}://HOST:PORT, the address that `dask scheduler` prints with tcp:// before "
            f"it, found {text!r}; correct the option"
        )
    return f"{found['host']}:{int(found['port'])}"
