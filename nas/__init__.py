"""The search: price, score, time and choose architectures."""
