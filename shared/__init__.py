"""Code shared by the services: wire format, feature maps, conditions, models, evaluation, storage, service layer."""
