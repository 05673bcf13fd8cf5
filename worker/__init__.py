"""The registration worker: HTTP ingress, Kafka consumer, and the commands that operate them."""

import zoneinfo

# "Today" follows from a time zone, and a decision from "today": the pinned tzdata says so on every machine alike.
zoneinfo.reset_tzpath(to=())
