"""A stand-in for the library label-studio-ml, which is on no package index: the interface that it documents, in our words."""
