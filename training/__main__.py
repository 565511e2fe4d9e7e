"""`python -m training`. The program is `training/cli/program.py`."""

import os
import sys

from training.cli.program import main
from training.launch import started_by_torchrun

if __name__ == "__main__":
    code = main()
    if started_by_torchrun():  # threads of torch.distributed go on, and sometimes abort a process that exits normally
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
