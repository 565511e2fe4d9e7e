"""Fitting a model: the loop, the trainers and their kernels. It does not read ratings and knows no checkpoints."""
