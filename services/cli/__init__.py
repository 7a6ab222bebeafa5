"""`fitloop …`: the highest room of the arrow, for people at a terminal."""
