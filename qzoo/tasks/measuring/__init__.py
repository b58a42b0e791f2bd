"""What measuring takes: a model is left as it was, only what changed runs again, and the machine is told."""
