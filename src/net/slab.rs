//! [`Slab`]: connections in places that are used again, under names that are not.

use crate::sip::ConnectionId;

/// The bits of a name that say which place; the others are a serial number.
const PLACE_BITS: u32 = 24;

/// All but the first, which is for the names that the core gives ([`ConnectionId::own`]).
const SERIAL_BITS: u32 = u64::BITS - PLACE_BITS - 1;

/// Places at most.
const PLACES: usize = 1 << PLACE_BITS;

/// What has a [`ConnectionId`].
///
/// Every name has a serial number of its own, from one on: after half a trillion of them they begin
/// anew. Whoever still holds the name of something that is gone finds nothing in its place, or
/// something of another name, but never what is there now.
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<usize>,
    serial: u64,
}

struct Place<T> {
    id: ConnectionId,
    held: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), serial: 0 }
    }
}

impl<T> Slab<T> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Takes one in; `None` if there is no room.
    pub(super) fn insert(&mut self, held: T) -> Option<ConnectionId> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < PLACES => {
                self.places.push(Place { id: ConnectionId::NONE, held: None });
                self.places.len() - 1
            }
            None => return None,
        };
        self.serial = (self.serial + 1) % (1 << SERIAL_BITS);
        // Serial zero belongs to no connection.
        self.serial = self.serial.max(1);
        let id = ConnectionId(self.serial << PLACE_BITS | place as u64);
        *self.places.get_mut(place)? = Place { id, held: Some(held) };
        Some(id)
    }

    /// Which place a name means, whether anything of that name is there or not.
    pub(super) const fn place_of(id: ConnectionId) -> usize {
        (id.0 & ((1 << PLACE_BITS) - 1)) as usize
    }

    /// The one of this name.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let place = self.places.get_mut(Self::place_of(id))?;
        if place.id == id { place.held.as_mut() } else { None }
    }

    /// Whoever is in a place now.
    pub(super) fn at(&mut self, place: usize) -> Option<(ConnectionId, &mut T)> {
        let place = self.places.get_mut(place)?;
        Some((place.id, place.held.as_mut()?))
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let place = self.places.get_mut(Self::place_of(id)).filter(|place| place.id == id)?;
        let held = place.held.take()?;
        self.free.push(Self::place_of(id));
        Some(held)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &T)> {
        self.places.iter().filter_map(|place| Some((place.id, place.held.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_one_that_is_gone_never_means_its_successor() {
        let mut slab = Slab::default();
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        let second = slab.insert('b').unwrap();
        assert_eq!(Slab::<char>::place_of(first), Slab::<char>::place_of(second));
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn names_that_mean_no_connection_are_nobodys() {
        let mut slab = Slab::default();
        let id = slab.insert('a').unwrap();
        assert_ne!(id, ConnectionId::NONE);
        assert_eq!(slab.get_mut(ConnectionId::NONE), None);
        assert_eq!(slab.get_mut(ConnectionId::ENDED), None);
        slab.remove(id);
        assert_eq!(slab.get_mut(ConnectionId::NONE), None);
        assert_eq!(slab.remove(ConnectionId::NONE), None);
        assert!(slab.at(0).is_none() && slab.at(1).is_none());
    }

    #[test]
    fn a_serial_number_that_begins_anew_leaves_out_the_one_that_is_nobodys() {
        let mut slab = Slab { serial: (1 << SERIAL_BITS) - 2, ..Slab::default() };
        let last = slab.insert('a').unwrap();
        assert!(!last.is_own() && last != ConnectionId::ENDED);
        let anew = slab.insert('b').unwrap();
        assert_eq!(anew.0 >> PLACE_BITS, 1);
        assert_eq!(slab.iter().map(|(_, held)| *held).collect::<Vec<_>>(), ['a', 'b']);
    }
}
