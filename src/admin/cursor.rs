//! Where the next page begins, as clients carry it. Places are those of one life of the door: a
//! door that starts anew knows its users in another order, so that an older place means nobody.

use crate::admin::answer::Page;
use crate::admin::route::Refusal;
use crate::door::Listed;

/// One life of the door, by when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life(pub(super) u64);

impl Life {
    /// The place a page is to begin at.
    pub(super) fn place(self, after: Option<&str>) -> Result<usize, Refusal> {
        let Some(after) = after else { return Ok(0) };
        let (life, place) = after.split_once('-').ok_or(Refusal::Cursor)?;
        let life = u64::from_str_radix(life, 16).map_err(|_| Refusal::Cursor)?;
        let place = place.parse().map_err(|_| Refusal::Cursor)?;
        if life == self.0 { Ok(place) } else { Err(Refusal::OldCursor) }
    }

    pub(super) fn page<T>(self, listed: Listed<T>) -> Page<T> {
        let Listed { found, next } = listed;
        Page { items: found, next: next.map(|place| format!("{:x}-{place}", self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_one_begins_in_this_life_of_the_door() {
        let life = Life(0xfd);
        let next = life.page(Listed { found: vec![1, 2], next: Some(7) }).next.unwrap();
        assert_eq!(life.place(Some(&next)), Ok(7));
        assert_eq!(Life(0xfe).place(Some(&next)), Err(Refusal::OldCursor));
        assert_eq!(life.place(None), Ok(0));
        assert_eq!(life.page(Listed::<u8>::default()).next, None);
        for made_up in ["", "7", "fd", "fd-", "-7", "fd--7", "x-7", "fd-7-7", "fd-7 "] {
            assert_eq!(life.place(Some(made_up)), Err(Refusal::Cursor), "{made_up}");
        }
    }
}
