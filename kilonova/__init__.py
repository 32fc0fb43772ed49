"""kilonova: a Nova-compatible compute cloud."""
