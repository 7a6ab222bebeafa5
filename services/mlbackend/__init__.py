"""Model classes of users (`LabelStudioMLBase` and alike): each runs in a process of its own, and only there.

`process` starts such a process and calls its class, `worker` is its code, `workers` keeps one for each served version.
"""
