"""The leader: reconciles all projects in one thread, one after the other, a step of each at a time."""
