"""The starter bundle: synthetic scenes, a small trained detector, and the scripts that made both."""
