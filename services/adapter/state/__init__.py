"""What an adapter knows and keeps: the board in memory, documents in the bucket, buffered events."""
