# Writes nothing, and belongs to the primary all the same: volatile functions, and what tells about one server.
SELECT random()
SELECT clock_timestamp()
SELECT * FROM pg_settings
SELECT pg_relation_size('orders'), pg_size_pretty(pg_total_relation_size('orders'))
SHOW transaction_read_only
SHOW in_hot_standby
SELECT gen_random_uuid()
SELECT * FROM pg_stat_activity
SELECT pg_is_in_recovery()
