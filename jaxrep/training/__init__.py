"""Trains the bundled models: material, objectives, loop, checkpoints."""
