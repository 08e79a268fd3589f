//! [`Plane`]: a way users are served; [`Planes`]: a set of them.

/// A way users are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plane {
    /// Devices that register.
    Sip,
    /// CSTA XML over TCP.
    Csta,
    /// ProCall clients (UCSAP).
    Client,
}

impl Plane {
    /// The word in configuration, status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Csta => "csta",
            Self::Client => "client",
        }
    }

    /// Every plane, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Sip, Self::Csta, Self::Client];

    const fn bit(self) -> u8 {
        match self {
            Self::Sip => 1,
            Self::Csta => 2,
            Self::Client => 4,
        }
    }
}

/// A set of planes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planes(u8);

impl Planes {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// SIP alone.
    pub const SIP: Self = Self::NONE.with(Plane::Sip);
    /// All of them.
    pub const ALL: Self = Self::SIP.with(Plane::Csta).with(Plane::Client);

    /// These and one more.
    #[must_use]
    pub const fn with(self, plane: Plane) -> Self {
        Self(self.0 | plane.bit())
    }

    /// Whether a plane is among them.
    pub const fn contains(self, plane: Plane) -> bool {
        self.0 & plane.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Plane::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Plane> {
        Plane::ALL.into_iter().filter(move |plane| self.contains(*plane))
    }
}

impl FromIterator<Plane> for Planes {
    fn from_iter<I: IntoIterator<Item = Plane>>(planes: I) -> Self {
        planes.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let some = Planes::SIP.with(Plane::Client).with(Plane::Sip);
        assert_eq!(some.iter().collect::<Vec<_>>(), [Plane::Sip, Plane::Client]);
        assert!(some.contains(Plane::Client) && !some.contains(Plane::Csta));
        assert_eq!(some.iter().collect::<Planes>(), some);
        assert_eq!(Planes::ALL.iter().collect::<Vec<_>>(), Plane::ALL);
        assert!(Planes::NONE.is_empty() && !Planes::SIP.is_empty());
    }
}
