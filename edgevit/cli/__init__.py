"""The command line: parses and prints, holds no logic.

Exit status: 0 done and within budget; 1 a build is out of its parity budget or fails verification; 2 bad input or
usage; 3 the target is not available on this machine; 130 interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

from edgevit.cli import exporting, measuring, sweeping, using
from edgevit.cli.application import app, main

__all__ = ["app", "exporting", "main", "measuring", "sweeping", "using"]
