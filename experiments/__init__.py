"""Each module is a program, `python -m experiments.NAME key=value ...`; its folders hold what programs are made of.

In a wheel this package is `evomask.experiments`, so its modules import each other by relative names;
`evomask NAME key=value ...` runs a program in either place.
"""
