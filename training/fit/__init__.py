"""Fitting: the loop, the trainers, their kernels. It knows neither files nor checkpoints."""
