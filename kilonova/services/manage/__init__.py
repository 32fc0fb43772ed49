"""What ``nova-manage`` does: one module per area."""
