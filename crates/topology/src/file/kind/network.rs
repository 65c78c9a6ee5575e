//! Addresses: of a machine, of a server, of what listens. Names of hosts are never looked up here.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::{Kind, Shape, text};
use crate::problem::{Findings, quoted};

/// The address of a machine.
pub(crate) struct Address;

impl Shape for Address {
    fn wanted(&self) -> String {
        "an IP address".into()
    }
    fn example(&self) -> String {
        "something like \"10.0.0.1\" or \"fd00::1\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] })
    }
}

impl Kind for Address {
    type Value = IpAddr;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<IpAddr> {
        let text = text(what, self, value, findings)?;
        let help = match text.parse() {
            Ok(address) if unicast(address) => return Some(address),
            Ok(_) => {
                "write the one address by which the other nodes reach this one, not \"any\" or a group's"
            }
            Err(_) if text.parse::<SocketAddr>().is_ok() => "leave out the port: each section has its own",
            Err(_) => "write the address itself, for instance \"10.0.0.1\"; names are not looked up",
        };
        findings.add(
            value.span(),
            format!("{what} is not the address of one machine: \"{}\"", quoted(&text)),
            help,
        );
        None
    }
}

fn unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}

/// A network of machines, or one machine.
pub(crate) struct Network;

impl Shape for Network {
    fn wanted(&self) -> String {
        "a network".into()
    }
    fn example(&self) -> String {
        "something like \"10.0.0.0/8\", or one address".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
    }
}

impl Kind for Network {
    type Value = IpNet;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<IpNet> {
        let text = text(what, self, value, findings)?;
        let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let help = match read {
            Some(network) if network.addr() == network.network() => return Some(network),
            // Either the length is wrong or the address is: who guesses would open a door.
            Some(network) => format!("that length leaves \"{}\"", network.trunc()),
            None => format!("write {}; names are not looked up", self.example()),
        };
        findings.add(value.span(), format!("{what} is not a network: \"{}\"", quoted(&text)), help);
        None
    }
}

/// The address and port of a server.
pub(crate) struct Socket;

impl Shape for Socket {
    fn wanted(&self) -> String {
        "an address and a port".into()
    }
    fn example(&self) -> String {
        "something like \"10.0.0.9:3000\"".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^.+:[0-9]+$" })
    }
}

impl Kind for Socket {
    type Value = SocketAddr;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<SocketAddr> {
        let text = text(what, self, value, findings)?;
        let help = match text.parse::<SocketAddr>() {
            Ok(socket) if unicast(socket.ip()) && socket.port() != 0 => return Some(socket),
            Ok(socket) if socket.port() == 0 => {
                "port 0 cannot be connected to: write the server's port".into()
            }
            Ok(_) => "write the address of one server, not \"any\" or a group's".into(),
            Err(_) if text.parse::<IpAddr>().is_ok() => {
                format!("the port is missing: \"{}\"", with_port(&text))
            }
            Err(_) => {
                "write address and port, for instance \"10.0.0.9:3000\"; names are not looked up".into()
            }
        };
        findings.add(value.span(), format!("{what} is not a server's address: \"{}\"", quoted(&text)), help);
        None
    }
}

fn with_port(address: &str) -> String {
    if address.contains(':') { format!("[{address}]:3000") } else { format!("{address}:3000") }
}

/// Where something listens.
pub(crate) struct Listen;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ListenAt {
    At(SocketAddr),
    /// `":6432"`: this port on each node's own address.
    NodeAddress(NonZeroU16),
}

impl Shape for Listen {
    fn wanted(&self) -> String {
        "an address and a port, or a colon and a port".into()
    }
    fn example(&self) -> String {
        "something like \"127.0.0.1:6432\", or \":6432\" for that port on each node's own address".into()
    }
    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^.*:[0-9]+$" })
    }
}

impl Kind for Listen {
    type Value = ListenAt;
    fn read(&self, what: &str, value: &Spanned<DeValue<'_>>, findings: &Findings<'_>) -> Option<ListenAt> {
        let text = text(what, self, value, findings)?;
        let listen = match text.strip_prefix(':') {
            Some(port) => port.parse().ok().map(ListenAt::NodeAddress),
            None => text.parse().ok().filter(listenable).map(ListenAt::At),
        };
        if listen.is_none() {
            let message = format!("{what} cannot listen on \"{}\"", quoted(&text));
            findings.add(value.span(), message, format!("write {}", self.example()));
        }
        listen
    }
}

fn listenable(socket: &SocketAddr) -> bool {
    socket.port() != 0 && (unicast(socket.ip()) || socket.ip().is_unspecified())
}
