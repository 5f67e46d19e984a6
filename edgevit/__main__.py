"""`python -m edgevit` is the command `edgevit`."""

from edgevit.cli import main

main()
