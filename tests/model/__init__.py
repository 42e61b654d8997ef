"""The specification in code, and histories to try it on: independent of what it judges."""
