"""What Fitloop costs and gives, measured: `make bench`, or `.venv/bin/python -m bench [name ...]`. See README.md."""
