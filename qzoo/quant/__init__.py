"""The fake-quant core: arithmetic, quantizers, quantized layers, collectors and solvers. Knows torch only."""
