"""The floor of modules and batches: calibrate, evaluate, finetune, export. Knows no name and no recipe file."""
