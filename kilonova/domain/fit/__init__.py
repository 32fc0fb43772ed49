"""Whether a guest fits a host's NUMA cells, CPUs, memory pages and PCI devices, and where."""
