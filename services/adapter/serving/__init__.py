"""From a published version to what annotators see: decided, brought to all who answer, told of, refreshed in Label Studio."""
