# One image for every role: ingress, worker, migrations, an operator's commands, and the two example services downstream.
# No BuildKit-only syntax: the classic builder makes it too.

# --- packages ---------------------------------------------------------------------------------------------------------------
# Only this stage hears of a package index, whose address may hold a password: of a stage, a final image has the files that are
# copied from it, and neither its build arguments nor its history.
FROM python:3.13-slim AS packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/telemetry.txt /build/telemetry.txt
# Wheels only, so that no compiler is needed; and no pip in the environment that the image gets.
RUN python -m venv --without-pip /opt/registration \
 && python -m pip --python /opt/registration/bin/python install --require-hashes --only-binary :all: --no-compile -r /build/telemetry.txt

# --- image ------------------------------------------------------------------------------------------------------------------
FROM python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="registration-worker" \
      org.opencontainers.image.description="Onboards private customers: HTTP to Kafka to PostgreSQL to events." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="python:3.13-slim"

COPY --from=packages /opt/registration /opt/registration
COPY migrations /app/migrations
COPY schemas /app/schemas
COPY downstream /app/downstream
COPY tracing /app/tracing
COPY worker /app/worker
# A volume that is first mounted on one of these folders gets its owner and mode (docker-compose.yml).
RUN printf '#!/bin/sh\nexec /opt/registration/bin/python -m worker "$@"\n' > /opt/registration/bin/registration \
 && chmod 755 /opt/registration/bin/registration \
 && install -d -o 10001 -g 10001 -m 700 /run/secrets /data \
 && install -d -o 10001 -g 10001 -m 755 /made /made/brokers /made/postgres
WORKDIR /app
# The root file system may be read-only, so no bytecode is written; PYTHONPATH lets a command be run from any folder.
ENV PATH=/opt/registration/bin:$PATH PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    REGISTRATION_ADMIN_PORT=9100
USER 10001:10001
# Readiness: `docker compose up --wait` and start orders want to know whether it serves. Docker ends nothing that is unhealthy.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["python", "-I", "-S", "worker/healthcheck.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["registration"]
CMD ["--help"]
