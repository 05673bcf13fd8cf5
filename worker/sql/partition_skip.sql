-- partition_skip: an operator's order to dead-letter one record; the partition's lane sees it at its next look.
-- $1 text topic  $2 int partition  $3 bigint offset of the record  $4 bigint the position that the operator saw
-- No row where the position has moved since: then the partition does not stand still.
UPDATE kafka_offsets SET skip_offset = $3
WHERE topic = $1 AND partition = $2 AND next_offset = $4
RETURNING partition
