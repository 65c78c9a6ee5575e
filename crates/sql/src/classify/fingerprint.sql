SELECT concat_ws('/', count(*), sum(pg_catalog.hashtextextended(concat(c.source, '.', c.version, '.', c.id), 0)))
FROM (
    SELECT 1, oid, xmin FROM pg_catalog.pg_proc
    UNION ALL SELECT 2, aggfnoid::oid, xmin FROM pg_catalog.pg_aggregate
    UNION ALL SELECT 3, oid, xmin FROM pg_catalog.pg_operator
    UNION ALL SELECT 4, oid, xmin FROM pg_catalog.pg_type
    UNION ALL SELECT 5, oid, xmin FROM pg_catalog.pg_cast
    UNION ALL SELECT 6, oid, xmin FROM pg_catalog.pg_amproc
    UNION ALL SELECT 7, oid, xmin FROM pg_catalog.pg_rewrite
    UNION ALL SELECT 8, oid, xmin FROM pg_catalog.pg_policy
    UNION ALL SELECT 9, oid, xmin FROM pg_catalog.pg_constraint WHERE contypid <> 0
    UNION ALL SELECT 10, oid, NULL FROM pg_catalog.pg_class WHERE relkind IN ('f', 'v', 'c', 'p', 'S')
    UNION ALL SELECT 14, oid, NULL FROM pg_catalog.pg_class WHERE relpersistence = 'u'
    UNION ALL SELECT 11, relnamespace, NULL FROM pg_catalog.pg_class WHERE relkind = 'f'
    UNION ALL SELECT 12, inhrelid, xmin FROM pg_catalog.pg_inherits
    UNION ALL SELECT 13, attrelid, xmin FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND attnum > 0
) c(source, id, version)
