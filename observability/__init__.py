"""What to watch the service with: alerts and their tests for Prometheus, a dashboard for Grafana."""
