"""The service.

While torch's threads wait, they do not spin, because the event loop needs the cores too. OpenMP reads the variable when
torch is imported, so this module sets it before anything else is imported. The launcher asks for GPUs through NVML: it
forks the workers, and CUDA, once asked, works in no process that is forked later.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
