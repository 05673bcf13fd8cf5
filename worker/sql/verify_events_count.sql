-- verify_events_count: how many facts the events tell, each repeated delivery counted once.
SELECT count(DISTINCT ce_id) AS total FROM verify_events
