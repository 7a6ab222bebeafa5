"""What is asked of the adapter over HTTP, by Label Studio, people and programs: answered from the board, at once.

Nothing here decides: what somebody wants done is a hint or a command that is left with the Desk.
"""
