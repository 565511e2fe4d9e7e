"""`python -m ratecast`."""

import sys

from ratecast.program import main

if __name__ == "__main__":
    sys.exit(main())
