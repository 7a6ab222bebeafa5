"""What servers and clients of HTTP share: bounds, time limits, tokens, and sentences for what fails."""
