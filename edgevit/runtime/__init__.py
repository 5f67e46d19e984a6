"""What an application embeds: NumPy and one engine, nothing else.

`load` opens the best build of a bundle that runs here, `open_build` a named one without any wrapping.
"""

from edgevit.runtime.classify import Classification
from edgevit.runtime.model import Model, load
from edgevit.runtime.selection import open_build, runnable
from edgevit.runtime.texts import Tagging, WordTag
from edgevit.runtime.translate import Translation

__all__ = ["Classification", "Model", "Tagging", "Translation", "WordTag", "load", "open_build", "runnable"]
