//! ErrorResponse ("Error and Notice Message Fields" of the PostgreSQL documentation): read from servers, made for
//! clients. Sans I/O.

use bytes::{BufMut, BytesMut};

use super::{build, cstr};

/// SQLSTATEs by the names of PostgreSQL's "Error Codes".
pub(crate) mod state {
    pub const CONNECTION_FAILURE: &str = "08006";
    pub const RESOLUTION_UNKNOWN: &str = "08007";
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub const READ_ONLY_TRANSACTION: &str = "25006";
    pub const IN_FAILED_TRANSACTION: &str = "25P02";
    pub const INVALID_AUTHORIZATION: &str = "28000";
    pub const INVALID_PASSWORD: &str = "28P01";
    pub const UNDEFINED_DATABASE: &str = "3D000";
    pub const SERIALIZATION_FAILURE: &str = "40001";
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    pub const QUERY_CANCELED: &str = "57014";
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    pub const CRASH_SHUTDOWN: &str = "57P02";
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub(crate) struct SqlError {
    /// The client's connection ends with it.
    pub fatal: bool,
    pub code: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl SqlError {
    pub fn error(code: &str, message: impl Into<String>) -> Self {
        Self { fatal: false, code: code.into(), message: message.into(), detail: None, hint: None }
    }

    pub fn fatal(code: &str, message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::error(code, message) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    pub fn write(&self, out: &mut BytesMut) {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        let fields = [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(&*self.code)),
            (b'M', Some(&*self.message)),
            (b'D', self.detail.as_deref()),
            (b'H', self.hint.as_deref()),
        ];
        build::message(out, b'E', |out| {
            for (kind, text) in fields {
                let Some(text) = text else { continue };
                out.put_u8(kind);
                // A zero would end the field: none of our texts has one, a server's has none by its form.
                out.put_slice(text.as_bytes());
                out.put_u8(0);
            }
            out.put_u8(0);
        });
    }

    /// Reads the body of an ErrorResponse; what is missing or malformed is left empty.
    pub fn read(body: &[u8]) -> Self {
        let mut error = Self::error("", "");
        let mut rest = body;
        while let Some((&kind, after)) = rest.split_first() {
            let Some((text, after)) = cstr(after) else { break };
            rest = after;
            let text = String::from_utf8_lossy(text);
            match kind {
                b'V' => error.fatal = matches!(&*text, "FATAL" | "PANIC"),
                b'C' => error.code = text.into(),
                b'M' => error.message = text.into(),
                b'D' => error.detail = Some(text.into()),
                b'H' => error.hint = Some(text.into()),
                _ => {}
            }
        }
        error
    }

    /// The server is not there for sessions now, but may be later or elsewhere.
    pub fn is_unavailable(&self) -> bool {
        [state::ADMIN_SHUTDOWN, state::CRASH_SHUTDOWN, state::CANNOT_CONNECT_NOW].contains(&&*self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEAD_BYTES;

    #[test]
    fn an_error_is_read_back() {
        let error = SqlError::fatal(state::CANNOT_CONNECT_NOW, "no primary").detail("d").hint("h");
        let mut out = BytesMut::new();
        error.write(&mut out);
        assert_eq!(SqlError::read(&out[HEAD_BYTES..]), error);
        assert!(error.is_unavailable());
        assert_eq!(SqlError::read(b"Cxx").code, "");
    }
}
