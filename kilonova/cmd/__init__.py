"""Entry points: one module per command."""
