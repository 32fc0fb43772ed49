"""The bus: calls, casts and publications, in process or over RabbitMQ."""
