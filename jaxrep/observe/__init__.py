"""What a run costs: stages in seconds, programs, padding, memory, traces."""
