"""The adapter's ports over Kubernetes and KServe. The only room that knows the Kubernetes API."""
