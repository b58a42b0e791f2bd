"""Small random networks of all the parts that people write, the same for a seed: `random_network(seed)`."""
