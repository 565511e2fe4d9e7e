"""What tests and benchmarks share. It knows the programs and public functions of Ratecast, and nothing of pytest."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
