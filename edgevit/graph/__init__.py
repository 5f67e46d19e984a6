"""Capture with torch.export, lowering to ONNX, and small passes over the graph, each in a file of its own.

`capture.capture` and `lower.lower` make the float ONNX of a model; `layers.quantizable_layers` says what can be
quantized in it; `execute.Executor` runs any of its tensors. Nothing here knows about scales or engines' builds.
"""
