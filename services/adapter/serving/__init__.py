"""From a published version to what annotators see: decided, rolled out, put into effect, refreshed in Label Studio."""
