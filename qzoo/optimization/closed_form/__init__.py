"""Steps that are computed, without learning, from what passes through the model once or a few times."""
