"""Public applications, untouched, below `trubrics-instrument run`: see run.py."""
