import os
import subprocess
import sys

import pytest

from training.fit.kernels.jit import run_tasks

PROGRAM = """
import sys
from numba.core.caching import CacheImpl
if "nowhere" in sys.argv:
    CacheImpl._locator_classes = []
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from numba.core import event
import torch
from training.fit.kernels.grouping import Triplets, group
one = torch.zeros(1, dtype=torch.int32)
with event.install_recorder("numba:compile") as recorder:
    for _ in range(2):
        group(Triplets(one, one, torch.zeros(1), 1, 1))
print(len(recorder.buffer) > 0)
"""

WEIGHTED = """
from numba.core import event
import torch
from training.fit.kernels.als_cpu import CpuRows, compile_for
from training.fit.kernels.als_rows import HalfStep
from training.fit.kernels.grouping import Triplets, group
compile_for(8, distributed=False, weighted=True)
one = torch.zeros(1, dtype=torch.int32)
rows = CpuRows(group(Triplets(one, one, torch.zeros(1), 1, 1, torch.ones(1))))
with event.install_recorder("numba:compile") as recorder:
    rows.solve(HalfStep(torch.zeros(1, 8), torch.ones(1), 1.0), torch.zeros(1, 8))
print(len(recorder.buffer))
"""


def run_program(cache, *arguments, program=PROGRAM):
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_kernels_are_compiled_once_and_kept_where_the_environment_says(tmp_path):
    compiled, log = run_program(tmp_path)
    assert (compiled, log.count("compiling kernels;")) == ("True", 1)
    assert list(tmp_path.rglob("*.nbc"))
    compiled, log = run_program(tmp_path)
    assert (compiled, log) == ("False", "")


@pytest.mark.slow
def test_nothing_is_left_to_compile_when_a_fit_to_weighted_ratings_begins(tmp_path):
    """Else its seconds are told as those of the fit."""
    assert run_program(tmp_path, program=WEIGHTED)[0] == "0"


@pytest.mark.slow
def test_kernels_work_where_nothing_can_be_kept(tmp_path):
    compiled, log = run_program(tmp_path, "nowhere")
    assert (compiled, list(tmp_path.iterdir())) == ("True", [])
    assert "set NUMBA_CACHE_DIR" in log


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_the_tasks(threads):
    assert run_tasks(threads, divmod, [(n, 7) for n in range(50)]) == [divmod(n, 7) for n in range(50)]
