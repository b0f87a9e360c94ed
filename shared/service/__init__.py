"""Code shared by all services: settings, health checks, metrics, errors, limits, request ids, clients."""
