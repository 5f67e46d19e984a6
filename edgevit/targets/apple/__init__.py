"""Core ML: a torch program converted to an ML program, and the package read back to see what landed in it."""
