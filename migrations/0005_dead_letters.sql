-- What operators do to dead letters, kept for whoever asks later; and since when a partition stands where it stands.
-- Nothing here is granted to a group: dead letters are looked into and sent again by the owner alone (README, "Database roles").

CREATE TABLE dead_letter_reveals (
  reveal_id bigint GENERATED ALWAYS AS IDENTITY,
  topic text NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  revealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  revealed_by text NOT NULL,
  login text NOT NULL DEFAULT session_user,
  reason text NOT NULL,
  CONSTRAINT dead_letter_reveals_pk PRIMARY KEY (reveal_id),
  CONSTRAINT dead_letter_reveals_by_somebody CHECK (revealed_by <> ''),
  CONSTRAINT dead_letter_reveals_for_a_reason CHECK (reason ~ '\S')
);
COMMENT ON TABLE dead_letter_reveals IS 'Who saw what a dead letter holds, when and why: written before anything is shown. Rows never change and never go.';
COMMENT ON COLUMN dead_letter_reveals.login IS 'The role that was logged in, beside the name that the operator gave.';

CREATE TABLE dead_letter_redrives (
  topic text NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  recorded_at timestamptz NOT NULL,
  status text NOT NULL DEFAULT 'taken',
  taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  taken_by text NOT NULL,
  login text NOT NULL DEFAULT session_user,
  sent_at timestamptz,
  sent_partition integer,
  sent_offset bigint,
  CONSTRAINT dead_letter_redrives_pk PRIMARY KEY (topic, partition, "offset", recorded_at),
  CONSTRAINT dead_letter_redrives_outcome CHECK (
    status = 'taken' AND sent_at IS NULL AND sent_partition IS NULL AND sent_offset IS NULL
    OR status = 'sent' AND sent_at IS NOT NULL AND sent_partition IS NOT NULL AND sent_offset IS NOT NULL
  )
);
COMMENT ON TABLE dead_letter_redrives IS 'Each dead letter that was sent again: noted before and after, so that none is sent twice but one whose fate nobody knows.';
COMMENT ON COLUMN dead_letter_redrives.recorded_at IS 'Of the letter: a topic made anew counts its offsets again.';
COMMENT ON COLUMN dead_letter_redrives.status IS 'taken: nobody knows whether it was sent, so it is sent again; sent: Kafka has it.';

CREATE FUNCTION reveals_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'who saw a dead letter is never changed or removed';
END
$$;
CREATE TRIGGER dead_letter_reveals_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_reveals
FOR EACH STATEMENT EXECUTE FUNCTION reveals_never_change();

-- Operators write reasons as they like: no sample of them (README, "Privacy").
ALTER TABLE dead_letter_reveals ALTER COLUMN reason SET STATISTICS 0;

-- By a trigger, so that a worker of the release before notes it too. Rows that are here already moved nobody knows when.
ALTER TABLE kafka_offsets ADD COLUMN moved_at timestamptz;
ALTER TABLE kafka_offsets ALTER COLUMN moved_at SET DEFAULT clock_timestamp();
COMMENT ON COLUMN kafka_offsets.moved_at IS 'Since when next_offset is what it is; null where nobody noted it.';
CREATE FUNCTION position_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.moved_at := clock_timestamp();
  RETURN NEW;
END
$$;
CREATE TRIGGER kafka_offsets_moved BEFORE UPDATE OF next_offset ON kafka_offsets
FOR EACH ROW WHEN (NEW.next_offset <> OLD.next_offset) EXECUTE FUNCTION position_moved();
