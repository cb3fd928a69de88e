"""What `experiments.benchmark` is made of: image sets, the protocol, run folders, operators of the ablations."""
