"""The ``ray`` engine: images spread over workers, on this machine or on a Ray cluster."""
