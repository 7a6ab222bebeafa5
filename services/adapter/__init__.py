"""Label Studio's side: answers its requests from memory, and decides when to train and what to serve."""
