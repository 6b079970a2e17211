"""Phones and model files: find a device, time a model on it, keep every sample."""
