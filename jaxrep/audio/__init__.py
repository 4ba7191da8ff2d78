"""From waveforms to what the speech encoders read, in JAX, inside the jit."""
