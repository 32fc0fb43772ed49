"""The neighbours of a compute cloud, small enough to be lifted out one by one."""
