"""From labels in Label Studio to runs that are over: watched, decided on, launched, counted, cleared away."""
