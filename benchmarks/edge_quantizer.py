"""A float32 `.tflite` quantized by LiteRT's own ai-edge-quantizer, dynamic range; run by its own Python.

edgevit does not depend on it, so it lives in a virtual environment of its own:

    python -m venv OTHER && OTHER/bin/pip install ai-edge-quantizer
    python benchmarks/run.py mobile --quantizer OTHER/bin/python
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main(source: Path, out: Path) -> dict[str, str]:
    """Writes `out` by the recipe that LiteRT's documentation begins with; returns the versions."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(source), recipe.dynamic_wi8_afp32()).quantize()
    made.export_model(str(out))
    return {"ai-edge-quantizer": version("ai-edge-quantizer")}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
