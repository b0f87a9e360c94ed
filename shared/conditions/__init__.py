"""Conditions: their language, their names, and the steps they are made of."""
