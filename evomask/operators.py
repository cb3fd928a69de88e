"""The operators by their public name, `evomask.operators`; they live in `evomask.search.operators`."""

from evomask.search.operators import *  # noqa: F403
from evomask.search.operators import __all__ as __all__
