"""One fit by many processes, which torchrun starts: who has which rows, and what they send one another."""
