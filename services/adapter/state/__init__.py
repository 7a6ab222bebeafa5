"""What an adapter knows and keeps: the board in memory, its documents in the bucket, buffered events."""
