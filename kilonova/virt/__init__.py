"""Virt drivers: islands behind one Protocol, sharing the device model."""
