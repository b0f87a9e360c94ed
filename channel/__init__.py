"""The channel: distorts, codes, loses and delays frames, and counts the bits of the link."""
