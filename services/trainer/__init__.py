"""The trainer: turns labels into versions, and ends. The adapter never imports it."""
