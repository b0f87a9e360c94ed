"""What is fitted to a network once, for steps of the channel that need it."""
