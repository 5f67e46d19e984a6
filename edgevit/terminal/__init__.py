"""What the person at the terminal sees: progress, then lines and tables, or one JSON document."""

from edgevit.terminal.progress import terminal_progress
from edgevit.terminal.results import Terminal
from edgevit.terminal.streams import kept_for_results

__all__ = ["Terminal", "kept_for_results", "terminal_progress"]
