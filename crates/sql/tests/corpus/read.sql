# One statement a line; ⏎ stands for a line break. Each only reads, and is Class::Read.
SELECT 1
select 1;
 ; SELECT 1 ; ;
SELECT
SELECT 1 AS one, 2 two, 'three' AS "Three"
SELECT NULL, TRUE, FALSE
SELECT $1
SELECT $1::bigint + $2::bigint
SELECT * FROM customers
SELECT*FROM customers
SELECT * FROM customers WHERE id = 1
SELECT * FROM customers WHERE id = $1
SELECT id, name FROM customers WHERE email LIKE 'a%' ORDER BY name
SELECT id FROM customers WHERE name ILIKE '%smith%' AND NOT active
SELECT id FROM customers WHERE name NOT LIKE '%\%%'
SELECT id FROM customers WHERE name SIMILAR TO '(a|b)%'
SELECT id FROM customers WHERE name LIKE ('a' || '%')
SELECT id FROM customers WHERE id IN (1, 2, 3)
SELECT id FROM customers WHERE id IN (SELECT customer_id FROM orders)
SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE customer_id IS NOT NULL)
SELECT id FROM customers WHERE id = ANY ($1)
SELECT id FROM customers WHERE id = ANY(ARRAY[1, 2, 3])
SELECT id FROM customers WHERE id = SOME (SELECT 1)
SELECT id FROM customers WHERE id > ALL (SELECT 1)
SELECT id FROM customers WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = customers.id)
SELECT id FROM customers WHERE id BETWEEN 1 AND 10
SELECT id FROM customers WHERE id BETWEEN (1) AND (10)
SELECT id FROM customers WHERE id BETWEEN SYMMETRIC 10 AND 1
SELECT id FROM customers WHERE (id, name) = (1, 'a')
SELECT id FROM customers WHERE city IS NULL OR city IS DISTINCT FROM 'Rome'
SELECT id FROM customers WHERE active IS TRUE
SELECT id FROM customers LIMIT 10
SELECT id FROM customers LIMIT ALL OFFSET 5
SELECT id FROM customers OFFSET 5 ROWS FETCH NEXT 3 ROWS ONLY
SELECT id FROM customers ORDER BY id FETCH FIRST ROW ONLY
SELECT id FROM customers ORDER BY id FETCH FIRST 2 ROWS WITH TIES
SELECT count(*) FROM customers
SELECT COUNT ( * ) FROM customers
SELECT count(DISTINCT city) FROM customers
SELECT city, count(*) FROM customers GROUP BY city HAVING count(*) > 1
SELECT city, count(*) FROM customers GROUP BY (city)
SELECT city, count(*) FROM customers GROUP BY 1 ORDER BY 2 DESC NULLS LAST
SELECT city, active, count(*) FROM customers GROUP BY GROUPING SETS ((city), (active), ())
SELECT city, active, count(*), grouping(city) FROM customers GROUP BY ROLLUP (city, active)
SELECT city, active, count(*) FROM customers GROUP BY CUBE (city, active)
SELECT sum(total), avg(total), min(total), max(total) FROM orders
SELECT sum(total) FILTER (WHERE state = 'paid') FROM orders
SELECT string_agg(name, ', ' ORDER BY name) FROM customers
SELECT array_agg(id ORDER BY id DESC) FROM customers
SELECT json_agg(c) FROM customers c
SELECT jsonb_build_object('id', id, 'name', name) FROM customers
SELECT json_object_agg(id, name) FROM customers
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders
SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY placed) FROM orders
SELECT id, rank() OVER w, lag(total, 1) OVER w FROM orders WINDOW w AS (PARTITION BY customer_id ORDER BY total)
SELECT id, sum(total) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM orders
SELECT id, sum(total) OVER (ORDER BY id RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES) FROM orders
SELECT id, first_value(id) OVER (PARTITION BY (customer_id) ORDER BY (id)) FROM orders
SELECT DISTINCT city FROM customers
SELECT DISTINCT ON (city) city, id FROM customers ORDER BY city, id
SELECT ALL city FROM customers
SELECT c.name, o.total FROM customers c JOIN orders o ON o.customer_id = c.id
SELECT c.name, o.total FROM customers AS c INNER JOIN orders AS o ON (o.customer_id = c.id)
SELECT c.name, o.total FROM customers c LEFT JOIN orders o ON o.customer_id = c.id WHERE o.id IS NULL
SELECT c.name FROM customers c RIGHT OUTER JOIN orders o ON o.customer_id = c.id
SELECT c.name FROM customers c FULL JOIN orders o ON o.customer_id = c.id
SELECT * FROM customers CROSS JOIN orders
SELECT * FROM customers NATURAL JOIN orders
SELECT * FROM orders JOIN items USING (id)
SELECT * FROM orders o JOIN (SELECT order_id, sum(quantity) AS n FROM items GROUP BY order_id) i ON i.order_id = o.id
SELECT * FROM (SELECT 1 AS a) AS s
SELECT * FROM (SELECT 1, 2) AS s (a, b)
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, t)
SELECT * FROM orders AS o (x, y), LATERAL (SELECT x + 1) AS l(z)
SELECT * FROM customers c, LATERAL unnest(c.tags) AS tag
SELECT * FROM customers c LEFT JOIN LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id LIMIT 1) x ON TRUE
SELECT * FROM ONLY (orders)
SELECT * FROM orders *
SELECT * FROM generate_series(1, 10)
SELECT * FROM generate_series(1, 10) AS g(n)
SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(n, i)
SELECT * FROM ROWS FROM (generate_series(1, 3), unnest(ARRAY['a', 'b'])) AS r(n, t)
SELECT * FROM json_to_record('{"a": 1}') AS x(a int, b text)
SELECT * FROM jsonb_to_recordset('[{"a": 1}]') AS x(a numeric(10, 2))
SELECT * FROM jsonb_array_elements_text('["a"]')
SELECT info->'a', info->>'b', info#>'{a,b}', info#>>'{a,b}' FROM customers
SELECT id FROM customers WHERE info @> '{"a": 1}'
SELECT id FROM customers WHERE info ? 'a' AND info ?| ARRAY['a'] AND info ?& ARRAY['b']
SELECT id FROM customers WHERE info @? '$.a' OR info @@ '$.a == 1'
SELECT jsonb_path_query(info, '$.a[*] ? (@ > 1)') FROM customers
SELECT id FROM customers WHERE tags && ARRAY['x'] OR tags @> '{y}' OR 'z' = ANY (tags)
SELECT tags[1], tags[1:2] FROM customers
SELECT (info->>'age')::int FROM customers
SELECT CAST(total AS integer) FROM orders
SELECT CAST('1' AS numeric(10, 2)), CAST('a' AS varchar(10)), CAST('2020-01-01' AS timestamp(3) with time zone)
SELECT '1'::numeric(10, 2), 'a'::character varying(5), 'a'::pg_catalog.bpchar(3), '{1}'::int[]
SELECT date '2020-01-01', timestamp '2020-01-01 00:00', interval '1 day', interval '1' day, time '10:00'
SELECT timestamp with time zone '2020-01-01'
SELECT int4 '5', float8 '1.5', bool 't'
SELECT now(), current_date, current_timestamp, localtime, current_timestamp(3), CURRENT_TIME(0)
SELECT current_user, session_user, user, current_schema, current_catalog, current_role
SELECT current_schema(), current_database(), version()
SELECT now() AT TIME ZONE 'UTC'
SELECT now() AT TIME ZONE ('UTC')
SELECT date_trunc('day', placed), extract(year FROM placed), EXTRACT(EPOCH FROM placed) FROM orders
SELECT date_part('hour', placed), age(placed), to_char(placed, 'YYYY-MM-DD') FROM orders
SELECT (date '2020-01-01', date '2020-02-01') OVERLAPS (date '2020-01-15', date '2020-03-01')
SELECT coalesce(note, ''), nullif(state, ''), greatest(1, 2), LEAST(1, 2) FROM orders
SELECT CASE WHEN total > 1 THEN 'a' WHEN (total < 0) THEN ('b') ELSE 'c' END FROM orders
SELECT CASE state WHEN 'paid' THEN 1 ELSE (2) END FROM orders
SELECT upper(name), lower(name), length(name), trim(name), btrim(name), ltrim(name, 'x') FROM customers
SELECT trim(BOTH 'x' FROM name), trim(leading from name) FROM customers
SELECT substring(name FROM 1 FOR 2), substring(name, 1, 2), substring(name from 'a.') FROM customers
SELECT position('a' IN name), overlay(name PLACING 'x' FROM 1 FOR 2), strpos(name, 'a') FROM customers
SELECT left(name, 1), right(name, 1), replace(name, 'a', 'b'), reverse(name) FROM customers
SELECT name || ' ' || coalesce(city, '') FROM customers
SELECT concat(name, city), concat_ws(',', name, city), format('%s', name), md5(name) FROM customers
SELECT regexp_replace(name, 'a+', 'b'), regexp_matches(name, 'a', 'g'), split_part(name, ' ', 1) FROM customers
SELECT id FROM customers WHERE name ~ '^a' AND name !~ 'b$' AND name ~* 'c' AND name !~~ 'd'
SELECT normalize(name), name IS NORMALIZED FROM customers
SELECT name COLLATE "C" FROM customers ORDER BY name COLLATE "C"
SELECT collation for (name) FROM customers
SELECT abs(-1), round(1.5), round(1.25, 1), floor(1.5), ceil(1.2), mod(5, 3), power(2, 3), sqrt(4), pi()
SELECT 1 + 2 - 3 * 4 / 5 % 6, 6 ^ 7, |/ 25.0, ||/ 27.0, @ -5, ~1, 1 & 2, 1 | 2, 1 # 2, 1 << 2, 1 >> 2
SELECT 1+-1, 2*-3, 1 - -1, - 5, + 5
SELECT 1 <> 2, 1 != 2, 1 <= 2, 1 >= 2, 1 < 2, 1 > 2
SELECT 1 OPERATOR(pg_catalog.+) 2
SELECT pg_catalog.upper('a'), pg_catalog.count(*) FROM customers
SELECT "upper"('a')
SELECT upper/* a comment */('a')
SELECT upper -- a comment⏎('a')
SELECT ARRAY[1, 2], ARRAY[[1], [2]], ARRAY(SELECT id FROM customers), ARRAY[]::int[]
SELECT ROW(1, 2), (1, 2), ROW(1, 'a') = ROW(1, 'a')
SELECT (c).name FROM customers c
SELECT (c).* FROM customers c
SELECT c.* FROM customers c
SELECT c FROM customers c
SELECT public.customers.name FROM public.customers
SELECT to_tsvector('english', name) @@ plainto_tsquery('english', 'a') FROM customers
SELECT ts_rank(to_tsvector(name), to_tsquery('a & b')), ts_headline(name, to_tsquery('a')) FROM customers
SELECT inet '10.0.0.1' << inet '10.0.0.0/8', host(inet '10.0.0.1/8')
SELECT '[1,5)'::int4range @> 3, int4range(1, 5), lower(int4range(1, 5))
SELECT point(1, 2) <-> point(3, 4), box '((0,0),(1,1))'
SELECT xmlelement(name a, xmlattributes('b' AS c), 'd'), xmlforest(name), xmlconcat(NULL) FROM customers
SELECT encode('a'::bytea, 'hex'), decode('61', 'hex'), sha256('a'), '\x61'::bytea
SELECT 'it''s', E'it\'s', E'a\nb', $$it's$$, $q$ $$ ; DELETE FROM orders $q$, U&'d\0061t', B'101', X'1F', N'a'
SELECT 'insert update delete; -- /* '
SELECT '--' AS a, '/*' AS b, ';' AS c
SELECT 'C:\dir\file'
SELECT 'a'⏎'b'
SELECT 1 /* insert */ -- delete
SELECT 1 /* outer /* inner ; DELETE */ still */ + 1
/* hint */ SELECT 1
-- first⏎SELECT 1
SELECT 1--⏎+1
--⏎--⏎SELECT 1 -- end
SELECT 1.5, .5, 5., 1e10, 1.5E-3, 1e+3
SELECT "select", "update" AS "delete", "Order" FROM orders
SELECT o."update" FROM orders o
SELECT o.update, o.select FROM orders o
SELECT "a b" FROM "Mixed Case"
SELECT länge FROM größe
SELECT 'größe', 'Ünïcödé', '日本語', '🙂'
SELECT id AS "für", id "né" FROM größe
SELECT id AS values FROM orders
SELECT id AS select, 1 AS from FROM orders
SELECT deleted FROM (SELECT true AS deleted) inserted
SELECT updated_at, insert_count, into_x, for_update FROM (SELECT 1 updated_at, 2 insert_count, 3 into_x, 4 for_update) x
VALUES (1, 'a'), (2, 'b')
VALUES (1), (2) ORDER BY 1 LIMIT 1
TABLE customers
TABLE ONLY orders
(SELECT 1)
((SELECT 1))
(SELECT 1) UNION (SELECT 2)
( VALUES (1) )
SELECT 1 UNION SELECT 2
SELECT 1 UNION ALL SELECT 2 INTERSECT SELECT 3 EXCEPT SELECT 4
SELECT 1 UNION ALL (SELECT 2 ORDER BY 1 LIMIT 1)
WITH a AS (SELECT 1 AS n) SELECT * FROM a
WITH a (n) AS (SELECT 1) SELECT n FROM a
WITH a AS MATERIALIZED (SELECT 1 AS n) SELECT * FROM a
WITH a AS NOT MATERIALIZED (SELECT 1 AS n) SELECT * FROM a
WITH a AS (SELECT 1 AS n), b AS (SELECT n + 1 AS m FROM a) SELECT * FROM a, b
WITH a(n) AS (SELECT 1), b(m) AS (SELECT n FROM a), c(x, y) AS MATERIALIZED (TABLE "Mixed Case") SELECT * FROM c
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT sum(n) FROM t
WITH RECURSIVE tree(id, parent, depth) AS (SELECT id, parent, 0 FROM items WHERE parent IS NULL UNION ALL SELECT i.id, i.parent, t.depth + 1 FROM items i JOIN tree t ON i.parent = t.id) SELECT * FROM tree
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SEARCH DEPTH FIRST BY n SET o SELECT * FROM t
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) CYCLE n SET c USING p SELECT * FROM t
WITH a AS (WITH b AS (SELECT 1 AS n) SELECT * FROM b) SELECT * FROM a
WITH a AS (VALUES (1)) TABLE a
EXPLAIN SELECT * FROM customers
EXPLAIN VERBOSE SELECT 1
EXPLAIN (COSTS OFF) SELECT * FROM orders
EXPLAIN (FORMAT JSON, COSTS false, VERBOSE) SELECT * FROM orders
EXPLAIN (SELECT 1)
EXPLAIN (COSTS OFF) (SELECT 1)
EXPLAIN WITH a AS (SELECT 1) SELECT * FROM a
EXPLAIN TABLE orders
SHOW ALL
SHOW server_version
show search_path;
SHOW TIME ZONE
SHOW TRANSACTION ISOLATION LEVEL
SHOW standard_conforming_strings
SHOW SESSION AUTHORIZATION
SELECT 1; SELECT 2
SELECT 1;; SHOW all;
SELECT * FROM recent
SELECT price_of(1), public.price_of(2), "price_of"(3)
SELECT PRICE_OF(1)
SELECT audit.id FROM orders audit
SELECT stepped.id FROM orders AS stepped
SELECT current_setting('server_version'), pg_typeof(1), obj_description(1, 'pg_class'), to_regclass('orders')
SELECT pg_size_pretty(10::bigint)
SELECT has_table_privilege('orders', 'select'), pg_get_userbyid(10), format_type(23, -1)
SELECT relname FROM pg_class WHERE relkind = 'r'
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'orders'::regclass
SELECT make_date(2020, 1, 1), make_interval(days => 3), make_interval(days := 3)
SELECT width_bucket(5, 0, 10, 5), trunc(1.5), sign(-2), ln(2), exp(1), log(10)
SELECT cardinality(tags), array_length(tags, 1), array_to_string(tags, ','), array_position(tags, 'a') FROM customers
SELECT bool_and(active), bool_or(active), every(active) FROM customers
SELECT max(c.id) FROM customers AS c WHERE c.created >= now() - interval '7 days' AND c.city = $1
SELECT o.id FROM orders o WHERE o.total > (SELECT avg(total) FROM orders) ORDER BY o.total DESC LIMIT $1 OFFSET $2
SELECT abalance FROM (SELECT 1 AS abalance, 2 AS aid) pgbench_accounts WHERE aid = 12345
select t.id, t.name from (select id, name from customers where id>10) t where t.name<>'x' or t.id=-1
SELECT "customers"."id" AS "t0_id", "customers"."name" AS "t0_name" FROM "customers" WHERE "customers"."id" = $1 LIMIT $2
SELECT DISTINCT "orders"."id", "orders"."placed" AS alias_0 FROM "orders" LEFT OUTER JOIN "items" ON "items"."order_id" = "orders"."id" WHERE "items"."sku" IN ($1, $2) ORDER BY "orders"."placed" DESC LIMIT 25
SELECT c0."id", c0."name" FROM "customers" AS c0 WHERE (c0."id" = ANY($1)) ORDER BY c0."id"
select c1_0.id,c1_0.name from customers c1_0 where c1_0.id=$1 and c1_0.active=true
SELECT 1 AS "exists" FROM "customers" WHERE "customers"."email" = $1 LIMIT 1
SELECT COUNT(*) AS "__count" FROM "orders" WHERE ("orders"."state" = 'paid' AND UPPER("orders"."note"::text) LIKE UPPER('%a%'))
SELECT * FROM (SELECT 1, 2) s (a, b)
SELECT x FROM unnest(ARRAY[1]) u(x) JOIN (VALUES (1, 2)) v(y, z) ON y = x
