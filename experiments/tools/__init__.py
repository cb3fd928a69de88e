"""Run by hand, now and then: reference implementations, conversion of weights."""
