"""What the services share: the wire, the pyramid, conditions, the model split, the service layer."""
