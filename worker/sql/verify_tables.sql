-- verify_tables: what the check keeps for the length of its session: digests and ids, no personal data.
-- No parameters; several commands. Temporary: no log is written for them, and they go with the session, however it ends.
CREATE TEMPORARY TABLE verify_offsets (partition integer PRIMARY KEY, next_offset bigint NOT NULL);
CREATE TEMPORARY TABLE verify_outbox (
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  kind text NOT NULL,
  PRIMARY KEY (partition, "offset", kind)
);
CREATE TEMPORARY TABLE verify_events (
  registration_id text NOT NULL,
  tenant_id text NOT NULL,
  status text NOT NULL,
  ce_id text NOT NULL,
  digest bigint NOT NULL
);
CREATE TEMPORARY TABLE verify_letters (
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  digest bigint NOT NULL
);
CREATE INDEX ON verify_letters (partition, "offset")
