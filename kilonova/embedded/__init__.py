"""Neighbours a whole cloud needs, built in: each could live in a repository of its own."""
