"""From labels in Label Studio to ended runs: polled, decided, queued, started, counted, deleted."""
