//! Frames: four bytes of length, eight bytes of request number, a message. Bounded before anything is allocated.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest frame between nodes that know each other: a snapshot's piece or some log entries.
pub(crate) const FRAME_MAX_BYTES: usize = 16 << 20;
/// Largest first frame of somebody whom we only know by certificate.
pub(crate) const HELLO_MAX_BYTES: usize = 1024;
const HEAD_BYTES: usize = 12;
/// Read at once, so that memory grows with what has come and not with what was announced.
const STEP_BYTES: usize = 64 << 10;

/// A message as it goes over the connection.
pub(crate) fn encode<T: Serialize>(number: u64, message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD_BYTES];
    frame = postcard::to_extend(message, frame).map_err(io::Error::other)?;
    let length = frame.len() - HEAD_BYTES;
    if length > FRAME_MAX_BYTES {
        let text = format!("a message of {length} bytes is larger than a frame may be ({FRAME_MAX_BYTES})");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[4..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
    Ok(frame)
}

/// The next message and its number. `UnexpectedEof` when the other side has ended.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> io::Result<(u64, T)> {
    let length = from.read_u32_le().await? as usize;
    let number = from.read_u64_le().await?;
    if length > max_bytes {
        let text = format!("a frame of {length} bytes is announced, {max_bytes} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut payload = Vec::new();
    while payload.len() < length {
        let start = payload.len();
        payload.resize(length.min(start + STEP_BYTES), 0);
        from.read_exact(&mut payload[start..]).await?;
    }
    let message = postcard::from_bytes(&payload).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes cannot be read: {e}"))
    })?;
    Ok((number, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_written_and_bounded() {
        let long = "x".repeat(3 * STEP_BYTES + 5);
        let mut bytes = encode(7, &long).unwrap();
        bytes.extend(encode(8, &"short").unwrap());
        let mut stream = bytes.as_slice();
        assert_eq!(read::<String>(&mut stream, FRAME_MAX_BYTES).await.unwrap(), (7, long));
        assert_eq!(read::<String>(&mut stream, FRAME_MAX_BYTES).await.unwrap(), (8, "short".into()));
        assert!(read::<String>(&mut stream, FRAME_MAX_BYTES).await.is_err());

        let mut announced = [0xff_u8; HEAD_BYTES].as_slice();
        let error = read::<String>(&mut announced, HELLO_MAX_BYTES).await.unwrap_err();
        assert!(error.to_string().contains("4294967295"), "{error}");
        assert!(encode(1, &vec![0u8; FRAME_MAX_BYTES + 1]).is_err());
    }
}
