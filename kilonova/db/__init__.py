"""Databases as a mechanism: run one transaction, migrate, types; tables of compute below."""
