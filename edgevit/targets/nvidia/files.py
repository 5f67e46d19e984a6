"""The names of a build's files."""

ENGINE = "model.engine"
ONNX = "model.onnx"
"""What the engine was compiled from; with it a device can compile its own."""
LAYERS = "layers.json"
"""The table of layers, as an `Execution`."""
KIT = "kit.json"
TIMINGS = "timing.cache"
