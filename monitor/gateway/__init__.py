"""Gateways: who is asking, whether the session still stands, and what a refused client is told."""
