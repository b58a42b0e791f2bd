"""Rules of quantized graphs, by what they look at: pairs of operators, layers, tensors, additions, processors."""
