"""The front door: authenticates, checks, hashes the password, publishes one command, and waits for its outcome."""

from worker.ingress.app import create_app
from worker.ingress.server import Ports, serve, serving

__all__ = ["Ports", "create_app", "serve", "serving"]
