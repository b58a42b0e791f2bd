"""Units of a model: layers, blocks or stages that can be run by themselves, and what each is given and is to give."""
