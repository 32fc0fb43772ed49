"""The neighbours of a compute cloud, small; each could be a repository of its own."""
