"""The training loop: checkpoints, checks, optimizers and schedules."""
