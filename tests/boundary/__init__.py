"""On the real servers: the doors to Kafka and PostgreSQL, what goes through them, and the commands of an operator."""
