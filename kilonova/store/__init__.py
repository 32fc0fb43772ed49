"""Every SQL statement of compute: a module per noun, transactions to Structs."""
