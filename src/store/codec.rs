//! Records as bytes: a format byte, then postcard.
//!
//! The format byte stands before every record, so that a file may hold records of two versions
//! while it is carried over. Postcard names no fields: any change of a record's shape needs a new
//! format byte, which a test with pinned bytes watches over.
//!
//! | format | what it brought |
//! |---|---|
//! | 1 | users and bindings |
//! | 2 | [`UserRecord::history`] |

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::directory::record::{BindingRecord, UserRecord};

/// The format written now, and the newest one understood.
pub(super) const FORMAT: u8 = 2;

/// What the store keeps, with what an older record of it lacks.
pub(super) trait Stored: DeserializeOwned {
    /// What a record of format 1 would end with, were it one of format 2.
    const NEW_IN_2: &'static [u8];
}

impl Stored for UserRecord {
    /// No moves are remembered.
    const NEW_IN_2: &'static [u8] = &[0];
}

impl Stored for BindingRecord {
    const NEW_IN_2: &'static [u8] = &[];
}

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
pub(super) fn decode<T: Stored>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&format, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    let body = match format {
        1 => Cow::Owned([body, T::NEW_IN_2].concat()),
        FORMAT => Cow::Borrowed(body),
        unknown => return Err(DecodeError::Format(unknown)),
    };
    let (record, rest) = postcard::take_from_bytes(&body).map_err(DecodeError::Malformed)?;
    if rest.is_empty() { Ok(record) } else { Err(DecodeError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::record::RelocationReason;
    use crate::directory::{History, MoveReason};
    use crate::store::contract::{away, binding};

    /// Anna as format 1 wrote her.
    const ANNA_IN_1: &[u8] =
        b"\x01\x04anna\x01\x14sip:anna@example.com\x01\x044711\x01\x04ucs1\x01\x01\
          \x04ucs1\x80\xe2\xcf\xaa\x06\x00\x04ucs2\x00\x07\x01\x04ucs1";

    /// A binding as format 1 wrote it.
    const BINDING_IN_1: &[u8] =
        b"\x01\xac\x02\x04anna\x14sip:anna@example.com\x06phones\x00\xc0\x00\x02\x07\
          \xc4\'\x00\x03\x01\x02\x03\xac\x02\x00\xac\xe4\xcf\xaa\x06\x00\x90\x1c\x00\x00\x00";

    fn anna() -> UserRecord {
        UserRecord { lines: vec!["4711".into()], ..away("anna", 7) }
    }

    #[test]
    fn the_bytes_of_format_2_are_pinned() {
        let mut expected = ANNA_IN_1.to_vec();
        expected[0] = 2;
        expected.extend(b"\x01\x80\xe2\xcf\xaa\x06\x00\x04ucs1\x04ucs2\x00\x07");
        let bytes = encode(&anna()).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(decode::<UserRecord>(&bytes), Ok(anna()));

        let mut expected = BINDING_IN_1.to_vec();
        expected[0] = 2;
        let bytes = encode(&binding(300, "anna")).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        for written in [BINDING_IN_1, &bytes] {
            assert_eq!(decode::<BindingRecord>(written), Ok(binding(300, "anna")));
        }
    }

    #[test]
    fn a_user_of_format_1_has_no_history_and_a_damaged_one_is_refused() {
        let expected = UserRecord { history: History::default(), ..anna() };
        assert_eq!(decode::<UserRecord>(ANNA_IN_1), Ok(expected));
        for end in 1..ANNA_IN_1.len() {
            let cut = decode::<UserRecord>(&ANNA_IN_1[..end]);
            assert!(matches!(cut, Err(DecodeError::Malformed(_))), "cut at {end}: {cut:?}");
        }
        let longer = [ANNA_IN_1, &[0, 0]].concat();
        assert_eq!(decode::<UserRecord>(&longer), Err(DecodeError::Trailing(2)));
    }

    #[test]
    fn every_reason_keeps_its_place_so_that_older_records_are_read() {
        use MoveReason as Moved;
        use RelocationReason::{Drain, Failover, Manual, Replanned};
        for (place, why) in (0..).zip([Failover, Drain, Replanned, Manual]) {
            assert_eq!(encode(&why).unwrap(), [FORMAT, place]);
            assert_eq!(encode(&Moved::from(why)).unwrap(), [FORMAT, place]);
        }
        for (place, why) in (4..).zip([Moved::Return, Moved::Rebalance]) {
            assert_eq!(encode(&why).unwrap(), [FORMAT, place]);
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let bytes = encode(&away("anna", 7)).unwrap();
        assert_eq!(decode::<UserRecord>(&[]), Err(DecodeError::Empty));
        let mut later = bytes.clone();
        later[0] = 3;
        assert_eq!(decode::<UserRecord>(&later), Err(DecodeError::Format(3)));
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
