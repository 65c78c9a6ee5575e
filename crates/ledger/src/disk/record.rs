//! Bytes with a checksum over them and over the place that they belong to, so that a flipped bit and a swapped record
//! are both noticed. Every value in the ledger's redb file is such a record.

use serde::Serialize;
use serde::de::DeserializeOwned;

const CRC_BYTES: usize = 4;

/// `place` followed by the value, behind the checksum of both.
pub(super) fn seal(place: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(CRC_BYTES + payload.len());
    record.extend_from_slice(&checksum(place, payload).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

pub(super) fn open<'a>(place: &[u8], record: &'a [u8]) -> Result<&'a [u8], String> {
    let (crc, payload) = record.split_first_chunk::<CRC_BYTES>().ok_or_else(|| {
        format!("the record {} is too short", String::from_utf8_lossy(place).escape_debug())
    })?;
    if u32::from_le_bytes(*crc) != checksum(place, payload) {
        return Err(format!(
            "the checksum of record {} does not match",
            String::from_utf8_lossy(place).escape_debug()
        ));
    }
    Ok(payload)
}

/// A value as a record. Encoding our own types into memory cannot fail but for a bug, which the text then names.
pub(super) fn encode<T: Serialize>(place: &[u8], value: &T) -> Result<Vec<u8>, String> {
    let payload = postcard::to_stdvec(value).map_err(|e| format!("cannot encode a record: {e}"))?;
    Ok(seal(place, &payload))
}

pub(super) fn decode<T: DeserializeOwned>(place: &[u8], record: &[u8]) -> Result<T, String> {
    let payload = open(place, record)?;
    postcard::from_bytes(payload)
        .map_err(|e| format!("record {} cannot be read: {e}", String::from_utf8_lossy(place).escape_debug()))
}

fn checksum(place: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&(place.len() as u64).to_le_bytes());
    crc.update(place);
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_place_is_noticed() {
        let record = encode(b"log 7", &(7u64, "text".to_owned())).unwrap();
        assert_eq!(decode::<(u64, String)>(b"log 7", &record).unwrap(), (7, "text".into()));
        assert!(decode::<(u64, String)>(b"log 8", &record).is_err());
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(u64, String)>(b"log 7", &flipped).is_err(), "bit {bit}");
        }
        for end in 0..record.len() {
            assert!(decode::<(u64, String)>(b"log 7", &record[..end]).is_err());
        }
    }
}
