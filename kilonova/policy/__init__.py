"""Policy: tables of rules with Nova's names, and the enforcer on oslo.policy."""
