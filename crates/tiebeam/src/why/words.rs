//! The words of the access log in plain language: how a try ended, why a request failed, and what to do about it.

use tiebeam_edge::codec::Fault;

/// How a try at a server ended.
pub fn outcome(label: &str) -> &str {
    match label {
        "refused" => "nobody listens at its address",
        "not_connected" => "no connection was made in edge.limits.connect_time",
        "no_resources" => "the edge had no file descriptor or port left for a connection",
        "closed" => "it closed the connection before it answered",
        "idle_closed" => "it closed a kept connection just as it was used again, which says nothing about it",
        "bad_response" => "what it answered is not HTTP, or can be read in two ways",
        "silent" => "it said nothing for edge.limits.response_time, or that of the route",
        "slower" => "another server, asked beside it, was faster",
        other => other,
    }
}

/// What a reason means, and what to do next; `SERVER` stands for the server that was tried last.
pub fn why(label: &str) -> (String, &'static str) {
    if let Some((_, meaning, next)) = REASONS.iter().find(|(reason, ..)| *reason == label) {
        return ((*meaning).to_owned(), next);
    }
    match Fault::ALL.iter().find(|fault| fault.label() == label) {
        Some(fault) => (
            format!("a message broke a rule of HTTP. {fault}"),
            "if the status is 4xx the client sent it, if it is 502 SERVER did: look at what that program sends",
        ),
        None => ("a reason that this version does not know".to_owned(), "use the same version as the edge"),
    }
}

const OWN: &str = "nothing: that is the client's doing, unless it happens often";

/// Each [`tiebeam_edge::reasons`] once.
const REASONS: &[(&str, &str, &str)] = &[
    ("header_time", "the head of the request did not arrive in edge.limits.header_time", OWN),
    ("body_time", "the body of the request stood still for edge.limits.response_time", OWN),
    ("body_rate", "the body of the request came slower than edge.limits allow", OWN),
    ("reader_time", "the client read nothing for edge.limits.idle_time", OWN),
    ("idle_time", "the client asked nothing for edge.limits.idle_time", OWN),
    (
        "drain_time",
        "the edge ended before the request could be answered whole",
        "look at who ended the node, and how long such requests take",
    ),
    (
        "misdirected",
        "no site has that name, or another site's certificate was asked for",
        "add the name as a [site], or have DNS lead elsewhere",
    ),
    (
        "maintenance",
        "the site or the route is being worked on",
        "take `maintenance` out of the file when that is over",
    ),
    (
        "no_route",
        "no route of the site has that path",
        "add a route with path = \"/\" if there should be one",
    ),
    (
        "no_file",
        "there is no such file in the folder of the route, or it may not be read",
        "look into the folder that the route names",
    ),
    (
        "no_server",
        "no server of the pool serves",
        "`tiebeam status --edge` says since when and why; start one",
    ),
    (
        "no_connection",
        "no server accepted a connection",
        "see above how each try ended; start the servers, or look at the network between",
    ),
    (
        "queue_full",
        "all servers had `in_flight` requests, and `queue` waited already",
        "add servers, or raise `in_flight` if they can do more",
    ),
    (
        "queue_time",
        "all servers had `in_flight` requests for as long as `queue_time`",
        "add servers, or find out why they are slow: `tiebeam status --edge`",
    ),
    (
        "response_time",
        "SERVER said nothing for edge.limits.response_time, or that of the route",
        "look at what SERVER did at that time; a route that needs longer has a `response_time` of its own",
    ),
    (
        "server_closed",
        "a server closed the connection before it had answered",
        "look at what SERVER wrote at that time: it crashed, ended, or closed idle connections too early",
    ),
    (
        "bad_response",
        "what a server answered is not HTTP, or can be read in two ways",
        "look at what SERVER answers to this request when it is asked directly",
    ),
    (
        "answer_cut",
        "SERVER ended its answer early, after it had begun",
        "look at what SERVER wrote at that time: it crashed, or its worker was killed",
    ),
    ("client_gone", "the client left before it had its answer", OWN),
    (
        "no_resources",
        "the edge had no file descriptor, port or buffer left",
        "raise LimitNOFILE= of the service, or lower edge.limits.connections",
    ),
    ("tunnel_idle_time", "nothing moved through the WebSocket for edge.limits.tunnel_idle_time", OWN),
    ("server_gone", "SERVER broke the WebSocket", "look at what SERVER wrote at that time"),
    ("range_count", "more parts of a file were asked for than are sent; it was sent whole", OWN),
    (
        "compress_busy",
        "a file was sent uncompressed: enough was being compressed",
        "compress it beforehand: FILE.br or FILE.gz beside FILE",
    ),
    ("reset_flood", "a client of HTTP/2 asked and took back too often", OWN),
    ("connections_per_address", "the address had as many connections as edge.limits allow one", OWN),
    (
        "proxy_untrusted",
        "a connection came from elsewhere than edge.trusted_proxies",
        "add the proxy's network there, or keep others away from this port",
    ),
    (
        "proxy_header",
        "a connection did not begin with a header of the PROXY protocol",
        "have the proxy before the edge send one, or turn edge.proxy_protocol off",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words() {
        for label in tiebeam_edge::reasons() {
            let count = REASONS.iter().filter(|(reason, ..)| *reason == label).count();
            assert_eq!(count, 1, "{label}");
        }
        for fault in Fault::ALL {
            assert!(why(fault.label()).0.contains("rule of HTTP"), "{}", fault.label());
        }
    }
}
