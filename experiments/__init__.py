"""Entry points: each module is a program, `python -m experiments.NAME key=value ...`, configured by `conf/NAME.yaml`."""

import os

# The screening factorizes small matrices between forward passes. OpenBLAS's threads wait for the next one by spinning,
# on the very cores that the forward pass needs: `OPENBLAS_NUM_THREADS=2 python -m experiments.speed
# 'runs=[forward,explain]'` shows it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy and SciPy are first imported, so before all else
