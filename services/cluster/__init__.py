"""The adapter's ports on Kubernetes and KServe; the only package that uses the Kubernetes API."""
