"""What an eavesdropper recovers: attackers that rebuild the picture from what crosses the link, and their judge."""
