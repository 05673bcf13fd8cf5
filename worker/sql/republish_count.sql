-- republish_count: how many facts were frozen.
SELECT count(*) AS total FROM republish
