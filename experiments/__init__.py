"""Each module here is a program: `python -m experiments.NAME key=value ...`, configured by `conf/NAME.yaml`."""
