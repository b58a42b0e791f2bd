"""What helps to train quantized models, as pytorch-quantization has it."""
