"""ONNX Runtime Web: its files from the npm package, the page that uses them, and a browser that executes it here."""
