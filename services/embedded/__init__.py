"""The adapter's ports on one machine: child processes train, this process predicts, a folder lock elects the leader."""
