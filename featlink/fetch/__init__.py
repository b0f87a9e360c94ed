"""Data sets and weights from the network, for those who have one."""
