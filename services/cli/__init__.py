"""The command line, `fitloop …`."""
