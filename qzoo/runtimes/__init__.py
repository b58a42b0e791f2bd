"""Models outside of PyTorch: ONNX graphs with explicit quantization, one runtime a file.

A fake-quantized model becomes a graph in which each quantizer is one QuantizeLinear/DequantizeLinear pair of exactly
its scale. What a runtime needs besides (`Runtime`) is done by passes over the graph, and held against rules (`lint`).
"""
