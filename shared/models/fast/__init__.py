"""The fast profile: the same network with other implementations of its expensive parts."""
