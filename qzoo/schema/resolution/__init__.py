"""From a recipe to quantizers: layers of rules merged into one variant, bound to a model as a plan."""
