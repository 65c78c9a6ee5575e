//! Everything that can be wrong with a message, by name. The name is the label of the counter and the reason in the
//! access log; the status is what a client is told.

/// Why a message was refused. In a request it is answered with [`Fault::status`]; in a response it makes a 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Fault {
    #[error("the request line is not `METHOD target HTTP/1.1`")]
    RequestLine,
    #[error("the method has characters that no method has")]
    Method,
    #[error("the method is longer than any that is known")]
    MethodTooLong,
    #[error("CONNECT is for forward proxies, and this is none")]
    Connect,
    #[error("the target has characters or a form that are not allowed")]
    Target,
    #[error("the path has a segment that is `.` or `..`, in one spelling or another")]
    DotSegment,
    #[error("the path has an encoded zero byte, or an encoded slash in a parameter")]
    Path,
    #[error("the request line is longer than edge.limits.request_line_bytes")]
    LineTooLong,
    #[error("this version of HTTP is not spoken here")]
    Version,
    #[error("the status line is malformed")]
    StatusLine,
    #[error("a field's name is malformed, or folded, or has space before its colon")]
    FieldName,
    #[error("a field's value has a control character")]
    FieldValue,
    #[error("a line ends without CR LF")]
    BareLineFeed,
    #[error("the head has more fields than edge.limits.header_count")]
    TooManyFields,
    #[error("the head is longer than edge.limits.header_bytes")]
    HeadTooLong,
    #[error("Connection lists more options than any message needs")]
    TooManyOptions,
    #[error("there is no Host field")]
    HostMissing,
    #[error("there are several Host fields")]
    HostRepeated,
    #[error("the Host field is not a host name with an optional port")]
    HostInvalid,
    #[error("Content-Length is repeated or not a number")]
    ContentLength,
    #[error("Transfer-Encoding is anything but a single `chunked`")]
    TransferEncoding,
    #[error("both Transfer-Encoding and Content-Length say how long the body is")]
    BothLengths,
    #[error("Transfer-Encoding in a message of HTTP/1.0")]
    TransferEncodingInHttp10,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("TRACE with a body")]
    TraceBody,
    #[error("Max-Forwards is repeated or not a number")]
    MaxForwards,
    #[error("a chunk's size line is malformed")]
    ChunkSize,
    #[error("a chunk's size is too large for a number")]
    ChunkOverflow,
    #[error("a chunk's data does not end with CR LF")]
    ChunkEnd,
    #[error("chunk extensions or trailers are too long")]
    ChunkOverhead,
    #[error("a trailer is malformed")]
    Trailer,
    #[error("the body ended before its length")]
    BodyCut,
    #[error("the body is longer than body_bytes of its route or of edge.limits")]
    BodyTooLong,
    #[error("the answer switches protocols though nobody asked for that one")]
    Switched,
    #[error("the answer opens no WebSocket, but over HTTP/2 it would read as if it did")]
    NotSwitched,
    #[error("the answer opens a WebSocket with another key than that of the request")]
    WebSocketKey,
    #[error("too many interim answers")]
    TooManyInterim,
    #[error("what a trusted proxy says of whom it forwards for is malformed, or names too many proxies")]
    Forwarded,
}

impl Fault {
    /// All of them; the index of each is its discriminant.
    pub const ALL: &'static [Self] = {
        use Fault::*;
        &[
            RequestLine,
            Method,
            MethodTooLong,
            Connect,
            Target,
            DotSegment,
            Path,
            LineTooLong,
            Version,
            StatusLine,
            FieldName,
            FieldValue,
            BareLineFeed,
            TooManyFields,
            HeadTooLong,
            TooManyOptions,
            HostMissing,
            HostRepeated,
            HostInvalid,
            ContentLength,
            TransferEncoding,
            BothLengths,
            TransferEncodingInHttp10,
            Expectation,
            TraceBody,
            MaxForwards,
            ChunkSize,
            ChunkOverflow,
            ChunkEnd,
            ChunkOverhead,
            Trailer,
            BodyCut,
            BodyTooLong,
            Switched,
            NotSwitched,
            WebSocketKey,
            TooManyInterim,
            Forwarded,
        ]
    };

    /// What a client is told about its request.
    pub const fn status(self) -> u16 {
        match self {
            Self::LineTooLong => 414,
            Self::TooManyFields | Self::HeadTooLong => 431,
            Self::MethodTooLong | Self::Connect => 501,
            Self::Version => 505,
            Self::Expectation => 417,
            Self::BodyTooLong => 413,
            _ => 400,
        }
    }

    /// The label of the counter.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Method => "method",
            Self::MethodTooLong => "method_too_long",
            Self::Connect => "connect",
            Self::Target => "target",
            Self::DotSegment => "dot_segment",
            Self::Path => "path",
            Self::LineTooLong => "request_line_bytes",
            Self::Version => "version",
            Self::StatusLine => "status_line",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::BareLineFeed => "bare_line_feed",
            Self::TooManyFields => "header_count",
            Self::HeadTooLong => "header_bytes",
            Self::TooManyOptions => "connection_options",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostInvalid => "host_invalid",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::BothLengths => "both_lengths",
            Self::TransferEncodingInHttp10 => "transfer_encoding_in_http10",
            Self::Expectation => "expectation",
            Self::TraceBody => "trace_body",
            Self::MaxForwards => "max_forwards",
            Self::ChunkSize => "chunk_size",
            Self::ChunkOverflow => "chunk_overflow",
            Self::ChunkEnd => "chunk_end",
            Self::ChunkOverhead => "chunk_overhead",
            Self::Trailer => "trailer",
            Self::BodyCut => "body_cut",
            Self::BodyTooLong => "body_bytes",
            Self::Switched => "switched",
            Self::NotSwitched => "not_switched",
            Self::WebSocketKey => "websocket_key",
            Self::TooManyInterim => "too_many_interim",
            Self::Forwarded => "forwarded",
        }
    }
}
