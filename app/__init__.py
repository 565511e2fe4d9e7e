"""The service.

Threads of torch's products wait without spinning: the event loop needs the cores too. OpenMP reads this when torch is
imported, so it is said before anything else is.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
