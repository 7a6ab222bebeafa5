"""Benchmarks of speed, memory and accuracy: `make bench`, or `.venv/bin/python -m bench [name ...]`. See README.md."""
