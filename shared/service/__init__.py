"""What every service has: settings, health, metrics, problems, limits, request ids, clients."""
