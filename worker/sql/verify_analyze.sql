-- verify_analyze: tell the planner what the check has put into its temporary tables; nobody else does for those.
ANALYZE verify_offsets, verify_outbox, verify_events, verify_letters
