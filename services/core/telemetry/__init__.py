"""Logs, metrics and traces, which every process writes in the same shape."""
