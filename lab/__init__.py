"""A local EC2 for tests, demos and benchmarks: `lab/run CMD...` (see docs/lab.md)."""
