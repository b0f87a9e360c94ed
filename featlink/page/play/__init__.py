"""The playground: one picture, one condition, and what arrives."""
