"""What the leader does in its thread: reconcile all projects, one after the other, a step of each at a time."""
