"""How the starter weights were made: training, narrowing, embedding, export. Not part of the wheel."""
