//! What this node alone counts, for its `/metrics`: every bound that was reached, every retry, everything dropped.

use tiebeam_watch::Extra;

use super::board::Board;
use super::report::Sources;
use super::{Here, edge_counts};

pub fn own(here: &Here, board: &Board, sources: &Sources) -> Vec<Extra> {
    let mut own = vec![Extra::counter(
        "events_dropped",
        "Events that are in the log only, because too many waited for the ledger",
        board.dropped_events(),
    )];
    let c = here.ledger.status().counters;
    let calls = [
        ("retried", c.retried),
        ("no_quorum", c.no_quorum),
        ("unknown", c.unknown),
        ("busy", c.busy),
        ("refused", c.refused),
        ("crowded", c.crowded),
        ("leader_changes", c.leader_changes),
    ];
    own.push(Extra::counters("ledger_events", "What the ledger of this node went through", "what", calls));
    if let Some(edge) = &sources.edge {
        let s = edge.stats();
        let by_route_and_server = edge_counts::families(&s);
        let help =
            "Requests and connections refused, by the bound that was reached or the rule that was broken";
        own.push(Extra::counters("edge_refused", help, "why", s.refused));
        let pauses = [
            ("connections", s.connections.paused_at_bound),
            ("descriptors", s.connections.paused_without_descriptors),
        ];
        let help = "Pauses of accepting, by what had run out";
        own.push(Extra::counters("edge_accept_pauses", help, "of", pauses));
        own.push(Extra::counter("edge_retries", "Attempts after the first", s.retries));
        let help = "WebSockets that are open";
        own.push(Extra::gauge("edge_tunnels", help, s.tunnels.open));
        own.push(Extra::counter("edge_tunnels_opened", "WebSockets that were opened", s.tunnels.opened));
        let help = "TLS handshakes that failed, by why";
        own.push(Extra::counters("edge_tls_handshakes_failed", help, "why", s.tls_failures));
        let help = "Connections of HTTP/2, and those that ended because of what the client sent";
        let http2 = [("connections", s.connections.http2), ("errors", s.connections.http2_errors)];
        own.push(Extra::counters("edge_http2", help, "what", http2));
        let help = "Lines of the access log that were dropped because its writer was behind, or lost because its disk failed";
        own.push(Extra::counter("edge_log_lines_dropped", help, s.log_lines_dropped));
        let help = "Lines that the sample of the access log left out";
        own.push(Extra::counter("edge_log_lines_left_out", help, s.log_lines_left_out));
        own.extend(by_route_and_server);
    }
    if let Some(router) = &sources.router {
        let s = router.stats();
        let help = "What the router went through: bounds reached, waits, refusals, repetitions";
        own.push(Extra::counters("sql_events", help, "what", s.counts));
        let help = "Reads that the primary had, by why no replica did";
        own.push(Extra::counters("sql_primary_reads", help, "why", s.reads_primary));
    }
    own
}
