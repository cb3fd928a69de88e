"""What `experiments.speed` times, and against what."""
