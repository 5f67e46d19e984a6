"""The directory on disk: manifest, checksums, golden inputs, verification. Light enough for a device."""

from edgevit.bundle.golden import GOLDEN, inputs_of, read_golden, write_golden
from edgevit.bundle.manifest import (
    DRAFT,
    MANIFEST,
    SCHEMA,
    CalibrationFacts,
    EvaluationFacts,
    Manifest,
    describe_directory,
    describe_file,
    read_manifest,
    write_manifest,
)
from edgevit.bundle.opening import Bundle, Check, FileProblem, open_bundle, verify_files

__all__ = [
    "DRAFT",
    "GOLDEN",
    "MANIFEST",
    "SCHEMA",
    "Bundle",
    "CalibrationFacts",
    "Check",
    "EvaluationFacts",
    "FileProblem",
    "Manifest",
    "describe_directory",
    "describe_file",
    "inputs_of",
    "open_bundle",
    "read_golden",
    "read_manifest",
    "verify_files",
    "write_golden",
    "write_manifest",
]
