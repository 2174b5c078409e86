"""Speed beside PyTorch, beside what else is done in its place, and beside the machine: python -m benchmarks."""
