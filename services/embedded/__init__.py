"""The adapter's ports over one machine: children for trainers, this process for predictions, a lock on the folder."""
