"""What the leader does in its thread: all projects, one after the other, a step of each at a time."""
