-- verify_offsets: where each partition of the commands stands; what is committed later is not the check's concern.
-- $1 text topic
INSERT INTO verify_offsets (partition, next_offset)
SELECT partition, next_offset FROM kafka_offsets WHERE topic = $1
RETURNING partition, next_offset
