"""ExecuTorch with XNNPACK: lowering, the report of what was delegated, the program file, and the session."""
