"""A KServe model server for the versions that the serving table names."""
