"""The service.

While torch's threads wait, they do not spin, because the event loop needs the cores too. OpenMP reads the variable when
torch is imported, so this module sets it before anything else is imported.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
