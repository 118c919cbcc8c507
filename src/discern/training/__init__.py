"""Training: recipes, the loop, checkpoints, and what the machine does fastest."""
