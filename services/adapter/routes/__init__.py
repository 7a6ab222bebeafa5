"""Routes for Label Studio, browsers and programs, answered from the board.

Routes decide nothing: change notices and commands go to the event sink, for the leader.
"""
