"""The commands, each a function of its arguments that returns the exit status."""
