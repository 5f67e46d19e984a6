"""What an application embeds: NumPy and one engine, nothing else.

`load` opens the best build of a bundle that runs here, `open_build` a named one without any wrapping.
"""

from edgevit.runtime.model import Model, load
from edgevit.runtime.selection import open_build, runnable

__all__ = ["Model", "load", "open_build", "runnable"]
