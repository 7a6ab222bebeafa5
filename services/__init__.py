"""Fitloop: labels from Label Studio become a better model, on a cluster or on one machine."""

__version__ = "0.1.0"
