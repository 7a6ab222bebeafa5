"""Shared by every process: documents, stores, settings, telemetry, Label Studio's API. Imports no other package of services."""
