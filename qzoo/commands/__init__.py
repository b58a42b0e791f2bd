"""The floor of names and files: one file a command of the shell; names, settings and folders in, results out."""
