"""Each module is a program, `python -m experiments.NAME key=value ...`; its folders hold what programs are made of."""
