"""What `experiments.optimality` is made of: a grid whose masks can all be tried, and the trying."""
