"""The kinds of figures, a file for each; a new one is a file here and a line in `experiments.figures.KINDS`."""
