"""`python -m training`. The program is `training/cli/program.py`."""

import sys

from training.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
