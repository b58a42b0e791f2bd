"""Steps that scale channels from layer to layer, and leave the float function as it is; they come before ranges."""
