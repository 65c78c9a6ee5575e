//! A server of a pool: its address alone, or a table that says more of it.

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, Socket, wrong_type};
use crate::PoolServer;
use crate::file::keys;
use crate::file::reader::{Located, Reader, Section};
use crate::problem::Findings;

/// With the section of its table.
pub(crate) struct Server(pub &'static Section);

/// A server, where its address stands, and where its weight does, if it is written.
pub(crate) struct WrittenServer {
    pub server: PoolServer,
    pub address: Located<std::net::SocketAddr>,
    pub weight: Option<std::ops::Range<usize>>,
}

impl Shape for Server {
    fn wanted(&self) -> String {
        format!("{} or a table", Socket.wanted())
    }
    fn example(&self) -> String {
        Socket.example()
    }
    fn schema(&self) -> Value {
        json!({ "oneOf": [Socket.schema(), crate::schema::table(self.0)] })
    }
}

impl Kind for Server {
    type Value = WrittenServer;
    fn read(
        &self,
        what: &str,
        value: &Spanned<DeValue<'_>>,
        findings: &Findings<'_>,
    ) -> Option<WrittenServer> {
        match value.get_ref() {
            DeValue::String(_) => {
                let address = Socket.read(what, value, findings)?;
                let server = PoolServer { address, weight: 1, backup: false, drain: false };
                let address =
                    Located { value: address, span: value.span(), key: value.span(), written: true };
                Some(WrittenServer { server, address, weight: None })
            }
            DeValue::Table(table) => {
                let reader = Reader::new(self.0, value.span(), table, findings);
                let weight = reader.get(&keys::server::WEIGHT);
                let (backup, drain) =
                    (reader.get(&keys::server::BACKUP).value, reader.get(&keys::server::DRAIN).value);
                let address = reader.find(&keys::server::ADDRESS)?;
                let server = PoolServer {
                    address: address.value,
                    weight: u32::try_from(weight.value).unwrap_or(u32::MAX),
                    backup,
                    drain,
                };
                Some(WrittenServer { server, address, weight: weight.written.then_some(weight.span) })
            }
            _ => {
                wrong_type(what, self, value, findings);
                None
            }
        }
    }
}
