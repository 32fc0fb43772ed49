"""The compute agent: does on its host what the conductor asks, and tells what happens there."""
