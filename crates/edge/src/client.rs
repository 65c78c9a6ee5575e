//! Who is at the other end of a connection, and for whom a request on it was made.
//!
//! These are two questions: a proxy may stand between. What it says is believed only from where the file trusts it.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tiebeam_topology::Proxies;

use crate::codec::{self, Fault, RequestHead};
use crate::proxy_protocol::Route;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who is at the other end, and how it came here.
#[derive(Clone)]
pub struct Client {
    pub address: IpAddr,
    pub scheme: Scheme,
    /// Apart, so that an idle connection is small, and streams share it.
    more: Rc<More>,
}

struct More {
    /// The address as text.
    text: String,
    /// With its ports; what a header of the PROXY protocol said, if there was one.
    route: Route,
    /// The name asked for by SNI.
    name: Option<String>,
}

/// For whom a request was made, and how that came to the first proxy that is trusted.
pub struct Origin<'a> {
    pub client: IpAddr,
    pub scheme: Scheme,
    /// The client's address and those of the proxies between it and this edge, with `, ` between them.
    pub chain: Cow<'a, str>,
    /// The host that was asked for there.
    pub host: Option<&'a [u8]>,
}

impl Client {
    pub fn new(route: Route, scheme: Scheme, name: Option<&str>) -> Self {
        let address = route.from.ip().to_canonical();
        let more = More { text: address.to_string(), route, name: name.map(str::to_owned) };
        Self { address, scheme, more: Rc::new(more) }
    }

    /// The name asked for by SNI.
    pub fn name(&self) -> Option<&str> {
        self.more.name.as_deref()
    }

    /// # Errors
    /// [`Fault::Forwarded`]: see [`codec::believed`].
    pub fn origin<'a>(
        &'a self,
        head: &RequestHead,
        buffer: &'a [u8],
        proxies: &Proxies,
    ) -> Result<Origin<'a>, Fault> {
        let mut origin = Origin {
            client: self.address,
            scheme: self.scheme,
            chain: Cow::Borrowed(&self.more.text),
            host: None,
        };
        if !head.says_forwarded() || !proxies.trusts(self.address) {
            return Ok(origin);
        }
        let believed =
            codec::believed(head, buffer, self.address, proxies.forwarded, |ip| proxies.trusts(ip))?;
        if let Some(is_https) = believed.is_https {
            origin.scheme = if is_https { Scheme::Https } else { Scheme::Http };
        }
        origin.host = believed.host;
        if let [client, between @ ..] = &believed.chain[..] {
            origin.client = *client;
            let mut chain = client.to_string();
            for proxy in between {
                // Writing to a string cannot fail.
                let _ = write!(chain, ", {proxy}");
            }
            origin.chain = Cow::Owned(chain);
        }
        Ok(origin)
    }

    /// What a server is told by the PROXY protocol about a request of `client`, whose port only its own connection tells.
    pub fn route_of(&self, client: IpAddr) -> Route {
        let Route { from, to } = self.more.route;
        Route { from: if client == self.address { from } else { SocketAddr::new(client, 0) }, to }
    }
}
