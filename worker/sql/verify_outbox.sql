-- verify_outbox: which messages are committed and not known to be published, as of the positions in `verify_offsets`.
-- $1 text topic
-- Read after them: what is no longer here was acknowledged, so it is on its topic. Returns how many there are.
WITH kept AS (
  INSERT INTO verify_outbox (partition, "offset", kind)
  SELECT command_partition, command_offset, kind FROM outbox WHERE command_topic = $1
  RETURNING 1
)
SELECT count(*) AS total FROM kept
