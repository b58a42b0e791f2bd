"""From files to valid recipes: YAML with its lines, variant sets written out, the catalogue of all names."""
