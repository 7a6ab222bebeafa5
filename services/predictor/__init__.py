"""Answers for texts behind KServe's protocols, by the versions that the table names. Decides nothing."""
