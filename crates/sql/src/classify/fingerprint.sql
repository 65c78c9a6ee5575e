SELECT pg_catalog.concat_ws('/', pg_catalog.count(*),
    pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws('.', c.source, c.version, c.id), 0)))
FROM (
    SELECT 1, oid, xmin::text FROM pg_catalog.pg_proc
    UNION ALL SELECT 2, aggfnoid::oid, xmin::text FROM pg_catalog.pg_aggregate
    UNION ALL SELECT 3, oid, xmin::text FROM pg_catalog.pg_operator
    UNION ALL SELECT 4, oid, xmin::text FROM pg_catalog.pg_type
    UNION ALL SELECT 5, oid, xmin::text FROM pg_catalog.pg_cast
    UNION ALL SELECT 6, oid, xmin::text FROM pg_catalog.pg_amproc
    UNION ALL SELECT 7, oid, xmin::text FROM pg_catalog.pg_rewrite
    UNION ALL SELECT 8, oid, xmin::text FROM pg_catalog.pg_policy
    UNION ALL SELECT 9, oid, xmin::text FROM pg_catalog.pg_constraint WHERE contypid <> 0
    UNION ALL SELECT 10, oid, pg_catalog.concat_ws('.', relkind, relpersistence, relname, relnamespace)
        FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S')
    UNION ALL SELECT 12, inhrelid, xmin::text FROM pg_catalog.pg_inherits
    UNION ALL SELECT 13, attrelid, xmin::text FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND attnum > 0
) c(source, id, version)
