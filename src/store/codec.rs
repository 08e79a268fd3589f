//! Records as bytes: a format byte, then postcard.
//!
//! The format byte stands before every record, so that a file may hold records of two versions
//! while it is carried over. Postcard names no fields: any change of a record's shape needs a new
//! format byte, which a test with pinned bytes watches over.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format written now, and the newest one understood.
pub(super) const FORMAT: u8 = 1;

/// Why stored bytes are no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// Not even a format byte.
    #[error("a record is empty")]
    Empty,
    /// Written by a later version.
    #[error("a record has format {0}")]
    Format(u8),
    /// Not what the format byte promises.
    #[error("a record cannot be read: {0}")]
    Malformed(postcard::Error),
    /// A record and something more.
    #[error("a record has {0} bytes too many")]
    Trailing(usize),
}

/// The bytes of a record. Fails only for a time before 1970.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(record, vec![FORMAT])
}

/// The record in these bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&format, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let (record, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
    if rest.is_empty() { Ok(record) } else { Err(DecodeError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::record::UserRecord;
    use crate::directory::record::{BindingRecord, RelocationReason};
    use crate::store::contract::{away, binding};

    #[test]
    fn the_bytes_of_format_1_are_pinned() {
        let mut user = away("anna", 7);
        user.lines = vec!["4711".into()];
        let bytes = encode(&user).unwrap();
        assert_eq!(
            bytes.escape_ascii().to_string(),
            "\\x01\\x04anna\\x01\\x14sip:anna@example.com\\x01\\x044711\\x01\\x04ucs1\\x01\\x01\
             \\x04ucs1\\x80\\xe2\\xcf\\xaa\\x06\\x00\\x04ucs2\\x00\\x07\\x01\\x04ucs1"
        );
        assert_eq!(decode::<UserRecord>(&bytes), Ok(user));

        let binding = binding(300, "anna");
        let bytes = encode(&binding).unwrap();
        assert_eq!(
            bytes.escape_ascii().to_string(),
            "\\x01\\xac\\x02\\x04anna\\x14sip:anna@example.com\\x06phones\\x00\\xc0\\x00\\x02\\x07\
             \\xc4\\'\\x00\\x03\\x01\\x02\\x03\\xac\\x02\\x00\\xac\\xe4\\xcf\\xaa\\x06\\x00\\x90\\x1c\\x00\\x00\\x00"
        );
        assert_eq!(decode::<BindingRecord>(&bytes), Ok(binding));
    }

    #[test]
    fn every_reason_keeps_its_place_so_that_older_records_are_read() {
        use RelocationReason::{Drain, Failover, Manual, Replanned};
        for (place, why) in (0..).zip([Failover, Drain, Replanned, Manual]) {
            assert_eq!(encode(&why).unwrap(), [FORMAT, place]);
            assert_eq!(decode::<RelocationReason>(&[FORMAT, place]), Ok(why));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let bytes = encode(&away("anna", 7)).unwrap();
        assert_eq!(decode::<UserRecord>(&[]), Err(DecodeError::Empty));
        let mut later = bytes.clone();
        later[0] = 2;
        assert_eq!(decode::<UserRecord>(&later), Err(DecodeError::Format(2)));
        let mut longer = bytes.clone();
        longer.extend([0, 0]);
        assert_eq!(decode::<UserRecord>(&longer), Err(DecodeError::Trailing(2)));
        for end in 1..bytes.len() {
            let cut = decode::<UserRecord>(&bytes[..end]);
            assert!(matches!(cut, Err(DecodeError::Malformed(_))), "cut at {end}: {cut:?}");
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let mut bytes = vec![FORMAT];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(decode::<UserRecord>(&bytes), Err(DecodeError::Malformed(_))));
    }
}
