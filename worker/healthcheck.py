"""
Asks this container's own admin port whether it is ready: the image's HEALTHCHECK, run as `python -I -S healthcheck.py`.

It imports nothing of ours, so that a look every few seconds costs 30 ms and not a start of the whole worker.
"""

import http.client
import os
import sys

TIMEOUT_S = 2


def main() -> int:
    """Return 0 where `/readyz` says so; else print its reasons, which `docker inspect` shows."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["REGISTRATION_ADMIN_PORT"]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read().decode())  # noqa: T201 - for docker inspect
    except OSError as error:
        print(f"no answer from the admin port: {error}")  # noqa: T201 - likewise
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
