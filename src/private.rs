//! [`Private`]: what no log, metric or store may show.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret (key, password, digest answer, token). It cannot be printed, and its memory is
/// overwritten when it goes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Private<T: Zeroize>(T);

impl<T: Zeroize> Private<T> {
    /// Takes a secret into custody.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one computation that needs it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(…)")
    }
}

/// A number or name shortened for a log at info level: enough to recognise, too little to dial.
///
/// `sip:+49301234567@example.com` becomes `sip:+4…67@example.com`.
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once(':').map_or(("", self.0), |(s, r)| (s, r));
        let (user, host) = rest.split_once('@').map_or((rest, ""), |(u, h)| (u, h));
        if !scheme.is_empty() {
            write!(f, "{scheme}:")?;
        }
        let chars: Vec<char> = user.chars().collect();
        if chars.len() > 5 {
            f.write_fmt(format_args!(
                "{}{}…{}{}",
                chars[0],
                chars[1],
                chars[chars.len() - 2],
                chars[chars.len() - 1]
            ))?;
        } else {
            f.write_str("…")?;
        }
        if !host.is_empty() {
            write!(f, "@{host}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Private::new(String::from("hunter2"))), "Private(…)");
    }

    #[test]
    fn a_masked_number_cannot_be_dialled() {
        assert_eq!(Masked("sip:+49301234567@example.com").to_string(), "sip:+4…67@example.com");
        assert_eq!(Masked("sip:123@example.com").to_string(), "sip:…@example.com");
    }
}
