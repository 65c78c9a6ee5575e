//! Who is at the other end of a connection, and for whom a request on it was made.
//!
//! These are two questions: a proxy may stand between. What it says is believed only from where the file trusts it.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::ServerConnection;
use tiebeam_topology::Proxies;

use crate::client_auth::{ClientAuth, Policy};
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
    /// `None`: it came without TLS.
    tls: Option<Box<Agreed>>,
}

/// What a handshake left.
struct Agreed {
    /// The name asked for by SNI.
    name: Option<String>,
    /// By which the site of that name asked for a certificate.
    policy: Option<Policy>,
    /// The certificate that was verified, as a field may hold it (RFC 9440 section 2.1).
    certificate: Option<String>,
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
    pub fn plain(route: Route) -> Self {
        Self::new(route, Scheme::Http, None)
    }

    /// `policy`: by which the client was asked for a certificate. `session` may have one then, and it is verified.
    pub fn secure(route: Route, session: &ServerConnection, policy: Option<Policy>) -> Self {
        let certificate = session.peer_certificates().and_then(<[_]>::first).filter(|_| policy.is_some());
        let certificate = certificate.map(|der| format!(":{}:", BASE64.encode(der)));
        let agreed = Agreed { name: session.server_name().map(str::to_owned), policy, certificate };
        Self::new(route, Scheme::Https, Some(Box::new(agreed)))
    }

    fn new(route: Route, scheme: Scheme, tls: Option<Box<Agreed>>) -> Self {
        let address = route.from.ip().to_canonical();
        let more = More { text: address.to_string(), route, tls };
        Self { address, scheme, more: Rc::new(more) }
    }

    /// May it ask for a site that asks for these certificates? Over HTTPS only on a connection that was made so; over
    /// HTTP only if none is required.
    pub fn satisfies(&self, auth: Option<&ClientAuth>) -> bool {
        match (auth, self.scheme) {
            (None, _) => true,
            (Some(auth), Scheme::Http) => !auth.required,
            (Some(auth), Scheme::Https) => {
                self.agreed().and_then(|agreed| agreed.policy) == Some(auth.policy)
            }
        }
    }

    fn agreed(&self) -> Option<&Agreed> {
        self.more.tls.as_deref()
    }

    /// What a server is told in `Client-Cert` (RFC 9440).
    pub fn certificate(&self) -> Option<&str> {
        self.agreed()?.certificate.as_deref()
    }

    /// The name asked for by SNI.
    pub fn name(&self) -> Option<&str> {
        self.agreed()?.name.as_deref()
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
