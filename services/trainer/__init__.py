"""Turns labels into a version: reads, splits, trains, judges, exports, publishes. Ends, and is never imported by the adapter."""
