"""`python -m evomask photo.jpg`: the command line where no script was installed."""

import sys

from evomask.command import main

sys.exit(main())
