"""What the targets `tensorrt-rtx` and `tensorrt` share; each module is one concept.

    architectures   GPU architectures, and what each can execute
    profiles        optimization profiles from the signature: min, opt and max of every dynamic dimension
    lint            what TensorRT would refuse or, worse, misread in a Q/DQ graph
    prepare         the graph as TensorRT gets it: decomposed attention, half precision around float32 norms
    network         ONNX to a serialized engine, through NVIDIA's Python API
    log_table       the builder's verbose log read into a table of layers
    engine_file     the first 64 bytes of an engine: version, size, architectures
    simulation      the numerics of float16 and bfloat16, executed without a GPU
    device          is there a GPU, which one; CUDA's memory, streams and graphs behind a thin interface
    session         an engine executed over that interface
    dlpack          arrays that are already on the device
    kit             everything needed to finish a build on the device
    triton          a model repository for NVIDIA's Triton server

Nothing here imports NVIDIA's packages at import time.
"""
