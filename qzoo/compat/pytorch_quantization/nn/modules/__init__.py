"""The quantized modules, one kind a file."""
