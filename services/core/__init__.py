"""What every process shares: documents, stores, settings, Label Studio's API. Imports no other room."""
