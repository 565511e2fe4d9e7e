"""The arithmetic of the trainers: compiled for the CPU, batched for CUDA, plain for reference. It knows no settings."""
