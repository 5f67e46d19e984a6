"""LiteRT: the float graph and the plan written as a `.tflite` flatbuffer, and its runtime."""
