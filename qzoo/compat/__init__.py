"""Coming from elsewhere: a stand-in for pytorch-quantization, and state dicts of it and of Model-Optimizer."""
