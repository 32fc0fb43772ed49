"""Every SQL statement of Placement: functions ``(tx, …)`` that give and take Structs."""
