WITH RECURSIVE
tree(kind, id, tree) AS (
    SELECT 'r', r.ev_class, r.ev_action::text FROM pg_catalog.pg_rewrite r
        JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE c.relkind = 'v' AND r.ev_type = '1' AND r.oid >= 16384
    UNION ALL SELECT 'r', p.polrelid, pg_catalog.concat(p.polqual::text, p.polwithcheck::text) FROM pg_catalog.pg_policy p
    UNION ALL SELECT 't', c.contypid, c.conbin::text FROM pg_catalog.pg_constraint c
        WHERE c.contypid <> 0 AND c.conbin IS NOT NULL AND c.oid >= 16384
    UNION ALL SELECT 'f', p.oid, p.proargdefaults::text FROM pg_catalog.pg_proc p WHERE p.proargdefaults IS NOT NULL
),
mention(kind, id, field, target) AS (
    SELECT t.kind, t.id, m[1], m[2]::oid FROM tree t, LATERAL pg_catalog.regexp_matches(t.tree,
        ':(funcid|opfuncid|aggfnoid|winfnoid|opno|eqop|sortop|relid|resulttype) (\d+)', 'g') m
    WHERE m[2] <> '0'
),
aggregate(id, part) AS (
    SELECT a.aggfnoid::oid, part FROM pg_catalog.pg_aggregate a, LATERAL (VALUES (a.aggtransfn::oid), (a.aggfinalfn::oid),
        (a.aggcombinefn::oid), (a.aggserialfn::oid), (a.aggdeserialfn::oid), (a.aggmtransfn::oid),
        (a.aggminvtransfn::oid), (a.aggmfinalfn::oid)) parts(part) WHERE part <> 0
),
edge(kind, id, to_kind, to_id) AS (
    SELECT DISTINCT kind, id, CASE WHEN field IN ('opno', 'eqop', 'sortop') THEN 'o' WHEN field = 'relid' THEN 'r'
        WHEN field = 'resulttype' THEN 't' ELSE 'f' END, target FROM mention
    UNION ALL SELECT 'f', id, 'f', part FROM aggregate
    UNION ALL SELECT 'o', oid, 'f', oprcode::oid FROM pg_catalog.pg_operator
    UNION ALL SELECT 'r', inhparent, 'r', inhrelid FROM pg_catalog.pg_inherits
    UNION ALL SELECT 'r', a.attrelid, 't', a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT 't', t.oid, e.kind, e.id FROM pg_catalog.pg_type t, LATERAL (VALUES ('t', t.typbasetype),
        ('t', t.typelem), ('r', t.typrelid)) e(kind, id) WHERE e.id <> 0
    UNION ALL SELECT 't', rngtypid, 't', rngsubtype FROM pg_catalog.pg_range
    UNION ALL SELECT 't', rngmultitypid, 't', rngtypid FROM pg_catalog.pg_range
),
bad(kind, id) AS (
    SELECT 'f', oid FROM pg_catalog.pg_proc WHERE provolatile = 'v'
    UNION SELECT 'r', oid FROM pg_catalog.pg_class WHERE relkind IN ('f', 'S')
        OR relpersistence = 'u' OR (relkind = 'v' AND relnamespace = 'pg_catalog'::pg_catalog.regnamespace)
    UNION SELECT 't', t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc p ON p.oid IN
        (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin) WHERE p.provolatile = 'v'
    UNION SELECT e.kind, e.id FROM edge e JOIN bad b ON b.kind = e.to_kind AND b.id = e.to_id
),
function(id, name, args, optional, many, first, unsafe) AS (
    SELECT p.oid, p.proname, p.pronargs, p.pronargdefaults, p.provariadic, p.proargtypes[0], b.id IS NOT NULL
    FROM pg_catalog.pg_proc p LEFT JOIN bad b ON b.kind = 'f' AND b.id = p.oid
)
SELECT 'function' AS kind, name::text AS name, pg_catalog.bool_or(unsafe) AS unsafe FROM function GROUP BY name
UNION ALL SELECT DISTINCT 'attribute', f.name::text, true FROM function f JOIN pg_catalog.pg_type t ON t.oid = f.first
    WHERE f.unsafe AND (f.args - f.optional <= 1 OR f.many <> 0) AND ((t.typtype IN ('c', 'p', 'd')
        AND t.typname NOT IN ('internal', 'cstring')) OR EXISTS (
        SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type s ON s.oid = c.castsource
        WHERE c.casttarget = t.oid AND c.castcontext = 'i' AND s.typtype = 'c'))
UNION ALL SELECT 'operator', o.oprname::text, pg_catalog.bool_or(b.id IS NOT NULL) FROM pg_catalog.pg_operator o
    LEFT JOIN bad b ON b.kind = 'o' AND b.id = o.oid GROUP BY o.oprname
UNION ALL SELECT DISTINCT 'name', c.relname::text, true FROM bad b JOIN pg_catalog.pg_class c ON c.oid = b.id
    WHERE b.kind = 'r'
UNION ALL SELECT DISTINCT 'name', t.typname::text, true FROM bad b JOIN pg_catalog.pg_type t ON t.oid = b.id
    WHERE b.kind = 't'
UNION ALL SELECT DISTINCT CASE WHEN c.castcontext = 'i' OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
        THEN 'everything' ELSE 'name' END, t.typname::text, true FROM pg_catalog.pg_cast c
    JOIN bad b ON b.kind = 'f' AND b.id = c.castfunc JOIN pg_catalog.pg_type t ON t.oid = c.casttarget
UNION ALL SELECT DISTINCT 'everything', o.oprname::text, true FROM bad b JOIN pg_catalog.pg_operator o ON o.oid = b.id
    WHERE b.kind = 'o' AND o.oprname IN ('=', '<>', '<', '>', '<=', '>=', '~~', '!~~', '~~*', '!~~*', '~', '!~')
UNION ALL SELECT DISTINCT 'everything', p.proname::text, true FROM pg_catalog.pg_amproc s
    JOIN pg_catalog.pg_opfamily f ON f.oid = s.amprocfamily JOIN pg_catalog.pg_am a ON a.oid = f.opfmethod
    JOIN bad b ON b.kind = 'f' AND b.id = s.amproc JOIN pg_catalog.pg_proc p ON p.oid = s.amproc
    WHERE a.amname IN ('btree', 'hash')
UNION ALL SELECT 'function', word::text, false FROM pg_catalog.pg_get_keywords()
    WHERE catcode = 'C' AND word LIKE 'json%'
ORDER BY 1, 2
