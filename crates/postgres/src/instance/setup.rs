//! What a new primary needs before it is announced: roles, the routers' function, the table of the write probe, and
//! the first database. Everything is made only if it is missing, so that any primary may be asked at any time.

use postgres_protocol::password::scram_sha_256;
use rand::Rng;
use tokio_postgres::Client;

use super::{REPLICATION_ROLE, ROUTER_ROLE};
use crate::error::Error;
use crate::registers::AppSecret;

/// 32 letters and digits: 190 bits.
pub fn random_password() -> String {
    let mut rng = rand::rng();
    (0..32).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

/// Whether [`prepare_primary`] has been through: the schema is made last, and the routers may see what replicas receive.
pub async fn is_prepared(client: &Client) -> Result<bool, Error> {
    let row = client.query_one(PREPARED, &[]).await?;
    Ok(row.get(0))
}

/// Makes what is missing.
///
/// # Errors
/// What PostgreSQL said; it may be called again.
pub async fn prepare_primary(client: &Client, app: &AppSecret) -> Result<(), Error> {
    make_role(client, REPLICATION_ROLE, "LOGIN REPLICATION").await?;
    make_role(client, ROUTER_ROLE, "LOGIN").await?;
    // Only the verifier is sent: PostgreSQL's log and statistics never see the password.
    let verifier = scram_sha_256(app.password.as_bytes());
    make_role(client, &app.user, &format!("LOGIN PASSWORD {}", literal(&verifier))).await?;
    let exists = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&app.database]).await?;
    if exists.is_none() {
        let (database, owner) = (identifier(&app.database), identifier(&app.user));
        client.batch_execute(&format!("CREATE DATABASE {database} OWNER {owner}")).await?;
    }
    client.batch_execute(SCHEMA).await?;
    Ok(())
}

async fn make_role(client: &Client, name: &str, options: &str) -> Result<(), Error> {
    if client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&name]).await?.is_none() {
        client.batch_execute(&format!("CREATE ROLE {} {options}", identifier(name))).await?;
    }
    Ok(())
}

const PREPARED: &str = "SELECT to_regclass('tiebeam.heartbeat') IS NOT NULL
    AND EXISTS (SELECT FROM pg_auth_members WHERE member = to_regrole('tiebeam_router')
                AND roleid = to_regrole('pg_read_all_stats'))";

/// The functions are those that pg_rewind reads with (PostgreSQL documentation, "pg_rewind", Notes). `verifier` gives
/// the routers what they check a client's password against; never a superuser's. By `pg_read_all_stats` they see the
/// timeline that a replica receives: its own checkpoint tells that only minutes after a failover.
const SCHEMA: &str = "
BEGIN;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO tiebeam_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO tiebeam_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO tiebeam_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO tiebeam_replication;
CREATE SCHEMA IF NOT EXISTS tiebeam;
CREATE OR REPLACE FUNCTION tiebeam.verifier(role_name text) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ SELECT rolpassword FROM pg_catalog.pg_authid
          WHERE rolname = role_name AND rolcanlogin AND NOT rolsuper AND NOT rolreplication
            AND (rolvaliduntil IS NULL OR rolvaliduntil > pg_catalog.now()) $$;
REVOKE ALL ON FUNCTION tiebeam.verifier(text) FROM PUBLIC;
GRANT pg_read_all_stats TO tiebeam_router;
GRANT USAGE ON SCHEMA tiebeam TO tiebeam_router;
GRANT EXECUTE ON FUNCTION tiebeam.verifier(text) TO tiebeam_router;
CREATE TABLE IF NOT EXISTS tiebeam.heartbeat (one boolean PRIMARY KEY DEFAULT true CHECK (one), at timestamptz NOT NULL);
INSERT INTO tiebeam.heartbeat (at) VALUES (now()) ON CONFLICT DO NOTHING;
COMMIT;
";

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Only for text without backslashes: a verifier is base64, `$`, `:` and digits.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
