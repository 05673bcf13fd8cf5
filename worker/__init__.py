"""The registration worker: HTTP ingress, Kafka consumer, and the commands that operate them."""
