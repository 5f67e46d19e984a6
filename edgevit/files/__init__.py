"""Files that are complete or absent: digests, atomic writes, and paths that cannot leave their directory."""

from edgevit.files.paths import check_relative, inside, sha256
from edgevit.files.staging import is_workplace, staged_directory, staged_file, write_atomic

__all__ = ["check_relative", "inside", "is_workplace", "sha256", "staged_directory", "staged_file", "write_atomic"]
