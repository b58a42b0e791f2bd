"""Names: what each stands for, and the model that it makes."""
