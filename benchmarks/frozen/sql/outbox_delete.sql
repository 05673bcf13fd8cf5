-- outbox_delete: remove messages that Kafka has acknowledged, only while the partition is mine.
-- $1 text topic  $2 int partition  $3 uuid my owner  $4 bigint[] offsets  $5 text[] kinds
-- Returns a row where it is mine. The share lock keeps a claim from coming between: after a failover an offset can be written
-- again, and a late delete would remove another's event.
WITH mine AS (
  SELECT FROM kafka_offsets WHERE topic = $1 AND partition = $2 AND owner = $3 FOR SHARE
), gone AS (
  DELETE FROM outbox AS o
  USING unnest($4::bigint[], $5::text[]) AS d (command_offset, kind)
  WHERE o.command_topic = $1 AND o.command_partition = $2
    AND o.command_offset = d.command_offset AND o.kind = d.kind
    AND EXISTS (SELECT FROM mine)
)
SELECT FROM mine
