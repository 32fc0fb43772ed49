"""The neighbours of a compute cloud, small: each could be lifted out into a repository of its own."""
