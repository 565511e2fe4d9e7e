"""The arithmetic of the trainers, apart from what they decide: compiled for the CPU, batched for CUDA, plain for reference."""
