# Each is Class::Write.
INSERT INTO orders (id) VALUES (1)
insert into orders select * from orders
INSERT INTO orders DEFAULT VALUES RETURNING id
UPDATE orders SET total = 1 WHERE id = 1
DELETE FROM orders
DELETE FROM orders WHERE id = 1 RETURNING *
MERGE INTO orders o USING items i ON o.id = i.id WHEN MATCHED THEN DELETE
TRUNCATE orders
COPY orders FROM STDIN
COPY orders TO STDOUT
COPY (SELECT 1) TO STDOUT
CREATE TABLE x (id int)
CREATE TABLE x AS SELECT 1
CREATE UNLOGGED TABLE x (id int)
CREATE INDEX ON orders (id)
CREATE OR REPLACE VIEW v AS SELECT 1
CREATE TABLE temporary_things (id int)
CREATE TABLE "temp" (id int)
CREATE MATERIALIZED VIEW m AS SELECT 1
CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END
CREATE RULE r AS ON INSERT TO orders DO ALSO (SELECT 1; SELECT 2)
ALTER TABLE orders ADD COLUMN x int
ALTER SYSTEM SET work_mem = '1MB'
ALTER ROLE a SET search_path = x
DROP TABLE orders
GRANT SELECT ON orders TO PUBLIC
REVOKE SELECT ON orders FROM PUBLIC
COMMENT ON TABLE orders IS 'select'
SECURITY LABEL ON TABLE orders IS 'x'
ANALYZE orders
VACUUM orders
REINDEX TABLE orders
CLUSTER orders USING orders_pkey
CHECKPOINT
REFRESH MATERIALIZED VIEW m
CALL p()
DO $$ BEGIN PERFORM 1; END $$
EXECUTE q
EXECUTE q(1)
FETCH ALL FROM c
FETCH 1 FROM c
MOVE c
CLOSE c
DECLARE c CURSOR FOR SELECT 1
DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1
LOCK TABLE orders
NOTIFY channel
NOTIFY channel, 'payload'
SAVEPOINT a
RELEASE SAVEPOINT a
ROLLBACK TO SAVEPOINT a
ROLLBACK TO a
PREPARE TRANSACTION 'a'
COMMIT PREPARED 'a'
ROLLBACK PREPARED 'a'
COMMIT AND CHAIN
ROLLBACK AND CHAIN
IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c
SET LOCAL work_mem = '1MB'
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
SET TRANSACTION READ ONLY
SET TRANSACTION SNAPSHOT 'a'
SET CONSTRAINTS ALL DEFERRED
SET LOCAL search_path TO x
SELECT * INTO x FROM orders
SELECT 1 INTO x
SELECT INTO x
SELECT 1 AS a INTO TABLE x
SELECT 1 INTO UNLOGGED x
WITH a AS (SELECT 1) SELECT * INTO x FROM a
SELECT * FROM orders FOR UPDATE
SELECT * FROM orders for no key update
SELECT * FROM orders FOR SHARE
SELECT * FROM orders FOR KEY SHARE
SELECT * FROM orders o FOR UPDATE OF o NOWAIT
SELECT * FROM orders FOR SHARE SKIP LOCKED
SELECT * FROM orders FOR/**/SHARE
SELECT * FROM orders FOR--⏎UPDATE
SELECT * FROM (SELECT * FROM orders FOR UPDATE) x
SELECT 1 AS for FROM orders FOR SHARE
SELECT 1 WHERE EXISTS (SELECT 1 FROM orders FOR KEY SHARE)
WITH a AS (INSERT INTO orders (id) VALUES (1) RETURNING id) SELECT * FROM a
WITH a AS (DELETE FROM orders RETURNING *) SELECT * FROM a
WITH a AS (UPDATE orders SET total = 1 RETURNING *) TABLE a
WITH a AS (SELECT 1) INSERT INTO orders SELECT * FROM orders
WITH a AS (SELECT 1), b AS MATERIALIZED (DELETE FROM orders RETURNING 1) SELECT 1
WITH a AS (SELECT 1) DELETE FROM orders
with A as(dElEtE from orders returning 1)select 1
EXPLAIN ANALYZE SELECT 1
EXPLAIN ANALYSE DELETE FROM orders
EXPLAIN (ANALYZE) SELECT 1
EXPLAIN (COSTS OFF, ANALYZE) SELECT 1
EXPLAIN (ANALYZE, FORMAT JSON) DELETE FROM orders
EXPLAIN DELETE FROM orders
EXPLAIN EXECUTE q
EXPLAIN CREATE TABLE x AS SELECT 1
EXPLAIN DECLARE c CURSOR FOR SELECT 1
EXPLAIN
SHOW
SELECT nextval('numbers')
SELECT NEXTVAL ('numbers')
SELECT "nextval"('numbers')
SELECT pg_catalog.nextval('numbers')
SELECT nextval/**/('numbers')
SELECT nextval--⏎('numbers')
SELECT pg_catalog . nextval ( 'numbers' )
SELECT 1 WHERE nextval('numbers') > 0
SELECT DISTINCT ON (id) nextval('numbers') FROM orders
SELECT 1 OPERATOR(pg_catalog.+) nextval('numbers')
SELECT * FROM orders ORDER BY nextval('numbers')
SELECT CASE WHEN nextval('numbers') > 1 THEN 1 END
SELECT ARRAY[nextval('numbers')]
SELECT coalesce(NULL, nextval('numbers'))
SELECT TREAT('numbers' AS nextval)
SELECT * FROM nextval('numbers') AS n
SELECT * FROM orders, nextval('numbers') AS (n int)
SELECT * FROM ROWS FROM (nextval('numbers')) AS n
VALUES (nextval('numbers'))
EXPLAIN SELECT nextval('numbers')
SELECT setval('numbers', 1)
SELECT pg_notify('a', 'b')
SELECT pg_sleep(1)
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT pg_walfile_name('0/0')
SELECT pg_current_wal_lsn()
SELECT pg_switch_wal()
SELECT pg_terminate_backend(1)
SELECT pg_reload_conf()
SELECT pg_advisory_xact_lock(1)
SELECT pg_try_advisory_xact_lock(1)
SELECT pg_export_snapshot()
SELECT lo_create(0)
SELECT lo_import('/x')
SELECT pg_read_file('x')
SELECT query_to_xml('select 1', true, true, '')
SELECT table_to_xml('ticket', true, true, '')
SELECT schema_to_xml('public', true, true, '')
SELECT unheard_of(1)
SELECT public.unheard_of(1)
SELECT "Upper"('a')
SELECT touch(1)
SELECT mixed(1)
SELECT other.mixed('a')
SELECT orders.audit FROM orders
SELECT (o).audit FROM orders o
SELECT (o).AUDIT FROM orders o
SELECT o."audit" FROM orders o
SELECT audit(o) FROM orders o
SELECT stepped(1)
SELECT stepped_sum(id) FROM orders
SELECT id +!+ 1 FROM orders
SELECT id OPERATOR(public.+!+) 1 FROM orders
SELECT 1 +!+2
SELECT * FROM ticket
SELECT * FROM public.ticket
SELECT * FROM "ticket"
TABLE ticket
SELECT * FROM Tickets_Twice
SELECT * FROM by_operator
SELECT 1::checked_int
SELECT CAST(1 AS checked_int)
SELECT checked_int '1'
SELECT '{1}'::checked_int[]
SELECT '{1}'::_checked_int
SELECT * FROM with_domain
SELECT '(1,{})'::with_domain
SELECT * FROM guarded
SELECT * FROM far
SELECT * FROM parts
SELECT * FROM parts_there
SELECT 1::box_of
SELECT * FROM orders TABLESAMPLE bernoulli(10)
SELECT * FROM orders TABLESAMPLE system (10)
SELECT * FROM pg_locks
SELECT * FROM pg_catalog.pg_stat_replication
SELECT 'unterminated
SELECT "unterminated
SELECT /* unterminated
SELECT $$unterminated
SELECT $a$ $b$
SELECT E'\'
SELECT 1 \ 2
SELECT {fn now()}
SELECT ""
SELECT 'a\'; DELETE FROM orders; --'
SELECT 1; DELETE FROM orders
DELETE FROM orders; SELECT 1
BEGIN; SELECT 1; COMMIT
BEGIN; DELETE FROM orders; COMMIT
BEGIN READ ONLY; SELECT 1
SELECT 1; COMMIT
COMMIT; BEGIN
SELECT 1; SELECT nextval('numbers')
SELECT ';'; INSERT INTO orders (id) VALUES (1)
SELECT $$;$$; INSERT INTO orders (id) VALUES (1)
/* SELECT 1 */ DELETE FROM orders
--SELECT⏎DELETE FROM orders
-- SELECT 1; ⏎ DROP TABLE orders
SELECT --⏎nextval('numbers')
SELECT /* /* */ nextval('numbers') -- */ 1 ⏎ */ + nextval('numbers')
SELECT $a$ $a$, nextval('numbers'), $a$ $a$
SELECT E'\\', nextval('numbers'), E'\\'
SELECT E'\'', nextval('numbers'), '\'
SELECT 'a''', nextval('numbers'), '''b'
SELECT "a", nextval('numbers'), "b" FROM orders
SELEC 1
FROM orders
42
(
)
(((
( DELETE FROM orders )
foo bar
BEGIN nonsense
BEGIN ISOLATION LEVEL nonsense
START
"select" 1
'select'
$1
SELECT DISTINCT ON (id) unheard_of(name) FROM orders
SELECT 1 OPERATOR(pg_catalog.+) unheard_of(id) FROM orders
