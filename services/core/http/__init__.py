"""Shared by HTTP servers and clients: size limits, time limits, tokens, and messages for failures."""
